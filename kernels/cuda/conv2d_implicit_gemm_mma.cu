// Forward convolution on tensor cores, mma.sync: conv2d_mma.cuh has the method and the kernel.
//
//   y[n,p,q,k] = act(bias[k] + sum over r,s,c of x[n, p*stride + r - pad, q*stride + s - pad, c] *
//                                                w[k,r,s,c])
//
// as a GEMM of N*P*Q rows, K columns and a reduction of R*S*C. Filters [K,R,S,C] already are the
// rows of B with the reduction contiguous: a step takes the next 128 bytes of each, and only A has
// to know of taps.
//
// Per output 2*R*S*C operations; x, w and y once are (N*H*W*C + N*P*Q*K + K*R*S*C) elements. For
// 3x3 over 64 channels that is 280 FLOP a byte in bf16, above the ridge of any GPU, so the bound is
// arithmetic; but every tap reads A again from L2: a 128x64 tile loads 192 rows for 8192 products,
// 43 FLOP a byte, and that traffic is the bound in truth. Loading the pixels once for all taps is
// the next technique's idea.
//
// implicit_gemm_mma        bf16.
// implicit_gemm_mma_tf32   fp32 with operands rounded to TF32, where the device info allows it.
//
// conv2d_wide_forward: the bf16 kernel with its sums stored as fp32.

#include "kernels/cuda/conv2d_fused.cuh"
#include "kernels/cuda/conv2d_mma.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace mma {

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

}  // namespace mma

bool supports_forward_implicit_gemm_mma(const Conv2dProblem& d, const DeviceInfo& device) {
  return device.compute_major >= 8 && d.c % kPack<bf16> == 0 && mma::pixels_fit(d);
}
bool supports_forward_implicit_gemm_mma_tf32(const Conv2dProblem& d, const DeviceInfo& device) {
  return device.tf32 && device.compute_major >= 8 && d.c % kPack<float> == 0 && mma::pixels_fit(d);
}

namespace {

/// Out: T, or float for sums that are not rounded.
template <class T, class Out>
void run_forward(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                 Conv2dEpilogue epilogue, Out* y) {
  Workspace scratch(ctx);
  const auto i32 = [](Index v) { return static_cast<int>(v); };
  const mma::ImplicitGemm g{.images = i32(d.n),
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
                            .packed_out = d.k % kPack<Out> == 0 && packable(y)};
  mma::run_implicit_gemm<T, mma::Forward>(
      ctx, g, d.n * d.p() * d.q(), 1, aligned_operand(ctx, scratch, x, d.x_count()),
      aligned_operand(ctx, scratch, w, d.w_count()), epilogue, y);
}

}  // namespace

template <class T>
void conv2d_forward_implicit_gemm_mma(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                                      Conv2dEpilogue epilogue, T* y) {
  run_forward(ctx, d, x, w, epilogue, y);
}
template void conv2d_forward_implicit_gemm_mma(Context&, const Conv2dProblem&, const float*,
                                               const float*, Conv2dEpilogue, float*);
template void conv2d_forward_implicit_gemm_mma(Context&, const Conv2dProblem&, const bf16*,
                                               const bf16*, Conv2dEpilogue, bf16*);

void conv2d_wide_forward_implicit_gemm_mma(Context& ctx, const Conv2dProblem& d, const bf16* x,
                                           const bf16* w, const float* bias, float* y) {
  run_forward(ctx, d, x, w, {.bias = bias}, y);
}

}  // namespace subpix::kernels::KERNEL_TARGET
