#pragma once

// What the kernels of the dense layer share: reductions split between blocks.

#include <algorithm>

#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {

/// Where sums of a [rows, width] result go. Where one block sees the whole reduction, partial is
/// null and the sum is the result. Otherwise partial is [splits, rows, width] and a second kernel
/// adds the splits in order, so that the bits do not depend on which block was first.
template <class T>
struct SplitSums {
  T* y;
  const float* bias;  // [width] or null
  float* partial;
  Index width, count;  // count = rows * width

  GPU_DEV void put(Index row, Index column, unsigned split, float sum) const {
    const Index at = row * width + column;
    if (partial)
      partial[split * count + at] = sum;
    else
      store_value(y + at, bias ? sum + bias[column] : sum);
  }
};

/// Thread i owns element i: the splits are added in order, then the bias. Loads are coalesced and
/// independent.
template <class T>
__global__ void __launch_bounds__(256) dense_sum_splits_kernel(SplitSums<T> sums, int splits) {
  const Index i = Index{blockIdx.x} * 256 + threadIdx.x;
  if (i >= sums.count) return;
  float sum = 0.0f;
#pragma unroll 8
  for (int s = 0; s < splits; ++s) sum += sums.partial[s * sums.count + i];
  store_value(sums.y + i, sums.bias ? sum + sums.bias[i % sums.width] : sum);
}

/// Of how many pieces of which length (a multiple of `step`) a reduction over `terms` is made, so
/// that `tiles` times that many blocks fill the device with two each.
struct Split {
  int count;
  Index length;
};
inline Split split_reduction(const Context& ctx, Index terms, Index step, Index tiles) {
  const Index wanted = gpu::cdiv(Index{2} * std::max(ctx.device().multiprocessors, 1), tiles);
  const Index steps = gpu::cdiv(terms, step);
  const Index length = gpu::cdiv(steps, std::min(wanted, steps)) * step;
  return {static_cast<int>(gpu::cdiv(terms, length)), length};
}

/// Calls go(sums) between taking and adding up the partial sums that `split` needs.
template <class T, class Go>
void with_split_sums(Context& ctx, const Split& split, Index rows, Index width, const float* bias,
                     T* y, Go&& go) {
  Workspace workspace(ctx);
  SplitSums<T> sums{y, bias, nullptr, width, rows * width};
  if (split.count > 1)
    sums.partial = workspace.take<float>(static_cast<std::size_t>(split.count * sums.count));
  go(sums);
  if (split.count > 1)
    gpu::launch(dense_sum_splits_kernel<T>,
                {.grid = gpu::grid_for(sums.count, 256), .block = 256, .stream = ctx.stream}, sums,
                split.count);
}

/// tiles along x, splits along y.
inline dim3 split_grid(Index tiles, const Split& split) {
  dim3 grid = gpu::grid_for(tiles, 1);
  grid.y = static_cast<unsigned>(split.count);
  return grid;
}

// The tensor-core kernels (dense_mma.cu). w, x, dy, dx: 16-byte aligned, in a multiple of 8.
void dense_forward_mma(Context& ctx, const DenseProblem& p, const bf16* x, const bf16* w,
                       const float* bias, bf16* y);
void dense_backward_data_mma(Context& ctx, const DenseProblem& p, const bf16* dy, const bf16* w,
                             bf16* dx);
void dense_backward_filter_mma(Context& ctx, const DenseProblem& p, const bf16* x, const bf16* dy,
                               float* dw, float* db);

}  // namespace subpix::kernels::KERNEL_TARGET
