#pragma once

#include <utility>

#include "engine/core/tensor.h"
#include "kernels/api/kernels.h"

/// What the ops of this folder share: from a tensor's type to typed kernels, and argument checks.
namespace subpix::engine::ops {

using kernels::Context;
using kernels::TypedOps;

/// Calls visit.template operator()<T>() with T = float or bf16; Error for U8.
///   visit_float(x.dtype(), [&]<class T>() { ... x.data<T>() ... });
template <class Visit>
decltype(auto) visit_float(DType dtype, Visit&& visit) {
  SUBPIX_REQUIRE(dtype == DType::F32 || dtype == DType::BF16, "this op takes F32 or BF16, not ",
                 name(dtype));
  if (dtype == DType::F32) return visit.template operator()<float>();
  return visit.template operator()<bf16>();
}

/// Calls run(context, kernels) with the kernels of x's device for x's type.
///   dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) { k.add(ctx, p, x.data<T>(),
///   ...); });
template <class Run>
void dispatch(const Tensor& x, Run&& run) {
  Device& device = x.device();
  visit_float(x.dtype(), [&]<class T>() { run(device.context(), device.table().typed<T>()); });
}

/// Device pointer, or null for an undefined tensor.
template <class T>
T* data_or_null(const Tensor& t) {
  return t.defined() ? t.data<T>() : nullptr;
}

/// An uninitialised tensor of t's shape, type and device.
inline Tensor empty_like(const Tensor& t) {
  return Tensor::empty(t.device(), t.shape(), t.dtype());
}

/// A weight as kernels of `type` read it: itself, or the BF16 copy of an F32 master.
inline Tensor weight_for(const Tensor& w, DType type) {
  return type == DType::BF16 && w.dtype() == DType::F32 ? w.bf16_copy() : w;
}

/// x [..., c] seen as a matrix [rows, c].
inline Index channels_of(const Tensor& x) { return x.shape().back(); }
inline Index rows_of(const Tensor& x) { return x.count() / channels_of(x); }

/// Throws unless `other` lies on x's device and has the type.
void check_operand(const char* op, const Tensor& x, const char* label, const Tensor& other,
                   DType dtype);
/// The same for a weight, which may be an F32 master whatever x's type.
void check_weight(const char* op, const Tensor& x, const Tensor& w);
/// The same for an F32 vector [count].
void check_vector(const char* op, const Tensor& x, const char* label, const Tensor& vector,
                  Index count);
/// The same for a tensor of x's shape and type.
void check_same(const char* op, const Tensor& x, const char* label, const Tensor& other);
/// Throws unless x is defined, F32 or BF16 and has `rank` dimensions (0: at least one).
void check_activation(const char* op, const Tensor& x, int rank);

}  // namespace subpix::engine::ops
