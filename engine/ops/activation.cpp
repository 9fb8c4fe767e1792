#include "engine/ops/dispatch.h"
#include "engine/ops/observe.h"
#include "engine/ops/ops.h"

namespace subpix::engine::ops {
namespace {

using kernels::ChannelProblem;

struct PReluNode final : Node {
  PReluNode(const ChannelProblem& problem, const Tensor& x_, const Tensor& slope_)
      : Node({x_, slope_}), p(problem), x(*this, "x", x_), slope(*this, "slope", slope_) {}
  const char* name() const override { return "prelu"; }

  std::vector<Tensor> backward(const Tensor& dy) override {
    Tensor dx, dslope;
    if (needs(0)) dx = empty_like(dy);
    if (needs(1)) dslope = Tensor::empty(dy.device(), {p.shared ? 1 : p.c});
    dispatch(dy, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
      k.prelu_backward(ctx, p, x.get().data<T>(), dy.data<T>(), slope.get().data<float>(),
                       data_or_null<T>(dx), data_or_null<float>(dslope));
    });
    return {dx, dslope};
  }

  ChannelProblem p;
  Saved x, slope;
};

/// Works from the output, so that the input's memory is free after the forward pass.
struct LeakyReluNode final : Node {
  LeakyReluNode(const Tensor& x_, const Tensor& y_, float slope_)
      : Node({x_}), slope(slope_), y(*this, "y", y_) {}
  const char* name() const override { return "leaky_relu"; }

  std::vector<Tensor> backward(const Tensor& dy) override {
    const Tensor dx = empty_like(dy);
    dispatch(dy, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
      k.leaky_relu_backward(ctx, {dy.count(), slope}, y.get().data<T>(), dy.data<T>(),
                            dx.data<T>());
    });
    return {dx};
  }

  float slope;
  Saved y;
};

}  // namespace

Tensor prelu(const Tensor& x, const Tensor& slope) {
  check_activation("prelu", x, 0);
  check_operand("prelu", x, "slope", slope, DType::F32);
  const bool shared = slope.count() == 1;
  const ChannelProblem p{rows_of(x), channels_of(x), shared};
  check_vector("prelu", x, "slope", slope, shared ? 1 : p.c);
  p.validate();
  const Tensor y = empty_like(x);
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.prelu_forward(ctx, p, x.data<T>(), slope.data<float>(), y.data<T>());
  });
  if (recording({x, slope})) y.set_node(std::make_shared<PReluNode>(p, x, slope));
  return observe("prelu", y);
}

Tensor leaky_relu(const Tensor& x, float slope) {
  check_activation("leaky_relu", x, 0);
  SUBPIX_REQUIRE(slope >= 0.0f, "leaky_relu: the slope must be at least 0, not ", slope);
  const Tensor y = empty_like(x);
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.leaky_relu_forward(ctx, {x.count(), slope}, x.data<T>(), y.data<T>());
  });
  if (recording({x})) y.set_node(std::make_shared<LeakyReluNode>(x, y, slope));
  return observe("leaky_relu", y);
}

Tensor relu(const Tensor& x) { return leaky_relu(x, 0.0f); }

}  // namespace subpix::engine::ops
