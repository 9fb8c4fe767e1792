// Ways back through a change of shape and the activation at it, in one pass.
//
// prelu_shuffle_backward. z, dy [N, H*f, W*f, C] are maps behind the sub-pixel shuffle (f = scale),
// dx [N, H, W, f*f*C] lies before it:
//
//   dx[n, h, w, (i*f + j)*C + c] = g(z) dy at [n, h*f + i, w*f + j, c]    g(z) = z > 0 ? 1 : slope
//   dslope                       = sum of z dy where z <= 0, over all pixels (and all channels
//   where
//                                  they share a slope)
//
//   A row of C channels stays whole, so with all maps as [N*H*W*f*f, C] the shuffle is a
//   permutation of rows: z and dy are read in order, and only the row that dx is written to is
//   computed. C = 64 in bf16 is a row of 128 bytes: whole lines both ways. The sums are those of
//   prelu_backward, in the same order (channel_sums.cuh). 3 tensors moved where PReLU and shuffle
//   one after the other move 5; 4 FLOP an element: memory.
//
// max_pool_relu_backward. y, dy [N, P, Q, C] pooled, dx [N, H, W, C]: max pooling's way back of the
// gradients where y > 0 (pool.cu). For an output 2 elements and a byte are read and 4 written
// (bf16: 13 bytes), against 17 or more when ReLU's pass comes first: memory.
//
// Variants, preferred first:
//   prelu_shuffle   packs    16 bytes an access; channels must be whole packs: multiples of 4
//   (fp32)
//                            or 8 (bf16). Views that begin elsewhere go element by element.
//                   (composed, which table.cu appends, takes the rest)
//   max_pool_relu   vec4     16 bytes an access, a window of 4 or 8 channels a thread.
//                   direct   one element a thread, any sizes and alignments.

#include "kernels/cuda/channel_sums.cuh"
#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/pool.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

/// What channel_sums_kernel adds up and maps.
struct PReluShuffleGradients {
  static constexpr int kInputs = 2, kTerms = 1;
  static constexpr bool kWrites = true;
  const float* slope;
  bool shared;
  std::uint32_t w, scale;  // rows are fewer than 2^32: divisions of 64 bits take four times as long

  using Channel = float;
  GPU_DEV float channel(Index c) const { return slope[shared ? 0 : c]; }
  GPU_DEV static float apply(float a, float z, float dy, float (&sum)[1]) {
    if (!(z > 0.0f)) sum[0] += z * dy;
    return z > 0.0f ? dy : a * dy;
  }
  /// Pixel (n*H + h, i, w, j) to (n*H + h, w, i, j).
  GPU_DEV Index destination(Index row) const {
    const auto pixel = static_cast<std::uint32_t>(row);
    const std::uint32_t j = pixel % scale, t = pixel / scale;
    const std::uint32_t column = t % w, u = t / w;
    const std::uint32_t i = u % scale, line = u / scale;
    return ((line * w + column) * scale + i) * scale + j;
  }
};

template <class T>
bool whole_packs(const PReluShuffleProblem& p, const DeviceInfo&) {
  return rows_of_packs<T>(p.shuffle.c) && p.shuffle.count() / p.shuffle.c < Index{1} << 32;
}

template <int V, class T>
void prelu_shuffle_backward(Context& ctx, const PReluShuffleProblem& p, const T* z, const T* dy,
                            const float* slope, T* dx, float* dslope) {
  const Index c = p.shuffle.c, rows = p.shuffle.count() / c;
  const PReluShuffleGradients f{slope, p.shared, static_cast<std::uint32_t>(p.shuffle.w),
                                static_cast<std::uint32_t>(p.shuffle.scale)};
  const auto run = p.shared ? run_channel_sums<V, true, T, PReluShuffleGradients>
                            : run_channel_sums<V, false, T, PReluShuffleGradients>;
  run(ctx, rows, c, f, z, dy, dx, {{dslope}});
}

}  // namespace

template <class T>
void prelu_shuffle_backward_variants(PReluShuffleBackward<T>& op) {
  op.append({"packs", whole_packs<T>,
             [](Context& ctx, const PReluShuffleProblem& p, const T* z, const T* dy,
                const float* slope, T* dx, float* dslope) {
               const auto run = packable(z, dy, dx) ? prelu_shuffle_backward<kPack<T>, T>
                                                    : prelu_shuffle_backward<1, T>;
               run(ctx, p, z, dy, slope, dx, dslope);
             }});
}
template void prelu_shuffle_backward_variants(PReluShuffleBackward<float>&);
template void prelu_shuffle_backward_variants(PReluShuffleBackward<bf16>&);

template <class T>
void max_pool_relu_backward_variants(MaxPoolReluBackward<T>& op) {
  op.append({"vec4", max_pool_takes_packs<T>, max_pool_backward_vec4<T>});
  op.append({"direct", nullptr, max_pool_backward_direct<T>});
}
template void max_pool_relu_backward_variants(MaxPoolReluBackward<float>&);
template void max_pool_relu_backward_variants(MaxPoolReluBackward<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
