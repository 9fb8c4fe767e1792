// 3x3 convolution of 64 channels, NHWC bf16, fp32 accumulation, with mma.sync m16n8k16: a ring of
// stages filled by cp.async, swizzled shared memory, ldmatrix. A block has 128 pixels and all 64
// output channels; one step is one tap, 128 bytes a pixel. Below, products that try the fragment
// layouts.

#include "kernels/cuda/gpu/gpu.cuh"
#include "tests/sim/kernels/dispatch.cuh"
#include "tests/sim/kernels/kernels.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kPixels = 128, kChannels = 64, kStages = 3;

struct alignas(128) MmaShared {
  unsigned char a[kStages][kPixels * 128];
  unsigned char b[kStages][kChannels * 128];  // [cout][cin]
};

template <Bug bug>
GPU_DEV int chunk_offset(int row, int chunk, bool reading) {
  if (bug == Bug::NoSwizzle || (bug == Bug::WrongSwizzle && reading && row >= 32))
    return row * 128 + chunk * 16;
  return gpu::swz128(row, chunk);
}

template <Bug bug>
__global__ void __launch_bounds__(128)
    conv_mma_kernel(const bf16* __restrict__ x, const bf16* __restrict__ w, bf16* __restrict__ y,
                    int n, int h, int wd) {
  auto& s = gpu::smem<MmaShared>();
  const int t = static_cast<int>(threadIdx.x), warp = t / 32, lane = t % 32;
  const int m0 = static_cast<int>(blockIdx.x) * kPixels, pixels = n * h * wd;
  const int chunk = t % 8,
            row0 = t / 8;  // loads 16-byte chunk `chunk` of rows row0, row0 + 16, ...
  const auto load = [&](int tap, int stage) {
    const int dr = tap / 3 - 1, ds = tap % 3 - 1;
#pragma unroll
    for (int i = 0; i < kPixels / 16; ++i) {
      const int r = row0 + i * 16, m = m0 + r, q = m % wd + ds, p = m / wd % h + dr;
      const bool inside = m < pixels && q >= 0 && q < wd && p >= 0 && p < h;
      const std::size_t pixel = static_cast<std::size_t>(inside ? m + dr * wd + ds : 0);
      // [mma fill]
      gpu::cp_async<16>(&s.a[stage][chunk_offset<bug>(r, chunk, false)],
                        x + pixel * kChannels + chunk * 8, inside);
    }
#pragma unroll
    for (int i = 0; i < kChannels / 16; ++i) {
      const int r = row0 + i * 16;
      gpu::cp_async<16>(
          &s.b[stage][chunk_offset<bug>(r, chunk, false)],
          w + (static_cast<std::size_t>(tap) * kChannels + r) * kChannels + chunk * 8);
    }
  };
  float sum[2][8][4] = {};
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) {
    load(i, i);
    gpu::cp_async_commit();
  }
  for (int tap = 0; tap < 9; ++tap) {
    if constexpr (bug != Bug::MissingWait) gpu::cp_async_wait<kStages - 2>();
    // Everyone's copies of this stage have arrived, and everyone has left the stage filled next.
    if constexpr (bug != Bug::MissingSync) __syncthreads();
    if (tap + kStages - 1 < 9) load(tap + kStages - 1, (tap + kStages - 1) % kStages);
    gpu::cp_async_commit();
    const int stage = tap % kStages;
#pragma unroll
    for (int kk = 0; kk < 4; ++kk) {  // 16 channels
      std::uint32_t a[2][4], b[8][2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = warp * 32 + i * 16 + lane % 16;
        // [mma a]
        gpu::ldmatrix_x4(a[i], &s.a[stage][chunk_offset<bug>(row, kk * 2 + lane / 16, true)]);
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        std::uint32_t r[4];
        const int row = j * 16 + lane / 16 * 8 + lane % 8;
        // [mma b]
        gpu::ldmatrix_x4(r, &s.b[stage][chunk_offset<bug>(row, kk * 2 + lane / 8 % 2, true)]);
        b[2 * j][0] = r[0];
        b[2 * j][1] = r[1];
        b[2 * j + 1][0] = r[2];
        b[2 * j + 1][1] = r[3];
      }
      gpu::mma_tile_bf16(sum, a, b);
    }
  }
  gpu::cp_async_wait<0>();
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int upper = 0; upper < 2; ++upper) {
      const int m = m0 + warp * 32 + i * 16 + upper * 8 + lane / 4;
      if (m >= pixels) continue;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        bf16* to = y + static_cast<std::size_t>(m) * kChannels + j * 8 + lane % 4 * 2;
        const std::uint32_t pair = gpu::pack_bf16(sum[i][j][upper * 2], sum[i][j][upper * 2 + 1]);
        *reinterpret_cast<std::uint32_t*>(to) = pair;  // [mma store]
      }
    }
}

__global__ void product_tf32_kernel(const float* a, const float* b, float* d) {
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  const std::uint32_t ra[4] = {__float_as_uint(a[g * 8 + t]), __float_as_uint(a[(g + 8) * 8 + t]),
                               __float_as_uint(a[g * 8 + t + 4]),
                               __float_as_uint(a[(g + 8) * 8 + t + 4])};
  const std::uint32_t rb[2] = {__float_as_uint(b[t * 8 + g]), __float_as_uint(b[(t + 4) * 8 + g])};
  float sum[4] = {}, tile[1][1][4] = {};
  gpu::mma_tf32(sum, ra, rb);
  const std::uint32_t tile_a[1][4] = {{ra[0], ra[1], ra[2], ra[3]}};
  const std::uint32_t tile_b[1][2] = {{rb[0], rb[1]}};
  gpu::mma_tile_tf32(tile, tile_a, tile_b);
  for (int h = 0; h < 4; ++h)
    d[(g + h / 2 * 8) * 8 + t * 2 + h % 2] = sum[h] == tile[0][0][h] ? sum[h] : -1e30f;
}

/// Fragments straight from global memory: a row-major, b [n][k].
__global__ void product_tiles_kernel(const bf16* a, const bf16* b, float* d) {
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  const auto pair = [](const bf16* p) { return *reinterpret_cast<const std::uint32_t*>(p); };
  std::uint32_t ra[2][4], rb[2][2];
  for (int i = 0; i < 2; ++i)
    for (int h = 0; h < 4; ++h)
      ra[i][h] = pair(a + (i * 16 + g + h % 2 * 8) * 16 + h / 2 * 8 + t * 2);
  for (int j = 0; j < 2; ++j)
    for (int h = 0; h < 2; ++h) rb[j][h] = pair(b + (j * 8 + g) * 16 + h * 8 + t * 2);
  float sum[2][2][4] = {};
  gpu::mma_tile_bf16(sum, ra, rb);
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) {
      gpu::mma_bf16(sum[i][j], ra[i], rb[j]);  // a second time: accumulation
      for (int h = 0; h < 4; ++h)
        d[(i * 16 + g + h / 2 * 8) * 16 + j * 8 + t * 2 + h % 2] = 0.5f * sum[i][j][h];
    }
}

struct CopyShared {
  float v[128];
};

/// Thread t copies floats 4t to 4t+3: as one, two or four copies, in two groups.
__global__ void small_copies_kernel(const float* x, float* out, int valid) {
  auto& s = gpu::smem<CopyShared>();
  const int t = static_cast<int>(threadIdx.x), first = t * 4;
  if (t % 3 == 0) gpu::cp_async<16>(&s.v[first], x + first, first < valid);
  if (t % 3 == 1)
    for (int i = 0; i < 4; i += 2)
      gpu::cp_async<8>(&s.v[first + i], x + first + i, first + i < valid);
  gpu::cp_async_commit();
  if (t % 3 == 2)
    for (int i = 0; i < 4; ++i) gpu::cp_async<4>(&s.v[first + i], x + first + i, first + i < valid);
  gpu::cp_async_commit();
  gpu::cp_async_wait<1>();
  float sum = t % 3 < 2 ? s.v[first] : 0.0f;  // a thread sees its own copies without a barrier
  gpu::cp_async_wait<0>();
  __syncthreads();
  for (int i = 0; i < 4; ++i) out[i * 32 + t] = s.v[i * 32 + t] + 0.0f * sum;
}

}  // namespace

void conv_mma(Bug bug, const bf16* x, const bf16* w, bf16* y, int n, int h, int wd, void* stream) {
  with_bug<Bug::MissingWait, Bug::MissingSync, Bug::WrongSwizzle, Bug::NoSwizzle>(bug, [&](auto b) {
    gpu::launch(conv_mma_kernel<b>,
                {.grid = gpu::grid_for(n * h * wd, kPixels),
                 .block = 128,
                 .smem = sizeof(MmaShared),
                 .stream = stream},
                x, w, y, n, h, wd);
  });
}

void product_tf32(const float* a, const float* b, float* d, void* stream) {
  gpu::launch(product_tf32_kernel, {.block = 32, .stream = stream}, a, b, d);
}
void product_tiles(const bf16* a, const bf16* b, float* d, void* stream) {
  gpu::launch(product_tiles_kernel, {.block = 32, .stream = stream}, a, b, d);
}
void small_copies(const float* x, float* out, int valid, void* stream) {
  gpu::launch(small_copies_kernel, {.block = 32, .smem = sizeof(CopyShared), .stream = stream}, x,
              out, valid);
}

}  // namespace subpix::kernels::KERNEL_TARGET
