// Convolution of few output channels on tensor cores (mma.sync, bf16), as sums of columns.
//
//   out[n,p,q,o] = sum over s of T[n, p, q+s, (s,o)],
//   T[n,p,v,(s,o)] = sum over r,i of in[n, p+r-ph, v-pw, i] * W(o,r,s,i)
//
// Forward: the generator's last layer (9x9, 64>3). Backward data: the image gradients of the first
// layers of discriminator and VGG19 (3x3, 3 channels), with W(o,r,s,i) = w[i,R-1-r,S-1-s,o] and
// padding R-1-pad (derivation in conv2d_halo_mma.cu).
//
// A tensor-core tile has at least 8 columns; 3 outputs would fill 3 of them for each of 81 taps.
// Taking the taps of a row as further columns, S*3 = 27 of 32 are used and only the R vertical taps
// remain: T is a convolution with R x 1 taps, of which the S shifted columns are then added. Tail
// at 96x96, batch 16: 4.6 GFLOP useful, 5.4 done instead of 12.2, against 19.8 MB: 6.9 us at 790
// TFLOP/s, 4.6 us at 4.3 TB/s. The image gradient of a 3x3 layer: 0.9 GFLOP done with 16 columns,
// bound by reading dy, 4.4 us.
//
// Block: rows x cols outputs of an image. T needs cols + S - 1 columns, so its rows are the pixels
// m = p*(cols+S-1) + v of the block's patch, and tap r is the pixel m + r*(cols+S-1): a shift of
// the row number, for any width. Patch (up to 512 pixels of 64 channels) and the filters of all
// taps are copied by cp.async, then R*4 steps of products follow without a barrier; the other block
// of the SM computes while this one loads. T goes through shared memory, in which the patch lay,
// with a pitch of 32 + K floats: the threads of a warp, neighbouring (q,k), read neighbouring
// banks.
//
// conv2d_wide_forward, the output image, is the same kernel with fp32 stores. Its pixels of 3
// floats lie behind one another, so a warp stores 128 bytes in a row, four bytes a thread: whole
// sectors although no pixel is aligned to more than a float.

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/conv2d.cuh"
#include "kernels/cuda/conv2d_fragments.cuh"
#include "kernels/cuda/conv2d_fused.cuh"
#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kChannels = 64;  // of a chunk of the reduction
constexpr int kRows = 256;     // of T: four warps of 64
constexpr int kThreads = 128;
constexpr int kPatch = 512;           // pixels
constexpr int kFilterRows = 248;      // R*S*K that fit
constexpr int kColumns = 32;          // S*K that fit
constexpr int kPitch = 2 * kColumns;  // most floats of a row of T

struct SumShape : ConvSizes {
  ConvRectangle tile;

  GPU_FN int columns() const { return s * out; }
  GPU_FN int pitch() const { return tile.cols + s - 1; }  // of the patch and of T's rows
};

struct alignas(128) SumShared {
  union {
    unsigned char patch[kPatch * 128];
    float sums[kRows * kPitch];
  };
  unsigned char filters[kFilterRows * 128];  // row r*S*K + s*K + k: 64 channels
};

template <class Out>
GPU_DEV Out as(float v) {
  if constexpr (std::is_same_v<Out, float>)
    return v;
  else
    return gpu::to_bf16(v);
}

/// One block an output tile, NT*8 columns of which S*K are used. Channels are a multiple of 8 and
/// `in` is 16-byte aligned, w too unless Flip; the rest of the last chunk is filled with zeros.
/// Out: bf16, or float for sums that are not rounded.
template <int NT, bool Flip, class Out>
__global__ void __launch_bounds__(kThreads, 2)
    conv2d_column_sum_mma_kernel(SumShape d, const bf16* __restrict__ in,
                                 const bf16* __restrict__ w, Conv2dEpilogue epilogue,
                                 Out* __restrict__ out) {
  auto& s = gpu::smem<SumShared>();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const ConvPlace at = place_of(d.tile, blockIdx.x);
  const int pitch = d.pitch(), columns = d.columns(), rows = d.tile.rows * pitch;
  in += at.image * d.h * d.w * d.in;
  out += at.image * d.p * d.q * d.out;

  // Eight threads copy the 128 bytes of a pixel.
  const auto load_patch = [&](int c0) {
    const int part = thread % 8, c = c0 + part * 8, count = (d.tile.rows + d.r - 1) * pitch;
    for (int i = thread / 8; i < count; i += kThreads / 8) {
      const int h = at.p - d.pad_h + i / pitch, v = at.q - d.pad_w + i % pitch;
      const bool valid = h >= 0 && h < d.h && v >= 0 && v < d.w && c < d.in;
      // [sum fill]
      gpu::cp_async<16>(s.patch + gpu::swz128(i, part),
                        valid ? in + (Index{h} * d.w + v) * d.in + c : in, valid);
    }
  };
  const auto load_filters = [&](int c0) {
    if constexpr (Flip) {
      // w[i][..] is R*S*K values in a row, the last of them the first of our taps: thread by thread
      // one value to its transposed place.
      const int row_count = d.r * columns;
      for (int e = thread; e < kChannels * row_count; e += kThreads) {
        const int c = e / row_count, j = e % row_count;
        const int row = (d.r * d.s - 1 - j / d.out) * d.out + j % d.out;
        const bf16 value = c0 + c < d.in ? w[Index{c0 + c} * row_count + j] : bf16{0};
        *reinterpret_cast<bf16*>(s.filters + gpu::swz128(row, c / 8) + c % 8 * 2) = value;
      }
    } else {
      const int part = thread % 8, c = c0 + part * 8;
      for (int row = thread / 8; row < d.r * columns; row += kThreads / 8) {
        const int k = row % d.out, tap = row / d.out;
        const bool valid = c < d.in;
        // [sum filter]
        gpu::cp_async<16>(s.filters + gpu::swz128(row, part),
                          valid ? w + (Index{k} * d.r * d.s + tap) * d.in + c : w, valid);
      }
    }
  };

  float sum[4][NT][4] = {};
  for (int c0 = 0; c0 < d.in; c0 += kChannels) {
    if (c0 > 0) __syncthreads();  // the chunk before has been read
    load_patch(c0);
    load_filters(c0);
    gpu::cp_async_commit();
    gpu::cp_async_wait<0>();
    __syncthreads();  // everyone's copies have arrived
    for (int r = 0; r < d.r; ++r) {
      int pixel[4];  // rows past the tile repeat its last one and are never stored
#pragma unroll
      for (int i = 0; i < 4; ++i)
        pixel[i] = min((warp * 4 + i) * 16 + lane % 16, rows - 1) + r * pitch;
#pragma unroll
      for (int kk = 0; kk < kChannels / 16; ++kk) {
        std::uint32_t a[4][4], b[NT][2];
#pragma unroll
        for (int i = 0; i < 4; ++i)
          // [sum a]
          gpu::ldmatrix_x4(a[i], s.patch + gpu::swz128(pixel[i], kk * 2 + lane / 16));
#pragma unroll
        for (int j = 0; j < NT / 2; ++j) {
          // Columns past S*K repeat the last one; nobody adds them up.
          const int column = min(j * 16 + lane / 16 * 8 + lane % 8, columns - 1);
          std::uint32_t x[4];
          // [sum b]
          gpu::ldmatrix_x4(x, s.filters + gpu::swz128(r * columns + column, kk * 2 + lane / 8 % 2));
          b[2 * j][0] = x[0];
          b[2 * j][1] = x[1];
          b[2 * j + 1][0] = x[2];
          b[2 * j + 1][1] = x[3];
        }
        gpu::mma_tile_bf16(sum, a, b);
      }
    }
  }
  __syncthreads();  // the patch has been read: T takes its place
  const int t_pitch = kColumns + d.out;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < NT; ++j)
#pragma unroll
      for (int h = 0; h < 4; ++h) {
        const int row = (warp * 4 + i) * 16 + h / 2 * 8 + lane / 4;
        s.sums[row * t_pitch + j * 8 + lane % 4 * 2 + h % 2] = sum[i][j][h];
      }
  __syncthreads();  // T is complete
  for (int i = thread; i < d.tile.rows * d.tile.cols * d.out; i += kThreads) {
    const int k = i % d.out, pixel = i / d.out, x = pixel % d.tile.cols, y = pixel / d.tile.cols;
    const int p = at.p + y, q = at.q + x;
    if (p >= d.p || q >= d.q) continue;
    float total = 0.0f;
    for (int tap = 0; tap < d.s; ++tap)
      // [sum add]
      total += s.sums[(y * pitch + x + tap) * t_pitch + tap * d.out + k];
    // [sum store]
    out[(Index{p} * d.q + q) * d.out + k] = as<Out>(epilogue(total, epilogue.shift(k)));
  }
}

// --- host ----------------------------------------------------------------------------------------

SumShape sum_shape(const Conv2dProblem& d, bool flip) {
  SumShape s{};
  static_cast<ConvSizes&>(s) = conv_sizes(d, flip);
  s.tile = pick_rectangle(s.p, s.q, kRows, [&](int rows, int cols) {
    return rows * (cols + s.s - 1) <= kRows && (rows + s.r - 1) * (cols + s.s - 1) <= kPatch;
  });
  return s;
}

template <int NT, bool Flip, class Out>
void launch(Context& ctx, const SumShape& d, const bf16* in, const bf16* w, Conv2dEpilogue epilogue,
            Out* out) {
  static_assert(sizeof(SumShared) <= 99 * 1024);
  gpu::launch(conv2d_column_sum_mma_kernel<NT, Flip, Out>,
              {.grid = gpu::grid_for(Index{d.images} * d.tile.tiles_p * d.tile.tiles_q, 1),
               .block = kThreads,
               .smem = sizeof(SumShared),
               .stream = ctx.stream},
              d, in, w, epilogue, out);
}

template <bool Flip, class Out>
void run(Context& ctx, const SumShape& d, const bf16* in, const bf16* w, Conv2dEpilogue epilogue,
         Out* out) {
  if (d.columns() <= 16)
    launch<2, Flip>(ctx, d, in, w, epilogue, out);
  else
    launch<4, Flip>(ctx, d, in, w, epilogue, out);
}

/// Stride 1; S outputs' columns in 32 and all filters in shared memory; whole 16-byte pieces of
/// channels; pixels of an image in 28 bits.
bool supports(const Conv2dProblem& d, Index in, Index out) {
  const Index most = Index{1} << 28;
  return d.stride == 1 && in % 8 == 0 && out * d.s <= kColumns && out * d.s * d.r <= kFilterRows &&
         in < most && d.h * d.w < most && d.p() * d.q() < most && d.n < most;
}

}  // namespace

bool supports_forward_column_sum_mma(const Conv2dProblem& d, const DeviceInfo&) {
  return supports(d, d.c, d.k);
}
bool supports_backward_data_column_sum_mma(const Conv2dProblem& d, const DeviceInfo&) {
  return supports(d, d.k, d.c);
}

template <class T>
void conv2d_forward_column_sum_mma(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                                   Conv2dEpilogue epilogue, T* y) {
  if (!packable(x, w)) return conv2d_forward_direct(ctx, d, x, w, epilogue, y);
  run<false>(ctx, sum_shape(d, false), x, w, epilogue, y);
}
template void conv2d_forward_column_sum_mma(Context&, const Conv2dProblem&, const bf16*,
                                            const bf16*, Conv2dEpilogue, bf16*);

void conv2d_wide_forward_column_sum_mma(Context& ctx, const Conv2dProblem& d, const bf16* x,
                                        const bf16* w, const float* bias, float* y) {
  Workspace ws(ctx);
  x = aligned_operand(ctx, ws, x, d.x_count());
  w = aligned_operand(ctx, ws, w, d.w_count());
  run<false>(ctx, sum_shape(d, false), x, w, {.bias = bias}, y);
}

template <class T>
void conv2d_backward_data_column_sum_mma(Context& ctx, const Conv2dProblem& d, const T* dy,
                                         const T* w, T* dx) {
  if (!packable(dy)) return conv2d_backward_data_direct(ctx, d, dy, w, dx);
  run<true>(ctx, sum_shape(d, true), dy, w, {}, dx);
}
template void conv2d_backward_data_column_sum_mma(Context&, const Conv2dProblem&, const bf16*,
                                                  const bf16*, bf16*);

}  // namespace subpix::kernels::KERNEL_TARGET
