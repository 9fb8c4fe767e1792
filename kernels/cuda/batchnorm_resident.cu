// Batch norm in one launch: x (backward: x and dy) is read once and stays in registers between the
// sums and the result. See batchnorm.cu for the formulas.
//
// For the many small tensors of a GAN's networks (9216 rows of 64 channels: 1.2 MB in bf16) three
// launches cost more than their traffic, so the launches are what this variant saves; that x is
// read once, 2 tensors moved instead of 3, comes on top.
//
// A block holds 2 packs of channels, one sector of 32 bytes a row, by up to 1536 rows: 256 rows of
// threads with kHeld packs each. Taller tensors are shared by a cluster of up to 8 blocks, which
// exchange their sums through distributed shared memory. With the values at hand, variances are
// plain two-pass ones: the mean of all rows, then the squares around it.

#include <algorithm>

#include "kernels/cuda/batchnorm.cuh"
#include "kernels/cuda/channel_map.cuh"
#include "kernels/cuda/channel_sums.cuh"
#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kThreads = 512;
constexpr int kLanes = 2;                   // packs side by side: a full sector
constexpr int kRows = kThreads / kLanes;    // rows of one step
constexpr int kHeld = 6;                    // packs of a thread: 24 registers, twice that backward
constexpr Index kMostRows = kRows * kHeld;  // of a block
constexpr int kMostBlocks = 8;              // of a cluster, on every Hopper part
constexpr Index kGoodRows = kRows * 2;      // above this, more blocks share the work

/// Blocks of a cluster: a power of two.
int cluster_blocks(Index rows, bool clusters) {
  int blocks = 1;
  while (clusters && blocks < kMostBlocks && rows > blocks * kGoodRows) blocks *= 2;
  return blocks;
}

/// Where a thread stands: its first row, the end of the block's rows, its first channel.
template <bool Cluster, int V>
struct Position {
  int lane;
  Index row, end, channel;

  GPU_DEV Position(Index rows, Index c, int blocks)
      : lane(static_cast<int>(threadIdx.x) % kLanes),
        channel(Index{blockIdx.x / static_cast<unsigned>(blocks)} * (kLanes * V) + lane * V) {
    const Index each = (rows + blocks - 1) / blocks;
    const Index first = Cluster ? Index{gpu::cluster_rank()} * each : 0;
    end = min(rows, first + each);
    row = first + threadIdx.x / kLanes;
    if (channel >= c) end = 0;  // right of the matrix: no rows, but it still meets the barriers
  }
  GPU_DEV bool holds(int h) const { return row + h * kRows < end; }
};

/// 16 bytes as they lie in memory, so that a bf16 costs half a register while it is held.
template <class T>
GPU_DEV Elements<kPack<T>> unpack(const uint4& raw) {
  if constexpr (kPack<T> == 4) {
    return {{__uint_as_float(raw.x), __uint_as_float(raw.y), __uint_as_float(raw.z),
             __uint_as_float(raw.w)}};
  } else {
    const float2 a = gpu::unpack_bf16(raw.x), b = gpu::unpack_bf16(raw.y),
                 c = gpu::unpack_bf16(raw.z), d = gpu::unpack_bf16(raw.w);
    return {{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
  }
}
template <class T, class P>
GPU_DEV void load_held(uint4 (&held)[kHeld], const T* x, Index c, const P& own) {
#pragma unroll
  for (int h = 0; h < kHeld; ++h)
    if (own.holds(h))
      held[h] = *reinterpret_cast<const uint4*>(x + (own.row + h * kRows) * c + own.channel);
}

template <int N>
struct ClusterSums {
  BlockSums<kThreads, kLanes, N> block;
  float total[N][kLanes];
};

/// Adds v[n] over the threads of all blocks of the cluster that hold the same channels; returns the
/// sums, [n][lane]. Blocks are added from first to last, by every block for itself. As with
/// block_sums(), all threads come here, and two sums in a row take two `s`.
template <bool Cluster, int N>
GPU_DEV auto& cluster_sums(float (&v)[N], ClusterSums<N>& s, int blocks) {
  block_sums(v, s.block);
  if constexpr (!Cluster) {
    return s.block.total;
  } else {
    gpu::cluster_sync();  // the totals of every block are written
    const int i = static_cast<int>(threadIdx.x);
    if (i < N * kLanes) {
      float* mine = &s.block.total[i / kLanes][i % kLanes];
      float sum = 0.0f;
      for (int rank = 0; rank < blocks; ++rank)
        sum += *gpu::cluster_map(mine, static_cast<unsigned>(rank));
      s.total[i / kLanes][i % kLanes] = sum;
    }
    __syncthreads();  // the sums over the cluster are written
    return s.total;
  }
}

template <int V>
struct ForwardShared {
  ClusterSums<V> sums, squares;
};

/// A cluster of `blocks` owns kLanes packs of channels and all rows.
template <bool Cluster, class T>
__global__ void __launch_bounds__(kThreads, 1)
    batchnorm_forward_resident_kernel(Index rows, Index c, int blocks, const T* x,
                                      const float* gamma, const float* beta, T* y,
                                      NormStatistics statistics) {
  constexpr int V = kPack<T>;
  auto& s = gpu::smem<ForwardShared<V>>();
  const Position<Cluster, V> own(rows, c, blocks);
  uint4 held[kHeld];
  load_held(held, x, c, own);

  float v[V] = {}, mean[V];
#pragma unroll
  for (int h = 0; h < kHeld; ++h) {
    if (!own.holds(h)) continue;
    const Elements<V> in = unpack<T>(held[h]);
#pragma unroll
    for (int e = 0; e < V; ++e) v[e] += in.v[e];
  }
  const auto& sums = cluster_sums<Cluster>(v, s.sums, blocks);
#pragma unroll
  for (int e = 0; e < V; ++e) {
    mean[e] = sums[e][own.lane] / static_cast<float>(rows);
    v[e] = 0.0f;
  }
#pragma unroll
  for (int h = 0; h < kHeld; ++h) {
    if (!own.holds(h)) continue;
    const Elements<V> in = unpack<T>(held[h]);
#pragma unroll
    for (int e = 0; e < V; ++e) v[e] += (in.v[e] - mean[e]) * (in.v[e] - mean[e]);
  }
  const auto& squares = cluster_sums<Cluster>(v, s.squares, blocks);
  if (Cluster) gpu::cluster_sync();  // nobody reads another block's totals any more: it may leave
  if (own.channel >= c) return;

  if (own.row == 0) {  // the first row of the first block
#pragma unroll
    for (int e = 0; e < V; ++e)
      statistics.store(own.channel + e, mean[e], squares[e][own.lane], rows);
  }
  float scale[V], shift[V];
#pragma unroll
  for (int e = 0; e < V; ++e) {
    scale[e] = gamma[own.channel + e] * statistics.inverse_deviation(squares[e][own.lane], rows);
    shift[e] = beta[own.channel + e];
  }
#pragma unroll
  for (int h = 0; h < kHeld; ++h) {
    if (!own.holds(h)) continue;
    Elements<V> out = unpack<T>(held[h]);
#pragma unroll
    for (int e = 0; e < V; ++e) out.v[e] = Normalization{mean[e], scale[e], shift[e]}(out.v[e]);
    store_elements<V>(y + (own.row + h * kRows) * c + own.channel, out);
  }
}

/// The same shape, holding x and dy. Both sums go through one exchange: v[0..V-1] is dgamma,
/// v[V..2V-1] is dbeta.
template <bool Cluster, class T>
__global__ void __launch_bounds__(kThreads, 1)
    batchnorm_backward_resident_kernel(Index rows, Index c, int blocks, const T* x, const T* dy,
                                       const float* gamma, const float* mean, const float* inv_std,
                                       T* dx, float* dgamma, float* dbeta) {
  constexpr int V = kPack<T>;
  auto& s = gpu::smem<ClusterSums<2 * V>>();
  const Position<Cluster, V> own(rows, c, blocks);
  uint4 held_x[kHeld], held_dy[kHeld];
  load_held(held_x, x, c, own);
  load_held(held_dy, dy, c, own);
  const bool inside = own.channel < c;

  float v[2 * V] = {}, mu[V];
#pragma unroll
  for (int e = 0; e < V; ++e) mu[e] = inside ? mean[own.channel + e] : 0.0f;
#pragma unroll
  for (int h = 0; h < kHeld; ++h) {
    if (!own.holds(h)) continue;
    const Elements<V> in = unpack<T>(held_x[h]), g = unpack<T>(held_dy[h]);
#pragma unroll
    for (int e = 0; e < V; ++e) {
      v[e] += g.v[e] * (in.v[e] - mu[e]);
      v[V + e] += g.v[e];
    }
  }
#pragma unroll
  for (int e = 0; e < V; ++e) v[e] *= inside ? inv_std[own.channel + e] : 0.0f;
  const auto& sums = cluster_sums<Cluster>(v, s, blocks);
  if (Cluster) gpu::cluster_sync();  // nobody reads another block's totals any more: it may leave
  if (!inside) return;

  if (own.row == 0) {  // the first row of the first block
#pragma unroll
    for (int e = 0; e < V; ++e) {
      dgamma[own.channel + e] = sums[e][own.lane];
      dbeta[own.channel + e] = sums[V + e][own.lane];
    }
  }
  const float inv_rows = 1.0f / static_cast<float>(rows);
  NormGradient f[V];
#pragma unroll
  for (int e = 0; e < V; ++e)
    f[e] = NormGradient(mu[e], inv_std[own.channel + e], gamma[own.channel + e], sums[e][own.lane],
                        sums[V + e][own.lane], inv_rows);
#pragma unroll
  for (int h = 0; h < kHeld; ++h) {
    if (!own.holds(h)) continue;
    Elements<V> in = unpack<T>(held_x[h]);
    const Elements<V> g = unpack<T>(held_dy[h]);
#pragma unroll
    for (int e = 0; e < V; ++e) in.v[e] = f[e](in.v[e], g.v[e]);
    store_elements<V>(dx + (own.row + h * kRows) * c + own.channel, in);
  }
}

template <int V>
gpu::LaunchCfg resident_launch(const Context& ctx, Index c, int blocks, std::size_t shared) {
  return {.grid = gpu::grid_for(gpu::cdiv(c, Index{kLanes * V}) * blocks, 1),
          .block = kThreads,
          .smem = static_cast<unsigned>(shared),
          .stream = ctx.stream,
          .cluster = static_cast<unsigned>(blocks)};
}

}  // namespace

bool batchnorm_resident_supports(const NormProblem& p, const DeviceInfo& device, int pack) {
  const bool clusters = device.compute_major >= 9;
  return p.c % pack == 0 && p.rows <= kMostRows * (clusters ? kMostBlocks : 1);
}

template <class T>
void batchnorm_forward_resident(Context& ctx, const NormProblem& p, const T* x, const float* gamma,
                                const float* beta, T* y, NormStatistics statistics) {
  constexpr int V = kPack<T>;
  const int blocks = cluster_blocks(p.rows, ctx.device().compute_major >= 9);
  gpu::launch(blocks > 1 ? batchnorm_forward_resident_kernel<true, T>
                         : batchnorm_forward_resident_kernel<false, T>,
              resident_launch<V>(ctx, p.c, blocks, sizeof(ForwardShared<V>)), p.rows, p.c, blocks,
              x, gamma, beta, y, statistics);
}
template void batchnorm_forward_resident(Context&, const NormProblem&, const float*, const float*,
                                         const float*, float*, NormStatistics);
template void batchnorm_forward_resident(Context&, const NormProblem&, const bf16*, const float*,
                                         const float*, bf16*, NormStatistics);

template <class T>
void batchnorm_backward_resident(Context& ctx, const NormProblem& p, const T* x, const T* dy,
                                 const float* gamma, const float* mean, const float* inv_std, T* dx,
                                 float* dgamma, float* dbeta) {
  constexpr int V = kPack<T>;
  const int blocks = cluster_blocks(p.rows, ctx.device().compute_major >= 9);
  gpu::launch(blocks > 1 ? batchnorm_backward_resident_kernel<true, T>
                         : batchnorm_backward_resident_kernel<false, T>,
              resident_launch<V>(ctx, p.c, blocks, sizeof(ClusterSums<2 * V>)), p.rows, p.c, blocks,
              x, dy, gamma, mean, inv_std, dx, dgamma, dbeta);
}
template void batchnorm_backward_resident(Context&, const NormProblem&, const float*, const float*,
                                          const float*, const float*, const float*, float*, float*,
                                          float*);
template void batchnorm_backward_resident(Context&, const NormProblem&, const bf16*, const bf16*,
                                          const float*, const float*, const float*, bf16*, float*,
                                          float*);

}  // namespace subpix::kernels::KERNEL_TARGET
