#pragma once

// The index arithmetic that all convolution kernels share. Sizes are int, so that divisions are
// 32-bit ones; counts and offsets into tensors are Index (64-bit).

#include "kernels/api/problem.h"
#include "kernels/cuda/gpu/gpu.cuh"

namespace subpix::kernels::KERNEL_TARGET {

/// Conv2dProblem as kernels take it: x [n,h,w,c], filter [k,r,s,c], y [n,p,q,k].
struct Conv2dShape {
  int n, h, w, c, k, r, s, p, q, stride, pad;
};

inline Conv2dShape conv2d_shape(const Conv2dProblem& d) {
  const auto size = [&](Index v) {
    SUBPIX_REQUIRE(v <= 0x7fffffff, "convolution ", d.key(), ": a size above 2^31");
    return static_cast<int>(v);
  };
  return {.n = size(d.n),
          .h = size(d.h),
          .w = size(d.w),
          .c = size(d.c),
          .k = size(d.k),
          .r = size(d.r),
          .s = size(d.s),
          .p = size(d.p()),
          .q = size(d.q()),
          .stride = size(d.stride),
          .pad = size(d.pad)};
}

/// A pixel of a batch of images.
struct Pixel {
  int image, row, column;
};

/// Pixel number i of images of rows x columns, in memory order.
GPU_FN Pixel pixel_at(Index i, int rows, int columns) {
  const Index line = i / columns;
  return {static_cast<int>(line / rows), static_cast<int>(line % rows),
          static_cast<int>(i - line * columns)};
}
/// The same for batches of fewer than 2^31 pixels.
GPU_FN Pixel pixel_at(int i, int rows, int columns) {
  const int line = i / columns;
  return {line / rows, line % rows, i - line * columns};
}

/// Three digits that count elements in memory order: (column, row, image) of pixels, or (channel,
/// s, r) of a reduction. A loop that moves by a few elements needs no division.
struct Odometer {
  int low, middle, high;

  GPU_DEV void advance(int by, int low_size, int middle_size) {
    low += by;
    while (low >= low_size) {
      low -= low_size;
      if (++middle == middle_size) {
        middle = 0;
        ++high;
      }
    }
  }
};

/// One test for 0 <= i < size.
GPU_FN bool inside(int i, int size) {
  return static_cast<unsigned>(i) < static_cast<unsigned>(size);
}

/// Offset of channel 0 of a pixel.
GPU_FN Index pixel_offset(int image, int row, int column, int rows, int columns, int channels) {
  return ((Index{image} * rows + row) * columns + column) * channels;
}

}  // namespace subpix::kernels::KERNEL_TARGET
