// The dense layer.
//
//   forward          y[n,o]  = bias[o] + sum_i x[n,i] * w[o,i]
//   backward_data    dx[n,i] = sum_o dy[n,o] * w[o,i]
//   backward_filter  dw[o,i] = sum_n dy[n,o] * x[n,i],   db[o] = sum_n dy[n,o]
//
// (y is linear in x, w and bias, so each gradient is dy times the other factor, summed over the
// index that is missing.)
//
// SRGAN has two: 18432 -> 1024 and 1024 -> 1, with 16 to 128 rows. The first has 18.9 million
// weights, each used in 2 * n flops: 37.7 MB in bf16 against 0.6 GFLOP at n = 16. All three are
// streams of the weights: bytes(weights) / bandwidth, where dw is always fp32 (75.5 MB). x, y and
// dy are small and stay in the caches. FP32 units keep up with the stream to about 16 rows; beyond
// that tensor cores are needed.
//
// Variants, slowest first:
//   direct         one warp (forward) or thread an output; weights are read once for every row n.
//   split_k        a register tile of outputs and rows: each weight is read once for 8 or 16 rows,
//                  16 bytes an access. The reduction is split between blocks so that all
//                  multiprocessors stream; see SplitSums. (backward_filter has nothing to split:
//                  there it is called tiled_shared.)
//   split_k_mma    the same stream into tensor cores, bf16 only: dense_mma.cu (tiled_mma for
//                  backward_filter).
// The blocks of different rows on the same weights have neighbouring numbers: they run together,
// and all but the first find the weights in L2.

#include "kernels/cuda/dense.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

/// Four neighbouring values in one access of 16 or 8 bytes.
GPU_DEV float4 load_quad(const float* p) { return *reinterpret_cast<const float4*>(p); }
GPU_DEV float4 load_quad(const bf16* p) {
  const uint2 v = *reinterpret_cast<const uint2*>(p);
  const float2 a = gpu::unpack_bf16(v.x), b = gpu::unpack_bf16(v.y);
  return make_float4(a.x, a.y, b.x, b.y);
}

// --- direct --------------------------------------------------------------------------------------

/// Warp i owns output i; its lanes stride over the reduction, then add up by a butterfly.
template <class T>
__global__ void __launch_bounds__(kThreads)
    dense_forward_direct_kernel(Index count, Index in, Index out, const T* x, const T* w,
                                const float* bias, T* y) {
  const Index i = Index{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (i >= count) return;  // the whole warp
  const T* row = x + i / out * in;
  const T* weights = w + i % out * in;
  float sum = 0.0f;
  for (Index k = threadIdx.x % 32; k < in; k += 32)
    sum += gpu::to_float(row[k]) * gpu::to_float(weights[k]);
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(~0u, sum, distance);
  if (threadIdx.x % 32 == 0) store_value(y + i, bias ? sum + bias[i % out] : sum);
}

/// Thread i owns dx[i]: the weights are read coalesced, dy is the same for (nearly) all of a warp.
template <class T>
__global__ void __launch_bounds__(kThreads)
    dense_backward_data_direct_kernel(Index count, Index in, Index out, const T* dy, const T* w,
                                      T* dx) {
  const Index i = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const T* gradient = dy + i / in * out;
  float sum = 0.0f;
  for (Index o = 0; o < out; ++o)
    sum += gpu::to_float(gradient[o]) * gpu::to_float(w[o * in + i % in]);
  store_value(dx + i, sum);
}

/// Thread i owns dw[i]; the thread of the first column also owns db.
template <class T>
__global__ void __launch_bounds__(kThreads)
    dense_backward_filter_direct_kernel(Index rows, Index in, Index out, const T* x, const T* dy,
                                        float* dw, float* db) {
  const Index i = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= in * out) return;
  const Index o = i / in, column = i % in;
  float sum = 0.0f, bias = 0.0f;
  for (Index n = 0; n < rows; ++n) {
    const float gradient = gpu::to_float(dy[n * out + o]);
    sum += gradient * gpu::to_float(x[n * in + column]);
    bias += gradient;
  }
  dw[i] = sum;
  if (db && column == 0) db[o] = bias;
}

// --- forward, split_k ----------------------------------------------------------------------------

constexpr int kOutputs = 4;       // of a warp: as many weight loads in flight
constexpr int kForwardRows = 16;  // of a block

/// One step of a butterfly over the lanes of a warp that halves the sums a lane still holds: it
/// gives away one half and adds its partner's share to the other. After the last step lane l holds
/// the totals of N/32 neighbouring sums, from l * N/32 on, in v[0], v[1], ... N - N/32 shuffles
/// instead of 5 * N.
template <int N, int Distance, int Size>
GPU_DEV void add_over_lanes(float (&v)[Size], int lane) {
  const bool upper = lane & Distance;
#pragma unroll
  for (int i = 0; i < N / 2; ++i) {
    const float keep = upper ? v[i + N / 2] : v[i], give = upper ? v[i] : v[i + N / 2];
    v[i] = keep + __shfl_xor_sync(~0u, give, Distance);
  }
  if constexpr (Distance > 1) add_over_lanes<N / 2, Distance / 2>(v, lane);
}

/// A warp owns 4 outputs of 16 rows; lane l takes every 32nd pack of the reduction, so that a load
/// of weights is 512 consecutive bytes. The block's warps read the same packs of x, which come from
/// L1. supports(): rows of whole packs.
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    dense_forward_split_k_kernel(Index rows, Index in, Index out, Index length, Index chunks,
                                 const T* x, const T* w, SplitSums<T> sums) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const Index n0 = blockIdx.x % chunks * kForwardRows;
  const Index o0 = (blockIdx.x / chunks * kWarps + warp) * kOutputs;
  const Index begin = blockIdx.y * length, end = min(begin + length, in);
  float sum[kForwardRows * kOutputs] = {};
  for (Index k = begin + lane * kPack<T>; k < end; k += 32 * kPack<T>) {
    Pack<T> weights[kOutputs];
#pragma unroll
    for (int j = 0; j < kOutputs; ++j) {
      weights[j] = {};
      if (o0 + j < out) weights[j] = load_pack(w + (o0 + j) * in + k);
    }
#pragma unroll
    for (int n = 0; n < kForwardRows; ++n) {
      if (n0 + n >= rows) continue;
      const Pack<T> values = load_pack(x + (n0 + n) * in + k);
#pragma unroll
      for (int j = 0; j < kOutputs; ++j)
#pragma unroll
        for (int e = 0; e < kPack<T>; ++e) sum[n * kOutputs + j] += values.v[e] * weights[j].v[e];
    }
  }
  add_over_lanes<kForwardRows * kOutputs, 16>(sum, lane);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const Index n = n0 + (2 * lane + i) / kOutputs, o = o0 + (2 * lane + i) % kOutputs;
    if (n < rows && o < out) sums.put(n, o, blockIdx.y, sum[i]);
  }
}

// --- backward_data, split_k ----------------------------------------------------------------------

template <class T>
inline constexpr int kDataRows = 64 / kPack<T>;  // of a block: 64 sums a thread
template <class T>
inline constexpr int kPassRows = 16 / kPack<T>;  // of a pass over the sums: 16 floats a thread

template <class T>
struct DataShared {
  // [o][n], one tile a warp. A pitch of 4 mod 8 words puts the eight rows that a quarter-warp
  // stores as float4 on different banks.
  float dy[kWarps][32][kDataRows<T> + 4];
  float4 sum[kWarps][4][32];
};

/// A block owns 32 packs of columns of dx for 16 (fp32) or 8 (bf16) rows, each lane one pack; its
/// warps take turns at tiles of 32 outputs o. A warp's loads of weights are 512 consecutive bytes,
/// four in flight a thread; dy comes from shared memory, transposed, as broadcasts of four rows.
/// Then the warps' sums are added in order, some rows a pass. supports(): rows of whole packs.
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    dense_backward_data_split_k_kernel(Index rows, Index in, Index out, Index length, Index chunks,
                                       const T* dy, const T* w, SplitSums<T> sums) {
  constexpr int kRows = kDataRows<T>, kUnroll = 4;
  auto& s = gpu::smem<DataShared<T>>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const Index n0 = blockIdx.x % chunks * kRows;
  const Index i0 = blockIdx.x / chunks * (32 * kPack<T>), column = i0 + lane * kPack<T>;
  const Index begin = blockIdx.y * length, end = min(begin + length, out);
  float sum[kRows][kPack<T>] = {};
  const int rows_here = static_cast<int>(min(Index{kRows}, rows - n0));
  for (Index o0 = begin + warp * 32; o0 < end; o0 += kWarps * 32) {
    const int outputs = static_cast<int>(min(Index{32}, end - o0));
    __syncwarp();  // the tile before has been read
#pragma unroll 1
    for (int n = 0; n < kRows; n += 4) {
      const T* gradient = dy + (n0 + n) * out + o0 + lane;
      const auto value = [&](int i) {
        const bool there = n + i < rows_here && lane < outputs;
        return there ? gpu::to_float(gradient[i * out]) : 0.0f;
      };
      *reinterpret_cast<float4*>(&s.dy[warp][lane][n]) =
          make_float4(value(0), value(1), value(2), value(3));
    }
    __syncwarp();  // the tile is complete
    const T* source = w + o0 * in + column;
#pragma unroll 1
    for (int o = 0; o < outputs; o += kUnroll, source += kUnroll * in) {
      Pack<T> weights[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        weights[u] = {};
        if (o + u < outputs && column < in) weights[u] = load_pack(source + u * in);
      }
#pragma unroll
      for (int u = 0; u < kUnroll; ++u)
#pragma unroll
        for (int n = 0; n < kRows; n += 4) {
          const float4 d = *reinterpret_cast<const float4*>(&s.dy[warp][o + u][n]);
#pragma unroll
          for (int e = 0; e < kPack<T>; ++e) {
            sum[n][e] += d.x * weights[u].v[e];
            sum[n + 1][e] += d.y * weights[u].v[e];
            sum[n + 2][e] += d.z * weights[u].v[e];
            sum[n + 3][e] += d.w * weights[u].v[e];
          }
        }
    }
  }
  constexpr int kQuads = kPack<T> / 4;  // of a lane's pack
#pragma unroll
  for (int pass = 0; pass < kRows; pass += kPassRows<T>) {
    __syncthreads();  // the pass before has been read
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* v = &sum[pass + i / kQuads][i % kQuads * 4];
      s.sum[warp][i][lane] = make_float4(v[0], v[1], v[2], v[3]);
    }
    __syncthreads();  // all warps' sums are there
    if (warp >= 4) continue;
    float4 total = s.sum[0][warp][lane];
#pragma unroll
    for (int other = 1; other < kWarps; ++other) {
      const float4 more = s.sum[other][warp][lane];
      total.x += more.x, total.y += more.y, total.z += more.z, total.w += more.w;
    }
    const Index n = n0 + pass + warp / kQuads, i = column + warp % kQuads * 4;
    if (n >= rows || i >= in) continue;
    sums.put(n, i, blockIdx.y, total.x);
    sums.put(n, i + 1, blockIdx.y, total.y);
    sums.put(n, i + 2, blockIdx.y, total.z);
    sums.put(n, i + 3, blockIdx.y, total.w);
  }
}

// --- backward_filter, tiled_shared ---------------------------------------------------------------

constexpr int kTileRows = 32, kTileOutputs = 64, kTileColumns = 128;
constexpr int kThreadOutputs = kTileOutputs / kWarps;

struct FilterShared {
  float dy[kTileRows][kTileOutputs];
};

/// A block owns 64 outputs x 128 columns of dw, a warp 8 outputs x 128 columns, a lane 4
/// neighbouring columns of them: stores of 16 bytes, 512 a warp. dy passes through shared memory in
/// tiles of 32 rows and is read as broadcasts; the warps' loads of x are the same and come from L1.
/// The blocks of the first columns add up db on the way. supports(): in is a multiple of 4.
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    dense_backward_filter_tiled_shared_kernel(Index rows, Index in, Index out, Index column_tiles,
                                              const T* x, const T* dy, float* dw, float* db) {
  auto& s = gpu::smem<FilterShared>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, thread = threadIdx.x;
  const Index i0 = blockIdx.x % column_tiles * kTileColumns, column = i0 + lane * 4;
  const Index o0 = blockIdx.x / column_tiles * kTileOutputs;
  const bool owns_bias = db && i0 == 0 && thread < kTileOutputs && o0 + thread < out;
  float sum[kThreadOutputs][4] = {};
  float bias = 0.0f;
  for (Index n0 = 0; n0 < rows; n0 += kTileRows) {
    const int count = static_cast<int>(min(Index{kTileRows}, rows - n0));
    __syncthreads();  // the tile before has been read
    for (int i = thread; i < kTileRows * kTileOutputs; i += kThreads) {
      const int n = i / kTileOutputs, o = i % kTileOutputs;
      const bool there = n < count && o0 + o < out;
      s.dy[n][o] = there ? gpu::to_float(dy[(n0 + n) * out + o0 + o]) : 0.0f;
    }
    __syncthreads();  // the tile is complete
    if (owns_bias)
      for (int n = 0; n < count; ++n) bias += s.dy[n][thread];
    if (column >= in) continue;
#pragma unroll 4
    for (int n = 0; n < count; ++n) {
      const float4 v = load_quad(x + (n0 + n) * in + column);
#pragma unroll
      for (int o = 0; o < kThreadOutputs; o += 4) {
        const float4 d = *reinterpret_cast<const float4*>(&s.dy[n][warp * kThreadOutputs + o]);
        const float four[4] = {d.x, d.y, d.z, d.w};
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          sum[o + j][0] += four[j] * v.x;
          sum[o + j][1] += four[j] * v.y;
          sum[o + j][2] += four[j] * v.z;
          sum[o + j][3] += four[j] * v.w;
        }
      }
    }
  }
  if (owns_bias) db[o0 + thread] = bias;
#pragma unroll
  for (int j = 0; j < kThreadOutputs; ++j) {
    const Index o = o0 + warp * kThreadOutputs + j;
    if (o >= out || column >= in) continue;
    *reinterpret_cast<float4*>(dw + o * in + column) =
        make_float4(sum[j][0], sum[j][1], sum[j][2], sum[j][3]);
  }
}

// --- host ----------------------------------------------------------------------------------------

template <class T>
bool whole_packs(const DenseProblem& p, const DeviceInfo&) {
  return p.in % kPack<T> == 0;
}
bool takes_mma(const DenseProblem& p, const DeviceInfo& device) {
  return p.in % 8 == 0 && device.compute_major >= 8;
}
bool whole_quads(const DenseProblem& p, const DeviceInfo&) { return p.in % 4 == 0; }

template <class T>
void forward_direct(Context& ctx, const DenseProblem& p, const T* x, Filter<T> w, const float* bias,
                    T* y) {
  gpu::launch(dense_forward_direct_kernel<T>,
              {.grid = gpu::grid_for(p.n * p.out, kWarps), .block = kThreads, .stream = ctx.stream},
              p.n * p.out, p.in, p.out, x, w.data, bias, y);
}

template <class T>
void forward_split_k(Context& ctx, const DenseProblem& p, const T* x, Filter<T> w,
                     const float* bias, T* y) {
  if (!packable(x, w.data)) return forward_direct<T>(ctx, p, x, w, bias, y);
  const Index chunks = gpu::cdiv(p.n, kForwardRows);
  const Index tiles = chunks * gpu::cdiv(p.out, kWarps * kOutputs);
  const Split split = split_reduction(ctx, p.in, 32 * kPack<T>, tiles);
  with_split_sums(ctx, split, p.n, p.out, bias, y, [&](const SplitSums<T>& sums) {
    gpu::launch(dense_forward_split_k_kernel<T>,
                {.grid = split_grid(tiles, split), .block = kThreads, .stream = ctx.stream}, p.n,
                p.in, p.out, split.length, chunks, x, w.data, sums);
  });
}

template <class T>
void backward_data_direct(Context& ctx, const DenseProblem& p, const T* dy, Filter<T> w, T* dx) {
  gpu::launch(
      dense_backward_data_direct_kernel<T>,
      {.grid = gpu::grid_for(p.n * p.in, kThreads), .block = kThreads, .stream = ctx.stream},
      p.n * p.in, p.in, p.out, dy, w.data, dx);
}

template <class T>
void backward_data_split_k(Context& ctx, const DenseProblem& p, const T* dy, Filter<T> w, T* dx) {
  if (!packable(w.data)) return backward_data_direct<T>(ctx, p, dy, w, dx);
  const Index chunks = gpu::cdiv(p.n, kDataRows<T>);
  const Index tiles = chunks * gpu::cdiv(p.in, 32 * kPack<T>);
  const Split split = split_reduction(ctx, p.out, 32 * kWarps, tiles);
  const float* no_bias = nullptr;
  with_split_sums(ctx, split, p.n, p.in, no_bias, dx, [&](const SplitSums<T>& sums) {
    gpu::launch(dense_backward_data_split_k_kernel<T>,
                {.grid = split_grid(tiles, split),
                 .block = kThreads,
                 .smem = sizeof(DataShared<T>),
                 .stream = ctx.stream},
                p.n, p.in, p.out, split.length, chunks, dy, w.data, sums);
  });
}

template <class T>
void backward_filter_direct(Context& ctx, const DenseProblem& p, const T* x, const T* dy, float* dw,
                            float* db) {
  gpu::launch(
      dense_backward_filter_direct_kernel<T>,
      {.grid = gpu::grid_for(p.in * p.out, kThreads), .block = kThreads, .stream = ctx.stream}, p.n,
      p.in, p.out, x, dy, dw, db);
}

template <class T>
void backward_filter_tiled(Context& ctx, const DenseProblem& p, const T* x, const T* dy, float* dw,
                           float* db) {
  if (!packable(x, dw)) return backward_filter_direct<T>(ctx, p, x, dy, dw, db);
  const Index column_tiles = gpu::cdiv(p.in, kTileColumns);
  gpu::launch(dense_backward_filter_tiled_shared_kernel<T>,
              {.grid = gpu::grid_for(column_tiles * gpu::cdiv(p.out, kTileOutputs), 1),
               .block = kThreads,
               .smem = sizeof(FilterShared),
               .stream = ctx.stream},
              p.n, p.in, p.out, column_tiles, x, dy, dw, db);
}

}  // namespace

template <class T>
void dense_forward_variants(DenseForward<T>& op) {
  if constexpr (std::is_same_v<T, bf16>)
    op.append({"split_k_mma", takes_mma,
               [](Context& ctx, const DenseProblem& p, const bf16* x, Filter<bf16> w,
                  const float* bias, bf16* y) {
                 if (packable(x, w.data)) return dense_forward_mma(ctx, p, x, w.data, bias, y);
                 forward_direct<bf16>(ctx, p, x, w, bias, y);
               }});
  op.append({"split_k", whole_packs<T>, forward_split_k<T>});
  op.append({"direct", nullptr, forward_direct<T>});
}
template void dense_forward_variants(DenseForward<float>&);
template void dense_forward_variants(DenseForward<bf16>&);

template <class T>
void dense_backward_data_variants(DenseBackwardData<T>& op) {
  if constexpr (std::is_same_v<T, bf16>)
    op.append({"split_k_mma", takes_mma,
               [](Context& ctx, const DenseProblem& p, const bf16* dy, Filter<bf16> w, bf16* dx) {
                 if (packable(w.data, dx)) return dense_backward_data_mma(ctx, p, dy, w.data, dx);
                 backward_data_split_k<bf16>(ctx, p, dy, w, dx);
               }});
  op.append({"split_k", whole_packs<T>, backward_data_split_k<T>});
  op.append({"direct", nullptr, backward_data_direct<T>});
}
template void dense_backward_data_variants(DenseBackwardData<float>&);
template void dense_backward_data_variants(DenseBackwardData<bf16>&);

template <class T>
void dense_backward_filter_variants(DenseBackwardFilter<T>& op) {
  if constexpr (std::is_same_v<T, bf16>)
    op.append({"tiled_mma", takes_mma,
               [](Context& ctx, const DenseProblem& p, const bf16* x, const bf16* dy, float* dw,
                  float* db) {
                 if (packable(x, dw)) return dense_backward_filter_mma(ctx, p, x, dy, dw, db);
                 backward_filter_direct<bf16>(ctx, p, x, dy, dw, db);
               }});
  op.append({"tiled_shared", whole_quads, backward_filter_tiled<T>});
  op.append({"direct", nullptr, backward_filter_direct<T>});
}
template void dense_backward_filter_variants(DenseBackwardFilter<float>&);
template void dense_backward_filter_variants(DenseBackwardFilter<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
