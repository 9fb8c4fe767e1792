// Weight gradient where one side has at most four channels: the first layers (3 > 64, 9x9 and 3x3)
// and the 9x9 tail (64 > 3), in bf16 on tensor cores.
//
// A matrix product over single taps would be 61 empty columns of 64. So a column stands for a tap
// and a channel of the few: R*S*3 = 27 or 243 columns, reduced over pixels. With w the side of many
// channels ("wide") and f that of few,
//
//   first layers   dw[k,(r,s,c)] = sum over (n,p,q) of dy[n,p,q,k] * x[n, p+r-pad, q+s-pad, c]
//                  wide = dy, few = x, pixels those of dy.
//   tail           dw[(k,r,s),c] = sum over (n,u,v) of x[n,u,v,c] * dy[n, u-r+pad, v-s+pad, k]
//                  wide = x, few = dy, pixels those of x. Counting taps from the other end,
//                  r = R-1-r', gives dy[n, u+r'-(R-1-pad), ...]: the first form with another
//                  padding. The transpose of a forward pass by column sums.
//
// 2*64*27 operations and 128 + 6 bytes a pixel: 3x3 from 3 channels is bound by reading the wide
// side. With 9x9 it is 2*64*243 operations for the same bytes, 232 a byte: tensor cores, of which
// 5 % work on filling up 243 to 256 columns.
//
// The columns are nowhere stored. A tile of 8 x 16 pixels needs the few side's 8+R-1 x 16+S-1
// pixels once, and an mma wants of column (tap, channel) the values of two neighbouring pixels in
// one register: two neighbours of a row of one channel, so the tile is kept in shared memory
// channel by channel, and twice, the second time shifted by a pixel, so that the pair is one
// aligned word for even and for odd s. A fragment is then one 4-byte load at (column's place) +
// (pixel's place).
//
//   few_channels_mma  C <= 4; bf16.
//   few_filters_mma   K <= 4; bf16; the same kernel. db comes from a pass over dy of its own.

#include "kernels/cuda/conv2d.cuh"
#include "kernels/cuda/conv2d_backward_filter.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kWide = 64;               // channels of the wide side of a block
constexpr int kTileH = 8, kTileW = 16;  // pixels of a tile; a row of it is one step of mma
constexpr int kPixels = kTileH * kTileW;
constexpr int kMostFew = 4, kMostTaps = 9;  // channels of the few side; taps of a row or column
constexpr int kStages = 2;                  // of the wide side
constexpr int kWarpColumns = 32;
constexpr Index kFewestTiles = 3;

/// The few side's tile in shared memory, in words of two pixels:
///   even copy: word (row * few + channel) * pitch + i holds pixels 2i, 2i + 1 of the row
///   odd copy:  the same from word `odd` on, pixels 2i + 1, 2i + 2
/// Note [Banks of columns]: eight lanes read eight successive columns, four words each. Columns go
/// (r, channel, s), s fastest, so they are pieces of successive rows. A row's even s touch the
/// (S+1)/2 + 3 words from its start, its odd s the S/2 + 3 words from the odd copy's. With that
/// many banks for each and a pitch of both together, successive rows meet no common bank.
struct FewTile {
  int pitch, odd, words;
};
constexpr FewTile few_tile(int r, int s, int few) {
  const int even_banks = (s + 1) / 2 + 3, odd_banks = s > 1 ? s / 2 + 3 : 0;
  int pitch = even_banks + odd_banks;
  while (pitch < (kTileW + s) / 2) pitch += 32;  // room for 16 + S - 1 pixels
  const int rows = (kTileH + r - 1) * few;
  if (s == 1) return {pitch, 0, rows * pitch};
  int odd = rows * pitch;
  while (odd % 32 != even_banks) ++odd;
  return {pitch, odd, odd + rows * pitch};
}
constexpr int most_words() {
  int most = 0;
  for (int r = 1; r <= kMostTaps; r += 2)
    for (int s = 1; s <= kMostTaps; s += 2) most = std::max(most, few_tile(r, s, kMostFew).words);
  return most;
}

// The kernel packs places of the tile: 13 bits for a half-word, 7 for an element of a row.
static_assert(most_words() * 2 <= 1 << 13 && (kTileW + kMostTaps - 1) * kMostFew < 1 << 7);

/// WarpsM x WarpsN warps; each has 64 / WarpsM wide channels and 32 columns.
template <int WarpsM, int WarpsN>
struct Config {
  static constexpr int kThreads = 32 * WarpsM * WarpsN;
  static constexpr int kColumns = kWarpColumns * WarpsN;
  /// Blocks that a multiprocessor shall hold; two of 256 threads would spill.
  static constexpr int kResident = kThreads >= 256 ? 1 : 512 / kThreads;
  static constexpr int kMTiles = kWide / 16 / WarpsM;
  static constexpr int most_loads() {
    int most = 0;
    for (int r = 1; r <= kMostTaps; r += 2)
      for (int s = 1; s <= kMostTaps; s += 2)
        for (int few = 1; few <= kMostFew; ++few)
          if (r * s * few <= kColumns)
            most = std::max(most, (kTileH + r - 1) * (kTileW + s - 1) * few);
    return gpu::cdiv(most, kThreads);
  }
  /// Elements of the few side's tile that a thread fetches.
  static constexpr int kLoads = most_loads();
};
struct Shared {
  bf16 wide[kStages][kPixels * kWide];
  bf16 few[2][most_words() * 2];
};
using Narrow = Config<4, 1>;  // up to 32 columns: the wide side is shared out between the warps
using Broad = Config<1, 8>;   // up to 256: the columns are

struct FewSizes {
  int n, h, w;       // pixels that are summed over, those of the wide side
  int wide, few;     // channels
  int few_h, few_w;  // the few side's image
  int pad_h, pad_w;  // tap (0,0) of pixel (h,w) is its pixel (h - pad_h, w - pad_w)
  int r, s;
  FewTile tile;
  int tiles_h, tiles_w;  // of an image
  // Element (m, r, s, f) of the result, m the wide channel, f the few side's.
  Index origin, step_m, step_r, step_s, step_f;
};

/// Block: 64 wide channels, all columns, one part of the tiles (fixed order n, rows, columns).
/// Warp: 64 / WarpsM channels x 32 columns; for each row of a tile it takes the wide side by
/// ldmatrix.trans (pixels outside, as in the kernel for many channels) and the columns by words.
/// Thread: copies 16-byte chunks of the wide side a tile ahead by cp.async; fetches elements
/// of the few side's next tile into registers before the products and stores them after. Their
/// places do not depend on the tile and are worked out once.
/// supports(): wide channels a multiple of 8, at most 4 few, stride 1, columns fit.
template <int WarpsM, int WarpsN>
__global__ void __launch_bounds__(Config<WarpsM, WarpsN>::kThreads,
                                  Config<WarpsM, WarpsN>::kResident)
    conv2d_filter_few_channels_kernel(FewSizes d, int parts_tiles, const bf16* wide,
                                      const bf16* few, FilterSums out) {
  using Own = Config<WarpsM, WarpsN>;
  constexpr int kThreads = Own::kThreads, kLoads = Own::kLoads, kMTiles = Own::kMTiles;
  auto& s = gpu::smem<Shared>();
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int warp_m = warp / WarpsN, warp_n = warp % WarpsN;
  const int wide_tiles = gpu::cdiv(d.wide, kWide);
  const int m0 = static_cast<int>(blockIdx.x) % wide_tiles * kWide;
  const int part = static_cast<int>(blockIdx.x) / wide_tiles;
  const int tiles = d.n * d.tiles_h * d.tiles_w;
  const int first = part * parts_tiles, last = min(first + parts_tiles, tiles);

  // A tile as its image and corner.
  struct Corner {
    int n, h, w;
  };
  const auto corner = [&](int tile) {
    const int row = tile / d.tiles_w;
    return Corner{row / d.tiles_h, row % d.tiles_h * kTileH, tile % d.tiles_w * kTileW};
  };

  const auto fill_wide = [&](int tile, int stage) {
    const Corner at = corner(tile);
    const int chunk = thread % 8, m = m0 + chunk * 8;
#pragma unroll
    for (int i = 0; i < kPixels * 8 / kThreads; ++i) {
      const int pixel = i * (kThreads / 8) + thread / 8;
      const int h = at.h + pixel / kTileW, w = at.w + pixel % kTileW;
      const bool inside = m < d.wide && h < d.h && w < d.w;
      const bf16* from = wide + (inside ? ((Index{at.n} * d.h + h) * d.w + w) * d.wide + m : 0);
      gpu::cp_async<16>(&s.wide[stage][gpu::swz128(pixel, chunk) / 2], from, inside);
    }
  };

  // This thread's elements of the few side's tile. One register says of each: row of the tile (bits
  // 20 and up), place in the row (13 to 19; pixel and channel, contiguous in memory), and the
  // half-word of the even copy.
  const int row_elements = (kTileW + d.s - 1) * d.few;
  const int elements = (kTileH + d.r - 1) * row_elements;
  int place[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const int element = i * kThreads + thread;
    const int row = element / row_elements, in_row = element % row_elements;
    const int to = (row * d.few + in_row % d.few) * d.tile.pitch * 2 + in_row / d.few;
    place[i] = element < elements ? row << 20 | in_row << 13 | to : -1;
  }
  bf16 fetched[kLoads];
  const auto fetch_few = [&](int tile) {
    const Corner at = corner(tile);
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      fetched[i] = bf16{};
      if (place[i] < 0) continue;
      const int h = at.h - d.pad_h + (place[i] >> 20);
      const int w = (at.w - d.pad_w) * d.few + (place[i] >> 13 & 0x7F);  // times few, plus channel
      if (h >= 0 && h < d.few_h && w >= 0 && w < d.few_w * d.few)
        fetched[i] = few[(Index{at.n} * d.few_h + h) * d.few_w * d.few + w];
    }
  };
  const auto store_few = [&](int buffer) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (place[i] < 0) continue;
      const int to = place[i] & 0x1FFF;
      s.few[buffer][to] = fetched[i];
      // The shifted copy has no pixel 0.
      if (d.s > 1 && (place[i] >> 13 & 0x7F) >= d.few)
        s.few[buffer][d.tile.odd * 2 + to - 1] = fetched[i];
    }
  };

  // Where the words of this lane's columns begin: lane g of four reads column j * 8 + g, pixels
  // 2t, 2t + 1. Columns beyond the last repeat it and are not written.
  const int columns = d.r * d.s * d.few;
  int word[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int column = min(warp_n * kWarpColumns + j * 8 + lane / 4, columns - 1);
    const int tap = column % d.s;
    word[j] = column / d.s * d.tile.pitch + tap / 2 + tap % 2 * d.tile.odd + lane % 4;
  }

  float sum[kMTiles][4][4] = {};
  float bias[2] = {};
  const bool has_bias = out.db != nullptr;

#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) {
    if (first + i < last) fill_wide(first + i, i);
    gpu::cp_async_commit();
  }
  fetch_few(first);
  store_few(0);
  for (int tile = first; tile < last; ++tile) {
    gpu::cp_async_wait<kStages - 2>();
    // This tile has arrived from everybody, by cp.async and by ordinary stores, and everybody has
    // left the stage and the few side's other buffer, both filled next.
    __syncthreads();
    const int done = tile - first;
    if (tile + kStages - 1 < last) fill_wide(tile + kStages - 1, (done + kStages - 1) % kStages);
    gpu::cp_async_commit();
    if (tile + 1 < last) fetch_few(tile + 1);

    const bf16* from = s.few[done % 2];
    const bf16* rows = s.wide[done % kStages];
#pragma unroll 1  // more would cost registers
    for (int step = 0; step < kTileH; ++step) {
      std::uint32_t a[kMTiles][4], b[4][2];
      const int pixel = step * kTileW + lane / 16 * 8 + lane % 8;
#pragma unroll
      for (int i = 0; i < kMTiles; ++i) {
        const int chunk = (warp_m * kMTiles + i) * 2 + lane / 8 % 2;
        gpu::ldmatrix_x4_trans(a[i], rows + gpu::swz128(pixel, chunk) / 2);  // [few a]
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const bf16* pair = from + (word[j] + step * d.few * d.tile.pitch) * 2;
        b[j][0] = *reinterpret_cast<const std::uint32_t*>(pair);      // [few b]
        b[j][1] = *reinterpret_cast<const std::uint32_t*>(pair + 8);  // [few b upper]
      }
      gpu::mma_tile_bf16(sum, a, b);
      if (has_bias) {
        // Warp n of those that hold the same channels sums the n-th sixteen of them.
#pragma unroll
        for (int i = 0; i < kMTiles; ++i)
          if (i == warp_n)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              const float2 two = gpu::unpack_bf16(a[i][e]);
              bias[e % 2] += two.x + two.y;
            }
      }
    }
    if (tile + 1 < last) store_few((done + 1) % 2);
  }

  float* dw = out.dw + part * out.pitch + d.origin;
#pragma unroll
  for (int j = 0; j < 4; ++j)
#pragma unroll
    for (int next = 0; next < 2; ++next) {
      const int column = warp_n * kWarpColumns + j * 8 + lane % 4 * 2 + next;
      if (column >= columns) continue;
      const int tap = column % d.s, row = column / d.s;
      float* to_column = dw + tap * d.step_s + row / d.few * d.step_r + row % d.few * d.step_f;
#pragma unroll
      for (int i = 0; i < kMTiles; ++i)
#pragma unroll
        for (int upper = 0; upper < 2; ++upper) {
          const int m = m0 + (warp_m * kMTiles + i) * 16 + upper * 8 + lane / 4;
          if (m < d.wide) to_column[m * d.step_m] = sum[i][j][upper * 2 + next];  // [few dw]
        }
    }
  if (!has_bias || warp_n >= kMTiles) return;
#pragma unroll
  for (int upper = 0; upper < 2; ++upper) {
    // The four lanes of a channel hold a quarter of the pixels each.
    bias[upper] += __shfl_xor_sync(0xFFFFFFFFu, bias[upper], 1);
    bias[upper] += __shfl_xor_sync(0xFFFFFFFFu, bias[upper], 2);
    const int m = m0 + (warp_m * kMTiles + warp_n) * 16 + upper * 8 + lane / 4;
    if (lane % 4 == 0 && m < d.wide) out.db[part * out.pitch + m] = bias[upper];
  }
}

constexpr int kBiasThreads = 256;
struct BiasShared {
  float sum[kMostFew][kBiasThreads / 32];
};

/// db of at most four filters. Block: one run of pixels; thread: every 256th of them, so a warp
/// reads consecutive bytes; then warps by shuffles, and the block in the order of its warps.
__global__ void __launch_bounds__(kBiasThreads)
    conv2d_filter_few_bias_kernel(Index pixels, Index per_part, int k, const bf16* dy,
                                  FilterSums out) {
  auto& s = gpu::smem<BiasShared>();
  const int thread = static_cast<int>(threadIdx.x);
  const Index first = Index{blockIdx.x} * per_part;
  const Index last = min(first + per_part, pixels);
  float sum[kMostFew] = {};
#pragma unroll 4
  for (Index pixel = first + thread; pixel < last; pixel += kBiasThreads)
#pragma unroll
    for (int f = 0; f < kMostFew; ++f)
      if (f < k) sum[f] += gpu::to_float(dy[pixel * k + f]);
#pragma unroll
  for (int f = 0; f < kMostFew; ++f) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
      sum[f] += __shfl_xor_sync(0xFFFFFFFFu, sum[f], distance);
    if (thread % 32 == 0) s.sum[f][thread / 32] = sum[f];
  }
  __syncthreads();  // the warps' sums are there
  if (thread >= k) return;
  float total = 0.0f;
#pragma unroll
  for (int i = 0; i < kBiasThreads / 32; ++i) total += s.sum[thread][i];
  out.db[Index{blockIdx.x} * out.pitch + thread] = total;
}

template <class Own, class Kernel>
PixelSplit launch_few(Context& ctx, const FewSizes& sizes, const PixelSplit& split, Kernel kernel,
                      const bf16* wide, const bf16* few, const FilterSums& sums) {
  gpu::launch(kernel,
              {.grid = gpu::grid_for(Index{gpu::cdiv(sizes.wide, kWide)} * split.parts, 1),
               .block = Own::kThreads,
               .smem = sizeof(Shared),
               .stream = ctx.stream},
              sizes, split.tiles, wide, few, sums);
  return split;
}

/// The sizes with dy as the wide side (filters = false) or with x.
FewSizes few_sizes(const Conv2dProblem& d, bool filters) {
  const auto as_int = [](Index v) { return static_cast<int>(v); };
  FewSizes s{};
  s.n = as_int(d.n);
  s.r = as_int(d.r);
  s.s = as_int(d.s);
  const Index filter = d.r * d.s * d.c;
  if (filters) {
    s.h = as_int(d.h);
    s.w = as_int(d.w);
    s.few_h = as_int(d.p());
    s.few_w = as_int(d.q());
    s.wide = as_int(d.c);
    s.few = as_int(d.k);
    s.pad_h = as_int(d.r - 1 - d.pad);
    s.pad_w = as_int(d.s - 1 - d.pad);
    // Taps are counted from the last one.
    s.origin = (d.r * d.s - 1) * d.c;
    s.step_m = 1;
    s.step_r = -d.s * d.c;
    s.step_s = -d.c;
    s.step_f = filter;
  } else {
    s.h = as_int(d.p());
    s.w = as_int(d.q());
    s.few_h = as_int(d.h);
    s.few_w = as_int(d.w);
    s.wide = as_int(d.k);
    s.few = as_int(d.c);
    s.pad_h = s.pad_w = as_int(d.pad);
    s.step_m = filter;
    s.step_r = d.s * d.c;
    s.step_s = d.c;
    s.step_f = 1;
  }
  s.tile = few_tile(s.r, s.s, s.few);
  s.tiles_h = gpu::cdiv(s.h, kTileH);
  s.tiles_w = gpu::cdiv(s.w, kTileW);
  return s;
}

bool supports_few(const Conv2dProblem& d, Index wide, Index few) {
  constexpr Index kMost = 0x7fffffff / 8;
  const auto tiles = [](Index h, Index w) {
    return gpu::cdiv(h, Index{kTileH}) * gpu::cdiv(w, Index{kTileW});
  };
  return d.stride == 1 && few <= kMostFew && wide % 8 == 0 && d.r <= kMostTaps &&
         d.s <= kMostTaps && d.r * d.s * few <= Broad::kColumns && d.pad <= kMost &&
         d.n * std::max(tiles(d.h, d.w), tiles(d.p(), d.q())) <= kMost &&
         std::max(d.h, d.p()) <= kMost && std::max(d.w, d.q()) <= kMost;
}

void run_few(Context& ctx, const Conv2dProblem& d, bool filters, const bf16* x, const bf16* dy,
             float* dw, float* db) {
  const FewSizes sizes = few_sizes(d, filters);
  const bool narrow = sizes.r * sizes.s * sizes.few <= Narrow::kColumns;
  // Blocks of the narrow kind are half as large and wait for memory: twice as many.
  const PixelSplit split =
      split_pixels(Index{sizes.n} * sizes.tiles_h * sizes.tiles_w, kPixels,
                   gpu::cdiv(sizes.wide, kWide), narrow ? 528 : 264, kFewestTiles);
  Workspace ws(ctx);
  const bf16* wide = filters ? aligned_operand(ctx, ws, x, d.x_count())
                             : aligned_operand(ctx, ws, dy, d.y_count());
  const bf16* few = filters ? dy : x;
  const FilterSums sums = filter_sums(ws, d, split.parts, dw, db);
  FilterSums own = sums;
  if (filters) own.db = nullptr;
  if (narrow)
    launch_few<Narrow>(ctx, sizes, split, conv2d_filter_few_channels_kernel<4, 1>, wide, few, own);
  else
    launch_few<Broad>(ctx, sizes, split, conv2d_filter_few_channels_kernel<1, 8>, wide, few, own);
  if (filters && db) {
    const Index pixels = d.n * d.p() * d.q(), per_part = gpu::cdiv(pixels, Index{split.parts});
    gpu::launch(conv2d_filter_few_bias_kernel,
                {.grid = gpu::grid_for(split.parts, 1),
                 .block = kBiasThreads,
                 .smem = sizeof(BiasShared),
                 .stream = ctx.stream},
                pixels, per_part, sizes.few, dy, sums);
  }
  add_filter_sums(ctx, d, sums, split.parts, dw, db);
}

}  // namespace

bool supports_backward_filter_few_channels_mma(const Conv2dProblem& d, const DeviceInfo&) {
  return supports_few(d, d.k, d.c);
}
template <class T>
void conv2d_backward_filter_few_channels_mma(Context& ctx, const Conv2dProblem& d, const T* x,
                                             const T* dy, float* dw, float* db) {
  run_few(ctx, d, false, x, dy, dw, db);
}
template void conv2d_backward_filter_few_channels_mma(Context&, const Conv2dProblem&, const bf16*,
                                                      const bf16*, float*, float*);

bool supports_backward_filter_few_filters_mma(const Conv2dProblem& d, const DeviceInfo&) {
  return supports_few(d, d.c, d.k);
}
template <class T>
void conv2d_backward_filter_few_filters_mma(Context& ctx, const Conv2dProblem& d, const T* x,
                                            const T* dy, float* dw, float* db) {
  run_few(ctx, d, true, x, dy, dw, db);
}
template void conv2d_backward_filter_few_filters_mma(Context&, const Conv2dProblem&, const bf16*,
                                                     const bf16*, float*, float*);

}  // namespace subpix::kernels::KERNEL_TARGET
