// Gradient of the filter, technique `tiled_shared`: an implicit GEMM in exact fp32 whose reduction
// runs over pixels.
//
//   dw[k, e] = sum_m dy[m, k] * X[m, e]     m = (n,p,q), e = (r,s,c),
//                                           X[m, e] = x[n, p*stride + r - pad, q*stride + s - pad,
//                                           c]
//   db[k]    = sum_m dy[m, k]
//
// because y[m, k] = sum_e X[m, e] * w[k, e] + b[k] is linear in w and b. Both operands are
// contiguous across the reduction, so slices of 16 pixels go to shared memory as they lie.
//
// 2*K*R*S*C FLOP a pixel (64 to 64 channels, 3x3: 73,728) against 4*(C + K) = 512 bytes: bound by
// FMA. The trouble is parallelism: dw has few elements (36,864: 9 tiles of 64 x 64) and the sum is
// long, so the pixels are split. Each split writes its own sums to scratch memory, and a second
// kernel adds them in the order of the splits. The split depends on the problem alone: the same
// bits on every device and under every schedule.
//
// Tiles of k x e: 64 x 64 or, from 65 filters on, 128 x 64, or 8 x 256 for up to 8 filters
// (images).

#include <algorithm>

#include "kernels/cuda/conv2d.cuh"
#include "kernels/cuda/conv2d_index.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/register_tile.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

using LargeTile = RegisterTile<128, 64, 8, 8>;
using SmallTile = RegisterTile<64, 64, 8, 8>;
using NarrowTile = RegisterTile<8, 256, 4, 4>;

template <class Tile>
struct FilterShared {
  float a[2][kTileDepth][Tile::kM];  // dy
  float b[2][kTileDepth][Tile::kN];  // x
};

/// Where the sums of one split go: dw and db themselves where there is only one.
struct FilterTarget {
  float* dw;
  float* db;     // null: not wanted
  Index stride;  // elements from one split to the next, of both
};

/// Block (x, y, z) owns Tile::kN elements e of Tile::kM filters, summed over the pixels of split z,
/// `pixels_each` of them. Slices go through registers into one half of shared memory while the
/// other half is multiplied. The blocks of the first elements also sum dy for db, one thread a
/// filter. Vec = 4: C and K are multiples of 4 and pointers are aligned.
template <class Tile, int Vec, class T>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    conv2d_backward_filter_tiled_shared_kernel(Conv2dShape d, int pixels_each,
                                               const T* __restrict__ x, const T* __restrict__ dy,
                                               FilterTarget target) {
  constexpr int kThreads = Tile::kThreads;
  static_assert(Tile::kM <= kThreads, "db: a thread for each filter");
  using CopyA = StraightCopy<Tile::kM, Vec, kThreads>;
  using CopyB = StraightCopy<Tile::kN, Vec, kThreads>;
  auto& shared = gpu::smem<FilterShared<Tile>>();
  const int t = static_cast<int>(threadIdx.x);
  const int e0 = static_cast<int>(blockIdx.x) * Tile::kN;
  const int k0 = static_cast<int>(blockIdx.y) * Tile::kM;
  const int depth = d.r * d.s * d.c;
  const int first = static_cast<int>(blockIdx.z) * pixels_each;
  const int end = min(first + pixels_each, d.n * d.p * d.q);
  const int steps = gpu::cdiv(end - first, kTileDepth);

  CopyA copy_a(t);
  CopyB copy_b(t);
  Odometer tap[CopyB::kWide];  // (channel, s, r) of each of B's columns: fixed
#pragma unroll
  for (int j = 0; j < CopyB::kWide; ++j) {
    const int e = e0 + copy_b.column_of(j), tap_index = e / d.c;
    tap[j] = {e - tap_index * d.c, tap_index % d.s - d.pad, tap_index / d.s - d.pad};
  }
  int pixel_a = first + copy_a.depth;  // of A's next row
  const Pixel start = pixel_at(first + copy_b.depth, d.p, d.q);
  Odometer pixel_b{start.column, start.row, start.image};  // of B's next row
  int left_b = end - first - copy_b.depth;                 // pixels up to the end, from there on

  const auto load = [&] {  // the next slice into registers
#pragma unroll
    for (int i = 0; i < CopyA::kPasses; ++i) {
#pragma unroll
      for (int j = 0; j < CopyA::kWide; ++j) {
        copy_a.staged[i][j] = {};
        const int k = k0 + copy_a.column_of(j), m = pixel_a + i * CopyA::kStep;
        if (copy_a.busy() && m < end && k < d.k)
          copy_a.staged[i][j] = load_elements<Vec>(dy + Index{m} * d.k + k);
      }
    }
    pixel_a += kTileDepth;
#pragma unroll
    for (int i = 0; i < CopyB::kPasses; ++i) {
      const int row = pixel_b.middle * d.stride, column = pixel_b.low * d.stride;
      const Index image = Index{pixel_b.high} * d.h;
#pragma unroll
      for (int j = 0; j < CopyB::kWide; ++j) {
        copy_b.staged[i][j] = {};
        const int h = row + tap[j].high, v = column + tap[j].middle;
        if (copy_b.busy() && i * CopyB::kStep < left_b && e0 + copy_b.column_of(j) < depth &&
            inside(h, d.h) && inside(v, d.w))
          copy_b.staged[i][j] = load_elements<Vec>(x + ((image + h) * d.w + v) * d.c + tap[j].low);
      }
      pixel_b.advance(CopyB::kStep < kTileDepth ? CopyB::kStep : kTileDepth, d.q, d.p);
    }
    left_b -= kTileDepth;
  };

  Tile tile(t);
  const bool sums_bias = target.db && blockIdx.x == 0 && t < Tile::kM;
  float bias_sum = 0.0f;
  load();
  copy_a.store(shared.a[0]);
  copy_b.store(shared.b[0]);
  __syncthreads();  // the first slice is complete
  for (int step = 0; step < steps; ++step) {
    const int half = step & 1;
    if (step + 1 < steps) load();
    tile.template multiply<Straight, Straight>(shared.a[half], shared.b[half]);
    if (sums_bias) {
#pragma unroll
      // [sum dy]
      for (int m = 0; m < kTileDepth; ++m) bias_sum += shared.a[half][m][t];
    }
    if (step + 1 < steps) {
      copy_a.store(shared.a[half ^ 1]);
      copy_b.store(shared.b[half ^ 1]);
    }
    // The next step reads what was stored, and overwrites what this one has read.
    __syncthreads();
  }

  const Index split = Index{blockIdx.z} * target.stride;
  if (sums_bias && k0 + t < d.k) target.db[split + k0 + t] = bias_sum;
#pragma unroll
  for (int i = 0; i < Tile::kThreadM; ++i) {
    const int k = k0 + tile.row(i);
    if (k >= d.k) continue;
    float* to = target.dw + split + Index{k} * depth;
#pragma unroll
    for (int j = 0; j < Tile::kThreadN; j += 4) {
      const int e = e0 + tile.column(j);
      if (Vec == 4) {
        if (e < depth) {
          Elements<4> out;
#pragma unroll
          for (int v = 0; v < 4; ++v) out.v[v] = tile.sum[i][j + v];
          store_elements(to + e, out);
        }
      } else {
#pragma unroll
        for (int v = 0; v < 4; ++v)
          if (e + v < depth) to[e + v] = tile.sum[i][j + v];
      }
    }
  }
}

constexpr int kSumLanes = 32, kSumSlices = 8;

struct SumShared {
  float sum[kSumSlices][kSumLanes];
};

/// A block owns 32 elements of dw, or of db, which follows as element w_count onwards. Slice s adds
/// splits s, s + 8, ... in order, coalesced; then slice 0 adds the slices in order.
__global__ void __launch_bounds__(kSumLanes* kSumSlices)
    conv2d_backward_filter_sum_splits_kernel(int splits, Index w_count, Index count,
                                             const float* __restrict__ partial,
                                             float* __restrict__ dw, float* __restrict__ db) {
  auto& shared = gpu::smem<SumShared>();
  const int lane = static_cast<int>(threadIdx.x) % kSumLanes;
  const int slice = static_cast<int>(threadIdx.x) / kSumLanes;
  const Index i = Index{blockIdx.x} * kSumLanes + lane;
  float sum = 0.0f;
  if (i < count) {
#pragma unroll 4
    for (int split = slice; split < splits; split += kSumSlices) sum += partial[split * count + i];
  }
  shared.sum[slice][lane] = sum;
  __syncthreads();  // slice 0 reads what the others wrote
  if (slice != 0 || i >= count) return;
  for (int other = 1; other < kSumSlices; ++other) sum += shared.sum[other][lane];
  (i < w_count ? dw[i] : db[i - w_count]) = sum;
}

/// Splits so that a GPU has about kBlocks blocks (four for each SM), but no split shorter than
/// kFewest pixels, which would cost more in partial sums than it gains.
struct Splits {
  Index count, pixels_each;
};
Splits split_pixels(Index pixels, Index tiles) {
  constexpr Index kBlocks = 512, kFewest = 128;
  const Index wanted = std::clamp(kBlocks / tiles, Index{1}, gpu::cdiv(pixels, kFewest));
  const Index each = gpu::cdiv(gpu::cdiv(pixels, wanted), Index{kTileDepth}) * kTileDepth;
  return {gpu::cdiv(pixels, each), each};  // rounding up may leave fewer splits, none empty
}

template <class Tile, int Vec, class T>
void launch_tile(Context& ctx, const Conv2dProblem& d, const T* x, const T* dy, float* dw,
                 float* db) {
  const Index tiles_e = gpu::cdiv(d.r * d.s * d.c, Tile::kN), tiles_k = gpu::cdiv(d.k, Tile::kM);
  const Splits splits = split_pixels(d.n * d.p() * d.q(), tiles_e * tiles_k);
  const Index count = d.w_count() + (db ? d.k : 0);
  Workspace ws(ctx);
  FilterTarget target{dw, db, 0};
  if (splits.count > 1) {
    target.dw = ws.take<float>(static_cast<std::size_t>(splits.count * count));
    target.db = db ? target.dw + d.w_count() : nullptr;
    target.stride = count;
  }
  gpu::launch(conv2d_backward_filter_tiled_shared_kernel<Tile, Vec, T>,
              {.grid = dim3(static_cast<unsigned>(tiles_e), static_cast<unsigned>(tiles_k),
                            static_cast<unsigned>(splits.count)),
               .block = Tile::kThreads,
               .smem = sizeof(FilterShared<Tile>),
               .stream = ctx.stream},
              conv2d_shape(d), static_cast<int>(splits.pixels_each), x, dy, target);
  if (splits.count > 1)
    gpu::launch(conv2d_backward_filter_sum_splits_kernel,
                {.grid = gpu::grid_for(count, kSumLanes),
                 .block = kSumLanes * kSumSlices,
                 .smem = sizeof(SumShared),
                 .stream = ctx.stream},
                static_cast<int>(splits.count), d.w_count(), count, target.dw, dw, db);
}

template <int Vec, class T>
void launch_vec(Context& ctx, const Conv2dProblem& d, const T* x, const T* dy, float* dw,
                float* db) {
  if (d.k <= NarrowTile::kM)
    launch_tile<NarrowTile, Vec>(ctx, d, x, dy, dw, db);
  else if (d.k <= SmallTile::kM)
    launch_tile<SmallTile, Vec>(ctx, d, x, dy, dw, db);
  else
    launch_tile<LargeTile, Vec>(ctx, d, x, dy, dw, db);
}

}  // namespace

/// Pixel numbers and elements of a filter are int; grids have at most 65,535 blocks along y.
bool supports_backward_filter_tiled_shared(const Conv2dProblem& d, const DeviceInfo&) {
  constexpr Index kMost = (Index{1} << 31) - 4096, kMostChannels = Index{1} << 19;
  return d.n * d.h * d.w <= kMost && d.n * d.p() * d.q() <= kMost && d.c <= kMostChannels &&
         d.k <= kMostChannels;
}

template <class T>
void conv2d_backward_filter_tiled_shared(Context& ctx, const Conv2dProblem& d, const T* x,
                                         const T* dy, float* dw, float* db) {
  if (d.c % 4 == 0 && d.k % 4 == 0 && packable(x, dy, dw))
    launch_vec<4>(ctx, d, x, dy, dw, db);
  else
    launch_vec<1>(ctx, d, x, dy, dw, db);
}

template void conv2d_backward_filter_tiled_shared(Context&, const Conv2dProblem&, const float*,
                                                  const float*, float*, float*);
template void conv2d_backward_filter_tiled_shared(Context&, const Conv2dProblem&, const bf16*,
                                                  const bf16*, float*, float*);

}  // namespace subpix::kernels::KERNEL_TARGET
