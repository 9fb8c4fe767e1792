// Blocks that run together: clusters with distributed shared memory, cooperative grids.

#include "kernels/cuda/gpu/grid.cuh"
#include "tests/sim/kernels/dispatch.cuh"
#include "tests/sim/kernels/kernels.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kCluster = 4, kThreads = 64;

struct ClusterShared {
  float part[kCluster];
  float row[kThreads];
};

/// Each block adds up 64 values and writes the sum into the shared memory of the cluster's first
/// block.
template <Bug bug>
__global__ void cluster_sum_kernel(const float* x, float* out) {
  auto& s = gpu::smem<ClusterShared>();
  const std::uint32_t rank = gpu::cluster_rank();
  s.row[threadIdx.x] = x[blockIdx.x * kThreads + threadIdx.x];
  __syncthreads();
  gpu::cluster_sync();  // the first block runs, so its shared memory exists
  if (threadIdx.x == 0) {
    float sum = 0;
    for (int i = 0; i < kThreads; ++i) sum += s.row[i];
    *gpu::cluster_map(&s.part[rank], 0) = sum;  // [cluster write]
  }
  if constexpr (bug != Bug::MissingClusterSync) gpu::cluster_sync();
  if (rank == 0 && threadIdx.x == 0)
    out[blockIdx.x / kCluster] = s.part[0] + s.part[1] + s.part[2] + s.part[3];  // [cluster read]
  if constexpr (bug == Bug::MissingClusterSync) gpu::cluster_sync();
}

GPU_DEV void add_one(float* x, int n) {
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < n;
       i += static_cast<int>(gridDim.x * blockDim.x))
    x[i] += 1.0f;  // [phase one]
}
GPU_DEV void reverse(const float* x, float* y, int n) {
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < n;
       i += static_cast<int>(gridDim.x * blockDim.x))
    y[i] = x[n - 1 - i];  // [phase two]
}

__global__ void reverse_cooperative_kernel(float* x, float* y, int n) {
  add_one(x, n);
  gpu::grid_sync();
  reverse(x, y, n);
}

/// The same with a counter of our own: one arrival a block.
template <Bug bug>
__global__ void reverse_counter_kernel(float* x, float* y, std::uint32_t* counter, int n) {
  add_one(x, n);
  if constexpr (bug != Bug::MissingSync)
    __syncthreads();  // the block's writes come before its arrival
  if (threadIdx.x == 0) {
    gpu::red_release_add(counter, 1);
    gpu::wait_acquire_ge(counter, gridDim.x);  // [counter wait]
  }
  __syncthreads();
  reverse(x, y, n);
}

}  // namespace

void cluster_sum(Bug bug, const float* x, float* out, int clusters, void* stream) {
  with_bug<Bug::MissingClusterSync>(bug, [&](auto planted) {
    gpu::launch(cluster_sum_kernel<planted>,
                {.grid = static_cast<unsigned>(kCluster * clusters),
                 .block = kThreads,
                 .smem = sizeof(ClusterShared),
                 .stream = stream,
                 .cluster = kCluster},
                x, out);
  });
}

void reverse_cooperative(float* x, float* y, int n, void* stream) {
  gpu::launch(reverse_cooperative_kernel,
              {.grid = 6, .block = kThreads, .stream = stream, .coop = true}, x, y, n);
}

void reverse_counter(Bug bug, float* x, float* y, std::uint32_t* counter, int n, void* stream) {
  with_bug<Bug::NotCooperative, Bug::MissingSync>(bug, [&](auto planted) {
    gpu::launch(
        reverse_counter_kernel<planted>,
        {.grid = 6, .block = kThreads, .stream = stream, .coop = bug != Bug::NotCooperative}, x, y,
        counter, n);
  });
}

}  // namespace subpix::kernels::KERNEL_TARGET
