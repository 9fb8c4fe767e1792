// Convolution with bias, ReLU and 2x2 max pooling: the kernel on halo tiles (conv2d_halo_mma.cuh)
// with another end.
//
//   v[n,p,q,k] = bf16(max(0, bias[k] + sum over r,s,c of x w))
//   y[n,p,q,k] = max over a, b in {0, 1} of v[n, 2p+a, 2q+b, k],   which = 2a + b of the first one
//
// v never reaches memory. Tiles have even rows and columns, so that the four pixels of a window lie
// in one block, which has them in shared memory as bf16; a last odd row or column belongs to no
// window, and the tile may reach over the edge. The maximum is chosen as in pool.cu, NaN included.
//
// VGG conv1_2 (64>64, 96x96, batch 16): 10.9 GFLOP; reads 18.9 MB, writes 4.7 MB and 2.4 MB of
// places, 6 us at 4.3 TB/s where v would be written and read again (+ 37.7 MB, 8.8 us): bound by
// the products, 22.9 us at the rate of mma.sync.

#include "kernels/api/composed.h"
#include "kernels/cuda/conv2d_fused.cuh"
#include "kernels/cuda/conv2d_halo_mma.cuh"
#include "kernels/cuda/pool.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

struct PoolStore {
  static constexpr bool kForms = false;
  template <class B>
  struct Scratch {};

  const float* bias;
  bf16* y;  // [N,P/2,Q/2,K]: the kernel's own `out` counts pixels that are not pooled
  Places<bf16>::Word* which;  // or null

  GPU_DEV Conv2dEpilogue epilogue() const { return {.bias = bias, .slope = 0.0f}; }

  /// Thread: eight filters of a window. Eight threads read the 128 bytes of a row, in different
  /// groups of banks, and write 128 of y and 64 of `which`.
  template <class B>
  GPU_DEV void finish(const halo::Result& r, Scratch<B>&, bf16*) const {
    const int thread = static_cast<int>(threadIdx.x), chunk = thread % 8, k = r.at.k + chunk * 8;
    if (k >= r.d.out) return;  // K is a multiple of 8
    const int rows = r.d.tile_rows / 2, cols = r.d.tile_cols / 2;
    for (int i = thread / 8; i < r.d.tile_images * rows * cols; i += B::kThreads / 8) {
      const int b = i % cols, line = i / cols, a = line % rows, image = line / rows;
      const int first = line * 2 * r.d.tile_cols + b * 2;  // line counts those of all images
      // The window is whole where its last pixel is an output.
      if (r.target[first + r.d.tile_cols + 1] < 0) continue;
      Pack<bf16> best{};
      int winner[8] = {};
#pragma unroll
      for (int place = 0; place < 4; ++place) {
        const int row = first + place / 2 * r.d.tile_cols + place % 2;
        // [pool read]
        const uint4 packed = *reinterpret_cast<const uint4*>(r.rows + gpu::swz128(row, chunk));
        const std::uint32_t word[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float2 v = gpu::unpack_bf16(word[e]);
          if (place == 0) {
            best.v[2 * e] = v.x;
            best.v[2 * e + 1] = v.y;
          } else {
            choose(v.x, place, best.v[2 * e], winner[2 * e]);
            choose(v.y, place, best.v[2 * e + 1], winner[2 * e + 1]);
          }
        }
      }
      const Index pixel =
          (Index{r.at.image + image} * (r.d.p / 2) + r.at.p / 2 + a) * (r.d.q / 2) + r.at.q / 2 + b;
      const Index to = pixel * r.d.out + k;
      store_pack(y + to, best);
      // [pool which]
      if (which) which[to / 8] = Places<bf16>::store(winner);
    }
  }
};

}  // namespace

bool supports_pool_forward_halo_mma(const Conv2dPoolProblem& d, const DeviceInfo&) {
  return halo::supports(d.conv, false, 2);
}

void conv2d_pool_forward_halo_mma(Context& ctx, const Conv2dPoolProblem& d, const bf16* x,
                                  Filter<bf16> w, const float* bias, bf16* y, std::uint8_t* which) {
  using Word = Places<bf16>::Word;
  if (!packable(x, w.data, y) || reinterpret_cast<std::uintptr_t>(which) % sizeof(Word) != 0)
    return composed::conv2d_pool_forward(ctx, d, x, w, bias, y, which);
  const halo::Plan plan = halo::plan(d.conv, false, ctx.device().multiprocessors, 2);
  halo::run<false>(ctx, plan, x, w.data,
                   PoolStore{.bias = bias, .y = y, .which = reinterpret_cast<Word*>(which)}, y);
}

}  // namespace subpix::kernels::KERNEL_TARGET
