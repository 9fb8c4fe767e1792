// Convolution of few input channels (at most 4) on tensor cores (mma.sync, bf16).
//
// The first layers of generator (9x9, 3>64), discriminator and VGG19 (3x3, 3>64), and the input
// gradient of the generator's last layer: there dy has 3 channels, and with W(o,r,s,i) =
// w[i,R-1-r,S-1-s,o] and padding R-1-pad it is the same sum as a forward pass (derivation in
// conv2d_halo_mma.cu).
//
//   out[n,p,q,o] = sum over r,s,i of in[n, p*stride+r-ph, q*stride+s-pw, i] * W(o,r,s,i)
//
// 3x3 at 96x96, batch 16: 0.51 GFLOP, 0.9 MB in, 18.9 MB out: 4.4 us at 4.3 TB/s, bound by the
// store. The tail's gradient, 9x9: 4.6 GFLOP, 5.8 us at 790 TFLOP/s, the same bytes.
//
// Channels padded to a fragment's 16 would multiply the work by 5. So the reduction runs over whole
// rows of taps: S*C values that lie side by side in NHWC, padded to an even number of values (27 >
// 28), R rows of them padded to a multiple of 16 (3x3: 30 > 32, 9x9: 252 > 256). This im2col matrix
// exists in registers only: a warp owns all 64 filters, so each A fragment is needed by it alone
// and is read straight from the patch, one 32-bit word for a pair of values.
//
// Note [Two copies]
// A pair may start at an odd value, 2 bytes off a word. The patch is stored twice, the second copy
// one value further left, so that every pair is an aligned word of one of them. With 3 channels the
// eight pixels of a request fall on words 0, 3, 6, 9 and 1, 4, 7, 10 of the two copies; those start
// 16 banks apart, so a request takes one wavefront, two where its pairs belong to two rows of taps.

#include <algorithm>

#include "kernels/cuda/conv2d.cuh"
#include "kernels/cuda/conv2d_fragments.cuh"
#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kChannels = 4;  // at most
constexpr int kFilters = 64;  // of a block
constexpr int kPixels = 128;  // of a tile: four warps of 32
constexpr int kThreads = 128;
constexpr int kPatch = 3616;  // values that fit: 8x16 outputs of 9x9, stride 2, 4 channels
constexpr int kResident = 3;  // blocks of an SM

struct FewShape : ConvSizes {
  int stride;
  ConvRectangle tile;

  GPU_FN int patch_rows() const { return (tile.rows - 1) * stride + r; }
  GPU_FN int line() const { return ((tile.cols - 1) * stride + s) * in; }  // values of a patch row
  GPU_FN int row_pairs() const { return (s * in + 1) / 2; }                // of the taps of one row
  GPU_FN Index tiles() const { return Index{images} * tile.tiles_p * tile.tiles_q; }
};

/// Where a pair of the reduction lies, counted from a pixel's first value; mask takes away the
/// value that only pads.
struct Pair {
  int offset;
  std::uint32_t mask;
};

/// Chunks: of 64 values of the reduction.
template <int Chunks>
struct alignas(128) FewShared {
  unsigned char filters[Chunks][kFilters * 128];
  unsigned char out[kPixels * 128];
  bf16 patch[2]
            [kPatch];  // Note [Two copies]; kPatch/2 words are 16 banks more than a multiple of 32
  Pair pair[Chunks * 32];
  int base[kPixels];    // of each output: its first value in the patch
  int target[kPixels];  // its pixel in its image of the output, negative if there is none
};
static_assert(kPatch / 2 % 32 == 16);

/// A grid of blocks as large as the device holds walks over the tiles, each block with the filters
/// of blockIdx.y in shared memory. Any alignment of in and w; out is 16-byte aligned, its channels
/// a multiple of 8.
template <int Chunks, bool Flip>
__global__ void __launch_bounds__(kThreads, kResident)
    conv2d_few_channels_mma_kernel(FewShape d, const bf16* __restrict__ in,
                                   const bf16* __restrict__ w, Conv2dEpilogue epilogue,
                                   bf16* __restrict__ out) {
  auto& s = gpu::smem<FewShared<Chunks>>();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int k0 = static_cast<int>(blockIdx.y) * kFilters;
  const int line = d.line(), row_pairs = d.row_pairs(), taps = d.s * d.in;

  for (int i = thread; i < Chunks * 32; i += kThreads) {
    const int r = i / row_pairs, j = i % row_pairs * 2;
    s.pair[i] = r < d.r ? Pair{r * line + j, j + 1 < taps ? ~0u : 0xFFFFu} : Pair{0, 0u};
  }
  // Rows of filters, values beyond a row of taps and beyond the last row are zero.
  for (int i = thread; i < kFilters * Chunks * 64; i += kThreads) {
    const int row = i / (Chunks * 64), value = i % (Chunks * 64), k = k0 + row;
    const int r = value / (2 * row_pairs), j = value % (2 * row_pairs);
    bf16 v{0};
    if (k < d.out && r < d.r && j < taps) {
      const int tap = j / d.in, c = j % d.in;
      v = Flip ? w[Index{(c * d.r + d.r - 1 - r) * d.s + d.s - 1 - tap} * d.out + k]
               : w[(Index{k} * d.r + r) * taps + j];
    }
    *reinterpret_cast<bf16*>(s.filters[value / 64] + gpu::swz128(row, value % 64 / 8) +
                             value % 8 * 2) = v;
  }

  for (Index tile = blockIdx.x; tile < d.tiles(); tile += gridDim.x) {
    const ConvPlace at = place_of(d.tile, tile);
    const bf16* image = in + at.image * d.h * d.w * d.in;
    const int top = at.p * d.stride - d.pad_h, left = (at.q * d.stride - d.pad_w) * d.in;
    for (int i = thread; i < d.patch_rows() * line; i += kThreads) {
      const int h = top + i / line, v = left + i % line;
      const bool inside = h >= 0 && h < d.h && v >= 0 && v < d.w * d.in;
      // [few load]
      const bf16 value = inside ? image[Index{h} * d.w * d.in + v] : bf16{0};
      s.patch[0][i] = value;
      if (i > 0) s.patch[1][i - 1] = value;
    }
    {
      const int x = thread % d.tile.cols, y = thread / d.tile.cols;
      const bool in_tile = y < d.tile.rows;
      s.base[thread] = in_tile ? y * d.stride * line + x * d.stride * d.in : 0;
      s.target[thread] =
          in_tile && at.p + y < d.p && at.q + x < d.q ? (at.p + y) * d.q + at.q + x : -1;
    }
    __syncthreads();  // patch and tables, in the first round pairs and filters too, are complete

    float sum[2][8][4] = {};
    int base[4];  // of rows g, g + 8, g + 16, g + 24 of the warp's 32
#pragma unroll
    for (int i = 0; i < 4; ++i) base[i] = s.base[warp * 32 + i * 8 + lane / 4];
    const auto* words = reinterpret_cast<const std::uint32_t*>(s.patch);
    const int steps = gpu::cdiv(d.r * row_pairs, 8);
#pragma unroll 2
    for (int step = 0; step < steps; ++step) {
      std::uint32_t a[2][4], b[8][2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const Pair pair = s.pair[step * 8 + half * 4 + lane % 4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int value = base[i] + pair.offset;
          // [few gather]
          const std::uint32_t word = words[value / 2 + value % 2 * (kPatch / 2)];
          a[i / 2][half * 2 + i % 2] = word & pair.mask;
        }
      }
      load_b_fragments<false>(b, s.filters[step / 4], step % 4, 0, lane);
      gpu::mma_tile_bf16(sum, a, b);
    }
    stage_tile(
        sum, [](int, int) { return make_float4(0, 0, 0, 0); }, s.out, warp * 32, 0, lane, epilogue,
        k0, d.out);
    __syncthreads();  // the tile is complete, and the patch may be overwritten
    store_tile<kThreads, kPixels>(s.out, s.target, out + at.image * d.p * d.q * d.out, k0, d.out,
                                  thread);
    __syncthreads();  // the tile is stored: `out` and `target` may be overwritten
  }
}

// --- host ----------------------------------------------------------------------------------------

FewShape few_shape(const Conv2dProblem& d, bool flip) {
  FewShape s{};
  static_cast<ConvSizes&>(s) = conv_sizes(d, flip);
  s.stride = static_cast<int>(d.stride);
  s.tile = pick_rectangle(s.p, s.q, kPixels, [&](int rows, int cols) {
    return ((rows - 1) * s.stride + s.r) * ((cols - 1) * s.stride + s.s) * s.in <= kPatch;
  });
  return s;
}

template <int Chunks, bool Flip>
void launch(Context& ctx, const FewShape& d, const bf16* in, const bf16* w, Conv2dEpilogue epilogue,
            bf16* out) {
  static_assert(sizeof(FewShared<Chunks>) <= 99 * 1024);
  const Index resident = Index{std::max(1, ctx.device().multiprocessors)} * kResident;
  const auto filter_blocks = static_cast<unsigned>(gpu::cdiv(d.out, kFilters));
  gpu::launch(conv2d_few_channels_mma_kernel<Chunks, Flip>,
              {.grid = dim3(static_cast<unsigned>(std::min(d.tiles(), resident)), filter_blocks),
               .block = kThreads,
               .smem = sizeof(FewShared<Chunks>),
               .stream = ctx.stream},
              d, in, w, epilogue, out);
}

template <bool Flip>
void run(Context& ctx, const FewShape& d, const bf16* in, const bf16* w, Conv2dEpilogue epilogue,
         bf16* out) {
  if (d.r * d.row_pairs() * 2 <= 64)
    launch<1, Flip>(ctx, d, in, w, epilogue, out);
  else
    launch<4, Flip>(ctx, d, in, w, epilogue, out);
}

/// A reduction of at most 256; 16-byte stores; a grid of at most 65535 blocks of filters; pixels of
/// an image in 28 bits.
bool supports(const Conv2dProblem& d, Index in, Index out) {
  const Index most = Index{1} << 28;
  return in <= kChannels && out % 8 == 0 && out <= 65535 * kFilters &&
         d.r * ((d.s * in + 1) / 2 * 2) <= 256 && d.h * d.w < most && d.p() * d.q() < most &&
         d.n < most;
}

}  // namespace

bool supports_forward_few_channels_mma(const Conv2dProblem& d, const DeviceInfo&) {
  return supports(d, d.c, d.k);
}
bool supports_backward_data_few_channels_mma(const Conv2dProblem& d, const DeviceInfo&) {
  return d.stride == 1 && supports(d, d.k, d.c);
}

template <class T>
void conv2d_forward_few_channels_mma(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                                     Conv2dEpilogue epilogue, T* y) {
  if (!packable(y)) return conv2d_forward_direct(ctx, d, x, w, epilogue, y);
  run<false>(ctx, few_shape(d, false), x, w, epilogue, y);
}
template void conv2d_forward_few_channels_mma(Context&, const Conv2dProblem&, const bf16*,
                                              const bf16*, Conv2dEpilogue, bf16*);

template <class T>
void conv2d_backward_data_few_channels_mma(Context& ctx, const Conv2dProblem& d, const T* dy,
                                           const T* w, T* dx) {
  if (!packable(dx)) return conv2d_backward_data_direct(ctx, d, dy, w, dx);
  run<true>(ctx, few_shape(d, true), dy, w, {}, dx);
}
template void conv2d_backward_data_few_channels_mma(Context&, const Conv2dProblem&, const bf16*,
                                                    const bf16*, bf16*);

}  // namespace subpix::kernels::KERNEL_TARGET
