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

/// Thread i owns element i of dw, and beyond dw's end of db, which lie in one row of a part.
__global__ void __launch_bounds__(kThreads)
    conv2d_filter_sum_kernel(FilterSums sums, int parts, Index w_count, Index k, float* dw,
                             float* db) {
  const Index i = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= w_count + (db ? k : 0)) return;
  const float* from = sums.dw + i;
  float sum = 0.0f;
  int part = 0;
  for (; part + kUnroll <= parts; part += kUnroll) {
    float v[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) v[u] = from[(part + u) * sums.pitch];  // [sum load]
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) sum += v[u];
  }
  for (; part < parts; ++part) sum += from[part * sums.pitch];
  if (i < w_count)
    dw[i] = sum;
  else
    db[i - w_count] = sum;
}

}  // namespace

void add_filter_sums(Context& ctx, const Conv2dProblem& d, const FilterSums& sums, int parts,
                     float* dw, float* db) {
  if (sums.dw == dw) return;
  const Index count = d.w_count() + (db ? d.k : 0);
  gpu::launch(conv2d_filter_sum_kernel,
              {.grid = gpu::grid_for(count, kThreads), .block = kThreads, .stream = ctx.stream},
              sums, parts, d.w_count(), d.k, dw, db);
}

}  // namespace subpix::kernels::KERNEL_TARGET
