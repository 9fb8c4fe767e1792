#include "engine/ops/dispatch.h"
#include "engine/ops/observe.h"
#include "engine/ops/ops.h"

namespace subpix::engine::ops {
namespace {

using kernels::NormProblem;

struct BatchNormNode final : Node {
  BatchNormNode(const NormProblem& problem, const Tensor& x_, const Tensor& gamma_,
                const Tensor& beta_, const Tensor& mean_, const Tensor& inv_std_)
      : Node({x_, gamma_, beta_}),
        p(problem),
        x(*this, "x", x_),
        gamma(*this, "gamma", gamma_),
        mean(*this, "mean", mean_),
        inv_std(*this, "inv_std", inv_std_) {}
  const char* name() const override { return "batch_norm"; }

  // dx needs both channel sums that dgamma and dbeta are: one kernel gives all three.
  std::vector<Tensor> backward(const Tensor& dy) override {
    const Tensor dx = empty_like(dy);
    const Tensor dgamma = Tensor::empty(dy.device(), {p.c});
    const Tensor dbeta = Tensor::empty(dy.device(), {p.c});
    dispatch(dy, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
      k.batchnorm_backward(ctx, p, x.get().data<T>(), dy.data<T>(), gamma.get().data<float>(),
                           mean.get().data<float>(), inv_std.get().data<float>(), dx.data<T>(),
                           dgamma.data<float>(), dbeta.data<float>());
    });
    return {dx, dgamma, dbeta};
  }

  NormProblem p;
  Saved x, gamma, mean, inv_std;
};

struct BatchNormInferenceNode final : Node {
  BatchNormInferenceNode(const Tensor& x_, const Tensor& factor_)
      : Node({x_}), factor(*this, "factor", factor_) {}
  const char* name() const override { return "batch_norm_inference"; }

  std::vector<Tensor> backward(const Tensor& dy) override {
    const Tensor dx = empty_like(dy);
    dispatch(dy, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
      k.channel_affine(ctx, {rows_of(dy), channels_of(dy)}, dy.data<T>(),
                       factor.get().data<float>(), nullptr, dx.data<T>());
    });
    return {dx};
  }

  Saved factor;  // [C] gamma / sqrt(running_var + eps)
};

/// gamma / sqrt(running_var + eps) by the op itself: its value at x = 1 with mean 0 and beta 0.
Tensor inference_factor(const Tensor& gamma, const Tensor& running_var, float eps) {
  Device& device = gamma.device();
  const Index c = gamma.count();
  const Tensor one = Tensor::full(device, {1, c}, 1.0f);
  const Tensor zero = Tensor::zeros(device, {c});
  const Tensor factor = Tensor::empty(device, {c});
  const NormProblem p{1, c, eps, 0.0f};
  device.table().f32.batchnorm_inference(
      device.context(), p, one.data<float>(), gamma.data<float>(), zero.data<float>(),
      zero.data<float>(), running_var.data<float>(), factor.data<float>());
  return factor;
}

}  // namespace

Tensor batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                  const Tensor& running_mean, const Tensor& running_var, float momentum,
                  float eps) {
  check_activation("batch_norm", x, 0);
  const NormProblem p{rows_of(x), channels_of(x), eps, momentum};
  check_vector("batch_norm", x, "gamma", gamma, p.c);
  check_vector("batch_norm", x, "beta", beta, p.c);
  SUBPIX_REQUIRE(running_mean.defined() == running_var.defined(),
                 "batch_norm: running_mean and running_var come together");
  if (running_mean.defined()) {
    check_vector("batch_norm", x, "running_mean", running_mean, p.c);
    check_vector("batch_norm", x, "running_var", running_var, p.c);
  }
  p.validate();

  const Tensor y = empty_like(x);
  const Tensor mean = Tensor::empty(x.device(), {p.c});
  const Tensor inv_std = Tensor::empty(x.device(), {p.c});
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.batchnorm_forward(ctx, p, x.data<T>(), gamma.data<float>(), beta.data<float>(), y.data<T>(),
                        mean.data<float>(), inv_std.data<float>(),
                        data_or_null<float>(running_mean), data_or_null<float>(running_var));
  });
  if (running_mean.defined()) {
    running_mean.bump_version();
    running_var.bump_version();
  }
  if (recording({x, gamma, beta}))
    y.set_node(std::make_shared<BatchNormNode>(p, x, gamma, beta, mean, inv_std));
  return observe("batch_norm", y);
}

Tensor batch_norm_inference(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                            const Tensor& running_mean, const Tensor& running_var, float eps) {
  const char* op = "batch_norm_inference";
  check_activation(op, x, 0);
  const NormProblem p{rows_of(x), channels_of(x), eps, 0.0f};
  check_vector(op, x, "gamma", gamma, p.c);
  check_vector(op, x, "beta", beta, p.c);
  check_vector(op, x, "running_mean", running_mean, p.c);
  check_vector(op, x, "running_var", running_var, p.c);
  p.validate();

  const Tensor y = empty_like(x);
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.batchnorm_inference(ctx, p, x.data<T>(), gamma.data<float>(), beta.data<float>(),
                          running_mean.data<float>(), running_var.data<float>(), y.data<T>());
  });
  if (recording({x}))
    y.set_node(
        std::make_shared<BatchNormInferenceNode>(x, inference_factor(gamma, running_var, eps)));
  return observe(op, y);
}

}  // namespace subpix::engine::ops
