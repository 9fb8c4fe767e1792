#pragma once

// Work on [rows, c] matrices (NHWC with N*H*W rows) of which every column, a channel, has
// coefficients of its own: batch norm, PReLU.
//
// A block owns a slab: a range of rows times 128 bytes of channels (8 packs of 16 bytes; in the
// scalar case 32 channels). A thread keeps to the V channels of one access, so their coefficients
// are computed once and stay in registers, no index is divided in the loop, and a warp reads whole
// lines: 4 rows of 128 bytes, or one row of 32 values.
//
//             channels ->  8 lanes x V
//      rows   t0  t1 ... t7        kRows rows a step, kUnroll steps loaded before the first is used
//       |     t8  t9 ... t15
//       v     ...

#include "kernels/api/kernels.h"
#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"

namespace subpix::kernels::KERNEL_TARGET {

inline constexpr int kChannelThreads = 256;

/// How a block lies over the matrix when each access takes V channels: 1, or the kPack of the type.
template <int V>
struct Slab {
  static constexpr int kLanes = V == 1 ? 32 : 8;          // threads side by side
  static constexpr int kChannels = kLanes * V;            // width
  static constexpr int kRows = kChannelThreads / kLanes;  // rows of one step
};

template <int V>
struct Elements {
  float v[V];
};

template <int V, class T>
GPU_DEV Elements<V> load_elements(const T* p) {
  Elements<V> x;
  if constexpr (V == 1) {
    x.v[0] = gpu::to_float(*p);
  } else {
    static_assert(V == kPack<T>);
    const Pack<T> pack = load_pack(p);
#pragma unroll
    for (int e = 0; e < V; ++e) x.v[e] = pack.v[e];
  }
  return x;
}
template <int V, class T>
GPU_DEV void store_elements(T* p, const Elements<V>& x) {
  if constexpr (V == 1) {
    store_value(p, x.v[0]);
  } else {
    Pack<T> pack;
#pragma unroll
    for (int e = 0; e < V; ++e) pack.v[e] = x.v[e];
    store_pack(p, pack);
  }
}

/// A grid of slabs: all slabs of one range of rows, then the next range. It follows from the sizes
/// alone, not from the device, so that sums over slabs are the same everywhere.
struct ChannelGrid {
  Index rows, c;
  Index rows_each;   ///< rows of a slab; the last range may have fewer
  Index row_blocks;  ///< ranges of rows
  int slabs;         ///< slabs side by side

  Index blocks() const { return row_blocks * slabs; }
};

/// About four blocks for each of 132 multiprocessors where there are rows enough to give every
/// thread two.
template <int V>
ChannelGrid channel_grid(Index rows, Index c) {
  constexpr Index kBlocks = 4 * 132;
  constexpr Index kStep = Slab<V>::kRows;
  const Index slabs = gpu::cdiv(c, Index{Slab<V>::kChannels});
  const Index ranges = gpu::cdiv(kBlocks, slabs);
  ChannelGrid g{rows, c, 0, 0, 0};
  g.rows_each = gpu::cdiv(gpu::cdiv(rows, ranges), kStep) * kStep;
  if (g.rows_each < 2 * kStep) g.rows_each = 2 * kStep;
  g.row_blocks = gpu::cdiv(rows, g.rows_each);
  SUBPIX_REQUIRE(slabs <= 0x7fffffff, c, " channels");
  g.slabs = static_cast<int>(slabs);
  return g;
}

/// Where a thread of a slab stands.
template <int V>
struct SlabPosition {
  Index row, end;   ///< its first row; behind the last row of the block
  Index channel;    ///< its first channel
  Index row_block;  ///< which range of rows the block owns

  GPU_DEV explicit SlabPosition(const ChannelGrid& g) {
    const unsigned slabs = static_cast<unsigned>(g.slabs);
    row_block = blockIdx.x / slabs;
    channel =
        Index{blockIdx.x % slabs} * Slab<V>::kChannels + Index{threadIdx.x % Slab<V>::kLanes} * V;
    row = row_block * g.rows_each + threadIdx.x / Slab<V>::kLanes;
    end = min(g.rows, (row_block + 1) * g.rows_each);
    if (channel >= g.c) row = end;  // right of the matrix: no rows, but it still meets the barriers
  }
};

/// Steps in flight: enough bytes to cover the latency of memory, few enough registers that two
/// blocks or more share a multiprocessor.
template <int Inputs>
inline constexpr int kSteps = Inputs == 1 ? 4 : 2;

/// Calls each(row, a, b, n) for the rows of this thread, up to kSteps at once: a[u] and b[u], u <
/// n, are what the inputs hold in row + u * Slab<V>::kRows at this thread's channels. With one
/// input b is not read.
template <int V, int Inputs, class T, class Each>
GPU_DEV void for_rows(const ChannelGrid& g, const SlabPosition<V>& own, const T* a, const T* b,
                      Each&& each) {
  constexpr int kCount = kSteps<Inputs>;
  const Index stride = Slab<V>::kRows * g.c;
  for (Index row = own.row; row < own.end; row += kCount * Slab<V>::kRows) {
    const Index at = row * g.c + own.channel;
    const Index left = (own.end - row + Slab<V>::kRows - 1) / Slab<V>::kRows;
    const int n = left < kCount ? static_cast<int>(left) : kCount;
    Elements<V> in_a[kCount], in_b[kCount];
#pragma unroll
    for (int u = 0; u < kCount; ++u) {
      if (u >= n) continue;
      in_a[u] = load_elements<V>(a + at + u * stride);
      if constexpr (Inputs == 2) in_b[u] = load_elements<V>(b + at + u * stride);
    }
    each(row, in_a, in_b, n);
  }
}

/// y = f(channel's coefficients, a, b) for each element. F has
///   kInputs                     1 or 2 tensors read
///   Channel channel(c)          the coefficients of a channel
///   float apply(channel, a, b)
/// y may be a or b: an element is read before it is written, by the same thread.
template <int V, class T, class F>
__global__ void __launch_bounds__(kChannelThreads)
    channel_map_kernel(ChannelGrid g, F f, const T* a, const T* b, T* y) {
  const SlabPosition<V> own(g);
  if (own.row >= own.end) return;
  typename F::Channel k[V];
#pragma unroll
  for (int e = 0; e < V; ++e) k[e] = f.channel(own.channel + e);
  const Index stride = Slab<V>::kRows * g.c;
  for_rows<V, F::kInputs>(g, own, a, b, [&](Index row, auto& in_a, auto& in_b, int n) {
    const Index at = row * g.c + own.channel;
#pragma unroll
    for (int u = 0; u < kSteps<F::kInputs>; ++u) {
      if (u >= n) continue;
      Elements<V> out;
#pragma unroll
      for (int e = 0; e < V; ++e)
        out.v[e] = f.apply(k[e], in_a[u].v[e], F::kInputs == 2 ? in_b[u].v[e] : 0.0f);
      store_elements<V>(y + at + u * stride, out);
    }
  });
}

template <int V, class T, class F>
void run_channel_map(Context& ctx, Index rows, Index c, F f, const T* a, const T* b, T* y) {
  const ChannelGrid g = channel_grid<V>(rows, c);
  gpu::launch(
      channel_map_kernel<V, T, F>,
      {.grid = gpu::grid_for(g.blocks(), 1), .block = kChannelThreads, .stream = ctx.stream}, g, f,
      a, b, y);
}

/// What the variants called `packs` take: rows that are whole packs of 16 bytes. (Whether they
/// begin on one is a matter of the pointers: packable().)
template <class T>
bool rows_of_packs(Index c) {
  return c % kPack<T> == 0;
}

}  // namespace subpix::kernels::KERNEL_TARGET
