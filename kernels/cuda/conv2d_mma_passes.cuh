#pragma once

// The two passes of the implicit GEMM (conv2d_mma.cuh): how B comes into shared memory and from
// there into fragments, and which pixels and taps there are. conv2d_implicit_gemm_mma.cu and
// conv2d_backward_data_mma.cu derive them.

#include "kernels/cuda/conv2d_mma.cuh"

namespace subpix::kernels::KERNEL_TARGET::mma {

template <class T, class Tile>
struct Forward {
  static constexpr int kSign = 1;  // later taps lie further down and right
  static constexpr int kN = Tile::kN;

  GPU_DEV static PixelGrid grid(const ImplicitGemm& g, int) {
    return {.height = g.out_h,
            .width = g.out_w,
            .step = g.stride,
            .top = -g.pad,
            .left = -g.pad,
            .taps_h = g.r,
            .taps_w = g.s,
            .out_step = 1,
            .out_top = 0,
            .out_left = 0};
  }

  // A thread copies chunk t % 8 of filters t / 8, t / 8 + 16, ... of the tile.
  const T* from;
  Index filter_length;
  int row, chunk, chunk_end, rows;  // rows: filters that exist

  GPU_DEV Forward(const ImplicitGemm& g, const PixelGrid& grid, const T* filter, int n0)
      : filter_length(Index{g.r} * g.s * g.source_c),
        row(static_cast<int>(threadIdx.x) / kChunks),
        chunk(static_cast<int>(threadIdx.x) % kChunks),
        chunk_end(grid.chunks(g.source_c / kPack<T>)),
        rows(g.out_c - n0) {
    from = filter + n0 * filter_length;
  }
  GPU_DEV void fill(unsigned char* b) {
#pragma unroll
    for (int i = 0; i < gpu::cdiv(kN, kRowsAtOnce); ++i) {
      const int n = row + i * kRowsAtOnce;
      if (kN < kRowsAtOnce && n >= kN) break;  // the narrow tile leaves half of the threads idle
      const bool inside = n < rows && chunk < chunk_end;
      // [mma fill b]
      gpu::cp_async<16>(b + swizzle8<kChunks>(n, chunk % kChunks),
                        from + (inside ? n * filter_length + chunk * kPack<T> : 0), inside);
    }
    chunk += kChunks;
  }

  /// Fragments of both k-steps of a pair: rows are columns of B.
  GPU_DEV static void fragments(std::uint32_t (&b)[2][Tile::kFragmentsN][2],
                                const unsigned char* stage, int column, int pair) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    std::uint32_t r[4];
    if constexpr (Tile::kFragmentsN == 1) {
      gpu::ldmatrix_x4(r, stage + swizzle8<kChunks>(column + lane % 8, pair * 4 + lane / 8));
#pragma unroll
      for (int e = 0; e < 4; ++e) b[e / 2][0][e % 2] = operand<T>(r[e]);
    } else {
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int j = 0; j < Tile::kFragmentsN; j += 2) {
          const int n = column + j * 8 + lane / 16 * 8 + lane % 8;
          // [mma b]
          gpu::ldmatrix_x4(r, stage + swizzle8<kChunks>(n, pair * 4 + half * 2 + lane / 8 % 2));
#pragma unroll
          for (int e = 0; e < 4; ++e) b[half][j + e / 2][e % 2] = operand<T>(r[e]);
        }
    }
  }
};

template <class T, class Tile>
struct BackwardData {
  static constexpr int kSign = -1;  // later taps lie further up and left
  static constexpr int kN = Tile::kN;
  static constexpr int kRowPacks = kN / kPack<T>;           // of a row of B
  static constexpr int kGroupThreads = kThreads / kChunks;  // 16 threads copy the rows of a chunk

  GPU_DEV static PixelGrid grid(const ImplicitGemm& g, int phase) {
    const int r0 = phase / g.stride, s0 = phase % g.stride;
    // The first pixel that tap r0 reaches: h + pad - r0 is a multiple of the stride, and
    // pad * (stride - 1) is congruent to -pad.
    const int top = (r0 + g.pad * (g.stride - 1)) % g.stride;
    const int left = (s0 + g.pad * (g.stride - 1)) % g.stride;
    return {.height = (g.out_h - top + g.stride - 1) / g.stride,
            .width = (g.out_w - left + g.stride - 1) / g.stride,
            .step = 1,
            .top = (top + g.pad - r0) / g.stride,
            .left = (left + g.pad - s0) / g.stride,
            .taps_h = (g.r - r0 + g.stride - 1) / g.stride,
            .taps_w = (g.s - s0 + g.stride - 1) / g.stride,
            .out_step = g.stride,
            .out_top = top,
            .out_left = left};
  }

  // A thread copies pack t % 16 % kRowPacks of every kRowsAtOnce-th row of chunk t / 16 of a step:
  // rows of kPack consecutive k, all of one tap.
  static constexpr int kRowStep = kGroupThreads / kRowPacks;
  Walk walk;
  const T* from;     // at the thread's first row and column for k = 0 and tap (r0, s0)
  Index row_length;  // from k to k + 1
  int s, stride, filter_c, taps_h;
  bool inside;  // its column exists

  GPU_DEV BackwardData(const ImplicitGemm& g, const PixelGrid& grid, const T* w, int n0)
      : walk(static_cast<int>(threadIdx.x) / kGroupThreads, g.source_c / kPack<T>, grid),
        row_length(Index{g.r} * g.s * g.filter_c),
        s(g.s),
        stride(g.stride),
        filter_c(g.filter_c),
        taps_h(grid.taps_h) {
    const int share = static_cast<int>(threadIdx.x) % kGroupThreads;
    const int column = n0 + share % kRowPacks * kPack<T>;
    const int phase = static_cast<int>(blockIdx.z), r0 = phase / stride, s0 = phase % stride;
    inside = column < filter_c;
    from = w + share / kRowPacks * row_length + (r0 * s + s0) * filter_c + column;
  }

  GPU_DEV void fill(unsigned char* b) {
    const int t = static_cast<int>(threadIdx.x), share = t % kGroupThreads;
    const int row0 = t / kGroupThreads * kPack<T> + share / kRowPacks;
    const bool valid = inside && walk.i < taps_h;
    const T* next = valid ? from + walk.chunk * kPack<T> * row_length +
                                Index{(walk.i * s + walk.j) * stride} * filter_c
                          : from;
#pragma unroll
    for (int row = 0; row < kPack<T>; row += kRowStep) {
      if (kRowStep > kPack<T> && share >= kN) break;  // the narrow tile leaves half of them idle
      // [mma fill b]
      gpu::cp_async<16>(b + place_of_pack<T, kN>(row0 + row, share % kRowPacks), next, valid);
      if (valid) next += kRowStep * row_length;
    }
    walk.advance();
  }

  /// Fragments of both k-steps of a pair: rows are the reduction.
  GPU_DEV static void fragments(std::uint32_t (&b)[2][Tile::kFragmentsN][2],
                                const unsigned char* stage, int column, int pair) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if constexpr (std::is_same_v<T, float>) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int j = 0; j < Tile::kFragmentsN; ++j)
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const int k = (pair * 2 + half) * 8 + e * 4 + lane % 4, n = column + j * 8 + lane / 4;
            b[half][j][e] = operand<T>(*reinterpret_cast<const std::uint32_t*>(  // [mma b f32]
                stage + place_of_pack<T, kN>(k, n / 4) + n % 4 * 4));
          }
    } else if constexpr (Tile::kFragmentsN == 1) {
      std::uint32_t r[4];
      gpu::ldmatrix_x4_trans(r, stage + place_of_pack<T, kN>(pair * 32 + lane, column / 8));
#pragma unroll
      for (int e = 0; e < 4; ++e) b[e / 2][0][e % 2] = r[e];
    } else {
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int j = 0; j < Tile::kFragmentsN; j += 2) {
          std::uint32_t r[4];
          const int k = (pair * 2 + half) * 16 + lane % 16;
          // [mma b]
          gpu::ldmatrix_x4_trans(r, stage + place_of_pack<T, kN>(k, column / 8 + j + lane / 16));
#pragma unroll
          for (int e = 0; e < 4; ++e) b[half][j + e / 2][e % 2] = r[e];
        }
    }
  }
};

/// packed_out: rows of the result are whole, aligned packs.
inline ImplicitGemm forward_gemm(const Conv2dProblem& d, bool packed_out) {
  const auto i32 = [](Index v) { return static_cast<int>(v); };
  return {.images = i32(d.n),
          .source_h = i32(d.h),
          .source_w = i32(d.w),
          .source_c = i32(d.c),
          .out_h = i32(d.p()),
          .out_w = i32(d.q()),
          .out_c = i32(d.k),
          .filter_c = i32(d.c),
          .r = i32(d.r),
          .s = i32(d.s),
          .stride = i32(d.stride),
          .pad = i32(d.pad),
          .packed_out = packed_out};
}

/// filter_c: elements between rows of the filter, d.c or more.
inline ImplicitGemm backward_data_gemm(const Conv2dProblem& d, Index filter_c, bool packed_out) {
  const auto i32 = [](Index v) { return static_cast<int>(v); };
  return {.images = i32(d.n),
          .source_h = i32(d.p()),
          .source_w = i32(d.q()),
          .source_c = i32(d.k),
          .out_h = i32(d.h),
          .out_w = i32(d.w),
          .out_c = i32(d.c),
          .filter_c = i32(filter_c),
          .r = i32(d.r),
          .s = i32(d.s),
          .stride = i32(d.stride),
          .pad = i32(d.pad),
          .packed_out = packed_out};
}
/// Pixels of the largest of the stride * stride phases.
inline Index largest_phase(const Conv2dProblem& d) {
  return d.n * gpu::cdiv(d.h, d.stride) * gpu::cdiv(d.w, d.stride);
}

}  // namespace subpix::kernels::KERNEL_TARGET::mma
