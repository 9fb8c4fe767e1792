// 3x3 convolution that keeps a patch in shared memory for all nine taps. The patch lies in planes
// of 8 channels, [channel/8][pixel][8 x bf16], so that a tap is only another start address of an
// unswizzled wgmma descriptor. A block has a strip of 3 rows of an image of width 24, padded to a
// pitch of 26, and one warpgroup: 64 output channels x 80 pixels, 2 of them between rows and 2
// beyond. Its weight gradient reads the same planes MN-major and reduces over pixels.

#include "kernels/cuda/gpu/gpu.cuh"
#include "tests/sim/kernels/dispatch.cuh"
#include "tests/sim/kernels/kernels.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kWidth = 24, kPitch = kWidth + 2, kRows = 3;
constexpr int kPixels = 80;  // of one instruction: 3 rows of 26, rounded up
// Pixels of the patch: what the last tap of the last pixel reads, odd so that the planes' starts
// fall into different banks.
constexpr int kPatch = (2 * kPitch + 2 + kPixels) | 1;
constexpr int kPlane = kPatch * 16;  // bytes

struct alignas(128) ForwardShared {
  unsigned char x[8 * kPlane];
  unsigned char w[9 * 8 * 64 * 16];  // [tap][cin/8][cout][8]
};
struct alignas(128) FilterShared {
  unsigned char x[8 * kPlane];
  unsigned char dy[8 * kPixels * 16];
};

/// Image rows row0-1 .. row0+3, columns -1 .. 24; zeros outside.
GPU_DEV void load_patch(unsigned char* to, const bf16* x, int image, int row0, int h) {
  for (int i = static_cast<int>(threadIdx.x); i < kPatch * 8; i += 128) {
    const int pixel = i / 8, plane = i % 8, p = row0 - 1 + pixel / kPitch, q = pixel % kPitch - 1;
    const bool inside = pixel < 5 * kPitch && p >= 0 && p < h && q >= 0 && q < kWidth;
    const std::size_t at = inside ? (static_cast<std::size_t>(image) * h + p) * kWidth + q : 0;
    gpu::cp_async<16>(to + plane * kPlane + pixel * 16, x + at * 64 + plane * 8, inside);
  }
}

template <Bug bug>
__global__ void __launch_bounds__(128)
    strip_forward_kernel(const bf16* __restrict__ x, const bf16* __restrict__ w,
                         float* __restrict__ y, int h) {
  auto& s = gpu::smem<ForwardShared>();
  const int t = static_cast<int>(threadIdx.x);
  const int image = static_cast<int>(blockIdx.y), row0 = static_cast<int>(blockIdx.x) * kRows;
  load_patch(s.x, x, image, row0, h);
  for (int i = t; i < 9 * 8 * 64; i += 128)
    gpu::cp_async<16>(s.w + i * 16, w + static_cast<std::size_t>(i) * 8);  // [fill w]
  gpu::cp_async_commit();
  if constexpr (bug == Bug::EarlyProxyFence) gpu::fence_proxy_async();
  gpu::cp_async_wait<0>();
  // The copies were ordinary writes; wgmma reads through the async proxy.
  if constexpr (bug != Bug::MissingProxyFence && bug != Bug::EarlyProxyFence)
    gpu::fence_proxy_async();
  __syncthreads();
  float sum[kPixels / 2];
  gpu::wgmma_fence();
#pragma unroll
  for (int tap = 0; tap < 9; ++tap)
#pragma unroll
    for (int kk = 0; kk < 4; ++kk) {  // 16 channels: two planes
      const auto a = gpu::desc_plain(gpu::smem_addr(s.w + (tap * 8 + kk * 2) * 1024), 1024, 128);
      const auto b = gpu::desc_plain(
          gpu::smem_addr(s.x + kk * 2 * kPlane + (tap / 3 * kPitch + tap % 3) * 16), kPlane, 128);
      gpu::wgmma_bf16<kPixels>(sum, a, b, tap + kk > 0);  // [strip wgmma]
    }
  gpu::wgmma_commit();
  gpu::wgmma_wait<0>(sum);
  const int cout = t / 32 * 16 + t % 32 / 4;
#pragma unroll
  for (int j = 0; j < kPixels / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int pixel = j * 8 + t % 4 * 2 + e % 2, r = pixel / kPitch, q = pixel % kPitch;
      if (r < kRows && q < kWidth && row0 + r < h)
        y[((static_cast<std::size_t>(image) * h + row0 + r) * kWidth + q) * 64 + cout + e / 2 * 8] =
            sum[j * 4 + e];
    }
}

/// Block (tap row, image).
__global__ void __launch_bounds__(128)
    strip_backward_filter_kernel(const bf16* __restrict__ x, const bf16* __restrict__ dy,
                                 float* __restrict__ dw, int h) {
  auto& s = gpu::smem<FilterShared>();
  const int t = static_cast<int>(threadIdx.x);
  const int image = static_cast<int>(blockIdx.y), tap_row = static_cast<int>(blockIdx.x);
  float sum[3][32];
  for (int row0 = 0; row0 < h; row0 += kRows) {
    __syncthreads();  // nobody reads the previous strip any more: all have waited for their wgmma
    load_patch(s.x, x, image, row0, h);
    for (int i = t; i < kPixels * 8; i += 128) {  // on the padded pitch, zero between the rows
      const int pixel = i / 8, plane = i % 8, p = row0 + pixel / kPitch, q = pixel % kPitch;
      const bool inside = pixel < kRows * kPitch && q < kWidth && p < h;
      const std::size_t at = inside ? (static_cast<std::size_t>(image) * h + p) * kWidth + q : 0;
      gpu::cp_async<16>(s.dy + plane * kPixels * 16 + pixel * 16, dy + at * 64 + plane * 8, inside);
    }
    gpu::cp_async_commit();
    gpu::cp_async_wait<0>();
    gpu::fence_proxy_async();
    __syncthreads();
    gpu::wgmma_fence();
#pragma unroll
    for (int tap = 0; tap < 3; ++tap)
#pragma unroll
      for (int kk = 0; kk < kPixels / 16; ++kk) {
        const auto a = gpu::desc_plain(gpu::smem_addr(s.dy + kk * 256), 128, kPixels * 16);
        const auto b = gpu::desc_plain(
            gpu::smem_addr(s.x + (tap_row * kPitch + tap) * 16 + kk * 256), 128, kPlane);
        gpu::wgmma_bf16<64, 1, 1>(sum[tap], a, b, row0 > 0 || kk > 0);
      }
    gpu::wgmma_commit();
    gpu::wgmma_wait<0>(sum[0]);
    gpu::wgmma_wait<0>(sum[1]);
    gpu::wgmma_wait<0>(sum[2]);
  }
  const int cout = t / 32 * 16 + t % 32 / 4;
#pragma unroll
  for (int tap = 0; tap < 3; ++tap)
#pragma unroll
    for (int j = 0; j < 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const std::size_t filter = static_cast<std::size_t>(image) * 9 + tap_row * 3 + tap;
        dw[(filter * 64 + cout + e / 2 * 8) * 64 + j * 8 + t % 4 * 2 + e % 2] = sum[tap][j * 4 + e];
      }
}

}  // namespace

void strip_forward(Bug bug, const bf16* x, const bf16* w, float* y, int n, int h, void* stream) {
  with_bug<Bug::MissingProxyFence, Bug::EarlyProxyFence>(bug, [&](auto planted) {
    gpu::launch(strip_forward_kernel<planted>,
                {.grid = dim3(static_cast<unsigned>(gpu::cdiv(h, kRows)), static_cast<unsigned>(n)),
                 .block = 128,
                 .smem = sizeof(ForwardShared),
                 .stream = stream},
                x, w, y, h);
  });
}

void strip_backward_filter(const bf16* x, const bf16* dy, float* dw, int n, int h, void* stream) {
  gpu::launch(strip_backward_filter_kernel,
              {.grid = dim3(3, static_cast<unsigned>(n)),
               .block = 128,
               .smem = sizeof(FilterShared),
               .stream = stream},
              x, dy, dw, h);
}

}  // namespace subpix::kernels::KERNEL_TARGET
