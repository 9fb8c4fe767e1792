#pragma once

// Sums (and other associative merges) of a whole tensor in a fixed order: no float atomics, the
// same bits under any schedule and on any GPU, because neither the number of blocks nor the share
// of a thread depends on the device.
//
//   thread   merges its elements in chunks: a chunk's 16 to 64 terms first, then the chunk's sum
//            onto its total, so that no fp32 sum is a running one over the whole tensor
//            (docs/numerics.md);
//   warp     a butterfly of shuffles;
//   block    one number a warp through shared memory, then one more butterfly;
//   grid     one number a block in scratch memory; a second kernel of one block merges them. At
//            most kReduceBlocks, two numbers a thread. A tensor that one block takes needs no
//            second kernel.
//
// Note [Two kernels]: the alternative, where the block that arrives last merges the others'
// numbers, needs a counter that is zero before each launch: a memset instead of the second kernel
// and a fence in every block. A launch inside a graph costs about as much as the memset.
//
// A reduction is described by a struct R:
//   using Sum = ...;                               what is merged: at most 8 bytes
//   static Sum identity();
//   static Sum merge(Sum a, Sum b);
//   float finish(Sum all) const;                   the result

#include "kernels/api/kernels.h"
#include "kernels/cuda/gpu/gpu.cuh"

namespace subpix::kernels::KERNEL_TARGET {

inline constexpr int kReduceThreads = 256;
inline constexpr int kReduceBlocks = 512;  // 132 multiprocessors: 97 % of four blocks for each

/// loss = scale * sum.
struct ScaledSum {
  using Sum = float;
  float scale;
  static GPU_DEV float identity() { return 0.0f; }
  static GPU_DEV float merge(float a, float b) { return a + b; }
  GPU_DEV float finish(float all) const { return scale * all; }
};

/// Every lane of a full warp gets the merge of all.
template <class R>
GPU_DEV typename R::Sum warp_reduce(typename R::Sum sum) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    sum = R::merge(sum, __shfl_xor_sync(0xFFFFFFFFu, sum, step));
  return sum;
}

template <class R>
struct BlockReduce {
  typename R::Sum of_warp[kReduceThreads / 32];
};

/// The merge over a block of kReduceThreads, valid in its first warp. All threads call it, once a
/// launch.
template <class R>
GPU_DEV typename R::Sum block_reduce(typename R::Sum sum) {
  auto& s = gpu::smem<BlockReduce<R>>();
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  sum = warp_reduce<R>(sum);
  if (lane == 0) s.of_warp[warp] = sum;
  __syncthreads();  // the first warp reads what all have written
  if (warp > 0) return sum;
  return warp_reduce<R>(lane < kReduceThreads / 32 ? s.of_warp[lane] : R::identity());
}

/// How a stage-one kernel ends: the block's number, or the result itself where it is the only one.
template <class R>
GPU_DEV void store_reduced(const R& r, typename R::Sum sum, typename R::Sum* partial, float* y) {
  sum = block_reduce<R>(sum);
  if (threadIdx.x > 0) return;
  if (gridDim.x == 1)
    *y = r.finish(sum);
  else
    partial[blockIdx.x] = sum;
}

/// One block. Thread t owns partial[t], partial[t + kReduceThreads], ...: coalesced, and all of its
/// loads are in flight before the first merge.
template <class R>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_partials_kernel(int blocks, R r, const typename R::Sum* partial, float* y) {
  constexpr int kEach = kReduceBlocks / kReduceThreads;
  typename R::Sum each[kEach];
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    const int i = static_cast<int>(threadIdx.x) + k * kReduceThreads;
    each[k] = i < blocks ? partial[i] : R::identity();
  }
  typename R::Sum sum = each[0];
#pragma unroll
  for (int k = 1; k < kEach; ++k) sum = R::merge(sum, each[k]);
  store_reduced<R>(r, sum, nullptr, y);
}

/// Both stages over `chunks` shares of work: launch_first(cfg, partial) launches stage one, whose
/// block b takes chunks b, b + gridDim.x, ... and ends with store_reduced().
template <class R, class LaunchFirst>
void reduce_in_two_stages(Context& ctx, Index chunks, const R& r, float* y,
                          LaunchFirst&& launch_first) {
  const int blocks = static_cast<int>(chunks < kReduceBlocks ? chunks : Index{kReduceBlocks});
  gpu::LaunchCfg cfg{.grid = dim3(static_cast<unsigned>(blocks)),
                     .block = kReduceThreads,
                     .smem = sizeof(BlockReduce<R>),
                     .stream = ctx.stream};
  if (blocks == 1) return launch_first(cfg, static_cast<typename R::Sum*>(nullptr));
  Workspace workspace(ctx);
  auto* partial = workspace.take<typename R::Sum>(static_cast<std::size_t>(blocks));
  launch_first(cfg, partial);
  cfg.grid = 1;
  gpu::launch(reduce_partials_kernel<R>, cfg, blocks, r, partial, y);
}

}  // namespace subpix::kernels::KERNEL_TARGET
