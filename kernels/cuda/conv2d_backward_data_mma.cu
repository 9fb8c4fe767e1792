// The gradient of a convolution's input on tensor cores, mma.sync: conv2d_mma.cuh has the method
// and the kernel.
//
// y[n,p,q,k] reads x[n,h,v,c] through w[k,r,s,c] where h = p*stride + r - pad, v = q*stride + s -
// pad. Turned round:
//
//   dx[n,h,v,c] = sum over k,r,s of dy[n, (h + pad - r) / stride, (v + pad - s) / stride, k] *
//                                   w[k,r,s,c],     where both divisions leave no remainder.
//
// Stride 1: a GEMM of N*H*W rows, C columns and a reduction of R*S*K, whose taps run backwards.
// Stride 2: h + pad - r must be even, so the parity of h decides which taps count. The pixels of
// each of the four parities form a grid of their own on which the convolution has stride 1 and a
// quarter of the taps (4, 2, 2, 1 of 3x3): four phases of one launch, none of which multiplies by
// zero. With r = r0 + 2i the source row is (h + pad - r0) / 2 - i. A phase without taps (1x1)
// writes zeros. Phases are numbered by (r0, s0): those with most taps come first.
//
// The columns of B are input channels, contiguous in w [K,R,S,C], while its reduction k is not. A
// stage therefore holds B as it lies in memory, rows of k with kN channels, and the transposition
// happens on the way to registers: ldmatrix.trans for bf16, single loads for TF32. No filter is
// flipped or copied, unless its channels are no multiple of a pack (the gradient of an image):
// then a copy with padded rows is made first, a few kilobytes.
//
// Bytes, operations and bound are the forward pass's with C and K exchanged.
//
// implicit_gemm_mma        bf16.
// implicit_gemm_mma_tf32   fp32 with operands rounded to TF32, where the device info allows it.

#include "kernels/cuda/conv2d_mma.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace mma {

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

/// Thread i owns element i of the copy: rows of c elements, padded with zeros to `padded`.
template <class T>
__global__ void __launch_bounds__(256)
    conv2d_pad_filter_kernel(Index count, int c, int padded, const T* __restrict__ w,
                             T* __restrict__ copy) {
  const Index i = Index{blockIdx.x} * 256 + threadIdx.x;
  if (i >= count) return;
  const Index row = i / padded, column = i % padded;
  copy[i] = column < c ? w[row * c + column] : T{};
}

}  // namespace mma

bool supports_backward_data_implicit_gemm_mma(const Conv2dProblem& d, const DeviceInfo& device) {
  return device.compute_major >= 8 && d.k % kPack<bf16> == 0 && mma::pixels_fit(d);
}
bool supports_backward_data_implicit_gemm_mma_tf32(const Conv2dProblem& d,
                                                   const DeviceInfo& device) {
  return device.tf32 && device.compute_major >= 8 && d.k % kPack<float> == 0 && mma::pixels_fit(d);
}

template <class T>
void conv2d_backward_data_implicit_gemm_mma(Context& ctx, const Conv2dProblem& d, const T* dy,
                                            const T* w, T* dx) {
  Workspace scratch(ctx);
  const Index filter_rows = d.k * d.r * d.s;
  const Index filter_c = gpu::cdiv(d.c, Index{kPack<T>}) * kPack<T>;
  if (filter_c != d.c || !packable(w)) {
    T* copy = scratch.take<T>(static_cast<std::size_t>(filter_rows * filter_c));
    gpu::launch(
        mma::conv2d_pad_filter_kernel<T>,
        {.grid = gpu::grid_for(filter_rows * filter_c, 256), .block = 256, .stream = ctx.stream},
        filter_rows * filter_c, static_cast<int>(d.c), static_cast<int>(filter_c), w, copy);
    w = copy;
  }
  const auto i32 = [](Index v) { return static_cast<int>(v); };
  const mma::ImplicitGemm g{.images = i32(d.n),
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
                            .packed_out = filter_c == d.c && packable(dx)};
  const Index largest_phase = d.n * gpu::cdiv(d.h, d.stride) * gpu::cdiv(d.w, d.stride);
  mma::run_implicit_gemm<T, mma::BackwardData>(ctx, g, largest_phase, i32(d.stride * d.stride),
                                               aligned_operand(ctx, scratch, dy, d.y_count()), w,
                                               Conv2dEpilogue{}, dx);
}
template void conv2d_backward_data_implicit_gemm_mma(Context&, const Conv2dProblem&, const float*,
                                                     const float*, float*);
template void conv2d_backward_data_implicit_gemm_mma(Context&, const Conv2dProblem&, const bf16*,
                                                     const bf16*, bf16*);

}  // namespace subpix::kernels::KERNEL_TARGET
