// Small kernels with one deliberate defect each, run by name. The marked line is the one that a
// report has to name.

#include <cstring>

#include "kernels/cuda/gpu/grid.cuh"
#include "tests/sim/kernels/kernels.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

struct Shared {
  float a[64], b[64];
  int index[64];
};
struct alignas(1024) Tiles {
  std::uint16_t a[64 * 64], b[64 * 64];
  gpu::MBar bar;
};

// --- values --------------------------------------------------------------------------------------

__global__ void uninitialised_shared(float* out) {
  auto& s = gpu::smem<Shared>();
  if (threadIdx.x < 63) s.a[threadIdx.x] = 1.0f;
  __syncthreads();
  float sum = 0;
  for (const float v : s.a) sum += v;
  out[threadIdx.x] = sum;
}
__global__ void uninitialised_global(float* out) { out[threadIdx.x] = out[threadIdx.x] + 1.0f; }
__global__ void shuffle_from_inactive_lane(float* out) {
  float v = 1;
  if (threadIdx.x % 32 < 16) v = __shfl_sync(0xFFFFu, v, 20);
  out[threadIdx.x] = v;
}
__global__ void missing_syncwarp(float* out) {
  auto& s = gpu::smem<Shared>();
  s.a[threadIdx.x] = static_cast<float>(threadIdx.x);  // [syncwarp write]
  out[threadIdx.x] = s.a[threadIdx.x ^ 1u];            // [syncwarp read]
}

// --- control flow --------------------------------------------------------------------------------

__global__ void divergent_syncthreads(float* out) {
  if (threadIdx.x < 32)
    __syncthreads();  // [divergent first]
  else
    __syncthreads();  // [divergent second]
  out[threadIdx.x] = 1;
}
__global__ void early_return(float* out) {
  if (threadIdx.x >= 40) return;
  __syncthreads();  // [early_return]
  out[threadIdx.x] = 1;
}
__global__ void shuffle_in_a_branch(float* out) {
  float v = 1;
  if (threadIdx.x % 32 < 16) v = __shfl_xor_sync(~0u, v, 1);  // [shuffle_in_a_branch]
  out[threadIdx.x] = v;
}
__global__ void shuffle_with_exited_lanes(float* out) {
  if (threadIdx.x >= 40) return;
  out[threadIdx.x] = __shfl_xor_sync(~0u, 1.0f, 1);  // [exited lanes]
}
__global__ void shuffles_of_two_lines(float* out) {
  float v = 1;
  if (threadIdx.x % 2)
    v = __shfl_xor_sync(~0u, v, 1);  // [two lines first]
  else
    v = __shfl_xor_sync(~0u, v, 1);  // [two lines second]
  out[threadIdx.x] = v;
}
__global__ void foreign_mask(float* out) {
  out[threadIdx.x] = __shfl_xor_sync(1u, 1.0f, 0);  // [foreign mask]
}
__global__ void named_barrier_counts(float* out) {
  if (threadIdx.x < 32)
    gpu::named_bar_sync(1, 64);  // [counts sync]
  else
    gpu::named_bar_arrive(1, 32);  // [counts arrive]
  out[threadIdx.x] = 1;
}
__global__ void named_barrier_zero(float* out) {
  gpu::named_bar_sync(0, 64);  // [barrier zero]
  out[threadIdx.x] = 1;
}
__global__ void lonely_grid_sync(float* out) {
  gpu::grid_sync();  // [lonely grid_sync]
  out[threadIdx.x] = 1;
}
__global__ void failing_assertion(float* out) {
  assert(threadIdx.x < 63);  // [assertion]
  out[threadIdx.x] = 1;
}

// --- bounds --------------------------------------------------------------------------------------

__global__ void past_an_array(float* out) {  // inside the struct: only the type knows
  auto& s = gpu::smem<Shared>();
  for (unsigned i = threadIdx.x; i <= 64; i += 64) s.a[i] = 0;  // [past an array]
  __syncthreads();
  out[threadIdx.x] = s.a[threadIdx.x];
}
__global__ void past_shared_memory(float* out) {
  auto& s = gpu::smem<Shared>();
  int* index = s.index;
  index[threadIdx.x + 1] = 3;  // [past shared memory]
  __syncthreads();
  out[threadIdx.x] = 0;
}
__global__ void past_an_allocation(float* out) { out[threadIdx.x + 1] = 1; }      // [past the end]
__global__ void before_an_allocation(float* out) { out[threadIdx.x - 1ll] = 1; }  // [before]
__global__ void misaligned_vector(float* out) {
  const float4 zero = make_float4(0, 0, 0, 0);
  if (threadIdx.x == 0) *reinterpret_cast<float4*>(out + 1) = zero;  // [misaligned]
}
__global__ void stack_overflow(float* out) {
  volatile float large[32 << 10];  // 128 KiB: the elements touched lie on another thread's stack
  large[threadIdx.x] = 1;
  out[threadIdx.x] = large[threadIdx.x];
}
__global__ void shared_struct_too_large(float* out) {
  auto& s = gpu::smem<Tiles>();  // [too large]
  out[threadIdx.x] = static_cast<float>(s.a[0]);
}
__global__ void misaligned_ldmatrix(float* out) {
  auto& s = gpu::smem<Shared>();
  std::uint32_t r[4];
  gpu::ldmatrix_x4(r, reinterpret_cast<char*>(s.a) + 8 * (threadIdx.x % 32));  // [ldmatrix]
  out[threadIdx.x] = static_cast<float>(r[0]);
}
__global__ void cp_async_past_the_end(float* out) {
  auto& s = gpu::smem<Shared>();
  if (threadIdx.x == 0) gpu::cp_async<16>(s.a, out + 64);  // [cp_async past]
  gpu::cp_async_commit();
  gpu::cp_async_wait<0>();
}

// --- global memory -------------------------------------------------------------------------------

__global__ void blocks_share_a_word(float* out) {
  out[threadIdx.x] += 1;  // [blocks share]
}
__global__ void threads_share_a_word(float* out) {
  out[threadIdx.x / 2] = 1;  // [threads share]
}
__global__ void plain_and_atomic(float* out) {
  if (threadIdx.x == 0)
    out[0] = 0;  // [plain]
  else
    atomicAdd(out, 1.0f);  // [atomic]
}

// --- asynchronous copies -------------------------------------------------------------------------

__global__ void cp_async_without_wait(float* out) {
  auto& s = gpu::smem<Shared>();
  if (threadIdx.x < 16)
    gpu::cp_async<16>(&s.a[threadIdx.x * 4], out + threadIdx.x * 4);  // [no wait]
  gpu::cp_async_commit();
}
__global__ void mbarrier_over_arrival(float* out) {
  auto& s = gpu::smem<Tiles>();
  if (threadIdx.x == 0) {
    gpu::mbar_init(&s.bar, 1);
    gpu::mbar_arrive_tx(&s.bar, 256);
    gpu::mbar_arrive(&s.bar);  // [over-arrival]
  }
  out[threadIdx.x] = 1;
}
__global__ void mbarrier_overwritten(float* out) {
  auto& s = gpu::smem<Tiles>();
  if (threadIdx.x == 0) {
    gpu::mbar_init(&s.bar, 64);
    s.bar = 0;
  }
  __syncthreads();
  gpu::mbar_arrive(&s.bar);  // [overwritten]
  out[threadIdx.x] = 1;
}
__global__ void mbarrier_wrong_parity(float* out) {
  auto& s = gpu::smem<Tiles>();
  if (threadIdx.x == 0) gpu::mbar_init(&s.bar, 64);
  __syncthreads();
  gpu::mbar_arrive(&s.bar);
  gpu::mbar_wait(&s.bar, 0);
  gpu::mbar_wait(&s.bar, 0);
  gpu::mbar_wait(&s.bar, 1);  // [wrong parity]
  out[threadIdx.x] = 1;
}
__global__ void bulk_copy_not_awaited(float* out) {
  auto& s = gpu::smem<Tiles>();
  if (threadIdx.x == 0) {
    gpu::mbar_init(&s.bar, 1);
    gpu::mbar_arrive_tx(&s.bar, 256);
    gpu::bulk_load(s.a, out, 256, &s.bar);  // [bulk not awaited]
  }
}
__global__ void bulk_bytes_disagree(float* out) {
  auto& s = gpu::smem<Tiles>();
  if (threadIdx.x == 0) {
    gpu::mbar_init(&s.bar, 1);
    gpu::mbar_arrive_tx(&s.bar, 512);
    gpu::bulk_load(s.a, out, 256, &s.bar);
    gpu::mbar_wait(&s.bar, 0);  // [bytes disagree]
  }
}
__global__ void stores_then_bulk_load(float* out) {
  auto& s = gpu::smem<Tiles>();
  s.a[threadIdx.x] = 0;  // [cleared]
  if (threadIdx.x == 0) gpu::mbar_init(&s.bar, 1);
  __syncthreads();
  if (threadIdx.x == 0) {
    gpu::mbar_arrive_tx(&s.bar, 256);
    gpu::bulk_load(s.a, out, 256, &s.bar);  // [bulk over stores]
  }
  gpu::mbar_wait(&s.bar, 0);
}

// --- wgmma ---------------------------------------------------------------------------------------

GPU_DEV void clear(Tiles& s) {
  for (unsigned i = threadIdx.x; i < 64 * 64; i += 128) s.a[i] = s.b[i] = 0;  // [clear]
}
GPU_DEV void product(Tiles& s, float (&sum)[32]) {
  const std::uint64_t a = gpu::desc_sw128(gpu::smem_addr(s.a));
  const std::uint64_t b = gpu::desc_sw128(gpu::smem_addr(s.b));
  gpu::wgmma_bf16<64>(sum, a, b, false);  // [product]
  gpu::wgmma_commit();
}
__global__ void wgmma_without_fence(float* out) {
  auto& s = gpu::smem<Tiles>();
  clear(s);
  gpu::fence_proxy_async();
  __syncthreads();
  float sum[32];
  product(s, sum);
  gpu::wgmma_wait<0>(sum);
  out[threadIdx.x % 64] = sum[0];
}
__global__ void wgmma_read_early(float* out) {
  auto& s = gpu::smem<Tiles>();
  clear(s);
  gpu::fence_proxy_async();
  __syncthreads();
  float sum[32];
  gpu::wgmma_fence();
  product(s, sum);
  const float early = sum[0];
  gpu::wgmma_wait<0>(sum);
  if (threadIdx.x < 64) out[threadIdx.x] = early;
}
__global__ void wgmma_without_proxy_fence(float* out) {
  auto& s = gpu::smem<Tiles>();
  clear(s);
  __syncthreads();
  float sum[32];
  gpu::wgmma_fence();
  product(s, sum);
  gpu::wgmma_wait<0>(sum);
  if (threadIdx.x < 64) out[threadIdx.x] = sum[0];
}
__global__ void wgmma_fence_of_the_reader(
    float* out) {  // correct: the fence may follow the barrier
  auto& s = gpu::smem<Tiles>();
  clear(s);
  __syncthreads();
  gpu::fence_proxy_async();
  float sum[32];
  gpu::wgmma_fence();
  product(s, sum);
  gpu::wgmma_wait<0>(sum);
  if (threadIdx.x < 64) out[threadIdx.x] = sum[0];
}
__global__ void wgmma_without_wait(float* out) {
  auto& s = gpu::smem<Tiles>();
  clear(s);
  gpu::fence_proxy_async();
  __syncthreads();
  float sum[32];
  gpu::wgmma_fence();
  product(s, sum);
  if (threadIdx.x < 64) out[threadIdx.x] = 1;
}
__global__ void wgmma_by_three_warps(float* out) {
  auto& s = gpu::smem<Tiles>();
  clear(s);
  gpu::fence_proxy_async();
  __syncthreads();
  float sum[32];
  if (threadIdx.x < 96) {
    gpu::wgmma_fence();
    product(s, sum);
    gpu::wgmma_wait<0>(sum);  // [three warps]
  }
  if (threadIdx.x < 64) out[threadIdx.x] = 1;
}
__global__ void wgmma_shifted_swizzle(float* out) {
  auto& s = gpu::smem<Tiles>();
  clear(s);
  gpu::fence_proxy_async();
  __syncthreads();
  float sum[32];
  gpu::wgmma_fence();
  const std::uint64_t a = gpu::desc_sw128(gpu::smem_addr(s.a) + 128);
  const std::uint64_t b = gpu::desc_sw128(gpu::smem_addr(s.b));
  gpu::wgmma_bf16<64>(sum, a, b, false);  // [shifted]
  gpu::wgmma_commit();
  gpu::wgmma_wait<0>(sum);
  if (threadIdx.x < 64) out[threadIdx.x] = 1;
}

struct Entry {
  const char* name;
  void (*kernel)(float*);
  unsigned blocks, threads;
  std::size_t smem;
};
#define ENTRY(kernel, blocks, threads, smem) \
  Entry { #kernel, kernel, blocks, threads, smem }
const Entry kEntries[] = {
    ENTRY(uninitialised_shared, 1, 64, sizeof(Shared)),
    ENTRY(uninitialised_global, 1, 64, 0),
    ENTRY(shuffle_from_inactive_lane, 1, 64, 0),
    ENTRY(missing_syncwarp, 1, 64, sizeof(Shared)),
    ENTRY(divergent_syncthreads, 1, 64, 0),
    ENTRY(early_return, 1, 64, 0),
    ENTRY(shuffle_in_a_branch, 1, 64, 0),
    ENTRY(shuffle_with_exited_lanes, 1, 64, 0),
    ENTRY(shuffles_of_two_lines, 1, 64, 0),
    ENTRY(foreign_mask, 1, 64, 0),
    ENTRY(named_barrier_counts, 1, 64, 0),
    ENTRY(named_barrier_zero, 1, 64, 0),
    ENTRY(lonely_grid_sync, 1, 64, 0),
    ENTRY(failing_assertion, 1, 64, 0),
    ENTRY(past_an_array, 1, 64, sizeof(Shared)),
    ENTRY(past_shared_memory, 1, 64, sizeof(Shared)),
    ENTRY(past_an_allocation, 1, 64, 0),
    ENTRY(before_an_allocation, 1, 64, 0),
    ENTRY(misaligned_vector, 1, 64, 0),
    ENTRY(stack_overflow, 1, 64, 0),
    ENTRY(shared_struct_too_large, 1, 64, sizeof(Shared)),
    ENTRY(misaligned_ldmatrix, 1, 64, sizeof(Shared)),
    ENTRY(cp_async_past_the_end, 1, 64, sizeof(Shared)),
    ENTRY(blocks_share_a_word, 2, 64, 0),
    ENTRY(threads_share_a_word, 1, 64, 0),
    ENTRY(plain_and_atomic, 1, 64, 0),
    ENTRY(cp_async_without_wait, 1, 64, sizeof(Shared)),
    ENTRY(mbarrier_over_arrival, 1, 64, sizeof(Tiles)),
    ENTRY(mbarrier_overwritten, 1, 64, sizeof(Tiles)),
    ENTRY(mbarrier_wrong_parity, 1, 64, sizeof(Tiles)),
    ENTRY(bulk_copy_not_awaited, 1, 64, sizeof(Tiles)),
    ENTRY(bulk_bytes_disagree, 1, 64, sizeof(Tiles)),
    ENTRY(stores_then_bulk_load, 1, 64, sizeof(Tiles)),
    ENTRY(wgmma_without_fence, 1, 128, sizeof(Tiles)),
    ENTRY(wgmma_read_early, 1, 128, sizeof(Tiles)),
    ENTRY(wgmma_without_proxy_fence, 1, 128, sizeof(Tiles)),
    ENTRY(wgmma_fence_of_the_reader, 1, 128, sizeof(Tiles)),
    ENTRY(wgmma_without_wait, 1, 128, sizeof(Tiles)),
    ENTRY(wgmma_by_three_warps, 1, 128, sizeof(Tiles)),
    ENTRY(wgmma_shifted_swizzle, 1, 128, sizeof(Tiles)),
};
#undef ENTRY

}  // namespace

void run_bug(const char* name, float* out, void* stream) {
  for (const Entry& e : kEntries)
    if (std::strcmp(e.name, name) == 0)
      return gpu::launch(e.kernel,
                         {.grid = e.blocks,
                          .block = e.threads,
                          .smem = static_cast<unsigned>(e.smem),
                          .stream = stream},
                         out);
  throw Error(concat("no kernel ", name));
}

}  // namespace subpix::kernels::KERNEL_TARGET
