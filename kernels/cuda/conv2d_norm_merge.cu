// The last step of the convolutions with batch norm around them: sums and statistics of the
// tiles, [tiles][terms][channels], become those of the channels. conv2d_norm.cuh says how they were
// made, batchnorm.cu how statistics merge.
//
// A block owns 8 channels: thread i takes channel i % 8 and every 32nd tile, then the threads merge
// by block_sums(), all in a fixed order. Trunk layer: 128 tiles of 64 channels, 64 KiB from L2: a
// launch and two dependent rounds of loads.

#include "kernels/cuda/conv2d_norm.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kParts = kChannelThreads / kMergeChannels;  // tiles at a time

using StatisticsSums = BlockSums<kChannelThreads, kMergeChannels, 1>;
struct StatisticsShared {
  StatisticsSums sums, squares;
};

__global__ void __launch_bounds__(kChannelThreads)
    conv2d_norm_merge_kernel(Index tiles, Index k, Index rows, TileStatistics partial,
                             NormStatistics statistics, NormOutput out) {
  auto& s = gpu::smem<StatisticsShared>();
  const int i = static_cast<int>(threadIdx.x), lane = i % kMergeChannels;
  const Index channel = Index{blockIdx.x} * kMergeChannels + lane;
  const Index end = channel < k ? tiles : 0;
  float v[1] = {};
#pragma unroll 4  // loads that do not wait for each other
  for (Index tile = i / kMergeChannels; tile < end; tile += kParts)
    v[0] += partial.rows[tile] * partial.sums[tile * 2 * k + channel];
  block_sums(v, s.sums);
  const float mean = s.sums.total[0][lane] / static_cast<float>(rows);
  v[0] = 0.0f;
#pragma unroll 4
  for (Index tile = i / kMergeChannels; tile < end; tile += kParts) {
    const float away = partial.sums[tile * 2 * k + channel] - mean;
    v[0] += partial.sums[(tile * 2 + 1) * k + channel] + partial.rows[tile] * away * away;
  }
  block_sums(v, s.squares);
  if (i >= kMergeChannels || channel >= k) return;
  const float squares = s.squares.total[0][lane];
  statistics.store(channel, mean, squares, rows);
  const float scale = out.gamma[channel] * statistics.inverse_deviation(squares, rows);
  out.scale[channel] = scale;
  out.shift[channel] = out.beta[channel] - mean * scale;
}

struct GradientShared {
  BlockSums<kChannelThreads, kMergeChannels, 3> channels;
  BlockSums<kChannelThreads, 1, 1> slope;
};

/// The blocks of channels, and behind them one for a shared slope: it adds the first channel of
/// each group of tile_channels.
__global__ void __launch_bounds__(kChannelThreads)
    conv2d_norm_backward_merge_kernel(Index tiles, Index c, int tile_channels, bool shared,
                                      const float* partial, NormGradients out) {
  auto& s = gpu::smem<GradientShared>();
  const int i = static_cast<int>(threadIdx.x);
  if (shared && blockIdx.x == gridDim.x - 1) {
    const Index groups = gpu::cdiv(c, Index{tile_channels});
    float v[1] = {};
#pragma unroll 4
    for (Index at = i; at < tiles * groups; at += kChannelThreads)
      v[0] += partial[(at / groups * 3 + 2) * c + at % groups * tile_channels];
    block_sums(v, s.slope);
    if (i == 0) *out.dslope = s.slope.total[0][0];
    return;
  }
  const Index channel = Index{blockIdx.x} * kMergeChannels + i % kMergeChannels;
  const bool slopes = out.dslope && !shared;
  float sum[3] = {};
  if (channel < c)
#pragma unroll 4
    for (Index tile = i / kMergeChannels; tile < tiles; tile += kParts) {
      const float* from = partial + tile * 3 * c + channel;
      sum[0] += from[0];
      sum[1] += from[c];
      if (slopes) sum[2] += from[2 * c];
    }
  block_sums(sum, s.channels);
  if (i >= kMergeChannels || channel >= c) return;
  out.dgamma[channel] = s.channels.total[0][i];
  out.dbeta[channel] = s.channels.total[1][i];
  if (slopes) out.dslope[channel] = s.channels.total[2][i];
}

}  // namespace

void merge_statistics(Context& ctx, const Conv2dNormProblem& d, Index tiles,
                      const TileStatistics& partial, const NormOutput& out) {
  const NormProblem norm{d.conv.n * d.conv.p() * d.conv.q(), d.conv.k, d.eps, d.momentum};
  gpu::launch(conv2d_norm_merge_kernel,
              {.grid = gpu::grid_for(norm.c, kMergeChannels),
               .block = kChannelThreads,
               .smem = sizeof(StatisticsShared),
               .stream = ctx.stream},
              tiles, norm.c, norm.rows, partial,
              NormStatistics::of(norm, out.mean, out.inv_std, out.running_mean, out.running_var),
              out);
}

void merge_norm_gradient(Context& ctx, const Conv2dNormBackwardProblem& d, Index tiles,
                         int tile_channels, const float* partial, const NormGradients& out) {
  if (d.form == InputForm::Plain) return;
  const bool shared = d.form == InputForm::NormPReluShared;
  NormGradients to = out;
  if (!shared && d.form != InputForm::NormPRelu) to.dslope = nullptr;
  gpu::launch(conv2d_norm_backward_merge_kernel,
              {.grid = gpu::grid_for(gpu::cdiv(d.conv.c, Index{kMergeChannels}) + shared, 1),
               .block = kChannelThreads,
               .smem = sizeof(GradientShared),
               .stream = ctx.stream},
              tiles, d.conv.c, tile_channels, shared, partial, to);
}

}  // namespace subpix::kernels::KERNEL_TARGET
