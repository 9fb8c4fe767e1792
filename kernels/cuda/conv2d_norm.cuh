#pragma once

// The ends of convolutions with batch norm around them, shared by the kernels on halo tiles and on
// the implicit GEMM. A block has its tile of the result in shared memory, as bf16; threads
// side by side take the packs of a pixel, so that a thread keeps to eight channels:
//
//   forward    stores the pixels of y and adds up their statistics. "Of y as it is stored": the
//              rounded values. The mean of the tile first, then the squares around it: never
//              E[x^2] - E[x]^2 (batchnorm.cu has the formula by which tiles merge).
//   backward   v = sum (+ skip);  b = scale x + shift;  dx = v (b > 0 ? 1 : slope), and the sums
//              dbeta = sum dx, dgamma = sum dx (x - mean) / deviation, dslope = sum of b v, b <= 0.
//              The sum is rounded before skip is added, as the plain op's would be.
//
// Sums go to memory once a tile; one small kernel merges the tiles in a fixed order. Which thread
// adds what follows from the sizes and the tile, no atomics.

#include "kernels/cuda/batchnorm.cuh"
#include "kernels/cuda/channel_sums.cuh"
#include "kernels/cuda/norm_form.cuh"

namespace subpix::kernels::KERNEL_TARGET {

/// A finished tile of Rows pixels by Packs * 8 channels. Place::at(row, pack): byte offset.
template <int Threads, int Rows, int Packs, class Place>
struct NormTile {
  static constexpr int kThreads = Threads, kPacks = Packs;
  static constexpr int kRowStep = Threads / Packs;
  static constexpr int kEach = Rows / kRowStep;  // pixels of a thread
  static_assert(Threads % Packs == 0 && Rows % kRowStep == 0);

  const unsigned char* data;
  const int* target;  // pixel of each row, counted from `first`; negative for none
  Index first;
  int k0, channels;  // first channel of the tile, channels of the tensor (a multiple of 8)

  GPU_DEV static int pack() { return static_cast<int>(threadIdx.x) % Packs; }
  GPU_DEV static int row(int i) { return static_cast<int>(threadIdx.x) / Packs + i * kRowStep; }
  GPU_DEV int channel() const { return k0 + pack() * 8; }
  GPU_DEV bool exists(int i) const { return target[row(i)] >= 0 && channel() < channels; }
  /// Of the thread's i-th pixel, which exists: where its pack lies in memory and here.
  GPU_DEV Index offset(int i) const { return (first + target[row(i)]) * channels + channel(); }
  GPU_DEV const bf16* staged(int i) const {
    return reinterpret_cast<const bf16*>(data + Place::at(row(i), pack()));
  }
};

// --- forward -------------------------------------------------------------------------------------

/// Partial statistics: of tile t the pixels rows[t] and, in sums [tiles][2][K], means and squares
/// around them.
struct TileStatistics {
  float *sums, *rows;

  static TileStatistics take(Workspace& ws, Index tiles, Index k) {
    return {ws.take<float>(static_cast<std::size_t>(tiles * 2 * k)),
            ws.take<float>(static_cast<std::size_t>(tiles))};
  }
};

template <class Tile>
struct StatisticsScratch {
  BlockSums<Tile::kThreads, Tile::kPacks, 8> sums, squares;
};

/// Stores the tile, whose number is `part` and which has `pixels` pixels, at least one. All threads
/// of the block come here.
template <class Tile>
GPU_DEV void store_with_statistics(const Tile& tile, StatisticsScratch<Tile>& s, int part,
                                   int pixels, bf16* y, const TileStatistics& to) {
  const int thread = static_cast<int>(threadIdx.x);
  const float rows = static_cast<float>(pixels);
  float v[8] = {};
#pragma unroll
  for (int i = 0; i < Tile::kEach; ++i) {
    if (!tile.exists(i)) continue;
    const Pack<bf16> pack = load_pack(tile.staged(i));
    // [norm store]
    *reinterpret_cast<uint4*>(y + tile.offset(i)) = *reinterpret_cast<const uint4*>(tile.staged(i));
#pragma unroll
    for (int e = 0; e < 8; ++e) v[e] += pack.v[e];
  }
  block_sums(v, s.sums);
  float mean[8];
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    mean[e] = s.sums.total[e][tile.pack()] / rows;
    v[e] = 0.0f;
  }
#pragma unroll
  for (int i = 0; i < Tile::kEach; ++i) {
    if (!tile.exists(i)) continue;
    const Pack<bf16> pack = load_pack(tile.staged(i));
#pragma unroll
    for (int e = 0; e < 8; ++e) v[e] += (pack.v[e] - mean[e]) * (pack.v[e] - mean[e]);
  }
  block_sums(v, s.squares);

  if (tile.k0 == 0 && thread == 0) to.rows[part] = rows;
  // Thread i takes channel i of the tile, so that a warp writes consecutive addresses.
  if (thread >= Tile::kPacks * 8 || tile.k0 + thread >= tile.channels) return;
  float* sums = to.sums + Index{part} * 2 * tile.channels + tile.k0 + thread;
  sums[0] = s.sums.total[thread % 8][thread / 8] / rows;
  sums[tile.channels] = s.squares.total[thread % 8][thread / 8];
}

/// Merges the tiles and stores everything of NormOutput. rows: of y.
void merge_statistics(Context& ctx, const Conv2dNormProblem& d, Index tiles,
                      const TileStatistics& partial, const NormOutput& out);

// --- backward ------------------------------------------------------------------------------------

/// Partial sums of tile t: sums [tiles][3][c], dgamma, dbeta, dslope. Of a shared slope only the
/// first channel of each tile is written: the sum over the tile's channels.
struct NormBackward {
  const bf16 *skip, *x;  // null: none, Plain
  NormForm form;
  const float *mean, *inv_std;
  float* sums;
};

template <class Tile>
struct NormBackwardScratch {
  BlockSums<Tile::kThreads, Tile::kPacks, 24> sums;
};

/// Turns the tile into dx and stores it. All threads of the block come here.
template <class Tile>
GPU_DEV void store_norm_gradient(const Tile& tile, NormBackwardScratch<Tile>& s, int part, bf16* dx,
                                 const NormBackward& d) {
  // Pixels whose x and skip are on their way together: all of a thread, or half of many.
  constexpr int kAhead = Tile::kEach <= 5 ? Tile::kEach : (Tile::kEach + 1) / 2;
  const bool normed = d.x != nullptr;
  NormForm::Channels k{};
  float mean[8] = {}, sum[24] = {};
  if (normed && tile.channel() < tile.channels) {
    k = d.form.channels(tile.channel());
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Pack<float> m = load_pack(d.mean + tile.channel() + half * 4);
#pragma unroll
      for (int e = 0; e < 4; ++e) mean[half * 4 + e] = m.v[e];
    }
  }
#pragma unroll 1
  for (int i0 = 0; i0 < Tile::kEach; i0 += kAhead) {
    uint4 xs[kAhead] = {}, skips[kAhead] = {};
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      const int i = i0 + u;
      if (i >= Tile::kEach || !tile.exists(i)) continue;
      if (d.skip) skips[u] = *reinterpret_cast<const uint4*>(d.skip + tile.offset(i));
      // [norm load x]
      if (normed) xs[u] = *reinterpret_cast<const uint4*>(d.x + tile.offset(i));
    }
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      const int i = i0 + u;
      if (i >= Tile::kEach || !tile.exists(i)) continue;
      const Pack<bf16> staged = load_pack(tile.staged(i));
      const std::uint32_t x4[4] = {xs[u].x, xs[u].y, xs[u].z, xs[u].w};
      const std::uint32_t skip4[4] = {skips[u].x, skips[u].y, skips[u].z, skips[u].w};
      std::uint32_t out[4];
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {
        const float2 skip = gpu::unpack_bf16(skip4[pair]), x = gpu::unpack_bf16(x4[pair]);
        float v[2] = {staged.v[pair * 2] + skip.x, staged.v[pair * 2 + 1] + skip.y};
        if (!normed) {
          out[pair] = gpu::pack_bf16(v[0], v[1]);
          continue;
        }
        const float xv[2] = {x.x, x.y};
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int h = pair / 2, at = pair % 2 * 2 + e, c = pair * 2 + e;
          const float b = ScaleShift{k.scale[h].v[at], k.shift[h].v[at]}(xv[e]);
          if (!(b > 0.0f)) {
            sum[16 + c] += b * v[e];
            v[e] *= k.slope[h].v[at];
          }
        }
        out[pair] = gpu::pack_bf16(v[0], v[1]);
        const float2 stored = gpu::unpack_bf16(out[pair]);
        sum[pair * 2] += stored.x * (xv[0] - mean[pair * 2]);
        sum[pair * 2 + 1] += stored.y * (xv[1] - mean[pair * 2 + 1]);
        sum[8 + pair * 2] += stored.x;
        sum[8 + pair * 2 + 1] += stored.y;
      }
      // [norm store dx]
      *reinterpret_cast<uint4*>(dx + tile.offset(i)) = make_uint4(out[0], out[1], out[2], out[3]);
    }
  }
  if (!normed) return;  // the whole block

  block_sums(sum, s.sums);
  const int thread = static_cast<int>(threadIdx.x), c = tile.k0 + thread;
  float* to = d.sums + Index{part} * 3 * tile.channels + c;
  if (d.form.shared && thread < 32) {
    float slope = 0.0f;  // channels that do not exist have brought zeros
#pragma unroll
    for (int e = 0; e < 8; ++e)
      slope += thread < Tile::kPacks ? s.sums.total[16 + e][thread] : 0.0f;
#pragma unroll
    for (int step = 16; step > 0; step /= 2) slope += __shfl_down_sync(~0u, slope, step);
    if (thread == 0) to[2 * Index{tile.channels}] = slope;
  }
  if (thread >= Tile::kPacks * 8 || c >= tile.channels) return;
  to[0] = s.sums.total[thread % 8][thread / 8] * d.inv_std[c];
  to[tile.channels] = s.sums.total[8 + thread % 8][thread / 8];
  if (!d.form.shared) to[2 * Index{tile.channels}] = s.sums.total[16 + thread % 8][thread / 8];
}

/// Zeros as the sums of a tile without pixels.
template <class Tile>
GPU_DEV void store_no_gradient(int part, int k0, int channels, const NormBackward& d) {
  const int thread = static_cast<int>(threadIdx.x);
  if (!d.x || thread >= Tile::kPacks * 8 || k0 + thread >= channels) return;
#pragma unroll
  for (int term = 0; term < 3; ++term)
    d.sums[(Index{part} * 3 + term) * channels + k0 + thread] = 0.0f;
}

/// Merges the tiles' sums, where the form has a norm. tile_channels: of a tile.
void merge_norm_gradient(Context& ctx, const Conv2dNormBackwardProblem& d, Index tiles,
                         int tile_channels, const float* partial, const NormGradients& out);

}  // namespace subpix::kernels::KERNEL_TARGET
