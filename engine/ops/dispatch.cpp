#include "engine/ops/dispatch.h"

namespace subpix::engine::ops {

void check_operand(const char* op, const Tensor& x, const char* label, const Tensor& other,
                   DType dtype) {
  SUBPIX_REQUIRE(other.defined(), op, ": ", label, " is undefined");
  SUBPIX_REQUIRE(&other.device() == &x.device(), op, ": x lies on ", x.device().description(), ", ",
                 label, " on ", other.device().description());
  SUBPIX_REQUIRE(other.dtype() == dtype, op, ": ", label, " must be ", name(dtype), ", not ",
                 name(other.dtype()));
}

void check_weight(const char* op, const Tensor& x, const Tensor& w) {
  const bool master = w.defined() && w.dtype() == DType::F32;
  check_operand(op, x, "w", w, master ? DType::F32 : x.dtype());
}

void check_vector(const char* op, const Tensor& x, const char* label, const Tensor& vector,
                  Index count) {
  check_operand(op, x, label, vector, DType::F32);
  SUBPIX_REQUIRE(vector.shape() == Shape({count}), op, ": ", label, " must be [", count, "], not ",
                 vector.shape(), "; x is ", x.shape());
}

void check_same(const char* op, const Tensor& x, const char* label, const Tensor& other) {
  check_operand(op, x, label, other, x.dtype());
  SUBPIX_REQUIRE(other.shape() == x.shape(), op, ": ", label, " must have the shape of x, ",
                 x.shape(), ", not ", other.shape());
}

void check_activation(const char* op, const Tensor& x, int rank) {
  SUBPIX_REQUIRE(x.defined(), op, ": x is undefined");
  SUBPIX_REQUIRE(x.dtype() != DType::U8, op, ": x must be F32 or BF16, not ", name(x.dtype()));
  SUBPIX_REQUIRE(rank == 0 ? x.shape().rank() >= 1 : x.shape().rank() == rank, op, ": x must have ",
                 rank == 0 ? "at least 1" : std::to_string(rank), " dimensions, not ", x.shape());
}

}  // namespace subpix::engine::ops
