#pragma once

// Convolution as an implicit GEMM on tensor cores by mma.sync: what the forward pass
// (conv2d_implicit_gemm_mma.cu) and the gradient of the input (conv2d_backward_data_mma.cu) share.
//
//   out[m, n] = sum over j of A[m, j] * B[n, j]
//
// A row m is a pixel of the result, a column n one of its channels. The reduction j runs over
// (tap, channel of the gathered tensor) and is cut into chunks of 16 bytes: eight bf16 or four
// floats. A chunk never straddles two taps, because the channel count is a multiple of it. So A,
// which im2col would write to memory, is gathered straight into shared memory chunk by chunk, and
// eight channels cost no more than the eight they are: a step takes the next eight chunks, of
// whatever taps.
//
// Shared memory is a ring of stages; a stage holds eight chunks of kM pixels (rows of 128 bytes)
// and of kN columns. cp.async fills a stage while tensor cores work on older ones, and writes zeros
// where a tap lies outside the image. Rows are swizzled: ldmatrix reads one chunk of eight rows at
// a time, and the xor puts those eight into different banks.
//
// TF32: the same kernel with T = float. ldmatrix moves 16-byte rows whatever they hold, and an 8x8
// matrix of 16-bit values read as 32-bit words is just the 8x4 fragment of m16n8k8. The tensor core
// drops the low 13 bits of its operands, which would truncate; adding half of the last kept bit
// first rounds to nearest instead, as the bound of docs/numerics.md assumes and as its zero mean
// demands: truncated operands pull every product towards zero.
//
// Note [Fusion]
// What happens to the gathered tensor before the product and to the sums after it; an argument of
// the kernel with
//   static constexpr bool kForms       whether it changes what is gathered. Then also
//     bool forms() const               whether it does so for this problem
//     struct Channels                  what that takes for a chunk's channels, in registers
//     Channels channels(int c) const   of channels c to c + 7
//     uint4 form(Channels, uint4)      a chunk of a pixel inside the image; outside stays zero
//   Conv2dEpilogue epilogue() const    what is done in fp32 before the sums are rounded to Out
//   finish<Tile>(Result, Out* out) const
//     All threads of the block come here with the tile of the result in shared memory; a barrier
//     lies before.
//   absent<Tile>(Result) const         the same for a block without pixels
// Each thread forms exactly the chunks that it copied itself, between its wait for its copies and
// the barrier that shows them to the others: forming needs no barrier of its own.

#include <type_traits>

#include "kernels/cuda/conv2d.cuh"
#include "kernels/cuda/pack.cuh"

namespace subpix::kernels::KERNEL_TARGET::mma {

constexpr int kThreads = 128;  // four warps
constexpr int kChunks = 8;     // of a step
constexpr int kRowBytes = kChunks * 16;
constexpr int kRowsAtOnce = kThreads / kChunks;  // rows of which all threads copy one chunk each

/// How a block divides a kM x kN piece of the result: WarpsM x (4 / WarpsM) warps, each a grid of
/// m16n8 fragments; a ring of kStages; kBlocks: blocks a multiprocessor should hold, which bounds
/// registers.
template <int M, int N, int WarpsM, int Stages, int Blocks>
struct Tile {
  static constexpr int kM = M, kN = N, kStages = Stages, kBlocks = Blocks;
  static constexpr int kWarpsN = kThreads / 32 / WarpsM;
  static constexpr int kWarpM = M / WarpsM, kWarpN = N / kWarpsN;
  static constexpr int kFragmentsM = kWarpM / 16, kFragmentsN = kWarpN / 8;
  static_assert(kFragmentsN == 1 || kFragmentsN % 2 == 0, "an ldmatrix fetches two columns of B");
};
// 64x32 of a warp feeds a tensor core with the fewest bytes of shared memory per product. The
// smaller ones are for problems that do not have a large tile for every multiprocessor, the narrow
// one for images: three channels fill three of its eight columns.
// TF32's backward pass fetches B without ldmatrix, and then a large tile needs more registers than
// three blocks leave it.
template <class T>
using LargeTile = Tile<128, 64, 2, 3, std::is_same_v<T, float> ? 2 : 3>;
using MediumTile = Tile<64, 64, 2, 4, 3>;
using SmallTile = Tile<64, 32, 2, 4, 4>;
using NarrowTile = Tile<128, 8, 4, 4, 3>;

/// A convolution as the kernels see it. source: the tensor that is gathered, [images, source_h,
/// source_w, source_c]; out: the one that is written. The filter is [K, r, s, C], its rows filter_c
/// elements apart.
struct ImplicitGemm {
  int images, source_h, source_w, source_c, out_h, out_w, out_c, filter_c, r, s, stride, pad;
  bool packed_out;  // rows of out are whole, aligned packs
};

/// The pixels of the result that one launch phase computes and where they read. Grid pixel (y, x)
/// is out pixel (y * out_step + out_top, ...); its tap (i, j) reads source pixel (y * step + top +-
/// i, ...), with the sign of the pass.
struct PixelGrid {
  int height, width;
  int step, top, left;
  int taps_h, taps_w;
  int out_step, out_top, out_left;

  /// Chunks of the whole reduction.
  GPU_DEV int chunks(int chunks_per_tap) const { return taps_h * taps_w * chunks_per_tap; }
};

constexpr int kNowhere = -(1 << 30);  // as the top of a pixel: every tap lies outside

template <class Tile>
struct alignas(1024) Shared {
  unsigned char a[Tile::kStages * Tile::kM * kRowBytes];  // in the end: the tile of the result
  unsigned char b[Tile::kStages * Tile::kN * kRowBytes];
  // For each pixel of the tile the source pixel of its first tap, the flat index of that one
  // (negative where it lies before the image), and the flat index of its out pixel, -1 behind the
  // last.
  int top[Tile::kM], left[Tile::kM], source[Tile::kM], out[Tile::kM];
};

/// Byte offset of a chunk in rows of Chunks chunks, such that the same chunk of eight rows (what
/// ldmatrix reads) and eight consecutive chunks (what copies write) lie in different banks.
template <int Chunks>
GPU_DEV int swizzle8(int row, int chunk) {
  return (row * Chunks + (chunk ^ (row / (8 / Chunks) % Chunks))) * 16;
}
/// The same for two neighbouring chunks of four rows: fp32 fragments eight columns wide.
template <int Chunks>
GPU_DEV int swizzle4(int row, int chunk) {
  return (row * Chunks + (chunk ^ (row % 4 * 2 % Chunks))) * 16;
}

/// Byte offset of a pack in rows of `Columns` elements, such that a fragment's eight rows of eight
/// columns of bf16, or its half of four rows of fp32, lie in different banks.
template <class T, int Columns>
GPU_DEV int place_of_pack(int row, int chunk) {
  constexpr int kRowChunks = Columns / kPack<T>;
  if constexpr (std::is_same_v<T, float>)
    return swizzle4<kRowChunks>(row, chunk);
  else
    return swizzle8<kRowChunks>(row, chunk);
}

/// A place in the reduction: chunk `chunk` of tap (i, j). advance() goes kChunks chunks on, without
/// a division; behind the end i reaches taps_h.
struct Walk {
  int chunk, i, j;
  int chunks_per_tap, taps_w, chunk_step, i_step, j_step;

  GPU_DEV Walk(int first, int per_tap, const PixelGrid& grid)
      : chunks_per_tap(per_tap), taps_w(max(grid.taps_w, 1)) {  // a phase may have no taps
    chunk = first % per_tap;
    i = first / per_tap / taps_w;
    j = first / per_tap % taps_w;
    chunk_step = kChunks % per_tap;
    i_step = kChunks / per_tap / taps_w;
    j_step = kChunks / per_tap % taps_w;
  }
  GPU_DEV void advance() {
    chunk += chunk_step;
    j += j_step;
    i += i_step;
    if (chunk >= chunks_per_tap) {
      chunk -= chunks_per_tap;
      ++j;
    }
    if (j >= taps_w) {
      j -= taps_w;
      ++i;
    }
  }
};

/// Operand bits as the tensor core should see them; see the note on TF32 above. Infinity and NaN
/// stay: a carry would make a full NaN into zero.
template <class T>
GPU_DEV std::uint32_t operand(std::uint32_t bits) {
  if constexpr (std::is_same_v<T, float>)
    return (bits & 0x7F800000u) == 0x7F800000u ? bits : bits + 0x1000u;
  else
    return bits;
}

/// sum += a * b for one k-step of a warp: 32 bytes of every row.
template <class T, int M, int N>
GPU_DEV void multiply(float (&sum)[M][N][4], const std::uint32_t (&a)[M][4],
                      const std::uint32_t (&b)[N][2]) {
  if constexpr (std::is_same_v<T, float>)
    gpu::mma_tile_tf32(sum, a, b);
  else
    gpu::mma_tile_bf16(sum, a, b);
}

/// Stores two neighbouring values of a fragment in the tile of the result.
template <int Columns>
GPU_DEV void stage_pair(unsigned char* tile, const float*, int row, int column, float v0,
                        float v1) {
  *reinterpret_cast<float2*>(tile + place_of_pack<float, Columns>(row, column / 4) +
                             column % 4 * 4) = make_float2(v0, v1);  // [mma stage f32]
}
template <int Columns>
GPU_DEV void stage_pair(unsigned char* tile, const bf16*, int row, int column, float v0, float v1) {
  *reinterpret_cast<std::uint32_t*>(tile + place_of_pack<bf16, Columns>(row, column / 8) +
                                    column % 8 * 2) = gpu::pack_bf16(v0, v1);  // [mma stage bf16]
}

/// A finished tile of kM pixels x kN channels; place_of_pack says where in `rows` a pack lies.
struct Result {
  const ImplicitGemm& g;
  const unsigned char* rows;
  unsigned char* scratch;  // of the size of B's stages, unused now
  const int* out;          // of each pixel: Shared::out
  int part;                // numbers the tiles of pixels, of all phases
  int pixels;              // of the tile: the first ones are those that exist
  int n0;                  // first channel
};

/// The Fusion of a plain convolution.
struct Plain {
  static constexpr bool kForms = false;

  Conv2dEpilogue end;

  GPU_DEV const Conv2dEpilogue& epilogue() const { return end; }
  template <class Tile>
  GPU_DEV static void absent(const Result&) {}
  template <class Tile, class T>
  GPU_DEV static void finish(const Result& r, T* out) {
    constexpr int kM = Tile::kM, kN = Tile::kN, kRowPacks = kN / kPack<T>;
    const int t = static_cast<int>(threadIdx.x), n0 = r.n0;
    if (r.g.packed_out) {
#pragma unroll
      for (int i = 0; i < kM * kRowPacks / kThreads; ++i) {
        const int e = t + i * kThreads, row = e / kRowPacks, pack = e % kRowPacks;
        const Index pixel = r.out[row];
        const int column = n0 + pack * kPack<T>;
        if (pixel >= 0 && column < r.g.out_c)
          *reinterpret_cast<uint4*>(out + pixel * r.g.out_c + column) =  // [mma store]
              *reinterpret_cast<const uint4*>(r.rows + place_of_pack<T, kN>(row, pack));
      }
    } else {  // element by element, consecutive lanes on consecutive elements of out
      const int width = min(kN, r.g.out_c - n0);
      for (int e = t; e < kM * width; e += kThreads) {
        const int row = e / width, column = e % width;
        const Index pixel = r.out[row];
        if (pixel >= 0)
          out[pixel * r.g.out_c + n0 + column] = reinterpret_cast<const T*>(
              r.rows + place_of_pack<T, kN>(row, column / kPack<T>))[column % kPack<T>];
      }
    }
  }
};

/// A block computes kM pixels x kN channels of the result; blockIdx.x numbers these tiles, those of
/// the same pixels side by side so that they share the gathered tensor in L2; blockIdx.z is the
/// phase. Per step each thread copies chunk t % 8 of kM / 16 pixels and its share of the filters,
/// then the warps multiply an older stage. supports(): source_c is a multiple of the chunk, pixel
/// indices fit an int; the launcher: source and filter are 16-byte aligned.
/// Pass (see the two sources): which pixels and taps there are, how B comes into shared memory and
/// from there into fragments.
/// Out: T, or float for bf16 operands whose sums are not rounded.
template <class T, class Tile, template <class, class> class Pass, class Fusion, class Out>
__global__ void __launch_bounds__(kThreads, Tile::kBlocks)
    conv2d_implicit_gemm_mma_kernel(ImplicitGemm g, const T* __restrict__ source,
                                    const T* __restrict__ filter, Fusion fusion,
                                    Out* __restrict__ out) {
  using P = Pass<T, Tile>;
  constexpr int kM = Tile::kM, kN = Tile::kN, kStages = Tile::kStages;
  constexpr int kFragmentsM = Tile::kFragmentsM, kFragmentsN = Tile::kFragmentsN;
  auto& s = gpu::smem<Shared<Tile>>();
  const int t = static_cast<int>(threadIdx.x), warp = t / 32, lane = t % 32;
  const PixelGrid grid = P::grid(g, static_cast<int>(blockIdx.z));
  const int tiles_n = gpu::cdiv(g.out_c, kN), tile = static_cast<int>(blockIdx.x);
  const int m0 = tile / tiles_n * kM, n0 = tile % tiles_n * kN;
  const int pixels = g.images * grid.height * grid.width;
  const Result result{.g = g,
                      .rows = s.a,
                      .scratch = s.b,
                      .out = s.out,
                      .part = static_cast<int>((blockIdx.z * gridDim.x + blockIdx.x)) / tiles_n,
                      .pixels = min(kM, pixels - m0),
                      .n0 = n0};
  if (m0 >= pixels)  // the whole block: a phase with fewer pixels than the largest
    return fusion.template absent<Tile>(result);

  for (int row = t; row < kM; row += kThreads) {
    const int m = m0 + row, x = m % grid.width, line = m / grid.width;
    const int y = line % grid.height, n = line / grid.height;
    const int top = y * grid.step + grid.top, left = x * grid.step + grid.left;
    const int out_y = y * grid.out_step + grid.out_top, out_x = x * grid.out_step + grid.out_left;
    const bool exists = m < pixels;
    s.top[row] = exists ? top : kNowhere;
    s.left[row] = left;
    s.source[row] = exists ? (n * g.source_h + top) * g.source_w + left : 0;
    s.out[row] = exists ? (n * g.out_h + out_y) * g.out_w + out_x : -1;
  }
  __syncthreads();  // the rows are written by one thread each and read by eight

  // A's share of a thread: chunk t % 8 of rows t / 8, t / 8 + 16, ... They swizzle alike.
  const int per_tap = g.source_c / kPack<T>, chunk = t % kChunks, row0 = t / kChunks;
  int top[kM / kRowsAtOnce], left[kM / kRowsAtOnce], first[kM / kRowsAtOnce];
#pragma unroll
  for (int i = 0; i < kM / kRowsAtOnce; ++i) {
    top[i] = s.top[row0 + i * kRowsAtOnce];
    left[i] = s.left[row0 + i * kRowsAtOnce];
    first[i] = s.source[row0 + i * kRowsAtOnce];
  }
  Walk walk(chunk, per_tap, grid);
  P b_share(g, grid, filter, n0);
  // Of the chunks on their way or here, newest in front: which channels, and which lie inside.
  constexpr int kEach = kM / kRowsAtOnce;
  static_assert(kEach * (kStages - 1) <= 32);
  [[maybe_unused]] int filled[kStages - 1] = {};
  [[maybe_unused]] unsigned filled_inside = 0;
  const auto remember = [&](int of_chunk, unsigned inside) {
#pragma unroll
    for (int i = kStages - 2; i > 0; --i) filled[i] = filled[i - 1];
    filled[0] = of_chunk;
    filled_inside = filled_inside << kEach | inside;
  };
  const auto fill = [&](int stage) {  // called once for each step, in order
    unsigned mask = 0;
    unsigned char* a = s.a + stage * (kM * kRowBytes) + swizzle8<kChunks>(row0, chunk);
    const int di = P::kSign * walk.i, dj = P::kSign * walk.j, moved = di * g.source_w + dj;
    const T* from = source + walk.chunk * kPack<T>;
#pragma unroll
    for (int i = 0; i < kM / kRowsAtOnce; ++i) {
      const bool inside = walk.i < grid.taps_h &&
                          static_cast<unsigned>(top[i] + di) < static_cast<unsigned>(g.source_h) &&
                          static_cast<unsigned>(left[i] + dj) < static_cast<unsigned>(g.source_w);
      if (Fusion::kForms && inside) mask |= 1u << i;
      const Index pixel = inside ? first[i] + moved : 0;
      // [mma fill a]
      gpu::cp_async<16>(a + i * (kRowsAtOnce * kRowBytes), from + pixel * g.source_c, inside);
    }
    if constexpr (Fusion::kForms) remember(walk.chunk, mask);
    walk.advance();
    b_share.fill(s.b + stage * (kN * kRowBytes));
  };

  // Waits for the thread's copies of a step, which are in `stage`.
  // kStages - 2 steps were filled since, or remembered as empty ones.
  const auto wait = [&](int stage) {
    if constexpr (!Fusion::kForms) {
      gpu::cp_async_wait<kStages - 2>();
    } else {  // Note [Fusion]
      const unsigned inside = filled_inside >> kEach * (kStages - 2) & ((1u << kEach) - 1);
      if (!fusion.forms() || inside == 0) return gpu::cp_async_wait<kStages - 2>();
      const auto channels = fusion.channels(filled[kStages - 2] * kPack<T>);  // meanwhile
      gpu::cp_async_wait<kStages - 2>();
      unsigned char* a = s.a + stage * (kM * kRowBytes) + swizzle8<kChunks>(row0, chunk);
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        if (!(inside >> i & 1u)) continue;
        auto* own = reinterpret_cast<uint4*>(a + i * (kRowsAtOnce * kRowBytes));
        // [mma form load]
        const uint4 values = *own;
        const uint4 formed = fusion.form(channels, values);
        // [mma form store]
        *own = formed;
      }
    }
  };

  const int warp_m = warp / Tile::kWarpsN * Tile::kWarpM;
  const int warp_n = warp % Tile::kWarpsN * Tile::kWarpN;
  const Conv2dEpilogue& epilogue = fusion.epilogue();
  // Sums begin with the bias: its loads are over before the first stage has come.
  float sum[kFragmentsM][kFragmentsN][4];
#pragma unroll
  for (int j = 0; j < kFragmentsN; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int column = n0 + warp_n + j * 8 + lane % 4 * 2 + e % 2;
      const float bias = epilogue.bias && column < g.out_c ? epilogue.bias[column] : 0.0f;
#pragma unroll
      for (int i = 0; i < kFragmentsM; ++i) sum[i][j][e] = bias;
    }

  const int steps = gpu::cdiv(grid.chunks(per_tap), kChunks);
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) {
    if (i < steps)
      fill(i);
    else if constexpr (Fusion::kForms)
      remember(0, 0);
    gpu::cp_async_commit();
  }
  int reading = 0, writing = kStages - 1;
  for (int step = 0; step < steps; ++step) {
    wait(reading);
    // Everyone's copies of this step have arrived, and everyone has left the stage filled next.
    __syncthreads();
    if (step + kStages - 1 < steps)
      fill(writing);
    else if constexpr (Fusion::kForms)
      remember(0, 0);
    gpu::cp_async_commit();  // empty towards the end, so that the count of groups stays right
    const unsigned char* stage_a = s.a + reading * (kM * kRowBytes);
    const unsigned char* stage_b = s.b + reading * (kN * kRowBytes);
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {  // of k-steps, two chunks each
      std::uint32_t b[2][kFragmentsN][2];
      P::fragments(b, stage_b, warp_n, pair);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        std::uint32_t a[kFragmentsM][4];
#pragma unroll
        for (int i = 0; i < kFragmentsM; ++i) {
          const int row = warp_m + i * 16 + lane % 16;
          // [mma a]
          gpu::ldmatrix_x4(a[i], stage_a + swizzle8<kChunks>(row, pair * 4 + half * 2 + lane / 16));
#pragma unroll
          for (int e = 0; e < 4; ++e) a[i][e] = operand<T>(a[i][e]);
        }
        multiply<T>(sum, a, b[half]);
      }
    }
    reading = reading + 1 == kStages ? 0 : reading + 1;
    writing = writing + 1 == kStages ? 0 : writing + 1;
  }

  // Through shared memory, because fragments hold 4 or 8 bytes of a row and stores should be 16.
  static_assert(kN * sizeof(Out) <= std::size_t{kStages} * kRowBytes, "the result fits A's stages");
  __syncthreads();  // everyone has read the last stages, which the tile overwrites
#pragma unroll
  for (int i = 0; i < kFragmentsM; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int j = 0; j < kFragmentsN; ++j) {
        float v0 = sum[i][j][2 * h], v1 = sum[i][j][2 * h + 1];
        v0 = v0 < 0.0f ? v0 * epilogue.slope : v0;
        v1 = v1 < 0.0f ? v1 * epilogue.slope : v1;
        stage_pair<kN>(s.a, out, warp_m + i * 16 + h * 8 + lane / 4, warp_n + j * 8 + lane % 4 * 2,
                       v0, v1);
      }
  __syncthreads();  // the tile is whole
  fusion.template finish<Tile>(result, out);
}

/// Pixels are counted in ints, those of the padded image and of the last, partial tile too.
inline bool pixels_fit(const Conv2dProblem& d) {
  constexpr Index kMost = Index{1} << 30;
  return d.n * (d.h + 2 * d.pad) * (d.w + 2 * d.pad) <= kMost && d.r * d.s * (d.c + d.k) <= kMost;
}

template <class T, class Tile, template <class, class> class Pass, class Fusion, class Out>
void launch_tile(Context& ctx, const ImplicitGemm& g, Index pixels, int phases, const T* source,
                 const T* filter, const Fusion& fusion, Out* out) {
  dim3 grid = gpu::grid_for(gpu::cdiv(pixels, Index{Tile::kM}) * gpu::cdiv(g.out_c, Tile::kN), 1);
  grid.z = static_cast<unsigned>(phases);
  gpu::launch(conv2d_implicit_gemm_mma_kernel<T, Tile, Pass, Fusion, Out>,
              {.grid = grid, .block = kThreads, .smem = sizeof(Shared<Tile>), .stream = ctx.stream},
              g, source, filter, fusion, out);
}

/// Calls run(tile) with the largest tile of which there is one for every multiprocessor. pixels:
/// those of the largest phase.
template <class Large, class Run>
void with_tile(Context& ctx, const ImplicitGemm& g, Index pixels, int phases, Run&& run) {
  const auto fills_device = [&](Index m, Index n) {
    return gpu::cdiv(pixels, m) * gpu::cdiv(Index{g.out_c}, n) * phases >=
           ctx.device().multiprocessors;
  };
  if (g.out_c > SmallTile::kN && fills_device(Large::kM, Large::kN))
    run(Large{});
  else if (g.out_c > SmallTile::kN && fills_device(MediumTile::kM, MediumTile::kN))
    run(MediumTile{});
  else
    run(SmallTile{});
}

/// The plain convolution.
template <class T, template <class, class> class Pass, class Out>
void run_implicit_gemm(Context& ctx, const ImplicitGemm& g, Index pixels, int phases,
                       const T* source, const T* filter, Conv2dEpilogue epilogue, Out* out) {
  const auto run = [&](auto tile) {
    launch_tile<T, decltype(tile), Pass>(ctx, g, pixels, phases, source, filter, Plain{epilogue},
                                         out);
  };
  if (g.out_c <= NarrowTile::kN)
    run(NarrowTile{});
  else
    with_tile<LargeTile<T>>(ctx, g, pixels, phases, run);
}

}  // namespace subpix::kernels::KERNEL_TARGET::mma
