// Batch normalisation of x [rows, c] over the rows, for each channel:
//
//   m = sum x / rows        v = sum (x - m)^2 / rows        s = 1 / sqrt(v + eps)
//   y = gamma (x - m) s + beta                              xhat = (x - m) s
//
// Backward. dbeta = sum dy and dgamma = sum dy xhat. x reaches y directly and through m and s:
//   dL/dxhat_i = gamma dy_i;   xhat has mean 0 and mean square 1 (eps aside) whatever x does, so of
//   the gradient the parts along 1 and along xhat are taken away:
//   dx = gamma s (dy - dbeta / rows - xhat dgamma / rows)
// Inference takes m and v from the running statistics.
//
// About 8 FLOP an element; bound by memory. All sums must be complete before the first y, so x is
// read twice unless a multiprocessor can keep it: 3 tensors moved forward (2 when kept), 5 backward
// (3 when kept). Second reads of tensors up to some 30 MB come from L2 on Hopper.
//
// The variance never is E[x^2] - m^2, which for data around 20 loses half of its digits. Partial
// results are pairs (mean, sum of squares around it) over n rows, and many of them merge as
//   m = sum n_i m_i / sum n_i        M = sum (M_i + n_i (m_i - m)^2)
// mean first, then the squares (Chan, Golub and LeVeque's formula for any number of parts); all of
// its terms are positive, and nothing cancels.
//
// Variants, preferred first:
//   resident  one launch: a block, or a cluster of up to eight, keeps its channels in registers
//             between sums and result. Up to 12288 rows (Hopper), 1536 elsewhere.
//   packs     three launches: partial results of slabs, their merge, the map; 16 bytes an access.
//   direct    the same with one element an access, any sizes and alignments.

#include "kernels/cuda/batchnorm.cuh"

#include "kernels/cuda/channel_map.cuh"
#include "kernels/cuda/channel_sums.cuh"
#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

// --- statistics ----------------------------------------------------------------------------------

template <int V>
using SlabSums = BlockSums<kChannelThreads, Slab<V>::kLanes, V>;
template <int V>
struct StatisticsShared {
  SlabSums<V> sums, squares;
};

/// partial [row_blocks][2][c] = mean and squares of each slab's channels. A thread takes the rows
/// of one step of loads as a batch: their mean, their squares, and a merge with what it had, which
/// costs one division for all V channels. Then the threads of a block merge.
template <int V, class T>
__global__ void __launch_bounds__(kChannelThreads)
    batchnorm_statistics_kernel(ChannelGrid g, const T* x, float* partial) {
  auto& s = gpu::smem<StatisticsShared<V>>();
  const SlabPosition<V> own(g);
  float count = 0.0f, mean[V] = {}, squares[V] = {};
  for_rows<V, 1>(g, own, x, x, [&](Index, auto& in, auto&, int n) {
    const float rows = static_cast<float>(n), inverse = 1.0f / rows;
    const float weight = rows / (count + rows);
#pragma unroll
    for (int e = 0; e < V; ++e) {
      float batch_mean = 0.0f, batch_squares = 0.0f;
#pragma unroll
      for (int u = 0; u < kSteps<1>; ++u)
        if (u < n) batch_mean += in[u].v[e];
      batch_mean *= inverse;
#pragma unroll
      for (int u = 0; u < kSteps<1>; ++u) {
        const float centred = in[u].v[e] - batch_mean;
        if (u < n) batch_squares += centred * centred;
      }
      const float away = batch_mean - mean[e];
      mean[e] += away * weight;
      squares[e] += batch_squares + away * away * count * weight;
    }
    count += rows;
  });

  float v[V];
#pragma unroll
  for (int e = 0; e < V; ++e) v[e] = count * mean[e];
  block_sums(v, s.sums);
  const int i = static_cast<int>(threadIdx.x), lane = i % Slab<V>::kLanes;
  const Index first = own.row_block * g.rows_each;
  const float block_rows = static_cast<float>(min(g.rows - first, g.rows_each));
#pragma unroll
  for (int e = 0; e < V; ++e) {
    const float away = mean[e] - s.sums.total[e][lane] / block_rows;
    v[e] = squares[e] + count * away * away;
  }
  block_sums(v, s.squares);

  const Index channel = own.channel - Index{lane} * V + i;  // thread i writes channel i of the slab
  if (i >= Slab<V>::kChannels || channel >= g.c) return;
  partial[own.row_block * 2 * g.c + channel] = s.sums.total[i % V][i / V] / block_rows;
  partial[(own.row_block * 2 + 1) * g.c + channel] = s.squares.total[i % V][i / V];
}

using MergeSums = BlockSums<kChannelThreads, kMergeChannels, 1>;
struct MergeShared {
  MergeSums sums, squares;
};

/// Merges the slabs of a channel and stores its statistics. A block owns 8 channels, thread i takes
/// channel i % 8 and every 32nd slab, twice: the second time the partial results come from L1.
__global__ void __launch_bounds__(kChannelThreads)
    batchnorm_merge_kernel(ChannelGrid g, const float* partial, NormStatistics statistics) {
  auto& s = gpu::smem<MergeShared>();
  constexpr int kParts = kChannelThreads / kMergeChannels;
  const int i = static_cast<int>(threadIdx.x), lane = i % kMergeChannels;
  const Index channel = Index{blockIdx.x} * kMergeChannels + lane;
  const Index parts = channel < g.c ? g.row_blocks : 0;
  const auto rows_of = [&](Index part) {
    return static_cast<float>(min(g.rows - part * g.rows_each, g.rows_each));
  };
  float v[1] = {};
#pragma unroll 4  // loads that do not wait for each other
  for (Index part = i / kMergeChannels; part < parts; part += kParts)
    v[0] += rows_of(part) * partial[part * 2 * g.c + channel];
  block_sums(v, s.sums);
  const float mean = s.sums.total[0][lane] / static_cast<float>(g.rows);
  v[0] = 0.0f;
#pragma unroll 4
  for (Index part = i / kMergeChannels; part < parts; part += kParts) {
    const float away = partial[part * 2 * g.c + channel] - mean;
    v[0] += partial[(part * 2 + 1) * g.c + channel] + rows_of(part) * away * away;
  }
  block_sums(v, s.squares);
  if (i < kMergeChannels && channel < g.c)
    statistics.store(channel, mean, s.squares.total[0][lane], g.rows);
}

// --- maps and sums -------------------------------------------------------------------------------

struct NormalizeValue {
  static constexpr int kInputs = 1;
  using Channel = Normalization;
  GPU_DEV static float apply(const Channel& k, float x, float) { return k(x); }
};
struct BatchNormalize : NormalizeValue {
  const float *mean, *inv_std, *gamma, *beta;
  GPU_DEV Channel channel(Index c) const { return {mean[c], gamma[c] * inv_std[c], beta[c]}; }
};
struct RunningNormalize : NormalizeValue {
  const float *mean, *var, *gamma, *beta;
  float eps;
  GPU_DEV Channel channel(Index c) const {
    return {mean[c], gamma[c] / sqrtf(var[c] + eps), beta[c]};
  }
};

struct BackwardSums {
  static constexpr int kInputs = 2, kTerms = 2;
  static constexpr bool kWrites = false;
  const float *mean, *inv_std;
  struct Channel {
    float mean, inv_std;
  };
  GPU_DEV Channel channel(Index c) const { return {mean[c], inv_std[c]}; }
  GPU_DEV static float apply(const Channel& k, float x, float dy, float (&sum)[2]) {
    sum[0] += dy * ((x - k.mean) * k.inv_std);
    sum[1] += dy;
    return 0.0f;
  }
};

template <int V, class T>
void forward_slabs(Context& ctx, const NormProblem& p, const T* x, const float* gamma,
                   const float* beta, T* y, NormStatistics statistics) {
  const ChannelGrid g = channel_grid<V>(p.rows, p.c);
  Workspace ws(ctx);
  float* partial = ws.take<float>(static_cast<std::size_t>(g.row_blocks * 2 * p.c));
  gpu::launch(batchnorm_statistics_kernel<V, T>,
              {.grid = gpu::grid_for(g.blocks(), 1),
               .block = kChannelThreads,
               .smem = sizeof(StatisticsShared<V>),
               .stream = ctx.stream},
              g, x, partial);
  gpu::launch(batchnorm_merge_kernel,
              {.grid = gpu::grid_for(p.c, kMergeChannels),
               .block = kChannelThreads,
               .smem = sizeof(MergeShared),
               .stream = ctx.stream},
              g, static_cast<const float*>(partial), statistics);
  run_channel_map<V>(ctx, p.rows, p.c,
                     BatchNormalize{{}, statistics.mean, statistics.inv_std, gamma, beta}, x,
                     static_cast<const T*>(nullptr), y);
}

template <int V, class T>
void backward_slabs(Context& ctx, const NormProblem& p, const T* x, const T* dy, const float* gamma,
                    const float* mean, const float* inv_std, T* dx, float* dgamma, float* dbeta) {
  run_channel_sums<V, false>(ctx, p.rows, p.c, BackwardSums{mean, inv_std}, x, dy,
                             static_cast<T*>(nullptr), {{dgamma, dbeta}});
  run_channel_map<V>(ctx, p.rows, p.c,
                     NormBackwardMap{mean, inv_std, gamma, dgamma, dbeta, inverse_rows(p)}, x, dy,
                     dx);
}

template <int V, class T>
void inference(Context& ctx, const NormProblem& p, const T* x, const float* gamma,
               const float* beta, const float* mean, const float* var, T* y) {
  run_channel_map<V>(ctx, p.rows, p.c, RunningNormalize{{}, mean, var, gamma, beta, p.eps}, x,
                     static_cast<const T*>(nullptr), y);
}

// --- variants ------------------------------------------------------------------------------------

template <class T>
bool whole_packs(const NormProblem& p, const DeviceInfo&) {
  return rows_of_packs<T>(p.c);
}
template <class T>
bool resident(const NormProblem& p, const DeviceInfo& device) {
  return batchnorm_resident_supports(p, device, kPack<T>);
}

}  // namespace

template <class T>
void batchnorm_forward_variants(BatchNormForward<T>& op) {
  op.append(
      {"resident", resident<T>,
       [](Context& ctx, const NormProblem& p, const T* x, const float* gamma, const float* beta,
          T* y, float* mean, float* inv_std, float* running_mean, float* running_var) {
         const auto out = NormStatistics::of(p, mean, inv_std, running_mean, running_var);
         if (packable(x, y)) return batchnorm_forward_resident(ctx, p, x, gamma, beta, y, out);
         forward_slabs<1>(ctx, p, x, gamma, beta, y, out);
       }});
  op.append(
      {"packs", whole_packs<T>,
       [](Context& ctx, const NormProblem& p, const T* x, const float* gamma, const float* beta,
          T* y, float* mean, float* inv_std, float* running_mean, float* running_var) {
         const auto out = NormStatistics::of(p, mean, inv_std, running_mean, running_var);
         if (packable(x, y)) return forward_slabs<kPack<T>>(ctx, p, x, gamma, beta, y, out);
         forward_slabs<1>(ctx, p, x, gamma, beta, y, out);
       }});
  op.append(
      {"direct", nullptr,
       [](Context& ctx, const NormProblem& p, const T* x, const float* gamma, const float* beta,
          T* y, float* mean, float* inv_std, float* running_mean, float* running_var) {
         forward_slabs<1>(ctx, p, x, gamma, beta, y,
                          NormStatistics::of(p, mean, inv_std, running_mean, running_var));
       }});
}
template void batchnorm_forward_variants(BatchNormForward<float>&);
template void batchnorm_forward_variants(BatchNormForward<bf16>&);

template <class T>
void batchnorm_backward_variants(BatchNormBackward<T>& op) {
  op.append({"resident", resident<T>,
             [](Context& ctx, const NormProblem& p, const T* x, const T* dy, const float* gamma,
                const float* mean, const float* inv_std, T* dx, float* dgamma, float* dbeta) {
               const auto run =
                   packable(x, dy, dx) ? batchnorm_backward_resident<T> : backward_slabs<1, T>;
               run(ctx, p, x, dy, gamma, mean, inv_std, dx, dgamma, dbeta);
             }});
  op.append({"packs", whole_packs<T>,
             [](Context& ctx, const NormProblem& p, const T* x, const T* dy, const float* gamma,
                const float* mean, const float* inv_std, T* dx, float* dgamma, float* dbeta) {
               const auto run =
                   packable(x, dy, dx) ? backward_slabs<kPack<T>, T> : backward_slabs<1, T>;
               run(ctx, p, x, dy, gamma, mean, inv_std, dx, dgamma, dbeta);
             }});
  op.append({"direct", nullptr, backward_slabs<1, T>});
}
template void batchnorm_backward_variants(BatchNormBackward<float>&);
template void batchnorm_backward_variants(BatchNormBackward<bf16>&);

template <class T>
void batchnorm_inference_variants(BatchNormInference<T>& op) {
  op.append({"packs", whole_packs<T>,
             [](Context& ctx, const NormProblem& p, const T* x, const float* gamma,
                const float* beta, const float* mean, const float* var, T* y) {
               const auto run = packable(x, y) ? inference<kPack<T>, T> : inference<1, T>;
               run(ctx, p, x, gamma, beta, mean, var, y);
             }});
  op.append({"direct", nullptr, inference<1, T>});
}
template void batchnorm_inference_variants(BatchNormInference<float>&);
template void batchnorm_inference_variants(BatchNormInference<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
