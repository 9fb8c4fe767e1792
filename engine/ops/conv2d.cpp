#include "engine/ops/dispatch.h"
#include "engine/ops/observe.h"
#include "engine/ops/ops.h"

namespace subpix::engine::ops {
namespace {

using kernels::Conv2dActivationProblem;
using kernels::Conv2dProblem;

Conv2dProblem make_problem(const char* op, const Tensor& x, const Tensor& w, const Tensor& bias,
                           Index stride, Index pad) {
  check_activation(op, x, 4);
  check_weight(op, x, w);
  SUBPIX_REQUIRE(w.shape().rank() == 4, op, ": w must be [K,R,S,C], not ", w.shape());
  SUBPIX_REQUIRE(w.dim(3) == x.dim(3), op, ": x ", x.shape(), " has ", x.dim(3), " channels, w ",
                 w.shape(), " takes ", w.dim(3));
  if (bias.defined()) check_vector(op, x, "bias", bias, w.dim(0));
  const Conv2dProblem p{x.dim(0), x.dim(1), x.dim(2), x.dim(3), w.dim(0),
                        w.dim(1), w.dim(2), stride,   pad};
  p.validate();
  return p;
}

/// What both convolution nodes keep: x for the filter's gradient, w for x's, each only if wanted (a
/// frozen VGG keeps no activations for its filters, the first layer no filter for its picture).
struct ConvNode : Node {
  ConvNode(const Conv2dProblem& problem, const Tensor& x_, const Tensor& w_, const Tensor& bias_)
      : Node({x_, w_, bias_}),
        p(problem),
        x(*this, "x", needs(1) || needs(2) ? x_ : Tensor()),
        w(*this, "w", needs(0) ? weight_for(w_, x_.dtype()) : Tensor()) {}

  std::vector<Tensor> conv_backward(const Tensor& dy) const {
    Tensor dx, dw, db;
    dispatch(dy, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
      if (needs(0)) {
        dx = Tensor::empty(dy.device(), {p.n, p.h, p.w, p.c}, dy.dtype());
        k.conv2d_backward_data(ctx, p, dy.data<T>(), w.get().filter<T>(), dx.data<T>());
      }
      if (needs(1) || needs(2)) {
        dw = Tensor::empty(dy.device(), {p.k, p.r, p.s, p.c});
        if (needs(2)) db = Tensor::empty(dy.device(), {p.k});
        k.conv2d_backward_filter(ctx, p, x.get().data<T>(), dy.data<T>(), dw.data<float>(),
                                 data_or_null<float>(db));
      }
    });
    return {dx, dw, db};
  }

  Conv2dProblem p;
  Saved x, w;
};

struct Conv2dNode final : ConvNode {
  using ConvNode::ConvNode;
  const char* name() const override { return "conv2d"; }
  std::vector<Tensor> backward(const Tensor& dy) override { return conv_backward(dy); }
};

/// The sign of the output tells the sign of the convolution's result, which is never stored.
struct Conv2dActivationNode final : ConvNode {
  Conv2dActivationNode(const Conv2dActivationProblem& problem, const Tensor& x_, const Tensor& w_,
                       const Tensor& bias_, const Tensor& y_)
      : ConvNode(problem.conv, x_, w_, bias_), slope(problem.slope), y(*this, "y", y_) {}
  const char* name() const override { return "conv2d_activation"; }

  std::vector<Tensor> backward(const Tensor& dy) override {
    const Tensor dz = empty_like(dy);
    dispatch(dy, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
      k.leaky_relu_backward(ctx, {dy.count(), slope}, y.get().data<T>(), dy.data<T>(),
                            dz.data<T>());
    });
    return conv_backward(dz);
  }

  float slope;
  Saved y;
};

Tensor output_of(const Conv2dProblem& p, const Tensor& x) {
  return Tensor::empty(x.device(), {p.n, p.p(), p.q(), p.k}, x.dtype());
}

}  // namespace

Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& bias, Index stride, Index pad) {
  const Conv2dProblem p = make_problem("conv2d", x, w, bias, stride, pad);
  const Tensor y = output_of(p, x);
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.conv2d_forward(ctx, p, x.data<T>(), weight_for(w, x.dtype()).filter<T>(),
                     data_or_null<float>(bias), y.data<T>());
  });
  if (recording({x, w, bias})) y.set_node(std::make_shared<Conv2dNode>(p, x, w, bias));
  return observe("conv2d", y);
}

Tensor conv2d_activation(const Tensor& x, const Tensor& w, const Tensor& bias, Index stride,
                         Index pad, Activation activation, float slope) {
  if (activation == Activation::None) return conv2d(x, w, bias, stride, pad);
  if (activation == Activation::Relu) slope = 0.0f;
  SUBPIX_REQUIRE(slope >= 0.0f, "conv2d_activation: LeakyReLU's slope must be at least 0, not ",
                 slope);
  const Conv2dActivationProblem p{make_problem("conv2d_activation", x, w, bias, stride, pad),
                                  activation, slope};
  const Tensor y = output_of(p.conv, x);
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.conv2d_activation_forward(ctx, p, x.data<T>(), weight_for(w, x.dtype()).filter<T>(),
                                data_or_null<float>(bias), y.data<T>());
  });
  if (recording({x, w, bias})) y.set_node(std::make_shared<Conv2dActivationNode>(p, x, w, bias, y));
  return observe("conv2d_activation", y);
}

}  // namespace subpix::engine::ops
