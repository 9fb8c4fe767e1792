#include "engine/ops/dispatch.h"
#include "engine/ops/observe.h"
#include "engine/ops/ops.h"

namespace subpix::engine::ops {
namespace {

using kernels::ChannelProblem;

struct AddNode final : Node {
  AddNode(const Tensor& a, const Tensor& b) : Node({a, b}) {}
  const char* name() const override { return "add"; }
  std::vector<Tensor> backward(const Tensor& dy) override { return {dy, dy}; }
};

struct ScaleNode final : Node {
  ScaleNode(const Tensor& x, float factor_) : Node({x}), factor(factor_) {}
  const char* name() const override { return "scale"; }
  std::vector<Tensor> backward(const Tensor& dy) override { return {scale(dy, factor)}; }

  float factor;
};

struct ChannelAffineNode final : Node {
  ChannelAffineNode(const Tensor& x, const Tensor& factor_)
      : Node({x}), factor(*this, "scale", factor_) {}
  const char* name() const override { return "channel_affine"; }

  std::vector<Tensor> backward(const Tensor& dy) override {
    return {channel_affine(dy, factor.get(), Tensor())};
  }

  Saved factor;
};

struct CastNode final : Node {
  explicit CastNode(const Tensor& x) : Node({x}), from(x.dtype()) {}
  const char* name() const override { return "cast"; }
  // The F32 gradient of a BF16 filter goes on to its F32 master unrounded.
  std::vector<Tensor> backward(const Tensor& dy) override { return {cast(dy, from)}; }

  DType from;
};

/// Writes that gradients do not follow must stay outside graphs.
void check_in_place(const char* op, const Tensor& y) {
  SUBPIX_REQUIRE(y.is_leaf() && !recording({y}), op, ": cannot write in place into ", y.shape(),
                 ", which takes part in a graph; use it under NoGrad or on a detached tensor");
}

}  // namespace

Tensor add(const Tensor& a, const Tensor& b) {
  check_activation("add", a, 0);
  check_same("add", a, "the second argument", b);
  const Tensor y = empty_like(a);
  dispatch(a, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.add(ctx, {a.count()}, a.data<T>(), b.data<T>(), y.data<T>());
  });
  if (recording({a, b})) y.set_node(std::make_shared<AddNode>(a, b));
  return observe("add", y);
}

Tensor scale(const Tensor& x, float factor) {
  check_activation("scale", x, 0);
  const Tensor y = empty_like(x);
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.scale(ctx, {x.count(), factor}, x.data<T>(), nullptr, y.data<T>());
  });
  if (recording({x})) y.set_node(std::make_shared<ScaleNode>(x, factor));
  return observe("scale", y);
}

Tensor channel_affine(const Tensor& x, const Tensor& scale, const Tensor& shift) {
  check_activation("channel_affine", x, 0);
  const ChannelProblem p{rows_of(x), channels_of(x)};
  check_vector("channel_affine", x, "scale", scale, p.c);
  if (shift.defined()) check_vector("channel_affine", x, "shift", shift, p.c);
  p.validate();
  const Tensor y = empty_like(x);
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.channel_affine(ctx, p, x.data<T>(), scale.data<float>(), data_or_null<float>(shift),
                     y.data<T>());
  });
  if (recording({x})) y.set_node(std::make_shared<ChannelAffineNode>(x, scale));
  return observe("channel_affine", y);
}

Tensor cast(const Tensor& x, DType dtype) {
  SUBPIX_REQUIRE(x.dtype() != DType::U8 && dtype != DType::U8,
                 "cast: between F32 and BF16 only, not ", name(x.dtype()), " to ", name(dtype));
  if (x.dtype() == dtype) return x;
  Device& device = x.device();
  const Tensor y = Tensor::empty(device, x.shape(), dtype);
  if (dtype == DType::BF16)
    device.table().cast_to_bf16(device.context(), {x.count()}, x.data<float>(), y.data<bf16>());
  else
    device.table().cast_to_float(device.context(), {x.count()}, x.data<bf16>(), y.data<float>());
  if (recording({x})) y.set_node(std::make_shared<CastNode>(x));
  return observe("cast", y);
}

Tensor from_bytes(const Tensor& x, float alpha, float beta, DType dtype) {
  SUBPIX_REQUIRE(x.dtype() == DType::U8, "from_bytes: x must be U8, not ", name(x.dtype()));
  const Tensor y = Tensor::empty(x.device(), x.shape(), dtype);
  dispatch(y, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.from_bytes(ctx, {x.count(), alpha, beta}, x.data<std::uint8_t>(), y.data<T>());
  });
  return observe("from_bytes", y);
}

Tensor to_bytes(const Tensor& x, float alpha, float beta) {
  check_activation("to_bytes", x, 0);
  const Tensor y = Tensor::empty(x.device(), x.shape(), DType::U8);
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.to_bytes(ctx, {x.count(), alpha, beta}, x.data<T>(), y.data<std::uint8_t>());
  });
  return observe("to_bytes", y);
}

Tensor reduce(const Tensor& x, kernels::Reduction reduction) {
  check_activation("reduce", x, 0);
  const Tensor y = Tensor::empty(x.device(), {1});
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.reduce(ctx, {x.count(), reduction}, x.data<T>(), y.data<float>());
  });
  return observe("reduce", y);
}

void fill(const Tensor& x, float value) {
  check_in_place("fill", x);
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.fill(ctx, {x.count(), value}, x.data<T>());
  });
  x.bump_version();
}

void axpby(float alpha, const Tensor& x, float beta, const Tensor& y) {
  check_activation("axpby", x, 0);
  check_same("axpby", x, "y", y);
  check_in_place("axpby", y);
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.axpby(ctx, {x.count(), alpha, beta}, x.data<T>(), y.data<T>());
  });
  y.bump_version();
  observe("axpby", y);
}

}  // namespace subpix::engine::ops
