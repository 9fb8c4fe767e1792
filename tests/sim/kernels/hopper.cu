// TMA, mbarriers and wgmma: a producer warp fills a ring of stages, a warpgroup multiplies. `full`
// completes when the bytes of a stage have arrived, `empty` when all readers have left it.

#include "kernels/cuda/gpu/gpu.cuh"
#include "tests/sim/kernels/dispatch.cuh"
#include "tests/sim/kernels/kernels.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kStages = 4, kTile = 64 * 128;  // bytes of a 64 x 64 tile of bf16

struct alignas(1024) RingShared {
  unsigned char a[kStages][kTile], b[kStages][kTile];
  float out[64][64 + 4];
  gpu::MBar full[kStages], empty[kStages];
};

/// sum (+)= the tiles that load_a(stage memory, mbarrier, step) and map_b bring. 160 threads: a
/// warpgroup of consumers and one producer warp.
template <Bug bug, class LoadA>
GPU_DEV void multiply_ring(RingShared& s, float (&sum)[32], int steps, const gpu::TmaMap* map_b,
                           LoadA load_a) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      gpu::mbar_init(&s.full[i], 1);     // [ring init]
      gpu::mbar_init(&s.empty[i], 128);  // [ring init empty]
    }
    gpu::fence_mbar_init();
  }
  if constexpr (bug != Bug::MissingInitSync) __syncthreads();
  if (warp == 4) {
    if (gpu::lane_id() == 0)
      for (int step = 0; step < steps; ++step) {
        const int stage = step % kStages;
        const unsigned phase = static_cast<unsigned>(step / kStages) & 1u;
        if constexpr (bug != Bug::EmptyNotAwaited)
          gpu::mbar_wait(&s.empty[stage], phase ^ 1u);  // [ring producer wait]
        // [ring announce]
        gpu::mbar_arrive_tx(&s.full[stage], bug == Bug::TooFewBytes ? kTile : 2 * kTile);
        load_a(s.a[stage], &s.full[stage], step);
        gpu::tma_load_2d(s.b[stage], map_b, &s.full[stage], step * 64, 0);  // [ring load b]
      }
    return;
  }
  for (int step = 0; step < steps; ++step) {
    const int stage = step % kStages;
    const unsigned phase = static_cast<unsigned>(step / kStages) & 1u;
    if constexpr (bug != Bug::FullNotAwaited)
      gpu::mbar_wait(&s.full[stage], phase);  // [ring consumer wait]
    gpu::wgmma_fence();
    const std::uint64_t a = gpu::desc_sw128(gpu::smem_addr(s.a[stage]));
    const std::uint64_t b = gpu::desc_sw128(gpu::smem_addr(s.b[stage]));
#pragma unroll
    for (int kk = 0; kk < 4;
         ++kk)  // 32 bytes further: the next 16 of k, inside the swizzle pattern
      gpu::wgmma_bf16<64>(sum, a + kk * 2, b + kk * 2, step > 0 || kk > 0);  // [ring wgmma]
    gpu::wgmma_commit();
    if constexpr (bug == Bug::ReleasedEarly) gpu::mbar_arrive(&s.empty[stage]);
    gpu::wgmma_wait<0>(sum);
    if constexpr (bug != Bug::ReleasedEarly) gpu::mbar_arrive(&s.empty[stage]);  // [ring leave]
  }
}

/// From the warpgroup's registers to rows m0.. of d, through shared memory in 16-byte pieces.
GPU_DEV void store_tile(RingShared& s, const float (&sum)[32], float* __restrict__ d, int m0,
                        int m) {
  const int t = static_cast<int>(threadIdx.x), lane = t % 32;
  if (t >= 128) return;
#pragma unroll
  for (int j = 0; j < 8; ++j)
#pragma unroll
    for (int upper = 0; upper < 2; ++upper)
      *reinterpret_cast<float2*>(&s.out[t / 32 * 16 + lane / 4 + upper * 8][j * 8 + lane % 4 * 2]) =
          make_float2(sum[j * 4 + upper * 2], sum[j * 4 + upper * 2 + 1]);
  gpu::named_bar_sync(1, 128);
  for (int i = t; i < 64 * 16; i += 128) {
    const int r = i / 16, c = i % 16;
    if (m0 + r < m)
      *reinterpret_cast<float4*>(d + static_cast<std::size_t>(m0 + r) * 64 + c * 4) =
          *reinterpret_cast<const float4*>(&s.out[r][c * 4]);
  }
}

template <Bug bug>
__global__ void __launch_bounds__(160) gemm_wgmma_kernel(const __grid_constant__ gpu::TmaMap map_a,
                                                         const __grid_constant__ gpu::TmaMap map_b,
                                                         float* __restrict__ d, int m, int k) {
  auto& s = gpu::smem<RingShared>();
  const int m0 = static_cast<int>(blockIdx.x) * 64;
  float sum[32];
  multiply_ring<bug>(s, sum, k / 64, &map_b, [&](void* dst, gpu::MBar* bar, int step) {
    gpu::tma_load_2d(dst, &map_a, bar, step * 64, m0);  // [ring load a]
  });
  store_tile(s, sum, d, m0, m);
}

__global__ void __launch_bounds__(160)
    conv_im2col_kernel(const __grid_constant__ gpu::TmaMap map_x,
                       const __grid_constant__ gpu::TmaMap map_w, float* __restrict__ y, int n,
                       int h, int wd) {
  auto& s = gpu::smem<RingShared>();
  const int m0 = static_cast<int>(blockIdx.x) * 64;
  const int q0 = m0 % wd, p0 = m0 / wd % h, n0 = m0 / (wd * h);
  float sum[32];
  multiply_ring<Bug::None>(s, sum, 9, &map_w, [&](void* dst, gpu::MBar* bar, int tap) {
    gpu::tma_load_im2col(dst, &map_x, bar, 0, q0 - 1, p0 - 1, n0,
                         static_cast<std::uint16_t>(tap % 3), static_cast<std::uint16_t>(tap / 3));
  });
  store_tile(s, sum, y, m0, n * h * wd);
}

struct alignas(1024) StoreShared {
  float tile[32][32];
};

template <Bug bug>
__global__ void tma_store_tiles_kernel(const __grid_constant__ gpu::TmaMap map, float add) {
  auto& s = gpu::smem<StoreShared>();
  const float value = static_cast<float>(threadIdx.x) + add;
  s.tile[threadIdx.x / 32][threadIdx.x % 32] = value;  // [tile write]
  if constexpr (bug != Bug::MissingProxyFence) gpu::fence_proxy_async();
  __syncthreads();
  if (threadIdx.x == 0) {
    gpu::tma_store_2d(&map, &s.tile, 32 * static_cast<int>(blockIdx.x), 0);  // [tile store]
    gpu::bulk_commit();
    if constexpr (bug != Bug::MissingStoreWait) gpu::bulk_wait<0>();
  }
}

constexpr int kBoxBytes = 16 << 10;
struct alignas(1024) BoxShared {
  unsigned char box[kBoxBytes];
  gpu::MBar bar;
};
struct Corner {
  int at[5];
};

template <int rank>
__global__ void tma_round_trip_kernel(const __grid_constant__ gpu::TmaMap map_x,
                                      const __grid_constant__ gpu::TmaMap map_y, Corner corner,
                                      int bytes, unsigned char* out) {
  auto& s = gpu::smem<BoxShared>();
  const int t = static_cast<int>(threadIdx.x);
  const int* c = corner.at;
  if (t == 0) {
    gpu::mbar_init(&s.bar, 1);
    gpu::fence_mbar_init();
    gpu::mbar_arrive_tx(&s.bar, bytes);
    if constexpr (rank == 1) gpu::tma_load_1d(s.box, &map_x, &s.bar, c[0]);
    if constexpr (rank == 2) gpu::tma_load_2d(s.box, &map_x, &s.bar, c[0], c[1]);
    if constexpr (rank == 3) gpu::tma_load_3d(s.box, &map_x, &s.bar, c[0], c[1], c[2]);
    if constexpr (rank == 4) gpu::tma_load_4d(s.box, &map_x, &s.bar, c[0], c[1], c[2], c[3]);
    if constexpr (rank == 5) gpu::tma_load_5d(s.box, &map_x, &s.bar, c[0], c[1], c[2], c[3], c[4]);
  }
  __syncthreads();
  gpu::mbar_wait(&s.bar, 0);
  for (int i = t; i < bytes; i += 32) out[i] = s.box[i];
  if (t == 0) {
    if constexpr (rank == 1) gpu::tma_store_1d(&map_y, s.box, c[0]);
    if constexpr (rank == 2) gpu::tma_store_2d(&map_y, s.box, c[0], c[1]);
    if constexpr (rank == 3) gpu::tma_store_3d(&map_y, s.box, c[0], c[1], c[2]);
    if constexpr (rank == 4) gpu::tma_store_4d(&map_y, s.box, c[0], c[1], c[2], c[3]);
    if constexpr (rank == 5) gpu::tma_store_5d(&map_y, s.box, c[0], c[1], c[2], c[3], c[4]);
    gpu::bulk_commit();
    gpu::bulk_wait<0>();
  }
}

struct alignas(128) BulkShared {
  float v[1024];
  gpu::MBar bar;
};

__global__ void bulk_copy_kernel(const float* x, float* out, int n) {
  auto& s = gpu::smem<BulkShared>();
  if (threadIdx.x == 0) {
    gpu::mbar_init(&s.bar, 1);
    gpu::fence_mbar_init();
    gpu::mbar_arrive_tx(&s.bar, n * 4);
    gpu::bulk_load(s.v, x, n * 4, &s.bar);
  }
  __syncthreads();
  gpu::mbar_wait(&s.bar, 0);
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x))
    out[i] = s.v[i];
}

gpu::TmaMap matrix_map(const bf16* p, int rows, int columns, int box_rows) {
  return gpu::make_tma_map(
      gpu::TmaTiled{.base = p,
                    .element = gpu::TmaElement::BF16,
                    .rank = 2,
                    .dims = {static_cast<std::uint64_t>(columns), static_cast<std::uint64_t>(rows)},
                    .strides = {static_cast<std::uint64_t>(columns) * 2},
                    .box = {64, static_cast<std::uint32_t>(box_rows)},
                    .swizzle = gpu::Swizzle::B128});
}

}  // namespace

void gemm_wgmma(Bug bug, const bf16* a, const bf16* b, float* d, int m, int k, void* stream) {
  const gpu::TmaMap map_a = matrix_map(a, m, k, 64), map_b = matrix_map(b, 64, k, 64);
  with_bug<Bug::MissingInitSync, Bug::EmptyNotAwaited, Bug::FullNotAwaited, Bug::TooFewBytes,
           Bug::ReleasedEarly>(bug, [&](auto planted) {
    gpu::launch(
        gemm_wgmma_kernel<planted>,
        {.grid = gpu::grid_for(m, 64), .block = 160, .smem = sizeof(RingShared), .stream = stream},
        map_a, map_b, d, m, k);
  });
}

void conv_im2col(const bf16* x, const bf16* w, float* y, int n, int h, int wd, void* stream) {
  const gpu::TmaMap map_x = gpu::make_tma_map(gpu::TmaIm2col{.base = x,
                                                             .element = gpu::TmaElement::BF16,
                                                             .n = static_cast<std::uint64_t>(n),
                                                             .h = static_cast<std::uint64_t>(h),
                                                             .w = static_cast<std::uint64_t>(wd),
                                                             .c = 64,
                                                             .lower_w = -1,
                                                             .lower_h = -1,
                                                             .upper_w = -1,
                                                             .upper_h = -1,
                                                             .channels = 64,
                                                             .pixels = 64,
                                                             .swizzle = gpu::Swizzle::B128});
  gpu::launch(conv_im2col_kernel,
              {.grid = gpu::grid_for(n * h * wd, 64),
               .block = 160,
               .smem = sizeof(RingShared),
               .stream = stream},
              map_x, matrix_map(w, 64, 9 * 64, 64), y, n, h, wd);
}

void tma_store_tiles(Bug bug, float* y, float add, int blocks, void* stream) {
  const auto columns = static_cast<std::uint64_t>(32 * blocks);
  const gpu::TmaMap map = gpu::make_tma_map(gpu::TmaTiled{.base = y,
                                                          .element = gpu::TmaElement::F32,
                                                          .rank = 2,
                                                          .dims = {columns, 32},
                                                          .strides = {columns * 4},
                                                          .box = {32, 32}});
  with_bug<Bug::MissingProxyFence, Bug::MissingStoreWait>(bug, [&](auto planted) {
    gpu::launch(tma_store_tiles_kernel<planted>,
                {.grid = static_cast<unsigned>(blocks),
                 .block = 1024,
                 .smem = sizeof(StoreShared),
                 .stream = stream},
                map, add);
  });
}

void tma_round_trip(const TmaBox& b, const void* x, void* out, void* y, void* stream) {
  gpu::TmaTiled tensor{};
  tensor.element = b.element == 4   ? gpu::TmaElement::F32
                   : b.element == 2 ? gpu::TmaElement::BF16
                                    : gpu::TmaElement::U8;
  tensor.rank = b.rank;
  tensor.swizzle = b.swizzle == 128  ? gpu::Swizzle::B128
                   : b.swizzle == 64 ? gpu::Swizzle::B64
                   : b.swizzle == 32 ? gpu::Swizzle::B32
                                     : gpu::Swizzle::None;
  std::uint64_t stride = static_cast<std::uint64_t>(b.element);
  int bytes = b.element;
  Corner corner{};
  for (int i = 0; i < b.rank; ++i) {
    tensor.dims[i] = static_cast<std::uint64_t>(b.dims[i]);
    tensor.box[i] = static_cast<std::uint32_t>(b.box[i]);
    stride *= tensor.dims[i];
    if (i + 1 < b.rank) tensor.strides[i] = stride;
    bytes *= b.box[i];
    corner.at[i] = b.corner[i];
  }
  SUBPIX_REQUIRE(bytes <= kBoxBytes, "a box of ", bytes, " bytes");
  tensor.base = x;
  const gpu::TmaMap map_x = gpu::make_tma_map(tensor);
  tensor.base = y;
  const gpu::TmaMap map_y = gpu::make_tma_map(tensor);
  const gpu::LaunchCfg cfg{.block = 32, .smem = sizeof(BoxShared), .stream = stream};
  auto* to = static_cast<unsigned char*>(out);
  switch (b.rank) {
    case 1:
      return gpu::launch(tma_round_trip_kernel<1>, cfg, map_x, map_y, corner, bytes, to);
    case 2:
      return gpu::launch(tma_round_trip_kernel<2>, cfg, map_x, map_y, corner, bytes, to);
    case 3:
      return gpu::launch(tma_round_trip_kernel<3>, cfg, map_x, map_y, corner, bytes, to);
    case 4:
      return gpu::launch(tma_round_trip_kernel<4>, cfg, map_x, map_y, corner, bytes, to);
    default:
      return gpu::launch(tma_round_trip_kernel<5>, cfg, map_x, map_y, corner, bytes, to);
  }
}

void bulk_copy(const float* x, float* out, int n, void* stream) {
  gpu::launch(bulk_copy_kernel, {.block = 64, .smem = sizeof(BulkShared), .stream = stream}, x, out,
              n);
}

}  // namespace subpix::kernels::KERNEL_TARGET
