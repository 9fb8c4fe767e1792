// Convolution whose output is stored shuffled, with PReLU: the kernel on halo tiles
// (conv2d_halo_mma.cuh) with another end.
//
//   z[n, p*f + i, q*f + j, c] = bf16(bias[k] + sum over r,s,c' of x w)    k = (i*f + j)*C + c
//   y = z > 0 ? z : slope[c] z                                            f = scale, C = K / f^2
//
// A block's tile is 64 filters of each of its pixels. The filters of one (i,j) are C channels of
// one pixel of z, in order, and 16 bytes are eight channels: so a shuffle of the stores is all that
// is to be done, each 16 bytes to another pixel. With C = 64 (both up-sampling layers) a block has
// one (i,j), and its stores are the 128-byte lines of every second pixel of a row of z.
//
// up2 (64>256, 48x48, batch 16): 10.9 GFLOP and 23.6 MB as a convolution. Behind it shuffle and
// PReLU move z four times more, 75.5 MB (17.6 us at 4.3 TB/s); here only y is written besides,
// 18.9 MB: 42.5 MB in all, 9.9 us, below the 22.9 us of its products at the rate of mma.sync.
//
// PReLU reads z as it was rounded for memory, like the op that would follow: y does not depend on
// the variant.

#include "kernels/api/composed.h"
#include "kernels/cuda/conv2d_fused.cuh"
#include "kernels/cuda/conv2d_halo_mma.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

struct ShuffleStore {
  static constexpr bool kForms = false;
  template <class B>
  struct Scratch {};

  const float* bias;
  const float* slope;  // [C], or [1] where shared
  bf16* y;             // null: no PReLU
  int scale, channels;
  bool shared;

  GPU_DEV Conv2dEpilogue epilogue() const { return {.bias = bias}; }

  /// Thread: one chunk of eight filters of every kThreads / 8-th row; eight threads read a row, a
  /// different group of banks each. z: from the tile's first image on.
  template <class B>
  GPU_DEV void finish(const halo::Result& r, Scratch<B>&, bf16* z) const {
    const int thread = static_cast<int>(threadIdx.x), chunk = thread % 8, k = r.at.k + chunk * 8;
    if (k >= r.d.out) return;  // K is a multiple of 8
    const int c = k % channels, place = k / channels, i = place / scale, j = place % scale;
    const Index width = Index{r.d.q} * scale;  // of z
    bf16* activated = y ? y + r.first_pixel() * r.d.out : nullptr;
    float slopes[8] = {};
#pragma unroll
    for (int e = 0; e < 8; ++e)
      if (y) slopes[e] = slope[shared ? 0 : c + e];
    for (int row = thread / 8; row < B::kRows; row += B::kThreads / 8) {
      const int pixel = r.target[row];
      if (pixel < 0) continue;
      // line counts the rows of all images of the tile.
      const int line = pixel / r.d.q, column = pixel - line * r.d.q;
      const Index to =
          ((Index{line} * scale + i) * width + Index{column} * scale + j) * channels + c;
      // [shuffle read]
      const uint4 packed = *reinterpret_cast<const uint4*>(r.rows + gpu::swz128(row, chunk));
      // [shuffle z]
      *reinterpret_cast<uint4*>(z + to) = packed;
      if (!y) continue;
      const std::uint32_t word[4] = {packed.x, packed.y, packed.z, packed.w};
      std::uint32_t result[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float2 v = gpu::unpack_bf16(word[e]);
        result[e] = gpu::pack_bf16(v.x > 0.0f ? v.x : slopes[2 * e] * v.x,
                                   v.y > 0.0f ? v.y : slopes[2 * e + 1] * v.y);
      }
      const uint4 part = make_uint4(result[0], result[1], result[2], result[3]);
      // [shuffle y]
      *reinterpret_cast<uint4*>(activated + to) = part;
    }
  }
};

}  // namespace

bool supports_shuffle_forward_halo_mma(const Conv2dShuffleProblem& d, const DeviceInfo&) {
  return d.channels() % 8 == 0 && d.scale < Index{1} << 28 && halo::supports(d.conv, false);
}

void conv2d_shuffle_forward_halo_mma(Context& ctx, const Conv2dShuffleProblem& d, const bf16* x,
                                     Filter<bf16> w, const float* bias, const float* slope, bf16* z,
                                     bf16* y) {
  if (!d.prelu) y = nullptr;
  if (!packable(x, w.data, z, y))  // null is
    return composed::conv2d_shuffle_forward(ctx, d, x, w, bias, slope, z, y);
  const halo::Plan plan = halo::plan(d.conv, false, ctx.device().multiprocessors);
  halo::run<false>(ctx, plan, x, w.data,
                   ShuffleStore{.bias = bias,
                                .slope = slope,
                                .y = y,
                                .scale = static_cast<int>(d.scale),
                                .channels = static_cast<int>(d.channels()),
                                .shared = d.shared},
                   z);
}

}  // namespace subpix::kernels::KERNEL_TARGET
