// Convolution, technique `tiled_shared`: forward and backward data as implicit GEMMs in exact fp32
// with register blocking. The workhorse of precision fp32 (sums of products as in `direct`, the
// reduction in the same order), and of bf16 where no tensor-core variant takes a problem.
//
//   out[m, n] = sum_e A[m, e] * B[e, n]       m: pixel, n: channel, e: (tap, channel), tap = (r, s)
//
//   forward         A[m, (r,s,c)] = x[image, p*stride + r - pad, q*stride + s - pad, c], zero
//                   outside; B = w[n, (r,s,c)]: both contiguous along e
//   backward data   the pixels of dx with h = stride*i + ph, v = stride*j + pw (a parity class; one
//                   for stride 1, four for stride 2) are reached by the taps r = r0 + stride*t
//                   only, r0 = (ph + pad) mod stride, from row top = (h + pad - r) / stride = i +
//                   (ph + pad - r0) / stride - t of dy. Each class is a convolution of its own:
//                   A[m, (t,u,k)] = dy[image, top, left, k], B = w[k, r, s, n], contiguous along n.
//                   No product with a zero is formed but at the border.
//
// 64 channels, 3x3: 1152 FLOP for 8 bytes an output, so bound by FMA (67 TFLOP/s of an H200), once
// operands come from registers. Per slice of 16 a thread of 8 x 8 sums does 1024 FMA and 64 shared
// reads of 16 bytes; a block of 128 x 64 sums loads 12 KB for 131,072 FMA.
//
// Tiles: 128 pixels x 64 channels, or half the pixels where that gives too few blocks for a GPU, or
// 256 x 8 for up to 8 channels (images). All give the same bits.

#include "kernels/cuda/conv2d.cuh"
#include "kernels/cuda/conv2d_index.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/register_tile.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

enum class Pass : std::uint8_t { Forward, BackwardData };

using LargeTile = RegisterTile<128, 64, 8, 8>;
using SmallTile = RegisterTile<64, 64, 8, 4>;
using NarrowTile = RegisterTile<256, 8, 4, 4>;

/// A pixel of the tile: where tap (0, 0) reads and where the sum goes.
struct alignas(16) TilePixel {
  int source;       // pixel number in the source, perhaps outside it
  int row, column;  // the same as coordinates
  int target;       // pixel number in the output, -1 past the end
};
constexpr int kNowhere = -(1 << 30);  // a row that no tap can bring inside

template <class Tile>
struct TiledShared {
  TilePixel pixel[Tile::kM];
  float a[2][kTileDepth][Tile::kM];
  float b[2][kTileDepth][Tile::kN];
};

/// One of the convolutions that the essay above describes.
template <Pass pass>
struct SubConvolution {
  static constexpr int kSign = pass == Pass::Forward ? 1 : -1;  // a later tap reads further down
  int source_rows, source_columns, source_channels, channels;
  int rows, columns;       // of the pixels computed
  int row_phase, row_tap;  // ph, r0
  int column_phase, column_tap;
  int taps_r, taps_s;

  GPU_DEV SubConvolution(const Conv2dShape& d, int parity) {
    if constexpr (pass == Pass::Forward) {
      source_rows = d.h, source_columns = d.w, source_channels = d.c, channels = d.k;
      rows = d.p, columns = d.q;
      row_phase = row_tap = column_phase = column_tap = 0;
      taps_r = d.r, taps_s = d.s;
    } else {
      source_rows = d.p, source_columns = d.q, source_channels = d.k, channels = d.c;
      row_phase = parity / d.stride, column_phase = parity % d.stride;
      rows = (d.h - row_phase + d.stride - 1) / d.stride;
      columns = (d.w - column_phase + d.stride - 1) / d.stride;
      row_tap = (row_phase + d.pad) % d.stride, column_tap = (column_phase + d.pad) % d.stride;
      taps_r = (d.r - row_tap + d.stride - 1) / d.stride;
      taps_s = (d.s - column_tap + d.stride - 1) / d.stride;
    }
  }

  GPU_DEV TilePixel pixel(const Conv2dShape& d, int number) const {
    if (number >= d.n * rows * columns) return {0, kNowhere, kNowhere, -1};
    const Pixel at = pixel_at(number, rows, columns);
    int row, column, target;
    if constexpr (pass == Pass::Forward) {
      row = at.row * d.stride - d.pad, column = at.column * d.stride - d.pad;
      target = number;
    } else {
      row = at.row + (row_phase + d.pad - row_tap) / d.stride;
      column = at.column + (column_phase + d.pad - column_tap) / d.stride;
      target = (at.image * d.h + at.row * d.stride + row_phase) * d.w + at.column * d.stride +
               column_phase;
    }
    return {(at.image * source_rows + row) * source_columns + column, row, column, target};
  }
};

/// Block (x, y, z) owns Tile::kM pixels of class z and Tile::kN channels; a thread kThreadM x
/// kThreadN sums. Slices of 16 of the reduction go through registers into one half of shared memory
/// while the other half is multiplied. Vec = 4: 16-byte loads; the source's channels (and for
/// backward data w's) are a multiple of 4 and pointers are aligned. wide: so are the output's.
template <Pass pass, class Tile, int Vec, class T>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    conv2d_tiled_shared_kernel(Conv2dShape d, const T* __restrict__ source, const T* __restrict__ w,
                               Conv2dEpilogue epilogue, bool wide, T* __restrict__ out) {
  constexpr int kThreads = Tile::kThreads, kSign = SubConvolution<pass>::kSign;
  using CopyA = TransposingCopy<Tile::kM, Vec, kThreads>;
  using CopyB = std::conditional_t<pass == Pass::Forward, TransposingCopy<Tile::kN, Vec, kThreads>,
                                   StraightCopy<Tile::kN, Vec, kThreads>>;
  using LayoutA = Transposed<Vec, Tile::kM>;
  using LayoutB = std::conditional_t<pass == Pass::Forward, Transposed<Vec, Tile::kN>, Straight>;
  auto& shared = gpu::smem<TiledShared<Tile>>();
  const int t = static_cast<int>(threadIdx.x);
  const SubConvolution<pass> sub(d, static_cast<int>(blockIdx.z));
  const int m0 = static_cast<int>(blockIdx.x) * Tile::kM;
  const int n0 = static_cast<int>(blockIdx.y) * Tile::kN;
  if (m0 >= d.n * sub.rows * sub.columns) return;  // the whole block: its class is smaller
  for (int i = t; i < Tile::kM; i += kThreads) shared.pixel[i] = sub.pixel(d, m0 + i);
  __syncthreads();  // load() reads pixels that other threads have placed

  const int depth = sub.taps_r * sub.taps_s * sub.source_channels;
  const int steps = gpu::cdiv(depth, kTileDepth);
  CopyA copy_a(t);
  CopyB copy_b(t);
  Odometer tap{copy_a.depth, 0, 0};  // (channel, s, r) of A's chunk
  tap.advance(0, sub.source_channels, sub.taps_s);
  Odometer tap_b{copy_b.depth, 0, 0};  // backward data: of B's next row
  tap_b.advance(0, sub.source_channels, sub.taps_s);
  int e = copy_b.depth;  // forward: of B's chunk

  const auto load = [&] {  // the next slice into registers
    const int offset = kSign * (tap.high * sub.source_columns + tap.middle);
#pragma unroll
    for (int i = 0; i < CopyA::kPasses; ++i) {
      copy_a.staged[i] = {};
      if (!copy_a.busy(i)) continue;
      const TilePixel pixel = shared.pixel[copy_a.row_of(i)];
      if (tap.high < sub.taps_r && inside(pixel.row + kSign * tap.high, sub.source_rows) &&
          inside(pixel.column + kSign * tap.middle, sub.source_columns))
        copy_a.staged[i] = load_elements<Vec>(
            source + Index{pixel.source + offset} * sub.source_channels + tap.low);
    }
    tap.advance(kTileDepth, sub.source_channels, sub.taps_s);
    if constexpr (pass == Pass::Forward) {
#pragma unroll
      for (int i = 0; i < CopyB::kPasses; ++i) {
        copy_b.staged[i] = {};
        const int n = n0 + copy_b.row_of(i);
        if (copy_b.busy(i) && e < depth && n < sub.channels)
          copy_b.staged[i] = load_elements<Vec>(w + Index{n} * depth + e);
      }
      e += kTileDepth;
    } else {
      const int n = n0 + copy_b.column;
#pragma unroll
      for (int i = 0; i < CopyB::kPasses; ++i) {
        copy_b.staged[i][0] = {};
        const int r = sub.row_tap + d.stride * tap_b.high;
        const int s = sub.column_tap + d.stride * tap_b.middle;
        if (copy_b.busy() && tap_b.high < sub.taps_r && n < sub.channels)
          copy_b.staged[i][0] =
              load_elements<Vec>(w + ((Index{tap_b.low} * d.r + r) * d.s + s) * d.c + n);
        tap_b.advance(CopyB::kStep < kTileDepth ? CopyB::kStep : kTileDepth, sub.source_channels,
                      sub.taps_s);
      }
    }
  };

  Tile tile(t);
  if (steps > 0) {  // a class without taps (1x1, stride 2) is all zeros
    load();
    copy_a.store(shared.a[0]);
    copy_b.store(shared.b[0]);
    __syncthreads();  // the first slice is complete
  }
  for (int step = 0; step < steps; ++step) {
    const int half = step & 1;
    if (step + 1 < steps) load();
    tile.template multiply<LayoutA, LayoutB>(shared.a[half], shared.b[half]);
    if (step + 1 < steps) {
      copy_a.store(shared.a[half ^ 1]);
      copy_b.store(shared.b[half ^ 1]);
    }
    // The next step reads what was stored, and overwrites what this one has read.
    __syncthreads();
  }

  float add[Tile::kThreadN];
#pragma unroll
  for (int j = 0; j < Tile::kThreadN; ++j) {
    const int n = n0 + tile.column(j);
    add[j] = n < sub.channels ? epilogue.shift(n) : 0.0f;
  }
#pragma unroll
  for (int i = 0; i < Tile::kThreadM; ++i) {
    const int pixel = shared.pixel[tile.row(i)].target;
    if (pixel < 0) continue;
#pragma unroll
    for (int j = 0; j < Tile::kThreadN; j += 4) {
      const int n = n0 + tile.column(j);
      T* to = out + Index{pixel} * sub.channels + n;
      Elements<4> y;
#pragma unroll
      for (int v = 0; v < 4; ++v) y.v[v] = epilogue(tile.sum[i][j + v], add[j + v]);
      if (wide) {
        if (n < sub.channels) store_elements(to, y);
      } else {
#pragma unroll
        for (int v = 0; v < 4; ++v)
          if (n + v < sub.channels) store_value(to + v, y.v[v]);
      }
    }
  }
}

/// The pixels of the largest class.
Index class_pixels(Pass pass, const Conv2dProblem& d) {
  return pass == Pass::Forward ? d.n * d.p() * d.q()
                               : d.n * gpu::cdiv(d.h, d.stride) * gpu::cdiv(d.w, d.stride);
}

template <Pass pass, class Tile, int Vec, class T>
void launch_tile(Context& ctx, const Conv2dProblem& d, const T* source, const T* w,
                 Conv2dEpilogue epilogue, bool wide, T* out) {
  const Index channels = pass == Pass::Forward ? d.k : d.c;
  const Index classes = pass == Pass::Forward ? 1 : d.stride * d.stride;
  gpu::launch(conv2d_tiled_shared_kernel<pass, Tile, Vec, T>,
              {.grid = dim3(static_cast<unsigned>(gpu::cdiv(class_pixels(pass, d), Tile::kM)),
                            static_cast<unsigned>(gpu::cdiv(channels, Tile::kN)),
                            static_cast<unsigned>(classes)),
               .block = Tile::kThreads,
               .smem = sizeof(TiledShared<Tile>),
               .stream = ctx.stream},
              conv2d_shape(d), source, w, epilogue, wide, out);
}

template <Pass pass, int Vec, class T>
void launch_pass(Context& ctx, const Conv2dProblem& d, const T* source, const T* w,
                 Conv2dEpilogue epilogue, T* out) {
  const Index channels = pass == Pass::Forward ? d.k : d.c;
  const Index classes = pass == Pass::Forward ? 1 : d.stride * d.stride;
  const bool wide = channels % 4 == 0 && packable(out);
  if (channels <= NarrowTile::kN)
    return launch_tile<pass, NarrowTile, Vec>(ctx, d, source, w, epilogue, wide, out);
  // Three large blocks fit an SM; fewer than two for each SM leave schedulers idle.
  constexpr Index kEnoughBlocks = 2 * 132;
  const Index blocks = classes * gpu::cdiv(class_pixels(pass, d), LargeTile::kM) *
                       gpu::cdiv(channels, LargeTile::kN);
  if (blocks >= kEnoughBlocks)
    launch_tile<pass, LargeTile, Vec>(ctx, d, source, w, epilogue, wide, out);
  else
    launch_tile<pass, SmallTile, Vec>(ctx, d, source, w, epilogue, wide, out);
}

/// Pixel numbers and positions in the reduction are int; grids have at most 65,535 blocks along y.
bool supports_tiled(const Conv2dProblem& d) {
  constexpr Index kMost = (Index{1} << 31) - 4096, kMostChannels = Index{1} << 19;
  return d.n * d.h * d.w <= kMost && d.n * d.p() * d.q() <= kMost && d.c <= kMostChannels &&
         d.k <= kMostChannels && d.h < -kNowhere / 4 && d.w < -kNowhere / 4;
}

}  // namespace

bool supports_forward_tiled_shared(const Conv2dProblem& d, const DeviceInfo&) {
  return supports_tiled(d);
}
bool supports_backward_data_tiled_shared(const Conv2dProblem& d, const DeviceInfo&) {
  return supports_tiled(d);
}

template <class T>
void conv2d_forward_tiled_shared(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                                 Conv2dEpilogue epilogue, T* y) {
  if (d.c % 4 == 0 && packable(x, w))
    launch_pass<Pass::Forward, 4>(ctx, d, x, w, epilogue, y);
  else
    launch_pass<Pass::Forward, 1>(ctx, d, x, w, epilogue, y);
}

template <class T>
void conv2d_backward_data_tiled_shared(Context& ctx, const Conv2dProblem& d, const T* dy,
                                       const T* w, T* dx) {
  if (d.c % 4 == 0 && d.k % 4 == 0 && packable(dy, w))
    launch_pass<Pass::BackwardData, 4>(ctx, d, dy, w, Conv2dEpilogue{}, dx);
  else
    launch_pass<Pass::BackwardData, 1>(ctx, d, dy, w, Conv2dEpilogue{}, dx);
}

template void conv2d_forward_tiled_shared(Context&, const Conv2dProblem&, const float*,
                                          const float*, Conv2dEpilogue, float*);
template void conv2d_forward_tiled_shared(Context&, const Conv2dProblem&, const bf16*, const bf16*,
                                          Conv2dEpilogue, bf16*);
template void conv2d_backward_data_tiled_shared(Context&, const Conv2dProblem&, const float*,
                                                const float*, float*);
template void conv2d_backward_data_tiled_shared(Context&, const Conv2dProblem&, const bf16*,
                                                const bf16*, bf16*);

}  // namespace subpix::kernels::KERNEL_TARGET
