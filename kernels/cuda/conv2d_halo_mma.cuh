#pragma once

// The kernel on halo tiles: a convolution of stride 1 on tensor cores (mma.sync, bf16) that loads
// each activation once. conv2d_halo_mma.cu has the formula and the bounds; the ops that do more
// than a convolution (conv2d_norm_halo_mma.cu and others) run the same kernel with a Fusion of
// their own.
//
// Block: a tile of outputs (a rectangle of one image, or several whole small images) by 64 filters.
// The reduction runs in chunks of 64 channels, 128 bytes a pixel, and in each over the taps:
//   patch    cp.async, the next chunk's while this one is used;
//   filters  64 x 64 of one tap, a ring of three stages, cp.async;
//   product  a tap is a shift of the addresses that ldmatrix gets, nothing is copied.
// The tile's rectangle is a parameter: only the number of rows of the product is compiled in, and
// plan() chooses rectangle and rows for the problem.
//
// Note [Swizzle by output]
// ldmatrix reads eight consecutive rows of the product; they must differ in the low three bits that
// are xored into the 16-byte chunk. Rows are outputs m = (image*rows + y)*cols + x, and the patch
// pixel of tap (r,s) would have the key m + r*cols + s if image, y, x + r, s were counted with the
// tile's own pitch. So a patch pixel (image,y,x) is stored with the key image*rows*cols + y*cols +
// x modulo 8: conflict-free for every width, shift and line break, with no padding of the pitch.
//
// Note [Fusion]
// What happens to the patch before the product and to the sums after it. A Fusion is an argument of
// the kernel and has
//   static constexpr bool kForms       whether it changes the patch. Then also
//     bool forms() const               whether it does so for this problem
//     struct Channels                  what that takes for eight channels, in registers
//     Channels channels(int c) const   of the input's channels c to c + 7, which exist
//     uint4 form(Channels, uint4)      eight values of a pixel inside the image, in the same order;
//                                      pixels outside stay zero
//   Conv2dEpilogue epilogue() const    what is done in fp32 before the sums are rounded to bf16
//   template <class B> struct Scratch  shared memory that finish() may use
//   finish<B>(Result, Scratch<B>&, bf16* out) const
//     All threads of the block come here with the tile of 64 filters in shared memory; a barrier
//     lies before. out is the kernel's argument, from the tile's first image on.
// Each thread forms exactly the 16 bytes that it copied itself, between its wait for its copies and
// the barrier that shows them to the others: forming needs no barrier of its own.

#include <algorithm>

#include "kernels/cuda/conv2d.cuh"
#include "kernels/cuda/conv2d_fragments.cuh"
#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"

namespace subpix::kernels::KERNEL_TARGET::halo {

inline constexpr int kChannels = 64;  // of a chunk
inline constexpr int kFilters = 64;   // of a block
inline constexpr int kStages = 3;     // of filters; two are on their way while one is used

/// WM x WN warps share rows and columns, WK warps share the reduction of each tap (fewer of them
/// read the same operands then, and small tiles still have four warps). A warp has MT x NT tiles of
/// 16 x 8. Patch: pixels that fit. Resident: blocks an SM is to hold, which bounds the registers.
template <int WM, int WN, int WK, int MT, int Patch, int Resident>
struct Block {
  static constexpr int kWM = WM, kWN = WN, kWK = WK, kMT = MT, kNT = kFilters / 8 / WN;
  static constexpr int kThreads = 32 * WM * WN * WK;
  static constexpr int kRows = WM * MT * 16;
  static constexpr int kPatch = Patch, kResident = Resident;
};
using Block48 = Block<1, 2, 2, 3, 104, 4>;   // one 6x6 image
using Block80 = Block<1, 2, 2, 5, 136, 3>;   // 6x12 outputs: 128 blocks for 16 images of 24x24
using Block128 = Block<4, 1, 1, 2, 184, 3>;  // 8x16 outputs of large images
using Block144 = Block<3, 1, 2, 3, 256, 2>;  // one 12x12 image, four 6x6 ones

/// Sizes of a launch. `in` and `out` are channels.
struct Shape : ConvSizes {
  int tile_images, tile_rows, tile_cols;
  int tiles_p, tiles_q, filter_blocks;

  GPU_FN int patch_rows() const { return tile_rows + r - 1; }
  GPU_FN int patch_cols() const { return tile_cols + s - 1; }
  GPU_FN int patch() const { return tile_images * patch_rows() * patch_cols(); }
};

template <class B, class Fusion>
struct alignas(128) Shared {
  struct Loop {
    unsigned char patch[2][B::kPatch * 128];
    unsigned char filters[kStages][kFilters * 128];
  };
  struct End {  // after the last tap
    float4 partial[B::kWK - 1 ? B::kRows * kFilters / 4 : 1];
    unsigned char out[B::kRows * 128];
    typename Fusion::template Scratch<B> scratch;
  };
  union {
    Loop loop;
    End end;
  };
  // Of each pixel of the patch: its pixel in the input * 8 + key, negative outside. Counted from
  // the first image of the tile, like `target`.
  int source[B::kPatch];
  int first[B::kRows];   // of each output: the patch pixel of tap (0,0)
  int target[B::kRows];  // its pixel in the output, negative if there is none
};

/// What a block owns: images from `image`, outputs from (p, q), filters from k; `tile` numbers the
/// tiles, which filter_blocks blocks share.
struct Place {
  int image, p, q, k, tile;
};

/// A finished tile: row m of the product begins at rows + 128 m and is swizzled (swz128).
struct Result {
  const Shape& d;
  const Place& at;
  const unsigned char* rows;
  const int* target;  // of each row: Shared::target

  /// Pixels of the output before the tile's first image, from which `target` counts.
  GPU_DEV Index first_pixel() const { return Index{at.image} * d.p * d.q; }
  /// Rows that are outputs: the others lie outside the image, or behind the last one.
  GPU_DEV int pixels() const {
    return min(d.tile_images, d.images - at.image) * min(d.tile_rows, d.p - at.p) *
           min(d.tile_cols, d.q - at.q);
  }
};

/// The Fusion of a plain convolution.
struct Plain {
  static constexpr bool kForms = false;
  template <class B>
  struct Scratch {};

  Conv2dEpilogue end;

  GPU_DEV const Conv2dEpilogue& epilogue() const { return end; }
  template <class B>
  GPU_DEV void finish(const Result& r, Scratch<B>&, bf16* out) const {
    store_tile<B::kThreads, B::kRows>(r.rows, r.target, out, r.at.k, r.d.out,
                                      static_cast<int>(threadIdx.x));
  }
};

GPU_DEV Place place_of(const Shape& d, unsigned block) {
  const int tile = static_cast<int>(block / static_cast<unsigned>(d.filter_blocks));
  const int filter_block = static_cast<int>(block % static_cast<unsigned>(d.filter_blocks));
  const int tq = tile % d.tiles_q, tp = tile / d.tiles_q % d.tiles_p;
  return {tile / d.tiles_q / d.tiles_p * d.tile_images, tp * d.tile_rows, tq * d.tile_cols,
          filter_block * kFilters, tile};
}

/// Fills the three tables; a barrier must follow.
template <class B, class Fusion>
GPU_DEV void make_tables(Shared<B, Fusion>& s, const Shape& d, const Place& at, int thread) {
  const int rows = d.patch_rows(), cols = d.patch_cols();
  for (int i = thread; i < d.patch(); i += B::kThreads) {
    const int x = i % cols, y = i / cols % rows, image = i / cols / rows;
    const int v = at.q + x - d.pad_w, h = at.p + y - d.pad_h;
    const bool inside = at.image + image < d.images && h >= 0 && h < d.h && v >= 0 && v < d.w;
    const int key = (image * d.tile_rows * d.tile_cols + y * d.tile_cols + x) & 7;
    s.source[i] = (inside ? (image * d.h + h) * d.w + v : -1) * 8 + key;
  }
  for (int m = thread; m < B::kRows; m += B::kThreads) {
    const int x = m % d.tile_cols, y = m / d.tile_cols % d.tile_rows;
    const int image = m / d.tile_cols / d.tile_rows;
    const bool in_tile = image < d.tile_images;
    const bool inside = in_tile && at.image + image < d.images && at.p + y < d.p && at.q + x < d.q;
    // Rows past the tile multiply whatever the patch begins with and are never stored.
    s.first[m] = in_tile ? (image * rows + y) * cols + x : 0;
    s.target[m] = inside ? (image * d.p + at.p + y) * d.q + at.q + x : -1;
  }
}

/// One block computes rows x 64 outputs. Accumulators stay in registers over the whole reduction.
/// supports() guarantees channels in multiples of 8 and 16-byte aligned tensors; the last chunk of
/// channels and the last filters are filled up with zeros.
template <class B, bool Flip, class Fusion>
__global__ void __launch_bounds__(B::kThreads, B::kResident)
    conv2d_halo_mma_kernel(Shape d, const bf16* __restrict__ in, const bf16* __restrict__ w,
                           Fusion fusion, bf16* __restrict__ out) {
  auto& s = gpu::smem<Shared<B, Fusion>>();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int wm = warp % B::kWM, wn = warp / B::kWM % B::kWN, wk = warp / (B::kWM * B::kWN);
  const Place at = place_of(d, blockIdx.x);
  const int taps = d.r * d.s, chunks = gpu::cdiv(d.in, kChannels), steps = taps * chunks;
  in += Index{at.image} * d.h * d.w * d.in;
  out += Index{at.image} * d.p * d.q * d.out;

  make_tables(s, d, at, thread);
  __syncthreads();  // the tables are complete

  // Eight threads copy the 128 bytes of a pixel.
  const auto load_patch = [&](int chunk) {
    const int part = thread % 8, c = chunk * kChannels + part * 8, count = d.patch();
    unsigned char* patch = s.loop.patch[chunk % 2];
    for (int i = thread / 8; i < count; i += B::kThreads / 8) {
      const int source = s.source[i], pixel = source >> 3, key = source & 7;
      const bool valid = pixel >= 0 && c < d.in;
      // [halo fill]
      gpu::cp_async<16>(patch + i * 128 + ((part ^ key) << 4),
                        valid ? in + Index{pixel} * d.in + c : in, valid);
    }
  };
  // Waits for the thread's copies of a step; with the first of a chunk the patch has come.
  const auto wait = [&](bool fresh, int chunk) {
    if constexpr (!Fusion::kForms) {
      gpu::cp_async_wait<kStages - 2>();
    } else {  // Note [Fusion]
      const int part = thread % 8, c = chunk * kChannels + part * 8, count = d.patch();
      if (!fresh || !fusion.forms() || c >= d.in) return gpu::cp_async_wait<kStages - 2>();
      const auto channels = fusion.channels(c);  // on its way with the patch
      gpu::cp_async_wait<kStages - 2>();
      unsigned char* patch = s.loop.patch[chunk % 2];
      for (int i = thread / 8; i < count; i += B::kThreads / 8) {
        const int source = s.source[i];
        if (source < 0) continue;
        auto* own = reinterpret_cast<uint4*>(patch + i * 128 + ((part ^ (source & 7)) << 4));
        // [halo form load]
        const uint4 values = *own;
        const uint4 formed = fusion.form(channels, values);
        // [halo form store]
        *own = formed;
      }
    }
  };
  // Rows of the stage: forward filters, each with 64 channels; flipped input channels, each with 64
  // of the outputs (they lie side by side in w, and ldmatrix transposes).
  const auto load_filters = [&](int chunk, int tap, int stage) {
    const int part = thread % 8;
    for (int i = thread / 8; i < 64; i += B::kThreads / 8) {
      const int row = (Flip ? chunk * kChannels : at.k) + i;
      const int col = (Flip ? at.k : chunk * kChannels) + part * 8;
      const int rows = Flip ? d.in : d.out, cols = Flip ? d.out : d.in;
      const bool valid = row < rows && col < cols;
      const Index offset = (Index{row} * taps + (Flip ? taps - 1 - tap : tap)) * cols + col;
      // [halo filter]
      gpu::cp_async<16>(s.loop.filters[stage] + gpu::swz128(i, part), valid ? w + offset : w,
                        valid);
    }
  };

  int next_chunk = 0, next_tap = 0;  // of the filters to load next
  const auto load_next_filters = [&](int stage) {
    if (next_chunk == chunks) return;
    load_filters(next_chunk, next_tap, stage);
    if (++next_tap == taps) {
      next_tap = 0;
      ++next_chunk;
    }
  };
  load_patch(0);
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) {
    load_next_filters(stage);
    gpu::cp_async_commit();
  }

  float sum[B::kMT][B::kNT][4] = {};
  int first[B::kMT];
#pragma unroll
  for (int i = 0; i < B::kMT; ++i) first[i] = s.first[(wm * B::kMT + i) * 16 + lane % 16] * 128;

  int chunk = 0, tap_r = 0, tap_s = 0;
  for (int step = 0; step < steps; ++step) {
    wait(tap_r == 0 && tap_s == 0, chunk);
    // Everyone's copies for this step have arrived, and everyone has left the previous step: its
    // stage, and at a chunk's first tap the patch of the chunk before.
    __syncthreads();
    load_next_filters((step + kStages - 1) % kStages);
    // In the group of the filters that are waited for kStages - 1 steps from now: a chunk has at
    // least so many taps.
    if (tap_r == 0 && tap_s == 0 && chunk + 1 < chunks) load_patch(chunk + 1);
    gpu::cp_async_commit();

    const unsigned char* patch = s.loop.patch[chunk % 2] + (tap_r * d.patch_cols() + tap_s) * 128;
    const int key = (lane + tap_r * d.tile_cols + tap_s) & 7;  // Note [Swizzle by output]
    const unsigned char* filters = s.loop.filters[step % kStages];
#pragma unroll
    for (int i16 = 0; i16 < 4 / B::kWK; ++i16) {  // 16 channels
      const int kk = wk * (4 / B::kWK) + i16;
      std::uint32_t a[B::kMT][4], b[B::kNT][2];
#pragma unroll
      for (int i = 0; i < B::kMT; ++i)
        // [halo a]
        gpu::ldmatrix_x4(a[i], patch + first[i] + (((kk * 2 + lane / 16) ^ key) << 4));
      load_b_fragments<Flip>(b, filters, kk, wn * B::kNT * 8, lane);
      gpu::mma_tile_bf16(sum, a, b);
    }
    if (++tap_s == d.s) {
      tap_s = 0;
      if (++tap_r == d.r) {
        tap_r = 0;
        ++chunk;
      }
    }
  }
  gpu::cp_async_wait<0>();
  __syncthreads();  // the last tap has been read: patch and filters become the end's buffers

  float4* partial = s.end.partial + (wn * B::kWM + wm) * (B::kMT * B::kNT * 32) + lane;
  if constexpr (B::kWK == 2) {
    if (wk == 1)
#pragma unroll
      for (int i = 0; i < B::kMT; ++i)
#pragma unroll
        for (int j = 0; j < B::kNT; ++j)
          partial[(i * B::kNT + j) * 32] =
              make_float4(sum[i][j][0], sum[i][j][1], sum[i][j][2], sum[i][j][3]);
    __syncthreads();  // the second half of the reduction is there
  }
  if (wk == 0)
    stage_tile(
        sum,
        [&](int i, int j) {
          return B::kWK == 2 ? partial[(i * B::kNT + j) * 32] : make_float4(0, 0, 0, 0);
        },
        s.end.out, wm * B::kMT * 16, wn * B::kNT * 8, lane, fusion.epilogue(), at.k, d.out);
  __syncthreads();  // the tile is complete
  fusion.template finish<B>({d, at, s.end.out, s.target}, s.end.scratch, out);
}

// --- host ----------------------------------------------------------------------------------------

/// The tile is still to be chosen.
inline Shape shape_of(const Conv2dProblem& d, bool flip) {
  Shape s{};
  static_cast<ConvSizes&>(s) = conv_sizes(d, flip);
  return s;
}

/// A rectangle and what it is expected to take: waves of blocks over the SMs times the clocks of
/// one block.
struct TileChoice {
  int block = -1;  // index into kBlocks
  int images = 0, rows = 0, cols = 0;
  Index cost = 0;
};
struct BlockSize {
  int rows, patch;
};
inline constexpr BlockSize kBlocks[] = {{Block48::kRows, Block48::kPatch},
                                        {Block80::kRows, Block80::kPatch},
                                        {Block128::kRows, Block128::kPatch},
                                        {Block144::kRows, Block144::kPatch}};

inline Index blocks_of(const Shape& d) {
  return Index{gpu::cdiv(d.images, d.tile_images)} * d.tiles_p * d.tiles_q * d.filter_blocks;
}

inline Shape with_tile(Shape d, const TileChoice& t) {
  d.tile_images = t.images;
  d.tile_rows = t.rows;
  d.tile_cols = t.cols;
  d.tiles_p = gpu::cdiv(d.p, t.rows);
  d.tiles_q = gpu::cdiv(d.q, t.cols);
  d.filter_blocks = gpu::cdiv(d.out, kFilters);
  return d;
}

/// Clocks of an SM with one block: a step takes the tensor cores 4 clocks a row (64 x 64
/// multiply-adds at 1024 a clock), unless its 8 KiB of filters take longer (about 28 bytes a clock
/// from L2); the first patch is waited for; starting and ending take about as long as 1500 clocks.
inline Index clocks_of(const Shape& d, int rows) {
  const Index steps = Index{d.r} * d.s * gpu::cdiv(d.in, kChannels);
  return steps * (std::max(4 * rows, 292) + 40) + 5 * Index{d.patch()} + 1500;
}

/// The tile of least expected time. Widths divide the output evenly (as far as that goes); then as
/// many rows, and if whole images fit as many images, as block and patch hold. Rows and columns are
/// multiples of `multiple`, even where that reaches over the output's edge.
inline TileChoice pick_tile(const Shape& d, int multiprocessors, int multiple) {
  const auto up = [&](int v) { return gpu::cdiv(v, multiple) * multiple; };
  TileChoice best;
  for (int b = 0; b < static_cast<int>(std::size(kBlocks)); ++b)
    for (int cols = std::min(up(d.q), 32); cols >= std::min(up(d.q), 4); cols -= multiple) {
      if (up(gpu::cdiv(d.q, gpu::cdiv(d.q, cols))) != cols) continue;
      const int fit = kBlocks[b].patch / (cols + d.s - 1) - (d.r - 1);  // rows the patch holds
      int rows = std::min({up(d.p), kBlocks[b].rows / cols, fit}) / multiple * multiple;
      if (rows < 1) continue;
      rows = up(gpu::cdiv(d.p, gpu::cdiv(d.p, rows)));
      TileChoice t{.block = b, .images = 1, .rows = rows, .cols = cols};
      if (rows >= d.p && cols >= d.q)
        t.images = std::min({d.images, kBlocks[b].rows / (rows * cols),
                             kBlocks[b].patch / ((rows + d.r - 1) * (cols + d.s - 1))});
      const Shape shape = with_tile(d, t);
      t.cost = gpu::cdiv(blocks_of(shape), Index{std::max(1, multiprocessors)}) *
               clocks_of(shape, kBlocks[b].rows);
      if (best.block < 0 || t.cost < best.cost) best = t;
    }
  return best;
}

/// What run() launches. `tiles` of the output, each filter_blocks blocks, numbered as Place::tile.
struct Plan {
  Shape shape;
  int block;  // index into kBlocks

  Index tiles() const { return blocks_of(shape) / shape.filter_blocks; }
};
/// multiple: what rows and columns of a tile must be multiples of, 1 or 2 (windows of 2 x 2 outputs
/// then belong to one block).
inline Plan plan(const Conv2dProblem& d, bool flip, int multiprocessors, int multiple = 1) {
  const Shape problem = shape_of(d, flip);
  const TileChoice tile = pick_tile(problem, multiprocessors, multiple);
  return {with_tile(problem, tile), tile.block};
}

/// Flip: the plan's.
template <bool Flip, class Fusion>
void run(Context& ctx, const Plan& plan, const bf16* in, const bf16* w, const Fusion& fusion,
         bf16* out) {
  const auto with = [&]<class B>(B) {
    using Memory = Shared<B, Fusion>;
    static_assert(sizeof(Memory) <= 99 * 1024);
    gpu::launch(conv2d_halo_mma_kernel<B, Flip, Fusion>,
                {.grid = gpu::grid_for(blocks_of(plan.shape), 1),
                 .block = B::kThreads,
                 .smem = sizeof(Memory),
                 .stream = ctx.stream},
                plan.shape, in, w, fusion, out);
  };
  switch (plan.block) {
    case 0:
      return with(Block48{});
    case 1:
      return with(Block80{});
    case 2:
      return with(Block128{});
    default:
      return with(Block144{});
  }
}

/// Stride 1; at least 32 channels on both sides, in multiples of 8 (16 bytes): fewer would waste
/// most of a chunk. A chunk needs two taps to cover the next one's patch, and filters beyond 7 x 7
/// leave a tile only where some patch holds it. Pixels of a tile's images are counted in 28 bits.
inline bool supports(const Conv2dProblem& d, bool flip, int multiple = 1) {
  const Index most = Index{1} << 28;
  return d.stride == 1 && d.c % 8 == 0 && d.k % 8 == 0 && d.c >= 32 && d.k >= 32 &&
         d.r * d.s >= kStages - 1 && d.c < most && d.k < most && 4 * d.h * d.w < most &&
         4 * d.p() * d.q() < most && d.n < most && d.r < most && d.s < most &&
         ((d.r <= 7 && d.s <= 7) || pick_tile(shape_of(d, flip), 1, multiple).block >= 0);
}

}  // namespace subpix::kernels::KERNEL_TARGET::halo
