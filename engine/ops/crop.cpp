#include "engine/ops/dispatch.h"
#include "engine/ops/observe.h"
#include "engine/ops/ops.h"

namespace subpix::engine::ops {

Tensor crop(const Tensor& x, Index top, Index left, Index height, Index width) {
  check_activation("crop", x, 4);
  SUBPIX_REQUIRE(top >= 0 && left >= 0 && height >= 1 && width >= 1 && top + height <= x.dim(1) &&
                     left + width <= x.dim(2),
                 "crop: ", height, "x", width, " at row ", top, ", column ", left,
                 " does not lie in ", x.shape());
  const Index n = x.dim(0), c = x.dim(3);
  const Tensor y = Tensor::empty(x.device(), {n, height, width, c}, x.dtype());
  Device& device = x.device();
  const auto row_bytes = static_cast<std::size_t>(width * c) * size_of(x.dtype());
  const auto element = static_cast<Index>(size_of(x.dtype()));
  auto* to = static_cast<std::byte*>(y.raw());
  const auto* from = static_cast<const std::byte*>(x.raw());
  for (Index i = 0; i < n; ++i)
    for (Index row = 0; row < height; ++row)
      device.table().memory.copy(
          device.context(), to + (i * height + row) * width * c * element,
          from + ((i * x.dim(1) + top + row) * x.dim(2) + left) * c * element, row_bytes);
  return observe("crop", y);
}

}  // namespace subpix::engine::ops
