// Threads, block barriers, warp collectives, atomics.

#include "kernels/cuda/gpu/gpu.cuh"
#include "tests/sim/kernels/dispatch.cuh"
#include "tests/sim/kernels/kernels.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kThreads = 256;

struct SumShared {
  float warp[kThreads / 32];
};

GPU_DEV float warp_sum(float v) {
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(~0u, v, d);
  return v;
}

template <Bug bug>
__global__ void __launch_bounds__(kThreads)
    block_sum_kernel(const float* __restrict__ x, int n, float* out) {
  auto& s = gpu::smem<SumShared>();
  const int t = static_cast<int>(threadIdx.x);
  float v = 0;
  for (int i = static_cast<int>(blockIdx.x) * kThreads + t; i < n;
       i += static_cast<int>(gridDim.x) * kThreads)
    v += x[i];  // [block_sum load]
  v = warp_sum(v);
  if (t % 32 == 0) s.warp[t / 32] = v;                     // [block_sum write]
  if constexpr (bug != Bug::MissingSync) __syncthreads();  // the first warp reads all sums
  if (t < 32) {
    v = t < kThreads / 32 ? s.warp[t] : 0.0f;  // [block_sum read]
    v = warp_sum(v);
    if (t == 0) atomicAdd(out, v);  // [block_sum total]
  }
}

__global__ void coordinates_kernel(int* out) {
  const auto block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const auto thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const auto size = blockDim.x * blockDim.y * blockDim.z;
  out[block * size + thread] = static_cast<int>(
      blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z + 1000 * threadIdx.x + 10000 * threadIdx.y +
      100000 * threadIdx.z + 1000000 * (gpu::lane_id() == thread % warpSize));
}

__global__ void warp_functions_kernel(const float* x, float* out) {
  const int t = static_cast<int>(threadIdx.x), lane = t % 32;
  const float v = x[t];
  float scan = v;
  for (int d = 1; d < 32; d *= 2) {
    const float other = __shfl_up_sync(~0u, scan, d);
    if (lane >= d) scan += other;
  }
  float down = v;
  for (int d = 8; d > 0; d /= 2) down += __shfl_down_sync(~0u, down, d, 16);
  float half = v;
  if (lane < 16) {
    for (int d = 8; d > 0; d /= 2) half += __shfl_xor_sync(0x0000FFFFu, half, d);
  } else {
    for (int d = 8; d > 0; d /= 2) half += __shfl_xor_sync(0xFFFF0000u, half, d);
  }
  const unsigned positive = __ballot_sync(~0u, v > 0.0f);
  const bool any = __any_sync(~0u, t == 40), all = __all_sync(~0u, t < 64);
  out[t] = scan;
  out[64 + t] = __shfl_sync(~0u, down, lane & 16);
  out[128 + t] = half;
  out[192 + t] = static_cast<float>(__popc(positive));
  out[256 + t] = static_cast<float>(any) + 2.0f * static_cast<float>(all);
  out[320 + t] = static_cast<float>(__ffs(static_cast<int>(positive)));
  out[384 + t] = static_cast<float>(__clz(static_cast<int>(positive)));
}

__global__ void atomics_kernel(int* out) {
  const int t = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(out, t);
  atomicMax(out + 1, t * 7 % 64);
  atomicMin(out + 2, 100 - t);
  if (atomicExch(out + 3, 7) == 7) atomicAdd(out + 5, 1);
  int seen = 0;
  while (true) {
    const int before = atomicCAS(out + 4, seen, seen + 2);
    if (before == seen) break;
    seen = before;
  }
}

struct HandOver {
  float v[32];
};

/// Warps 0 and 1 write, warps 2 and 3 read; barrier 1 says full, barrier 2 says empty.
__global__ void named_barriers_kernel(int rounds, float* out) {
  auto& s = gpu::smem<HandOver>();
  const int t = static_cast<int>(threadIdx.x);
  for (int r = 0; r < rounds; ++r) {
    if (t < 64) {
      if (r > 0) gpu::named_bar_sync(2, 128);
      if (t < 32) s.v[t] = static_cast<float>(r * 100 + t);
      gpu::named_bar_arrive(1, 128);
    } else {
      gpu::named_bar_sync(1, 128);
      out[r * 64 + t - 64] = s.v[t % 32];
      if (r + 1 < rounds) gpu::named_bar_arrive(2, 128);
    }
  }
}

struct LastBlock {
  float warp[2];
  int arrived;
};

/// The "last block" pattern: partial sums, a fence, a counter; whoever counts last adds them up.
template <Bug bug>
__global__ void last_block_sum_kernel(const float* x, float* scratch, float* out) {
  auto& s = gpu::smem<LastBlock>();
  const int t = static_cast<int>(threadIdx.x), blocks = static_cast<int>(gridDim.x);
  const float v = warp_sum(x[blockIdx.x * 64 + threadIdx.x]);
  if (t % 32 == 0) s.warp[t / 32] = v;
  __syncthreads();
  if (t == 0) {
    scratch[blockIdx.x] = s.warp[0] + s.warp[1];  // [last_block write]
    if constexpr (bug != Bug::MissingFence) __threadfence();
    s.arrived = atomicAdd(reinterpret_cast<int*>(scratch) + blocks, 1);
  }
  if constexpr (bug != Bug::MissingSync) __syncthreads();
  if (s.arrived != blocks - 1) return;  // [last_block flag]
  float sum = 0;
  for (int i = t; i < blocks; i += 64) sum += scratch[i];  // [last_block read]
  sum = warp_sum(sum);
  if (t % 32 == 0) atomicAdd(out, sum);
}

__global__ void scale_shift_kernel(const float* x, float* y, int n, float factor, float shift) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = x[i] * factor + shift;  // [scale_shift]
}

__global__ void mathematics_kernel(const float* x, float* out) {
  const float a = x[0], b = x[1];
  out[0] = rsqrtf(a) + __expf(b) + __logf(a);
  out[1] = __fmaf_rn(a, b, 1.0f) + __fdiv_rn(a, b) + __fsqrt_rn(a);
  out[2] = __fadd_rn(__fmul_rn(a, b), __fsub_rn(a, b));
  out[3] = __int_as_float(__float_as_int(a) ^ 0) + __uint_as_float(__float_as_uint(b));
  out[4] = static_cast<float>(__umulhi(0x80000000u, 6u) + static_cast<unsigned>(min(3, 4)) +
                              max(1u, 2u));
  out[5] = min(a, __int_as_float(0x7FC00000)) + max(a, b) + static_cast<float>(max(5l, 6l));
  sincospif(b, out + 6, out + 7);
}

__global__ void copy_bytes_kernel(const std::uint8_t* x, std::uint8_t* y, const bf16* a, bf16* b,
                                  int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  y[i] = x[i];
  b[i] = a[i];
}

}  // namespace

void block_sum(Bug bug, const float* x, int n, float* out, int blocks, void* stream) {
  with_bug<Bug::MissingSync>(bug, [&](auto b) {
    gpu::launch(block_sum_kernel<b>,
                {.grid = static_cast<unsigned>(blocks),
                 .block = kThreads,
                 .smem = sizeof(SumShared),
                 .stream = stream},
                x, n, out);
  });
}

void coordinates(int* out, void* stream) {
  gpu::launch(coordinates_kernel, {.grid = dim3(3, 2, 2), .block = dim3(4, 3, 2), .stream = stream},
              out);
}

void warp_functions(const float* x, float* out, void* stream) {
  gpu::launch(warp_functions_kernel, {.block = 64, .stream = stream}, x, out);
}

void atomics(int* out, void* stream) {
  gpu::launch(atomics_kernel, {.grid = 2, .block = 48, .stream = stream}, out);
}

void named_barriers(int rounds, float* out, void* stream) {
  gpu::launch(named_barriers_kernel, {.block = 128, .smem = sizeof(HandOver), .stream = stream},
              rounds, out);
}

void last_block_sum(Bug bug, const float* x, float* scratch, float* out, int blocks, void* stream) {
  with_bug<Bug::MissingFence, Bug::MissingSync>(bug, [&](auto b) {
    gpu::launch(last_block_sum_kernel<b>,
                {.grid = static_cast<unsigned>(blocks),
                 .block = 64,
                 .smem = sizeof(LastBlock),
                 .stream = stream},
                x, scratch, out);
  });
}

void scale_shift(const float* x, float* y, int n, float factor, float shift, void* stream) {
  gpu::launch(scale_shift_kernel, {.grid = gpu::grid_for(n, 64), .block = 64, .stream = stream}, x,
              y, n, factor, shift);
}

void mathematics(const float* x, float* out, void* stream) {
  gpu::launch(mathematics_kernel, {.stream = stream}, x, out);
}

void copy_bytes(const std::uint8_t* x, std::uint8_t* y, const bf16* a, bf16* b, int n,
                void* stream) {
  gpu::launch(copy_bytes_kernel, {.grid = gpu::grid_for(n, 33), .block = 33, .stream = stream}, x,
              y, a, b, n);
}

}  // namespace subpix::kernels::KERNEL_TARGET
