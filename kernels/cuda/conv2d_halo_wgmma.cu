// 3x3 convolution of stride 1 and padding 1 on Hopper's tensor cores (wgmma, bf16) that loads each
// activation once and lets the tensor cores read it from there for all nine taps.
//
//   out[n,p,q,o] = sum over r,s,i of in[n, p+r-1, q+s-1, i] * W(o,r,s,i)
//
// Forward: in = x, out = y, W(o,r,s,i) = w[o,r,s,i]. Backward data: the same sum with in = dy,
// out = dx, W(o,r,s,i) = w[i,2-r,2-s,o] (derived in conv2d_halo_mma.cu).
//
// Trunk layer (64>64, 24x24, batch 16): 0.68 GFLOP against 2.4 MB: 0.86 us at 790 TFLOP/s, 0.57 us
// at 4.3 TB/s. mma.sync reaches about 60 % of that rate, and each warp fetches its operands with
// ldmatrix. wgmma reads both operands from shared memory itself, if a descriptor of a start address
// and two strides can name them. What bounds this kernel then is L2: 72 KiB of filters and 15 KiB
// of activations for each of 128 blocks.
//
// Note [Planes]
// The product is D[64 filters x N pixels]. Its B operand is the patch, the outputs' tile with its
// halo, in planes of 8 channels: [channel/8][pixel][8 x bf16]. In wgmma's layout without swizzle
// eight pixels of one plane are a core matrix, 128 bytes side by side, the next eight pixels follow
// at once and the next 8 channels lie a plane further. So a tap (r,s) is the same descriptor with
// its start moved by r*pitch + s pixels of 16 bytes; any shift is legal. (With the usual swizzle of
// 128-byte rows only shifts by eight pixels keep the pattern.) Pixels run over the padded rows of
// the patch, pitch = columns + 2: between the output rows lie two columns that are computed and
// thrown away. A plane has an odd number of pixels, so that the eight planes of a pixel, which
// eight threads write at once, lie in different banks.
//
// Block: one warpgroup, 64 filters by a tile of rows x columns of one image. The reduction runs in
// chunks of 64 channels and in each over the three rows of taps; such a step is 12 wgmma:
//   patch    cp.async, the next chunk's while this one is used;
//   filters  three taps of 64 x 64, a ring of three stages, cp.async. With 64 channels each stage
//   is
//            used once, so everything a block needs is on its way from the start.
// N is compiled in, rows and columns are parameters: pick_tile() chooses them.

#include <algorithm>
#include <iterator>

#include "kernels/cuda/conv2d.cuh"
#include "kernels/cuda/conv2d_fragments.cuh"
#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kChannels = 64;                   // of a chunk
constexpr int kFilters = 64;                    // of a block: M of wgmma
constexpr int kThreads = 128;                   // one warpgroup
constexpr int kStages = 3;                      // of filters
constexpr int kTap = kFilters * kChannels * 2;  // bytes of one tap's filters

/// Pixels: N of wgmma. Pitch: the widest padded row.
template <int Pixels, int Pitch>
struct PlaneBlock {
  static constexpr int kPixels = Pixels;
  static constexpr int kPatch = (2 * Pitch + 2 + Pixels) | 1;  // to the last pixel of the last tap
  static constexpr int kPlane = kPatch * 16;                   // bytes
};
using Planes48 = PlaneBlock<48, 18>;    // one 6x6 image
using Planes80 = PlaneBlock<80, 26>;    // 3x24 outputs: 128 blocks for 16 images of 24x24
using Planes144 = PlaneBlock<144, 26>;  // 8x16 outputs of large images
using Planes168 = PlaneBlock<168, 26>;  // one 12x12 image

/// Sizes of a launch. `in` and `out` are channels; the output has the input's h x w.
struct PlaneShape {
  int images, h, w, in, out;
  int rows = 0, cols = 0;  // of a tile
  int tiles_h = 0, tiles_w = 0, filter_blocks = 0;

  GPU_FN int pitch() const { return cols + 2; }
};

template <class B>
struct alignas(1024) PlaneShared {
  struct Loop {
    unsigned char filters[kStages][3][kTap];
    unsigned char patch[2][8 * B::kPlane];
  };
  struct End {  // after the last tap
    unsigned char out[B::kPixels * 128];
  };
  union {
    Loop loop;
    End end;
  };
  int target[B::kPixels];  // of each column of the product: its pixel of the image, or negative
};

/// One block computes 64 filters x kPixels outputs. A (filters) has rows of 128 bytes in the
/// 128-byte swizzle: forward [filter][channel], K-major; flipped [channel][filter] as w has it,
/// MN-major. B is described in Note [Planes]. supports() guarantees 3x3, stride and padding 1,
/// channels in multiples of 64 and 16-byte aligned tensors.
template <class B, bool Flip>
__global__ void __launch_bounds__(kThreads)
    conv2d_halo_wgmma_kernel(PlaneShape d, const bf16* __restrict__ in, const bf16* __restrict__ w,
                             Conv2dEpilogue epilogue, bf16* __restrict__ out) {
  auto& s = gpu::smem<PlaneShared<B>>();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const int tile = static_cast<int>(blockIdx.x) / d.filter_blocks;
  const int k0 = static_cast<int>(blockIdx.x) % d.filter_blocks * kFilters;
  const int col0 = tile % d.tiles_w * d.cols, row0 = tile / d.tiles_w % d.tiles_h * d.rows;
  const Index image = tile / d.tiles_w / d.tiles_h;
  const int pitch = d.pitch(), steps = 3 * (d.in / kChannels);
  in += image * d.h * d.w * d.in;
  out += image * d.h * d.w * d.out;

  // Eight threads copy the 128 bytes of a pixel, each into another plane.
  const auto load_patch = [&](int chunk) {
    const int plane = thread % 8;
    unsigned char* to = s.loop.patch[chunk % 2] + plane * B::kPlane;
    for (int i = thread / 8; i < B::kPatch; i += kThreads / 8) {
      const int y = i / pitch, h = row0 + y - 1, v = col0 + i % pitch - 1;
      const bool valid = y < d.rows + 2 && h >= 0 && h < d.h && v >= 0 && v < d.w;
      const Index pixel = valid ? Index{h} * d.w + v : 0;
      // [planes fill]
      gpu::cp_async<16>(to + i * 16, in + pixel * d.in + chunk * kChannels + plane * 8, valid);
    }
  };
  // The three taps of a step. Eight threads copy 128 bytes: 64 channels of a filter, or flipped 64
  // filters of a channel, which lie side by side in w.
  const auto load_filters = [&](int step) {
    const int part = thread % 8, channel = step / 3 * kChannels;
    const int cols = Flip ? d.out : d.in, col = (Flip ? k0 : channel) + part * 8;
#pragma unroll
    for (int j = 0; j < 3; ++j) {
      const int tap = Flip ? 8 - (step % 3 * 3 + j) : step % 3 * 3 + j;
#pragma unroll
      for (int i = thread / 8; i < 64; i += kThreads / 8) {
        const Index row = (Flip ? channel : k0) + i;
        // [planes filter]
        gpu::cp_async<16>(s.loop.filters[step % kStages][j] + gpu::swz128(i, part),
                          w + (row * 9 + tap) * cols + col);
      }
    }
  };

  load_patch(0);
#pragma unroll
  for (int step = 0; step < kStages; ++step) {  // a chunk has as many steps
    load_filters(step);
    gpu::cp_async_commit();
  }
  for (int i = thread; i < B::kPixels; i += kThreads) {
    const int h = row0 + i / pitch, v = col0 + i % pitch;
    const bool inside = i / pitch < d.rows && i % pitch < d.cols && h < d.h && v < d.w;
    s.target[i] = inside ? h * d.w + v : -1;
  }

  float sum[B::kPixels / 2];
  for (int step = 0; step < steps; ++step) {
    if (step == 0)
      gpu::cp_async_wait<kStages - 1>();
    else
      gpu::cp_async_wait<kStages - 2>();
    // This thread's copies were ordinary writes; wgmma reads through the async proxy.
    gpu::fence_proxy_async();
    // Everyone's copies for this step have arrived, and everyone's wgmma of the previous step are
    // complete: its stage, and at a chunk's first step the patch of the chunk before, are free.
    __syncthreads();
    // In the group of a later step's filters; the first step has none to load.
    if (step % 3 == 0 && step + 3 < steps) load_patch(step / 3 + 1);
    if (step > 0) {
      if (step + kStages - 1 < steps) load_filters(step + kStages - 1);
      gpu::cp_async_commit();
    }

    const std::uint32_t filters = gpu::smem_addr(s.loop.filters[step % kStages]);
    const std::uint32_t patch = gpu::smem_addr(s.loop.patch[step / 3 % 2]) +
                                static_cast<std::uint32_t>(step % 3 * pitch * 16);
    gpu::wgmma_fence();
#pragma unroll
    for (int j = 0; j < 3; ++j)
#pragma unroll
      for (int kk = 0; kk < 4; ++kk) {  // 16 channels: 32 bytes or 16 rows of A, two planes of B
        const auto a = gpu::desc_sw128(
            filters + static_cast<std::uint32_t>(j * kTap + kk * (Flip ? 16 * 128 : 32)));
        const auto b = gpu::desc_plain(
            patch + static_cast<std::uint32_t>(kk * 2 * B::kPlane + j * 16), B::kPlane, 128);
        gpu::wgmma_bf16<B::kPixels, Flip ? 1 : 0>(sum, a, b, step > 0 || j + kk > 0);
      }
    gpu::wgmma_commit();
    gpu::wgmma_wait<0>(sum);
  }
  __syncthreads();  // all taps have been read: the buffers become the end's; `target` is complete

  // A thread has two neighbouring pixels of filters f and f + 8. Lanes of filters f and f + 1
  // exchange a value each, so that either has both filters of one pixel: a word. The eight pixels
  // of a request differ in the xored bits, its four words fill a 16-byte chunk: no bank conflicts.
  const int odd = lane / 4 % 2;
#pragma unroll
  for (int upper = 0; upper < 2; ++upper) {
    const int f = thread / 32 * 16 + upper * 8 + lane / 4;
    const float bias = epilogue.shift(k0 + f);
#pragma unroll
    for (int j = 0; j < B::kPixels / 8; ++j) {
      const float left = epilogue(sum[j * 4 + upper * 2], bias);
      const float right = epilogue(sum[j * 4 + upper * 2 + 1], bias);
      const float other = __shfl_xor_sync(0xFFFFFFFFu, odd ? left : right, 4);
      const int pixel = j * 8 + lane % 4 * 2 + odd;
      unsigned char* to = s.end.out + gpu::swz128(pixel, f / 8) + f % 8 / 2 * 4;
      // [planes stage]
      *reinterpret_cast<std::uint32_t*>(to) =
          odd ? gpu::pack_bf16(other, right) : gpu::pack_bf16(left, other);
    }
  }
  __syncthreads();  // the tile is complete
  store_tile<kThreads, B::kPixels>(s.end.out, s.target, out, k0, d.out, thread);
}

// --- host ----------------------------------------------------------------------------------------

/// A tile and what it is expected to take: waves of blocks over the SMs times the clocks of one.
struct PlaneTile {
  int block = -1;  // index into kBlocks
  int rows = 0, cols = 0;
  Index cost = 0;
};
struct BlockSize {
  int pixels, patch;
};
constexpr BlockSize kBlocks[] = {{Planes48::kPixels, Planes48::kPatch},
                                 {Planes80::kPixels, Planes80::kPatch},
                                 {Planes144::kPixels, Planes144::kPatch},
                                 {Planes168::kPixels, Planes168::kPatch}};

PlaneShape with_tile(PlaneShape d, const PlaneTile& t) {
  d.rows = t.rows;
  d.cols = t.cols;
  d.tiles_h = gpu::cdiv(d.h, t.rows);
  d.tiles_w = gpu::cdiv(d.w, t.cols);
  d.filter_blocks = d.out / kFilters;
  return d;
}

Index blocks_of(const PlaneShape& d) {
  return Index{d.images} * d.tiles_h * d.tiles_w * d.filter_blocks;
}

/// Clocks of an SM with one block: a step takes the tensor cores 6 clocks a pixel (12 wgmma of N/2
/// clocks), unless its 24 KiB of filters take longer (about 28 bytes a clock from L2); the first
/// patch is waited for, 128 bytes a pixel; starting and ending take about as long as 1500 clocks.
Index clocks_of(const PlaneShape& d, const BlockSize& block) {
  const Index steps = 3 * Index{d.in / kChannels};
  return steps * (std::max(6 * block.pixels, 878) + 100) + 5 * Index{block.patch} + 1500;
}

/// The tile of least expected time. Widths divide the output evenly (as far as that goes); then as
/// many rows as fit: the last one ends within N, the last tap's last pixel within the patch.
PlaneTile pick_tile(const PlaneShape& d, int multiprocessors) {
  PlaneTile best;
  for (int b = 0; b < static_cast<int>(std::size(kBlocks)); ++b) {
    const auto [pixels, patch] = kBlocks[b];
    const int widest = std::min(d.w, (patch - pixels - 2) / 2 - 2);
    for (int cols = widest; cols >= std::min(d.w, 3); --cols) {
      if (gpu::cdiv(d.w, gpu::cdiv(d.w, cols)) != cols) continue;
      const int most = std::min(d.h, (pixels - cols) / (cols + 2) + 1);
      PlaneTile t{.block = b, .rows = gpu::cdiv(d.h, gpu::cdiv(d.h, most)), .cols = cols};
      const PlaneShape shape = with_tile(d, t);
      t.cost = gpu::cdiv(blocks_of(shape), Index{std::max(1, multiprocessors)}) *
               clocks_of(shape, kBlocks[b]);
      if (best.block < 0 || t.cost < best.cost) best = t;
    }
  }
  return best;
}

template <class B, bool Flip>
void launch(Context& ctx, const PlaneShape& d, const bf16* in, const bf16* w,
            Conv2dEpilogue epilogue, bf16* out) {
  gpu::launch(conv2d_halo_wgmma_kernel<B, Flip>,
              {.grid = gpu::grid_for(blocks_of(d), 1),
               .block = kThreads,
               .smem = sizeof(PlaneShared<B>),
               .stream = ctx.stream},
              d, in, w, epilogue, out);
}

/// in, out: channels of the tensor that is read and of the one that is written.
template <bool Flip>
void run(Context& ctx, const Conv2dProblem& d, Index channels_in, Index channels_out,
         const bf16* in, const bf16* w, Conv2dEpilogue epilogue, bf16* out) {
  const auto i = [](Index v) { return static_cast<int>(v); };
  const PlaneShape problem{
      .images = i(d.n), .h = i(d.h), .w = i(d.w), .in = i(channels_in), .out = i(channels_out)};
  const PlaneTile tile = pick_tile(problem, ctx.device().multiprocessors);
  const PlaneShape shape = with_tile(problem, tile);
  const auto with = [&]<class B>(B) { launch<B, Flip>(ctx, shape, in, w, epilogue, out); };
  switch (tile.block) {
    case 0:
      return with(Planes48{});
    case 1:
      return with(Planes80{});
    case 2:
      return with(Planes144{});
    default:
      return with(Planes168{});
  }
}

/// wgmma exists on compute capability 9 alone. Pixels of an image, and all blocks, are counted in
/// ints.
bool supports(const Conv2dProblem& d, const DeviceInfo& device) {
  const Index most = Index{1} << 28;
  return device.compute_major == 9 && d.r == 3 && d.s == 3 && d.stride == 1 && d.pad == 1 &&
         d.c % kChannels == 0 && d.k % kFilters == 0 && d.c < most && d.k < most &&
         d.n * d.h * d.w < most;
}

}  // namespace

bool supports_forward_halo_wgmma(const Conv2dProblem& d, const DeviceInfo& device) {
  return supports(d, device);
}
bool supports_backward_data_halo_wgmma(const Conv2dProblem& d, const DeviceInfo& device) {
  return supports(d, device);
}

template <class T>
void conv2d_forward_halo_wgmma(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                               Conv2dEpilogue epilogue, T* y) {
  if (!packable(x, w, y)) return conv2d_forward_direct(ctx, d, x, w, epilogue, y);
  run<false>(ctx, d, d.c, d.k, x, w, epilogue, y);
}
template void conv2d_forward_halo_wgmma(Context&, const Conv2dProblem&, const bf16*, const bf16*,
                                        Conv2dEpilogue, bf16*);

template <class T>
void conv2d_backward_data_halo_wgmma(Context& ctx, const Conv2dProblem& d, const T* dy, const T* w,
                                     T* dx) {
  if (!packable(dy, w, dx)) return conv2d_backward_data_direct(ctx, d, dy, w, dx);
  run<true>(ctx, d, d.k, d.c, dy, w, {}, dx);
}
template void conv2d_backward_data_halo_wgmma(Context&, const Conv2dProblem&, const bf16*,
                                              const bf16*, bf16*);

}  // namespace subpix::kernels::KERNEL_TARGET
