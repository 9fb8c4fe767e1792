#include "engine/ops/fused.h"

#include <string_view>

#include "engine/ops/dispatch.h"
#include "engine/ops/observe.h"

namespace subpix::engine::ops {
namespace {

using kernels::Conv2dGroupProblem;
using kernels::Conv2dNormBackwardProblem;
using kernels::Conv2dNormProblem;
using kernels::Conv2dPoolProblem;
using kernels::Conv2dProblem;
using kernels::Conv2dShuffleProblem;
using kernels::InputForm;
using kernels::NormActivationProblem;
using kernels::NormGradients;
using kernels::NormInput;
using kernels::NormOutput;
using kernels::NormProblem;
using kernels::PReluShuffleProblem;

Conv2dProblem conv_problem(const char* op, const Tensor& x, const Tensor& w, Index stride,
                           Index pad) {
  check_activation(op, x, 4);
  check_weight(op, x, w);
  SUBPIX_REQUIRE(w.shape().rank() == 4 && w.dim(3) == x.dim(3), op, ": w must be [K,R,S,", x.dim(3),
                 "] for x ", x.shape(), ", not ", w.shape());
  const Conv2dProblem p{x.dim(0), x.dim(1), x.dim(2), x.dim(3), w.dim(0),
                        w.dim(1), w.dim(2), stride,   pad};
  p.validate();
  return p;
}
Conv2dProblem same_problem(const char* op, const Tensor& x, const Tensor& w, Index stride) {
  return conv_problem(op, x, w, stride, (w.dim(1) - 1) / 2);
}

bool has_prelu(InputForm form) {
  return form == InputForm::NormPRelu || form == InputForm::NormPReluShared;
}

/// Whether the variant that would run is one of the backend's own.
template <class Op, class Problem>
bool own_kernel(const Op& op, const Context& ctx, const Problem& p) {
  return std::string_view(op.select(ctx, p).name) != "composed";
}

/// What a node keeps of a Formed argument, and how it hands it to kernels.
struct SavedForm {
  SavedForm(Node& owner, const Formed& in)
      : form(in.form),
        slope(in.slope),
        x(owner, "x", in.map()),
        scale(owner, "scale", in.normed.scale),
        shift(owner, "shift", in.normed.shift),
        mean(owner, "mean", in.normed.mean),
        inv_std(owner, "inv_std", in.normed.inv_std),
        gamma(owner, "gamma", in.normed.gamma),
        prelu(owner, "prelu", in.prelu) {}

  NormInput pointers() const {
    if (form == InputForm::Plain) return {};
    return {scale.get().data<float>(), shift.get().data<float>(),
            has_prelu(form) ? prelu.get().data<float>() : nullptr};
  }

  InputForm form;
  float slope;
  Saved x, scale, shift, mean, inv_std, gamma, prelu;
};

NormInput pointers(const Formed& in) {
  if (in.form == InputForm::Plain) return {};
  return {in.normed.scale.data<float>(), in.normed.shift.data<float>(),
          in.prelu.defined() ? in.prelu.data<float>() : nullptr};
}

/// The gradient of a convolution's filter, for the end of the walk.
struct FilterLater final : Deferred {
  FilterLater(const Conv2dNormProblem& problem, const SavedForm& in, const Tensor& dy_)
      : p(problem), x(in.x.get()), dy(dy_) {
    if (p.form == InputForm::Plain) return;
    scale = in.scale.get();
    shift = in.shift.get();
    if (has_prelu(p.form)) prelu = in.prelu.get();
  }
  std::string kind() const override {
    return concat("filters ", name(dy.dtype()), " ", p.conv.key());
  }
  NormInput pointers() const {
    return {data_or_null<float>(scale), data_or_null<float>(shift), data_or_null<float>(prelu)};
  }

  std::vector<Tensor> run(std::span<Deferred* const> group) override {
    std::vector<Tensor> dw;
    const Conv2dProblem& c = p.conv;
    dispatch(dy, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
      std::vector<kernels::FilterGradient<T>> list;
      for (const Deferred* one : group) {
        const auto& f = static_cast<const FilterLater&>(*one);
        dw.push_back(Tensor::empty(dy.device(), {c.k, c.r, c.s, c.c}));
        list.push_back({f.x.data<T>(), f.p.form, f.p.slope, f.pointers(), f.dy.data<T>(),
                        dw.back().data<float>()});
      }
      if (list.size() == 1)
        k.conv2d_norm_backward_filter(ctx, p, list[0].x, list[0].in, list[0].dy, list[0].dw);
      else
        k.conv2d_backward_filter_group(ctx, {c, static_cast<Index>(list.size())}, list.data());
    });
    return dw;
  }

  Conv2dNormProblem p;
  Tensor x, scale, shift, prelu, dy;
};

/// Arguments: map, w, and where the map is normed gamma and beta of its norm, and PReLU's slopes.
/// The statistics of the map depend on the map, so its gradient contains their share.
struct Conv2dNormNode final : Node {
  Conv2dNormNode(const Conv2dNormProblem& problem, const Formed& in_, const Tensor& w_, bool defer_)
      : Node({in_.map(), w_, in_.normed.gamma, in_.normed.beta, in_.prelu}),
        p(problem),
        defer(defer_),
        in(*this, in_),
        w(*this, "w", weight_for(w_, in_.map().dtype())) {}
  const char* name() const override { return "conv2d_norm"; }
  /// The skip connection's gradient is added where the convolution's is written.
  int joins() const override { return p.form == InputForm::Plain ? 0 : -1; }
  std::unique_ptr<Deferred> take_deferred(std::size_t i) override {
    return i == 1 ? std::move(later) : nullptr;
  }

  std::vector<Tensor> backward(const Tensor& dy) override {
    Device& device = dy.device();
    const Conv2dProblem& c = p.conv;
    std::vector<Tensor> gradients(5);
    const Tensor skip = take_joined();
    dispatch(dy, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
      const T* x = in.x.get().data<T>();
      if (defer && may_defer(1) &&
          own_kernel(k.conv2d_backward_filter_group, ctx, Conv2dGroupProblem{c, 2})) {
        later = std::make_unique<FilterLater>(p, in, dy);
      } else if (needs(1)) {
        gradients[1] = Tensor::empty(device, {c.k, c.r, c.s, c.c});
        k.conv2d_norm_backward_filter(ctx, p, x, in.pointers(), dy.data<T>(),
                                      gradients[1].data<float>());
      }
      if (!needs(0) && p.form == InputForm::Plain) return;
      const Conv2dNormBackwardProblem b{c, skip.defined(), p.form, p.slope};
      const Tensor dx = Tensor::empty(device, {c.n, c.h, c.w, c.c}, dy.dtype());
      gradients[0] = dx;
      if (p.form == InputForm::Plain) {
        k.conv2d_norm_backward_data(ctx, b, dy.data<T>(), w.get().filter<T>(),
                                    data_or_null<T>(skip), nullptr, {}, nullptr, nullptr,
                                    dx.data<T>(), {});
        return;
      }
      const Tensor dgamma = Tensor::empty(device, {c.c}), dbeta = Tensor::empty(device, {c.c});
      gradients[2] = dgamma;
      gradients[3] = dbeta;
      NormGradients sums{dgamma.data<float>(), dbeta.data<float>()};
      if (has_prelu(p.form)) {
        gradients[4] = Tensor::empty(device, in.prelu.get().shape());
        sums.dslope = gradients[4].data<float>();
      }
      const float* mean = in.mean.get().data<float>();
      const float* inv_std = in.inv_std.get().data<float>();
      const Tensor db = empty_like(dx);  // of batch norm's result
      k.conv2d_norm_backward_data(ctx, b, dy.data<T>(), w.get().filter<T>(), nullptr, x,
                                  in.pointers(), mean, inv_std, db.data<T>(), sums);
      k.norm_backward_apply(ctx, {c.n * c.h * c.w, c.c}, x, db.data<T>(),
                            in.gamma.get().data<float>(), mean, inv_std, sums.dgamma, sums.dbeta,
                            dx.data<T>());
    });
    return gradients;
  }

  Conv2dNormProblem p;
  bool defer;
  SavedForm in;
  Saved w;
  std::unique_ptr<Deferred> later;
};

/// Arguments: z, gamma, beta, skip.
struct NormAddNode final : Node {
  NormAddNode(const Normed& z_, const Tensor& skip)
      : Node({z_.z, z_.gamma, z_.beta, skip}),
        z(*this, "z", z_.z),
        gamma(*this, "gamma", z_.gamma),
        mean(*this, "mean", z_.mean),
        inv_std(*this, "inv_std", z_.inv_std) {}
  const char* name() const override { return "norm_add"; }

  std::vector<Tensor> backward(const Tensor& dy) override {
    const Tensor dz = empty_like(dy);
    const Index c = channels_of(dy);
    const Tensor dgamma = Tensor::empty(dy.device(), {c}), dbeta = Tensor::empty(dy.device(), {c});
    dispatch(dy, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
      k.batchnorm_backward(ctx, {rows_of(dy), c}, z.get().data<T>(), dy.data<T>(),
                           gamma.get().data<float>(), mean.get().data<float>(),
                           inv_std.get().data<float>(), dz.data<T>(), dgamma.data<float>(),
                           dbeta.data<float>());
    });
    return {dz, dgamma, dbeta, dy};
  }

  Saved z, gamma, mean, inv_std;
};

/// Arguments: z, gamma, beta, PReLU's slopes.
struct NormActivationNode final : Node {
  NormActivationNode(const Formed& in_, const Tensor& y_)
      : Node({in_.map(), in_.normed.gamma, in_.normed.beta, in_.prelu}),
        in(*this, in_),
        y(*this, "y", y_) {}
  const char* name() const override { return "norm_activation"; }

  std::vector<Tensor> backward(const Tensor& dy) override {
    Device& device = dy.device();
    const Index rows = rows_of(dy), c = channels_of(dy);
    const Tensor dz = empty_like(dy), db = empty_like(dy);
    const Tensor dgamma = Tensor::empty(device, {c}), dbeta = Tensor::empty(device, {c});
    Tensor dslope;
    dispatch(dy, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
      const T* z = in.x.get().data<T>();
      const T* upstream = db.data<T>();
      if (in.form == InputForm::Norm) {
        upstream = dy.data<T>();
      } else if (has_prelu(in.form)) {
        // PReLU's slope gradient wants its input, which was never stored.
        dslope = Tensor::empty(device, in.prelu.get().shape());
        const Tensor b = empty_like(dy);
        const NormInput v = in.pointers();
        const bool shared = in.form == InputForm::NormPReluShared;
        k.norm_activation_forward(ctx, {rows, c, InputForm::Norm}, z, v, b.data<T>());
        k.prelu_backward(ctx, {rows, c, shared}, b.data<T>(), dy.data<T>(), v.slope, db.data<T>(),
                         dslope.data<float>());
      } else {
        k.leaky_relu_backward(ctx, {dy.count(), in.slope}, y.get().data<T>(), dy.data<T>(),
                              db.data<T>());
      }
      k.batchnorm_backward(ctx, {rows, c}, z, upstream, in.gamma.get().data<float>(),
                           in.mean.get().data<float>(), in.inv_std.get().data<float>(),
                           dz.data<T>(), dgamma.data<float>(), dbeta.data<float>());
    });
    return {dz, dgamma, dbeta, dslope};
  }

  SavedForm in;
  Saved y;
};

/// The gradients of a convolution's arguments x, w, bias, where they are wanted.
std::vector<Tensor> conv_gradients(const Node& node, const Conv2dProblem& p, const Saved& x,
                                   const Saved& w, const Tensor& dy) {
  Tensor dx, dw, db;
  Device& device = dy.device();
  dispatch(dy, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    if (node.needs(0)) {
      dx = Tensor::empty(device, {p.n, p.h, p.w, p.c}, dy.dtype());
      k.conv2d_backward_data(ctx, p, dy.data<T>(), w.get().filter<T>(), dx.data<T>());
    }
    if (node.needs(1) || node.needs(2)) {
      dw = Tensor::empty(device, {p.k, p.r, p.s, p.c});
      if (node.needs(2)) db = Tensor::empty(device, {p.k});
      k.conv2d_backward_filter(ctx, p, x.get().data<T>(), dy.data<T>(), dw.data<float>(),
                               data_or_null<float>(db));
    }
  });
  return {dx, dw, db};
}

/// Arguments: x, w, bias, slope.
struct Conv2dShuffleNode final : Node {
  Conv2dShuffleNode(const Conv2dShuffleProblem& problem, const Tensor& x_, const Tensor& w_,
                    const Tensor& bias, const Tensor& slope_, const Tensor& z_)
      : Node({x_, w_, bias, slope_}),
        p(problem),
        x(*this, "x", needs(1) || needs(2) ? x_ : Tensor()),
        w(*this, "w", needs(0) ? weight_for(w_, x_.dtype()) : Tensor()),
        slope(*this, "slope", slope_),
        z(*this, "z", z_) {}
  const char* name() const override { return "conv2d_shuffle_prelu"; }

  std::vector<Tensor> backward(const Tensor& dy) override {
    const Conv2dProblem& c = p.conv;
    const Tensor du = Tensor::empty(dy.device(), {c.n, c.p(), c.q(), c.k}, dy.dtype());
    const Tensor dslope = Tensor::empty(dy.device(), slope.get().shape());
    const PReluShuffleProblem b{{c.n, c.p(), c.q(), p.channels(), p.scale}, p.shared};
    dispatch(dy, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
      k.prelu_shuffle_backward(ctx, b, z.get().data<T>(), dy.data<T>(), slope.get().data<float>(),
                               du.data<T>(), dslope.data<float>());
    });
    std::vector<Tensor> gradients = conv_gradients(*this, c, x, w, du);
    gradients.push_back(dslope);
    return gradients;
  }

  Conv2dShuffleProblem p;
  Saved x, w, slope, z;
};

struct Conv2dPoolNode final : Node {
  Conv2dPoolNode(const Conv2dPoolProblem& problem, const Tensor& x_, const Tensor& w_,
                 const Tensor& bias, const Tensor& y_, const Tensor& which_)
      : Node({x_, w_, bias}),
        p(problem),
        x(*this, "x", needs(1) || needs(2) ? x_ : Tensor()),
        w(*this, "w", needs(0) ? weight_for(w_, x_.dtype()) : Tensor()),
        y(*this, "y", y_),
        which(*this, "which", which_) {}
  const char* name() const override { return "conv2d_relu_pool"; }

  std::vector<Tensor> backward(const Tensor& dy) override {
    const Conv2dProblem& c = p.conv;
    const Tensor du = Tensor::empty(dy.device(), {c.n, c.p(), c.q(), c.k}, dy.dtype());
    dispatch(dy, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
      k.max_pool_relu_backward(ctx, p.pool(), y.get().data<T>(), dy.data<T>(),
                               which.get().data<std::uint8_t>(), du.data<T>());
    });
    return conv_gradients(*this, c, x, w, du);
  }

  Conv2dPoolProblem p;
  Saved x, w, y, which;
};

struct Conv2dWideNode final : Node {
  Conv2dWideNode(const Conv2dProblem& problem, const Tensor& x_, const Tensor& w_,
                 const Tensor& bias)
      : Node({x_, w_, bias}),
        p(problem),
        x(*this, "x", needs(1) || needs(2) ? x_ : Tensor()),
        w(*this, "w", needs(0) ? weight_for(w_, DType::BF16) : Tensor()) {}
  const char* name() const override { return "conv2d_wide"; }
  std::vector<Tensor> backward(const Tensor& dy) override {
    return conv_gradients(*this, p, x, w, cast(dy, DType::BF16));
  }

  Conv2dProblem p;
  Saved x, w;
};

NormActivationProblem form_problem(const Formed& in) {
  return {rows_of(in.map()), channels_of(in.map()), in.form, in.slope};
}

}  // namespace

Formed plain(const Tensor& x) { return {.x = x}; }
Formed with_prelu(const Normed& normed, const Tensor& slope) {
  return {.form = slope.count() == 1 ? InputForm::NormPReluShared : InputForm::NormPRelu,
          .x = {},
          .normed = normed,
          .prelu = slope};
}
Formed with_leaky_relu(const Normed& normed, float slope) {
  return {.form = InputForm::NormLeakyRelu, .x = {}, .normed = normed, .slope = slope};
}

bool prefers_fused_norm(const Formed& in, const Tensor& w, Index stride) {
  const Tensor& x = in.map();
  const Conv2dNormProblem p{same_problem("conv2d_norm", x, w, stride), in.form, in.slope};
  bool own = false;
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    own = own_kernel(k.conv2d_norm_forward, ctx, p);
  });
  return own;
}

Normed conv2d_norm(const Formed& in, const Tensor& w, const BatchNormParameters& bn, Index stride,
                   bool defer) {
  const char* op = "conv2d_norm";
  const Tensor& x = in.map();
  const Conv2dNormProblem p{same_problem(op, x, w, stride), in.form, in.slope, bn.eps, bn.momentum};
  p.validate();
  for (const auto& [label, vector] :
       {std::pair{"gamma", bn.gamma}, std::pair{"beta", bn.beta},
        std::pair{"running_mean", bn.running_mean}, std::pair{"running_var", bn.running_var}})
    check_vector(op, x, label, vector, p.conv.k);
  Device& device = x.device();
  const auto vector = [&] { return Tensor::empty(device, {p.conv.k}); };
  Normed out{Tensor::empty(device, {p.conv.n, p.conv.p(), p.conv.q(), p.conv.k}, x.dtype()),
             bn.gamma,
             bn.beta,
             vector(),
             vector(),
             vector(),
             vector()};
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.conv2d_norm_forward(
        ctx, p, x.data<T>(), pointers(in), weight_for(w, x.dtype()).template filter<T>(),
        out.z.data<T>(),
        NormOutput{bn.gamma.data<float>(), bn.beta.data<float>(), out.mean.data<float>(),
                   out.inv_std.data<float>(), out.scale.data<float>(), out.shift.data<float>(),
                   bn.running_mean.data<float>(), bn.running_var.data<float>()});
  });
  bn.running_mean.bump_version();
  bn.running_var.bump_version();
  if (recording({x, w, in.normed.gamma, in.normed.beta, in.prelu}))
    out.z.set_node(std::make_shared<Conv2dNormNode>(p, in, w, defer));
  observe(op, out.z);
  return out;
}

Tensor norm_add(const Normed& z, const Tensor& skip) {
  check_activation("norm_add", z.z, 0);
  check_same("norm_add", z.z, "skip", skip);
  const Tensor y = empty_like(skip);
  dispatch(skip, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.norm_add_forward(ctx, {rows_of(skip), channels_of(skip)}, z.z.data<T>(),
                       z.scale.data<float>(), z.shift.data<float>(), skip.data<T>(), y.data<T>());
  });
  if (recording({z.z, z.gamma, z.beta, skip})) y.set_node(std::make_shared<NormAddNode>(z, skip));
  return observe("norm_add", y);
}

Tensor norm_activation(const Formed& in) {
  SUBPIX_REQUIRE(in.form != InputForm::Plain, "norm_activation takes a normed map");
  const NormActivationProblem p = form_problem(in);
  p.validate();
  const Tensor y = empty_like(in.map());
  dispatch(y, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.norm_activation_forward(ctx, p, in.map().data<T>(), pointers(in), y.data<T>());
  });
  if (recording({in.map(), in.normed.gamma, in.normed.beta, in.prelu}))
    y.set_node(std::make_shared<NormActivationNode>(in, y));
  return observe("norm_activation", y);
}

namespace {
Conv2dShuffleProblem shuffle_problem(const Tensor& x, const Tensor& w, const Tensor& slope) {
  const Conv2dShuffleProblem p{same_problem("conv2d_shuffle_prelu", x, w, 1), 2, true,
                               slope.count() == 1};
  p.validate();
  return p;
}
}  // namespace

bool prefers_fused_shuffle(const Tensor& x, const Tensor& w, const Tensor& slope) {
  bool own = false;
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    own = own_kernel(k.conv2d_shuffle_forward, ctx, shuffle_problem(x, w, slope));
  });
  return own;
}

Tensor conv2d_shuffle_prelu(const Tensor& x, const Tensor& w, const Tensor& bias,
                            const Tensor& slope) {
  const char* op = "conv2d_shuffle_prelu";
  const Conv2dShuffleProblem p = shuffle_problem(x, w, slope);
  if (bias.defined()) check_vector(op, x, "bias", bias, p.conv.k);
  check_vector(op, x, "slope", slope, p.shared ? 1 : p.channels());
  const Shape shape{p.conv.n, p.conv.p() * p.scale, p.conv.q() * p.scale, p.channels()};
  const Tensor z = Tensor::empty(x.device(), shape, x.dtype()), y = empty_like(z);
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.conv2d_shuffle_forward(ctx, p, x.data<T>(), weight_for(w, x.dtype()).template filter<T>(),
                             data_or_null<float>(bias), slope.data<float>(), z.data<T>(),
                             y.data<T>());
  });
  if (recording({x, w, bias, slope}))
    y.set_node(std::make_shared<Conv2dShuffleNode>(p, x, w, bias, slope, z));
  return observe(op, y);
}

bool prefers_fused_pool(const Tensor& x, const Tensor& w) {
  bool own = false;
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    own = own_kernel(k.conv2d_pool_forward, ctx,
                     Conv2dPoolProblem{same_problem("conv2d_relu_pool", x, w, 1)});
  });
  return own;
}

Tensor conv2d_relu_pool(const Tensor& x, const Tensor& w, const Tensor& bias) {
  const char* op = "conv2d_relu_pool";
  const Conv2dPoolProblem p{same_problem(op, x, w, 1)};
  p.validate();
  if (bias.defined()) check_vector(op, x, "bias", bias, p.conv.k);
  const Shape shape{p.pool().n, p.pool().p(), p.pool().q(), p.pool().c};
  const Tensor y = Tensor::empty(x.device(), shape, x.dtype());
  const bool record = recording({x, w, bias});
  Tensor which;
  if (record) which = Tensor::empty(x.device(), shape, DType::U8);
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.conv2d_pool_forward(ctx, p, x.data<T>(), weight_for(w, x.dtype()).template filter<T>(),
                          data_or_null<float>(bias), y.data<T>(),
                          data_or_null<std::uint8_t>(which));
  });
  if (record) y.set_node(std::make_shared<Conv2dPoolNode>(p, x, w, bias, y, which));
  return observe(op, y);
}

Tensor conv2d_wide(const Tensor& x, const Tensor& w, const Tensor& bias, Index stride, Index pad) {
  const char* op = "conv2d_wide";
  const Conv2dProblem p = conv_problem(op, x, w, stride, pad);
  SUBPIX_REQUIRE(x.dtype() == DType::BF16, op, ": x must be BF16, not ", name(x.dtype()));
  if (bias.defined()) check_vector(op, x, "bias", bias, p.k);
  Device& device = x.device();
  const Tensor y = Tensor::empty(device, {p.n, p.p(), p.q(), p.k});
  device.table().conv2d_wide_forward(device.context(), p, x.data<bf16>(),
                                     weight_for(w, DType::BF16).filter<bf16>(),
                                     data_or_null<float>(bias), y.data<float>());
  if (recording({x, w, bias})) y.set_node(std::make_shared<Conv2dWideNode>(p, x, w, bias));
  return observe(op, y);
}

}  // namespace subpix::engine::ops
