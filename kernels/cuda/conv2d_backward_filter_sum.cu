// The second step of a split weight gradient: dw[i] = sum over parts of dw_part[i], db alike.
//
// Reads parts * (K*R*S*C + K) floats that the first step has just left in L2, writes one set: bound
// by L2 and, for the small filters of SRGAN, by the latency of two dependent launches.
// One element a thread, since 36,864 elements (64 > 64, 3x3) are already few; a warp reads 128
// consecutive bytes of a part, eight parts are in flight at once, and they are added in order.

#include "kernels/cuda/conv2d_backward_filter.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 8;

/// Element i of `parts` sums that lie `pitch` apart, added in order.
GPU_DEV float add_parts(const float* from, int parts, Index pitch) {
  float sum = 0.0f;
  int part = 0;
  for (; part + kUnroll <= parts; part += kUnroll) {
    float v[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) v[u] = from[(part + u) * pitch];  // [sum load]
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) sum += v[u];
  }
  for (; part < parts; ++part) sum += from[part * pitch];
  return sum;
}

/// Thread i owns element i of dw, and beyond dw's end of db, which lie in one row of a part.
__global__ void __launch_bounds__(kThreads)
    conv2d_filter_sum_kernel(FilterSums sums, int parts, Index w_count, Index k, float* dw,
                             float* db) {
  const Index i = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= w_count + (db ? k : 0)) return;
  const float sum = add_parts(sums.dw + i, parts, sums.pitch);
  if (i < w_count)
    dw[i] = sum;
  else
    db[i - w_count] = sum;
}

/// The same for many filters: blocks_each blocks for each, a thread for an element. Few parts are
/// left to add (usually four), so their loads are in flight together by the loop's unrolling.
__global__ void __launch_bounds__(kThreads)
    conv2d_filter_group_sum_kernel(GroupSums sums, unsigned blocks_each, Index w_count,
                                   const __grid_constant__ GroupResults results) {
  const int filter = static_cast<int>(blockIdx.x / blocks_each);
  const Index i = Index{blockIdx.x % blocks_each} * kThreads + threadIdx.x;
  if (i >= w_count) return;
  results.dw[filter][i] =
      add_parts(sums.first + filter * sums.parts * sums.pitch + i, sums.parts, sums.pitch);
}

}  // namespace

void add_group_sums(Context& ctx, const Conv2dProblem& d, const GroupSums& sums, int filters,
                    const GroupResults& results) {
  if (!sums.first) return;
  const Index blocks_each = gpu::cdiv(d.w_count(), Index{kThreads});
  gpu::launch(
      conv2d_filter_group_sum_kernel,
      {.grid = gpu::grid_for(blocks_each * filters, 1), .block = kThreads, .stream = ctx.stream},
      sums, static_cast<unsigned>(blocks_each), d.w_count(), results);
}

void add_filter_sums(Context& ctx, const Conv2dProblem& d, const FilterSums& sums, int parts,
                     float* dw, float* db) {
  if (sums.dw == dw) return;
  const Index count = d.w_count() + (db ? d.k : 0);
  gpu::launch(conv2d_filter_sum_kernel,
              {.grid = gpu::grid_for(count, kThreads), .block = kThreads, .stream = ctx.stream},
              sums, parts, d.w_count(), d.k, dw, db);
}

}  // namespace subpix::kernels::KERNEL_TARGET
