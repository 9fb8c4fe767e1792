#include "engine/ops/dispatch.h"
#include "engine/ops/observe.h"
#include "engine/ops/ops.h"

namespace subpix::engine::ops {
namespace {

using kernels::LossProblem;
using kernels::VariationProblem;

/// The kernels give a loss and its gradient in one pass over x, so the gradient is made in the
/// forward pass and backward only multiplies it by the scalar dy, which never leaves the device.
struct LossNode final : Node {
  LossNode(const char* loss_name, const Tensor& x, const Tensor& dx_)
      : Node({x}), name_of_loss(loss_name), dx(*this, "dx", dx_) {}
  const char* name() const override { return name_of_loss; }

  std::vector<Tensor> backward(const Tensor& dy) override {
    const Tensor scaled = empty_like(dx.get());
    dispatch(scaled, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
      k.scale(ctx, {scaled.count()}, dx.get().data<T>(), dy.data<float>(), scaled.data<T>());
    });
    return {scaled};
  }

  const char* name_of_loss;
  Saved dx;
};

/// run(context, kernels, loss, dx or null): one loss kernel.
template <class Run>
Tensor loss(const char* op, const Tensor& x, Run&& run) {
  const Tensor value = Tensor::empty(x.device(), {1});
  const bool record = recording({x});
  Tensor dx;
  if (record) dx = empty_like(x);
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    run(ctx, k, value.data<float>(), data_or_null<T>(dx));
  });
  if (record) value.set_node(std::make_shared<LossNode>(op, x, dx));
  return observe(op, value);
}

struct WeightedSumNode final : Node {
  WeightedSumNode(std::span<const Tensor> terms, std::span<const float> weights_)
      : Node(terms), weights(weights_.begin(), weights_.end()) {}
  const char* name() const override { return "weighted_sum"; }

  std::vector<Tensor> backward(const Tensor& dy) override {
    std::vector<Tensor> gradients(weights.size());
    for (std::size_t i = 0; i < weights.size(); ++i)
      if (needs(i)) gradients[i] = scale(dy, weights[i]);
    return gradients;
  }

  std::vector<float> weights;
};

}  // namespace

Tensor mse_loss(const Tensor& x, const Tensor& target, float scale) {
  check_activation("mse_loss", x, 0);
  check_same("mse_loss", x, "target", target);
  return loss("mse_loss", x, [&]<class T>(Context& ctx, const TypedOps<T>& k, float* value, T* dx) {
    k.mse_loss(ctx, {x.count(), scale}, x.data<T>(), target.data<T>(), value, dx);
  });
}

Tensor l1_loss(const Tensor& x, const Tensor& target, float scale) {
  check_activation("l1_loss", x, 0);
  check_same("l1_loss", x, "target", target);
  return loss("l1_loss", x, [&]<class T>(Context& ctx, const TypedOps<T>& k, float* value, T* dx) {
    k.l1_loss(ctx, {x.count(), scale}, x.data<T>(), target.data<T>(), value, dx);
  });
}

Tensor bce_with_logits(const Tensor& logits, float target, float scale) {
  check_activation("bce_with_logits", logits, 0);
  const LossProblem p{logits.count(), scale, target};
  p.validate();
  return loss("bce_with_logits", logits,
              [&]<class T>(Context& ctx, const TypedOps<T>& k, float* value, T* dx) {
                k.bce_with_logits(ctx, p, logits.data<T>(), value, dx);
              });
}

Tensor total_variation(const Tensor& x, float scale, bool squared) {
  check_activation("total_variation", x, 4);
  const VariationProblem p{x.dim(0), x.dim(1), x.dim(2), x.dim(3), scale, squared};
  p.validate();
  return loss("total_variation", x,
              [&]<class T>(Context& ctx, const TypedOps<T>& k, float* value, T* dx) {
                k.total_variation(ctx, p, x.data<T>(), value, dx);
              });
}

Tensor weighted_sum(std::span<const Tensor> terms, std::span<const float> weights) {
  SUBPIX_REQUIRE(!terms.empty() && terms.size() == weights.size(), "weighted_sum: ", terms.size(),
                 " terms and ", weights.size(), " weights");
  for (const Tensor& term : terms) check_vector("weighted_sum", terms[0], "a term", term, 1);
  Device& device = terms[0].device();
  const kernels::KernelTable& table = device.table();
  const Tensor y = Tensor::empty(device, {1});
  for (std::size_t i = 0; i < terms.size(); ++i)
    table.f32.axpby(device.context(), {1, weights[i], i ? 1.0f : 0.0f}, terms[i].data<float>(),
                    y.data<float>());
  if (recording(terms)) y.set_node(std::make_shared<WeightedSumNode>(terms, weights));
  return observe("weighted_sum", y);
}

}  // namespace subpix::engine::ops
