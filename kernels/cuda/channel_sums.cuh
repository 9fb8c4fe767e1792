#pragma once

// Sums over the rows of [rows, c] matrices, channel by channel, in a fixed order.
//
// Two stages. Each block of the grid of channel_map.cuh adds its slab: a thread its own rows in
// registers, a warp by shuffles, the warps through shared memory; it writes one partial sum a
// channel. A second, tiny kernel adds the partial sums of all ranges of rows the same way. No
// atomics: which thread adds what, and when, follows from the sizes alone.
// A running sum is thereby short: (rows of a slab) / kRows terms, then 5 levels of shuffles, 8
// warps, and so on, and its rounding error with it.

#include "kernels/cuda/channel_map.cuh"

namespace subpix::kernels::KERNEL_TARGET {

/// Shared memory of block_sums(): N values of L classes of lanes.
template <int Threads, int L, int N>
struct BlockSums {
  // Packs of 8 channels: results leave in the order of the channels, which is 8 values of one lane,
  // then of the next. With a pitch of 12 a warp that reads or writes in this order meets 32
  // different banks. Otherwise the order is lanes first, without gaps.
  static constexpr bool kByLane = L == 8 && N % 8 == 0;
  static constexpr int kPitch = kByLane ? 12 : L;
  float warp[Threads / 32][N][kPitch];
  float total[N][kPitch];
};

/// Adds v[n] over the threads of a block that agree in threadIdx.x % L (a power of two up to 32);
/// s.total[n][threadIdx.x % L] then holds the sums for every thread to read. Order: within a warp
/// by halves, then the warps from first to last. Every thread of the block must come here, and `s`
/// must not be in use: two sums in a row take two of them.
template <int Threads, int L, int N>
GPU_DEV void block_sums(float (&v)[N], BlockSums<Threads, L, N>& s) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int step = 16; step >= L; step /= 2) v[n] += __shfl_down_sync(~0u, v[n], step);
    if (lane < L) s.warp[warp][n][lane] = v[n];
  }
  __syncthreads();  // the warps' sums are written
  for (int i = static_cast<int>(threadIdx.x); i < N * L; i += Threads) {
    const int n = s.kByLane ? i / 64 * 8 + i % 8 : i / L;
    const int at = s.kByLane ? i / 8 % 8 : i % L;
    float sum = s.warp[0][n][at];
#pragma unroll
    for (int w = 1; w < Threads / 32; ++w) sum += s.warp[w][n][at];
    s.total[n][at] = sum;
  }
  __syncthreads();  // the totals are written
}

/// Where the map's row goes: F may say so, else it stays. (A function of its own: nvcc looks into
/// discarded branches of lambdas.)
template <class F>
GPU_DEV Index destination_of(const F& f, Index row) {
  if constexpr (requires { f.destination(row); })
    return f.destination(row);
  else
    return row;
}

/// Adds the terms of one slab and, where F writes, maps it in the same pass. F has, beside what
/// channel_map_kernel asks,
///   kTerms                                    sums a channel
///   kWrites                                   whether there is a y, which may be null even so
///   float apply(channel, a, b, sum[kTerms])   adds to the sums; what it returns goes to y
///   Index destination(row)                    optional: the row of y that row of the inputs goes
///   to
/// OneSum: channels are added up too. partial is [row_blocks][kTerms][c], with
/// OneSum [blocks][kTerms].
template <int V, bool OneSum, class T, class F>
__global__ void __launch_bounds__(kChannelThreads)
    channel_sums_kernel(ChannelGrid g, F f, const T* a, const T* b, T* y, float* partial) {
  constexpr int kTerms = F::kTerms;
  constexpr int kLanes = OneSum ? 1 : Slab<V>::kLanes;
  constexpr int kValues = OneSum ? 1 : V;  // sums that a thread brings to the block, of each term
  auto& s = gpu::smem<BlockSums<kChannelThreads, kLanes, kTerms * kValues>>();
  const SlabPosition<V> own(g);
  typename F::Channel k[V];
#pragma unroll
  for (int e = 0; e < V; ++e) k[e] = f.channel(min(own.channel + e, g.c - 1));

  float sum[kTerms * kValues] = {};
  for_rows<V, F::kInputs>(g, own, a, b, [&](Index row, auto& in_a, auto& in_b, int n) {
#pragma unroll
    for (int u = 0; u < kSteps<F::kInputs>; ++u) {
      if (u >= n) continue;
      Elements<V> out;
#pragma unroll
      for (int e = 0; e < V; ++e) {
        float term[kTerms];
#pragma unroll
        for (int t = 0; t < kTerms; ++t) term[t] = sum[t * kValues + (OneSum ? 0 : e)];
        out.v[e] = f.apply(k[e], in_a[u].v[e], F::kInputs == 2 ? in_b[u].v[e] : 0.0f, term);
#pragma unroll
        for (int t = 0; t < kTerms; ++t) sum[t * kValues + (OneSum ? 0 : e)] = term[t];
      }
      if constexpr (F::kWrites) {
        const Index to = destination_of(f, row + u * Slab<V>::kRows);
        if (y) store_elements<V>(y + to * g.c + own.channel, out);
      }
    }
  });

  block_sums(sum, s);
  const int i = static_cast<int>(threadIdx.x);
  if constexpr (OneSum) {
    if (i < kTerms) partial[Index{blockIdx.x} * kTerms + i] = s.total[i][0];
  } else {
    // Thread i takes channel i of the slab, so that a warp writes consecutive addresses.
    const Index channel = own.channel - Index{i % kLanes} * V + i;
    if (i >= Slab<V>::kChannels || channel >= g.c) return;
#pragma unroll
    for (int t = 0; t < kTerms; ++t)
      partial[(own.row_block * kTerms + t) * g.c + channel] = s.total[t * V + i % V][i / V];
  }
}

/// Channels of a block that merges partial results: 8 are one sector, a warp reads four of them.
inline constexpr int kMergeChannels = 8;

template <int Terms>
struct ChannelOutputs {
  float* sum[Terms];  ///< [c] each
};

/// sum[t][channel] = the sum of partial[part][t][channel] over the parts. A block owns W channels:
/// thread i takes channel i % W and every (256 / W)-th part.
template <int W, int Terms>
__global__ void __launch_bounds__(kChannelThreads)
    channel_merge_kernel(Index parts, Index c, const float* partial, ChannelOutputs<Terms> out) {
  auto& s = gpu::smem<BlockSums<kChannelThreads, W, Terms>>();
  const int i = static_cast<int>(threadIdx.x);
  const Index channel = Index{blockIdx.x} * W + i % W;
  float sum[Terms] = {};
  if (channel < c)
#pragma unroll 4  // loads that do not wait for each other
    for (Index part = i / W; part < parts; part += kChannelThreads / W)
#pragma unroll
      for (int t = 0; t < Terms; ++t) sum[t] += partial[(part * Terms + t) * c + channel];
  block_sums(sum, s);
  if (i >= W || channel >= c) return;
#pragma unroll
  for (int t = 0; t < Terms; ++t) out.sum[t][channel] = s.total[t][i];
}

/// Both stages. OneSum: out.sum are [1] each.
template <int V, bool OneSum, class T, class F>
void run_channel_sums(Context& ctx, Index rows, Index c, F f, const T* a, const T* b, T* y,
                      ChannelOutputs<F::kTerms> out) {
  constexpr int kTerms = F::kTerms;
  constexpr int kWidth = OneSum ? 1 : kMergeChannels;
  using Shared =
      BlockSums<kChannelThreads, OneSum ? 1 : Slab<V>::kLanes, OneSum ? kTerms : kTerms * V>;
  using MergeShared = BlockSums<kChannelThreads, kWidth, kTerms>;
  const ChannelGrid g = channel_grid<V>(rows, c);
  const Index parts = OneSum ? g.blocks() : g.row_blocks;
  const Index channels = OneSum ? 1 : c;
  Workspace ws(ctx);
  float* partial = ws.take<float>(static_cast<std::size_t>(parts * kTerms * channels));
  gpu::launch(channel_sums_kernel<V, OneSum, T, F>,
              {.grid = gpu::grid_for(g.blocks(), 1),
               .block = kChannelThreads,
               .smem = sizeof(Shared),
               .stream = ctx.stream},
              g, f, a, b, y, partial);
  gpu::launch(channel_merge_kernel<kWidth, kTerms>,
              {.grid = gpu::grid_for(channels, kWidth),
               .block = kChannelThreads,
               .smem = sizeof(MergeShared),
               .stream = ctx.stream},
              parts, channels, static_cast<const float*>(partial), out);
}

}  // namespace subpix::kernels::KERNEL_TARGET
