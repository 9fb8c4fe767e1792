// Weight gradient of a convolution by mma.sync, the pixels split between blocks.
//
// From y[n,p,q,k] = sum x[n, p*stride + r - pad, q*stride + s - pad, c] * w[k,r,s,c] follows
//
//   dw[k,r,s,c] = sum over n,p,q of dy[n,p,q,k] * x[n, p*stride + r - pad, q*stride + s - pad, c]
//   db[k]       = sum over n,p,q of dy[n,p,q,k]
//
// For a tap (r,s) this is a matrix product of K x C, reduced over all N*P*Q pixels. Both operands
// lie in memory pixel by pixel with contiguous channels, that is with the reduced index outside,
// and ldmatrix.trans turns them into fragments.
//
// 2*K*R*S*C operations and (K + C) * 2 bytes a pixel: for 64 > 64, 3x3, in bf16 that is 288
// operations a byte, so tensor cores are the bound if each operand comes from memory once.
//
// Rungs, in the order of the ideas:
//   1. A block takes 64 filters x 64 channels of all taps of one filter row (three at a time), so
//      that a tile of dy serves three taps and the tile of x is one, read at shifted rows.
//   2. Virtual rows. The reduction runs over positions (n, p, v) with 0 <= v < V = Q + shift: x's
//      row is laid out with its border, dy's is followed by `shift` zeros. Tap s then is the same
//      run of positions s further on, across the ends of rows, and tiles need not fit the image:
//      the price is shift/Q more products instead of up to one tile a row.
//   3. Stride 2: tap s of column 2q + s reads the columns of one parity, shifted by s/2. So x is
//      kept in two planes, even and odd, and again a tap is a shift of rows.
//   4. Three stages filled by cp.async, 128-byte rows with their 16-byte chunks swizzled; padding,
//      ends of rows and missing channels are zeros made by the copy.
//   5. The pixels are split (Note [Split pixels]).
//
//   split_pixels_mma       bf16: m16n8k16.
//   split_pixels_mma_tf32  fp32 rounded to TF32 (DeviceInfo::tf32): m16n8k8. The tensor core
//                          ignores the low 13 bits of its operands, an error of one sign up to
//                          2^-10; adding half of a last place first rounds to nearest instead.
//
// conv2d_backward_filter_group: the same kernel for many filters of one shape, Note [Group].
//
// conv2d_norm_backward_filter, where x is the activation of a norm that was never stored: the bf16
// kernel, to which each thread's own copies go through the form before the others read them (Note
// [Form in place]).

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/conv2d.cuh"
#include "kernels/cuda/conv2d_backward_filter.cuh"
#include "kernels/cuda/conv2d_fused.cuh"
#include "kernels/cuda/norm_form.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kThreads = 128;
constexpr int kFilters = 64, kChannels = 64;  // of a block
constexpr int kStages = 3;
// Two blocks for each multiprocessor of the largest cards; parts of at least four tiles.
constexpr Index kMultiprocessors = 132, kWantedBlocks = 2 * kMultiprocessors, kFewestTiles = 4;

/// A tile of positions x 64 channels in shared memory. bf16: rows of 128 bytes, chunks xored with
/// the row, so that the eight rows of an ldmatrix matrix lie in eight different groups of banks,
/// wherever it starts. fp32: fragments are single words at (position t, channel g), t < 4, g < 8,
/// and a pitch of 72 words puts them into 32 different banks.
template <class T>
struct Tile {
  static constexpr bool kHalf = sizeof(T) == 2;
  static constexpr int kPositions = kHalf ? 64 : 32;
  static constexpr int kStep = kHalf ? 16 : 8;  // positions of one mma
  static constexpr int kChunks = 64 / kPack<T>;
  static constexpr int kPitch = kHalf ? 64 : 72;
  static constexpr int kRows = kThreads / kChunks;  // rows that the block copies at once
  GPU_FN static constexpr int at(int row, int chunk) {
    return kHalf ? row * kPitch + ((chunk ^ (row & 7)) * 8) : row * kPitch + chunk * kPack<T>;
  }
};

/// The form of x: none, NormForm (bf16), or FilterGroup, where each filter has its own.
struct PlainInput {};

/// Note [Group]
/// One filter of SRGAN's trunk has work for three blocks, and filling a card with them means
/// cutting the pixels into dozens of parts, whose sums cost as much as the products. All filters of
/// a network that have one shape are enough blocks almost as they are: 33 of them in four parts,
/// three blocks on each of 132 multiprocessors, four parts to add instead of 39. A block does for
/// its filter what it does where that is alone, so the result depends on the group only by the
/// number of parts, that is by roundings of the sum. The list is an argument of the kernel, so it
/// is copied at the launch (Note [The list travels as a parameter] in adam.cu).
struct FilterGroup {
  struct Filter {
    const bf16 *x, *dy;
    float* sums;    // where its parts begin
    NormForm form;  // scale null: x itself
    // A branch around the forms would cost registers that are not there: 1 * x + 0 is x.
    GPU_DEV NormForm::Channel channel(Index c) const {
      return form.scale ? form.channel(c) : NormForm::Channel{{1.0f, 0.0f}, 1.0f};
    }
  };
  Filter filter[kGroupFilters];
};
static_assert(sizeof(FilterGroup) + 128 <= 4096, "kernel parameters");

/// Taps of a block and their shifts: tap j reads plane j % Stride, j / Stride rows further.
template <class T, int Taps, int Stride>
struct Shape {
  static constexpr int kShift = (Taps - 1) / Stride;
  static constexpr int kPlanes = Taps < Stride ? Taps : Stride;
  // Whole groups of eight rows, the period of the swizzle.
  static constexpr int kPlaneRows = (Tile<T>::kPositions + kShift + 7) / 8 * 8;
  // Blocks that a multiprocessor shall hold, the limit of registers: 168 or 255. Two planes leave
  // shared memory for two blocks only, and rounding to TF32 needs a few registers more.
  static constexpr int kBlocks = Tile<T>::kHalf && Stride == 1 ? 3 : 2;
  // Copies of x that a thread makes for a tile.
  static constexpr int kCopies = Tile<T>::kPositions / Tile<T>::kRows * kPlanes + (kShift > 0);
  struct Shared {
    T dy[kStages][Tile<T>::kPositions * Tile<T>::kPitch];
    T x[kStages][kPlanes][kPlaneRows * Tile<T>::kPitch];
  };
  // Scale, shift and slope of the 64 channels: those of a chunk of eight four by four, so that the
  // chunks of neighbouring threads lie side by side.
  struct FormedShared : Shared {
    float4 form[3][2][8];
  };
  template <class Form>
  using SharedOf = std::conditional_t<std::is_same_v<Form, PlainInput>, Shared, FormedShared>;
};

/// Sizes as the kernel needs them. All positions together are below 2^31.
struct Sizes {
  int n, h, w, c, k, p, q, r, s, pad;
  int v;       // positions of a virtual row
  int groups;  // of taps of a filter row
};

/// A position as digits (n, p, v), moved on by `Step` at a time without divisions.
template <int Step>
struct Walker {
  int n, p, v;
  int dn, dp, dv;
  GPU_DEV Walker(const Sizes& d, int position)
      : n(position / (d.p * d.v)),
        p(position / d.v % d.p),
        v(position % d.v),
        dn(Step / d.v / d.p),
        dp(Step / d.v % d.p),
        dv(Step % d.v) {}
  GPU_DEV void advance(const Sizes& d) {
    v += dv;
    p += dp;
    n += dn;
    if (v >= d.v) v -= d.v, ++p;
    if (p >= d.p) p -= d.p, ++n;
  }
};

/// To the nearest of 10 mantissa bits, ties away from zero; infinities and NaN stay (0x7FFFFFFF,
/// the NaN that GPUs make, would become zero).
GPU_DEV std::uint32_t round_tf32(float v) {
  const std::uint32_t bits = __float_as_uint(v);
  return fabsf(v) < INFINITY ? bits + 0x1000u : bits;
}

/// 64 filters of the step at `row`: element (filter, position) in mma's layout of A. For fp32 the
/// bits are not yet rounded.
GPU_DEV void load_a(std::uint32_t (&a)[4][4], const bf16* tile, int row, int lane) {
  const int at = row + lane / 16 * 8 + lane % 8, chunk = lane / 8 % 2;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    gpu::ldmatrix_x4_trans(a[i], tile + Tile<bf16>::at(at, i * 2 + chunk));  // [filter a]
}
GPU_DEV void load_a(std::uint32_t (&a)[4][4], const float* tile, int row, int lane) {
  const float* from = tile + (row + lane % 4) * Tile<float>::kPitch + lane / 4;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      a[i][e] = __float_as_uint(
          from[e / 2 * 4 * Tile<float>::kPitch + i * 16 + e % 2 * 8]);  // [filter a tf32]
}

/// 16 channels of a warp: element (position, channel) in mma's layout of B.
GPU_DEV void load_b(std::uint32_t (&b)[2][2], const bf16* tile, int row, int warp, int lane) {
  std::uint32_t r[4];
  const int at = row + lane / 8 % 2 * 8 + lane % 8;
  gpu::ldmatrix_x4_trans(r, tile + Tile<bf16>::at(at, warp * 2 + lane / 16));  // [filter b]
  b[0][0] = r[0];
  b[0][1] = r[1];
  b[1][0] = r[2];
  b[1][1] = r[3];
}
GPU_DEV void load_b(std::uint32_t (&b)[2][2], const float* tile, int row, int warp, int lane) {
  const float* from = tile + (row + lane % 4) * Tile<float>::kPitch + warp * 16 + lane / 4;
#pragma unroll
  for (int j = 0; j < 2; ++j)
#pragma unroll
    for (int e = 0; e < 2; ++e)
      b[j][e] = round_tf32(from[e * 4 * Tile<float>::kPitch + j * 8]);  // [filter b tf32]
}

/// Adds the dy of a fragment to the sums of filters g and g + 8 over this thread's positions.
GPU_DEV void add_bias(float (&sum)[2], const std::uint32_t (&a)[4], bf16) {
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const float2 pair = gpu::unpack_bf16(a[e]);
    sum[e % 2] += pair.x + pair.y;
  }
}
GPU_DEV void add_bias(float (&sum)[2], const std::uint32_t (&a)[4], float) {
#pragma unroll
  for (int e = 0; e < 4; ++e) sum[e % 2] += __uint_as_float(a[e]);
}

GPU_DEV void multiply(float (&sum)[4][2][4], const std::uint32_t (&a)[4][4],
                      const std::uint32_t (&b)[2][2], bf16) {
  gpu::mma_tile_bf16(sum, a, b);
}
GPU_DEV void multiply(float (&sum)[4][2][4], const std::uint32_t (&a)[4][4],
                      const std::uint32_t (&b)[2][2], float) {
  gpu::mma_tile_tf32(sum, a, b);
}

/// Note [Form in place]
/// cp.async cannot compute, and loading by way of registers would hold a tile's chunks in them
/// across the products (20 more of 168: it spills). So raw chunks are copied as ever, and when they
/// have arrived the thread that copied a chunk reads, forms and writes back just that one: its own
/// copies are visible to it without a barrier, and the barrier that shows the stage to the others
/// comes after. What was filled with zeros lies outside the activated map and must stay zero, so
/// each thread keeps a bit for each copy on its way. The constants of its eight channels are in
/// shared memory, because in registers they would stay for the whole loop.

/// Block: 64 filters x 64 channels x Taps taps of one filter row, for one part of the positions;
/// blocks of a part are neighbours, so that they meet its operands in L2. Of a group, each
/// filter has a row of the grid, and x, dy and out.dw come from the list.
/// Warp: all 64 filters x 16 channels x Taps taps, 32 accumulators a tap and thread. Of a step it
/// reads dy once for all taps (4 ldmatrix) and x once a tap.
/// Thread: copies one 16-byte chunk of every kRows-th row of the tiles, so one walker serves dy and
/// x, and after a tile it stands where the rows of x that exceed the tile begin.
/// supports() guarantees whole chunks: C and K multiples of 16 bytes, x and dy so aligned.
template <class T, int Taps, int Stride, class Form>
__global__ void __launch_bounds__(kThreads, Shape<T, Taps, Stride>::kBlocks)
    conv2d_filter_split_pixels_kernel(Sizes d, int parts_tiles, const T* x,
                                      const __grid_constant__ Form form, const T* dy,
                                      FilterSums out) {
  constexpr bool kFormed = !std::is_same_v<Form, PlainInput>;
  constexpr bool kGrouped = std::is_same_v<Form, FilterGroup>;
  using Own = Shape<T, Taps, Stride>;
  using Rows = Tile<T>;
  auto& s = gpu::smem<typename Own::template SharedOf<Form>>();
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;

  // Which block this is: taps change fastest, parts slowest.
  unsigned block = blockIdx.x;
  const auto digit = [&](int base) {
    const int value = static_cast<int>(block % static_cast<unsigned>(base));
    block /= static_cast<unsigned>(base);
    return value;
  };
  const int s0 = digit(d.groups) * Taps, r = digit(d.r);
  const int c0 = digit(gpu::cdiv(d.c, kChannels)) * kChannels;
  const int k0 = digit(gpu::cdiv(d.k, kFilters)) * kFilters;
  const int part = static_cast<int>(block);
  if constexpr (kGrouped) {
    x = form.filter[blockIdx.y].x;
    dy = form.filter[blockIdx.y].dy;
    out.dw = form.filter[blockIdx.y].sums;
  }
  // The last part may be shorter: tiles beyond the last position would add zeros only.
  const int tiles = gpu::cdiv(d.n * d.p * d.v, Rows::kPositions);
  const int first = part * parts_tiles, last = min(first + parts_tiles, tiles);

  const int chunk = thread % Rows::kChunks, row0 = thread / Rows::kChunks;
  const int k = k0 + chunk * kPack<T>, c = c0 + chunk * kPack<T>;
  Walker<Rows::kRows> at(d, first * Rows::kPositions + row0);

  const auto copy_x = [&](int stage, int plane, int row) {
    const int h = at.p * Stride + r - d.pad, w = at.v * Stride + plane + s0 - d.pad;
    const bool inside = c < d.c && at.n < d.n && h >= 0 && h < d.h && w >= 0 && w < d.w;
    const T* from = x + (inside ? ((Index{at.n} * d.h + h) * d.w + w) * d.c + c : 0);
    // [filter x]
    gpu::cp_async<16>(&s.x[stage][plane][Rows::at(row, chunk)], from, inside);
    return inside;
  };
  std::uint32_t pending = 0;  // kCopies bits a tile on its way, the next tile's lowest
  static_assert(!kFormed || Own::kCopies * (kStages - 1) <= 32);
  // ahead: tiles on their way before this one.
  const auto fill = [&](int stage, int ahead) {
    std::uint32_t bits = 0;
    int copy = 0;
#pragma unroll
    for (int i = 0; i < Rows::kPositions / Rows::kRows; ++i) {
      const int row = i * Rows::kRows + row0;
      const bool inside = k < d.k && at.n < d.n && at.v < d.q;
      const T* from = dy + (inside ? ((Index{at.n} * d.p + at.p) * d.q + at.v) * d.k + k : 0);
      gpu::cp_async<16>(&s.dy[stage][Rows::at(row, chunk)], from, inside);
#pragma unroll
      for (int plane = 0; plane < Own::kPlanes; ++plane)
        bits |= std::uint32_t{copy_x(stage, plane, row)} << copy++;
      at.advance(d);
    }
    // Only the first plane is read beyond the tile: the last tap is an even one.
    if (row0 < Own::kShift)
      bits |= std::uint32_t{copy_x(stage, 0, Rows::kPositions + row0)} << copy;
    if constexpr (kFormed) pending |= bits << ahead * Own::kCopies;
  };
  const auto form_own_copies = [&](int stage) {  // Note [Form in place]
    if constexpr (kFormed) {
      NormForm::Channels channels;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Pack<float>* const to[] = {channels.scale, channels.shift, channels.slope};
#pragma unroll
        for (int i = 0; i < 3; ++i) {
          // [form constants]
          const float4 four = s.form[i][half][chunk];
          to[i][half] = {{four.x, four.y, four.z, four.w}};
        }
      }
#pragma unroll
      for (int copy = 0; copy < Own::kCopies; ++copy) {
        constexpr int kRegular = Rows::kPositions / Rows::kRows * Own::kPlanes;
        const int plane = copy < kRegular ? copy % Own::kPlanes : 0;
        const int row =
            (copy < kRegular ? copy / Own::kPlanes * Rows::kRows : Rows::kPositions) + row0;
        if ((pending >> copy & 1) == 0) continue;
        auto* own = reinterpret_cast<uint4*>(&s.x[stage][plane][Rows::at(row, chunk)]);
        // [form load]
        const uint4 values = *own;
        const uint4 formed = NormForm::form(channels, values);
        // [form store]
        *own = formed;
      }
      pending >>= Own::kCopies;
    }
  };
  if constexpr (kFormed) {
    static_assert(Rows::kHalf);
    if (thread < kChannels) {
      NormForm::Channel own{};
      if (c0 + thread < d.c) {
        if constexpr (kGrouped)
          own = form.filter[blockIdx.y].channel(c0 + thread);
        else
          own = form.channel(c0 + thread);
      }
      const int half = thread / 4 % 2, to = thread / 8 * 4 + thread % 4;
      reinterpret_cast<float*>(s.form[0][half])[to] = own.norm.scale;
      reinterpret_cast<float*>(s.form[1][half])[to] = own.norm.shift;
      reinterpret_cast<float*>(s.form[2][half])[to] = own.slope;
    }
    __syncthreads();  // all constants are there
  }

  float sum[Taps][4][2][4] = {};
  float bias[2] = {};
  const bool has_bias = !kFormed && out.db && s0 == 0 && r == 0 && c0 == 0;

#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) {
    if (first + i < last) fill(i, i);
    gpu::cp_async_commit();
  }
  for (int tile = first; tile < last; ++tile) {
    const int stage = (tile - first) % kStages;
    gpu::cp_async_wait<kStages - 2>();
    form_own_copies(stage);
    // Everybody's copies of this stage have arrived, and everybody has left the one filled next.
    __syncthreads();
    if (tile + kStages - 1 < last) fill((tile - first + kStages - 1) % kStages, kStages - 2);
    gpu::cp_async_commit();
#pragma unroll
    for (int step = 0; step < Rows::kPositions; step += Rows::kStep) {
      std::uint32_t a[4][4], b[2][2];
      load_a(a, s.dy[stage], step, lane);
      if (has_bias) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
          if (i == warp) add_bias(bias, a[i], T{});
      }
      if constexpr (!Rows::kHalf) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
          for (int e = 0; e < 4; ++e) a[i][e] = round_tf32(__uint_as_float(a[i][e]));
      }
#pragma unroll
      for (int tap = 0; tap < Taps; ++tap) {
        load_b(b, s.x[stage][tap % Stride], step + tap / Stride, warp, lane);
        multiply(sum[tap], a, b, T{});
      }
    }
  }

  // A thread holds two neighbouring channels of a filter: four lanes write a 32-byte sector.
  float* dw = out.dw + part * out.pitch;
#pragma unroll
  for (int tap = 0; tap < Taps; ++tap)
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int upper = 0; upper < 2; ++upper)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int to_k = k0 + i * 16 + upper * 8 + lane / 4;
          const int to_c = c0 + warp * 16 + j * 8 + lane % 4 * 2;
          if (s0 + tap >= d.s || to_k >= d.k || to_c >= d.c) continue;
          float* to = dw + ((Index{to_k} * d.r + r) * d.s + s0 + tap) * d.c + to_c;
          *reinterpret_cast<float2*>(to) =
              make_float2(sum[tap][i][j][upper * 2], sum[tap][i][j][upper * 2 + 1]);  // [dw]
        }
  if constexpr (!kFormed) {
    if (!has_bias) return;
#pragma unroll
    for (int upper = 0; upper < 2; ++upper) {
      // The four lanes of a filter hold a quarter of the positions each.
      bias[upper] += __shfl_xor_sync(0xFFFFFFFFu, bias[upper], 1);
      bias[upper] += __shfl_xor_sync(0xFFFFFFFFu, bias[upper], 2);
      const int to_k = k0 + warp * 16 + upper * 8 + lane / 4;
      if (lane % 4 == 0 && to_k < d.k) out.db[part * out.pitch + to_k] = bias[upper];
    }
  }
}

int taps_of_a_block(const Conv2dProblem& d) { return d.s == 1 ? 1 : 3; }

/// Positions of a virtual row, see the top.
Index virtual_row(const Conv2dProblem& d) { return d.q() + (taps_of_a_block(d) - 1) / d.stride; }

template <class T>
bool supports_split_pixels(const Conv2dProblem& d) {
  constexpr Index kMost = 0x7fffffff;
  // Below 2^31: positions (with room for the tiles that are filled ahead) and the sizes of x.
  return d.c % kPack<T> == 0 && d.k % kPack<T> == 0 &&
         d.n * d.p() * virtual_row(d) <= kMost - 4096 && d.h <= kMost / 4 && d.w <= kMost / 4 &&
         d.pad <= kMost / 4;
}

template <int Taps>
Sizes sizes_of(const Conv2dProblem& d) {
  const auto as_int = [](Index v) { return static_cast<int>(v); };
  return {as_int(d.n),
          as_int(d.h),
          as_int(d.w),
          as_int(d.c),
          as_int(d.k),
          as_int(d.p()),
          as_int(d.q()),
          as_int(d.r),
          as_int(d.s),
          as_int(d.pad),
          as_int(virtual_row(d)),
          as_int(gpu::cdiv(d.s, Index{Taps}))};
}

/// Blocks that one part of one filter needs.
Index outputs_of(const Conv2dProblem& d, const Sizes& sizes) {
  return gpu::cdiv(d.k, Index{kFilters}) * gpu::cdiv(d.c, Index{kChannels}) * d.r * sizes.groups;
}

template <class T>
PixelSplit split_of(const Conv2dProblem& d, Index outputs, Index blocks) {
  constexpr int kPositions = Tile<T>::kPositions;
  return split_pixels(gpu::cdiv(d.n * d.p() * virtual_row(d), Index{kPositions}), kPositions,
                      outputs, blocks, kFewestTiles);
}

template <class T, int Taps, int Stride, class Form>
void launch_split_pixels(Context& ctx, const Conv2dProblem& d, const T* x, Form form, const T* dy,
                         float* dw, float* db) {
  using Own = Shape<T, Taps, Stride>;
  const Sizes sizes = sizes_of<Taps>(d);
  const Index outputs = outputs_of(d, sizes);
  const PixelSplit split = split_of<T>(d, outputs, kWantedBlocks);
  Workspace ws(ctx);
  x = aligned_operand(ctx, ws, x, d.x_count());
  dy = aligned_operand(ctx, ws, dy, d.y_count());
  const FilterSums sums = filter_sums(ws, d, split.parts, dw, db);
  gpu::launch(conv2d_filter_split_pixels_kernel<T, Taps, Stride, Form>,
              {.grid = gpu::grid_for(outputs * split.parts, 1),
               .block = kThreads,
               .smem = sizeof(typename Own::template SharedOf<Form>),
               .stream = ctx.stream},
              sizes, split.tiles, x, form, dy, sums);
  add_filter_sums(ctx, d, sums, split.parts, dw, db);
}

template <int Taps, int Stride>
void launch_group(Context& ctx, const Conv2dGroupProblem& d, const FilterGradient<bf16>* list) {
  using Own = Shape<bf16, Taps, Stride>;
  const Conv2dProblem& conv = d.conv;
  const Sizes sizes = sizes_of<Taps>(conv);
  const Index outputs = outputs_of(conv, sizes);
  // Of the first launch; that of a remainder must not cut its filters otherwise.
  const Index together = std::min<Index>(d.filters, kGroupFilters);
  const PixelSplit split =
      split_of<bf16>(conv, outputs * together, kMultiprocessors * Own::kBlocks);
  for (Index done = 0; done < d.filters; done += together) {
    const int count = static_cast<int>(std::min(together, d.filters - done));
    Workspace ws(ctx);
    GroupResults results{};
    for (int i = 0; i < count; ++i) results.dw[i] = list[done + i].dw;
    const GroupSums sums = group_sums(ws, conv, split.parts, count, results);
    FilterGroup group{};
    for (int i = 0; i < count; ++i) {
      const FilterGradient<bf16>& f = list[done + i];
      group.filter[i] = {aligned_operand(ctx, ws, f.x, conv.x_count()),
                         aligned_operand(ctx, ws, f.dy, conv.y_count()), sums.of(i, results),
                         NormForm::of(f.form, f.slope, f.in)};
    }
    gpu::launch(conv2d_filter_split_pixels_kernel<bf16, Taps, Stride, FilterGroup>,
                {.grid = {gpu::grid_for(outputs * split.parts, 1).x, static_cast<unsigned>(count)},
                 .block = kThreads,
                 .smem = sizeof(typename Own::FormedShared),
                 .stream = ctx.stream},
                sizes, split.tiles, static_cast<const bf16*>(nullptr), group,
                static_cast<const bf16*>(nullptr), FilterSums{nullptr, nullptr, sums.pitch});
    add_group_sums(ctx, conv, sums, count, results);
  }
}

template <class T, class Form>
void run_split_pixels(Context& ctx, const Conv2dProblem& d, const T* x, Form form, const T* dy,
                      float* dw, float* db) {
  if (taps_of_a_block(d) == 1) {
    if (d.stride == 1) return launch_split_pixels<T, 1, 1>(ctx, d, x, form, dy, dw, db);
    return launch_split_pixels<T, 1, 2>(ctx, d, x, form, dy, dw, db);
  }
  if (d.stride == 1) return launch_split_pixels<T, 3, 1>(ctx, d, x, form, dy, dw, db);
  launch_split_pixels<T, 3, 2>(ctx, d, x, form, dy, dw, db);
}

}  // namespace

bool supports_backward_filter_split_pixels_mma(const Conv2dProblem& d, const DeviceInfo&) {
  return supports_split_pixels<bf16>(d);
}
bool supports_backward_filter_split_pixels_mma_tf32(const Conv2dProblem& d,
                                                    const DeviceInfo& device) {
  return device.tf32 && supports_split_pixels<float>(d);
}

template <class T>
void conv2d_backward_filter_split_pixels_mma(Context& ctx, const Conv2dProblem& d, const T* x,
                                             const T* dy, float* dw, float* db) {
  run_split_pixels(ctx, d, x, PlainInput{}, dy, dw, db);
}
template void conv2d_backward_filter_split_pixels_mma(Context&, const Conv2dProblem&, const bf16*,
                                                      const bf16*, float*, float*);
template void conv2d_backward_filter_split_pixels_mma(Context&, const Conv2dProblem&, const float*,
                                                      const float*, float*, float*);

bool supports_norm_backward_filter_split_pixels_mma(const Conv2dNormProblem& d, const DeviceInfo&) {
  return d.form != InputForm::Plain && supports_split_pixels<bf16>(d.conv);
}
void conv2d_norm_backward_filter_split_pixels_mma(Context& ctx, const Conv2dNormProblem& d,
                                                  const bf16* x, NormInput in, const bf16* dy,
                                                  float* dw) {
  run_split_pixels(ctx, d.conv, x, NormForm::of(d.form, d.slope, in), dy, dw, nullptr);
}

bool supports_backward_filter_group_split_pixels_mma(const Conv2dGroupProblem& d,
                                                     const DeviceInfo&) {
  return supports_split_pixels<bf16>(d.conv);
}
void conv2d_backward_filter_group_split_pixels_mma(Context& ctx, const Conv2dGroupProblem& d,
                                                   const FilterGradient<bf16>* list) {
  if (taps_of_a_block(d.conv) == 1) {
    if (d.conv.stride == 1) return launch_group<1, 1>(ctx, d, list);
    return launch_group<1, 2>(ctx, d, list);
  }
  if (d.conv.stride == 1) return launch_group<3, 1>(ctx, d, list);
  launch_group<3, 2>(ctx, d, list);
}

}  // namespace subpix::kernels::KERNEL_TARGET
