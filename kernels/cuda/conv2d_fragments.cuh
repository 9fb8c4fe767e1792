#pragma once

// Pieces shared by the convolutions that run on mma.sync m16n8k16: tiles of an image, operand B
// from shared memory, and the way of a finished tile to global memory.

#include <algorithm>

#include "kernels/cuda/conv2d.cuh"
#include "kernels/cuda/gpu/gpu.cuh"

namespace subpix::kernels::KERNEL_TARGET {

/// Sizes of a launch, read as a forward convolution of `in` to `out` channels.
struct ConvSizes {
  int images, h, w, in, p, q, out;
  int r, s, pad_h, pad_w;
};

/// flip: backward data, which at stride 1 is a convolution of dy with the filter turned by 180
/// degrees.
inline ConvSizes conv_sizes(const Conv2dProblem& d, bool flip) {
  const auto i = [](Index v) { return static_cast<int>(v); };
  return {.images = i(d.n),
          .h = i(flip ? d.p() : d.h),
          .w = i(flip ? d.q() : d.w),
          .in = i(flip ? d.k : d.c),
          .p = i(flip ? d.h : d.p()),
          .q = i(flip ? d.w : d.q()),
          .out = i(flip ? d.c : d.k),
          .r = i(d.r),
          .s = i(d.s),
          .pad_h = i(flip ? d.r - 1 - d.pad : d.pad),
          .pad_w = i(flip ? d.s - 1 - d.pad : d.pad)};
}

/// The output of an image cut into equal rectangles.
struct ConvRectangle {
  int rows, cols, tiles_p, tiles_q;
};

/// The rectangle of at most `pixels` that needs the fewest tiles; among those the one nearest to a
/// square, which has the smallest halo. fits(rows, cols): whether it fits the kernel's buffers;
/// 1 x 1 must.
template <class Fits>
ConvRectangle pick_rectangle(int p, int q, int pixels, Fits&& fits) {
  ConvRectangle best{};
  for (int most = std::min(q, pixels); most >= 1; --most) {
    const int tiles_q = gpu::cdiv(q, most), cols = gpu::cdiv(q, tiles_q);
    if (cols != most) continue;  // the same number of tiles with narrower ones
    int rows = std::min(p, pixels / cols);
    while (rows > 0 && !fits(rows, cols)) --rows;
    if (rows == 0) continue;
    const int tiles_p = gpu::cdiv(p, rows);
    const ConvRectangle r{gpu::cdiv(p, tiles_p), cols, tiles_p, tiles_q};
    const Index tiles = Index{r.tiles_p} * r.tiles_q, fewest = Index{best.tiles_p} * best.tiles_q;
    if (fewest == 0 || tiles < fewest ||
        (tiles == fewest && r.rows + r.cols < best.rows + best.cols))
      best = r;
  }
  return best;
}

/// Image and first output of a tile.
struct ConvPlace {
  Index image;
  int p, q;
};
GPU_DEV ConvPlace place_of(const ConvRectangle& r, Index tile) {
  const Index line = tile / r.tiles_q;
  return {line / r.tiles_p, static_cast<int>(line % r.tiles_p) * r.rows,
          static_cast<int>(tile % r.tiles_q) * r.cols};
}

/// B fragments of 16 rows of the reduction (the `step`-th 16) by NT*8 columns from `column` on.
/// Reduced = true: `tile` is [reduction][64 columns], swizzled rows of 128 bytes, read transposed;
/// false: `tile` is [64 columns][64 of the reduction].
template <bool Reduced, int NT>
GPU_DEV void load_b_fragments(std::uint32_t (&b)[NT][2], const unsigned char* tile, int step,
                              int column, int lane) {
  static_assert(NT % 2 == 0);
#pragma unroll
  for (int j = 0; j < NT / 2; ++j) {
    std::uint32_t r[4];
    if constexpr (Reduced) {
      const int row = step * 16 + lane % 16, chunk = column / 8 + 2 * j + lane / 16;
      // [fragment b transposed]
      gpu::ldmatrix_x4_trans(r, tile + gpu::swz128(row, chunk));
    } else {
      const int row = column + j * 16 + lane / 16 * 8 + lane % 8, chunk = step * 2 + lane / 8 % 2;
      // [fragment b]
      gpu::ldmatrix_x4(r, tile + gpu::swz128(row, chunk));
    }
    b[2 * j][0] = r[0];
    b[2 * j][1] = r[1];
    b[2 * j + 1][0] = r[2];
    b[2 * j + 1][1] = r[3];
  }
}

/// Adds more(i, j), another warp's part of the same sums, to a warp's MT x NT tiles and rounds them
/// into swizzled rows of 128 bytes: rows from `row`, columns from `column`; filter 0 of the rows is
/// filter `k0` of K. The xor spreads the eight rows of a request over all banks.
template <int MT, int NT, class More>
GPU_DEV void stage_tile(const float (&sum)[MT][NT][4], More&& more, unsigned char* rows, int row,
                        int column, int lane, const Conv2dEpilogue& epilogue, int k0, int K) {
#pragma unroll
  for (int j = 0; j < NT; ++j) {
    const int k = k0 + column + j * 8 + lane % 4 * 2;
    if (k >= K) continue;  // K is a multiple of 8: nobody's column of this tile is stored
    const float bias[2] = {epilogue.bias ? epilogue.bias[k] : 0.0f,
                           epilogue.bias ? epilogue.bias[k + 1] : 0.0f};
#pragma unroll
    for (int i = 0; i < MT; ++i) {
      const float4 m = more(i, j);
      const float v[4] = {sum[i][j][0] + m.x, sum[i][j][1] + m.y, sum[i][j][2] + m.z,
                          sum[i][j][3] + m.w};
#pragma unroll
      for (int upper = 0; upper < 2; ++upper) {
        const float low = epilogue.activate(v[2 * upper] + bias[0]);
        const float high = epilogue.activate(v[2 * upper + 1] + bias[1]);
        const int r = row + i * 16 + upper * 8 + lane / 4;
        unsigned char* to = rows + gpu::swz128(r, column / 8 + j) + lane % 4 * 4;
        // [stage]
        *reinterpret_cast<std::uint32_t*>(to) = gpu::pack_bf16(low, high);
      }
    }
  }
}

/// Copies staged rows to global memory, 16 bytes a thread: eight threads write one pixel's 64
/// filters. target[row]: pixel of `y`, or negative for rows that are no output. K % 8 == 0.
template <int Threads, int Rows>
GPU_DEV void store_tile(const unsigned char* tile, const int* target, bf16* y, int k0, int K,
                        int thread) {
  const int chunk = thread % 8, k = k0 + chunk * 8;
  for (int row = thread / 8; row < Rows; row += Threads / 8) {
    const int pixel = target[row];
    if (pixel < 0 || k >= K) continue;
    const uint4 part = *reinterpret_cast<const uint4*>(tile + gpu::swz128(row, chunk));
    // [store]
    *reinterpret_cast<uint4*>(y + Index{pixel} * K + k) = part;
  }
}

}  // namespace subpix::kernels::KERNEL_TARGET
