// 3x3 convolution, NHWC fp32, pad 1, as an implicit GEMM: M = pixels, N = output channels, K = 9 *
// cin (tap by tap). A block computes 64 x 64 outputs, a thread 8 x 4; shared memory is double
// buffered through registers.

#include "kernels/cuda/gpu/gpu.cuh"
#include "tests/sim/kernels/dispatch.cuh"
#include "tests/sim/kernels/kernels.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kBlockM = 64, kBlockN = 64, kBlockK = 16, kThreads = 128, kPad = 4;

struct ConvShared {
  float a[2][kBlockK][kBlockM + kPad];  // k-major: a thread's 8 pixels are two float4
  float b[2][kBlockK][kBlockN];
};

template <Bug bug>
__global__ void __launch_bounds__(kThreads)
    conv_fp32_kernel(const float* __restrict__ x, const float* __restrict__ w,
                     const float* __restrict__ bias, float* __restrict__ y, int n, int h, int wd,
                     int c, int k) {
  auto& s = gpu::smem<ConvShared>();
  const int t = static_cast<int>(threadIdx.x);
  const int m0 = static_cast<int>(blockIdx.x) * kBlockM,
            n0 = static_cast<int>(blockIdx.y) * kBlockN;
  const int pixels = n * h * wd;
  // Loading: 64 pixels x 4 chunks of 4 channels, and 16 rows of k x 16 chunks, two of each a
  // thread.
  const int a_chunk = t % 4, a_row = t / 4, b_chunk = t % 16, b_row = t / 16;
  int image[2], row[2], column[2];
  for (int i = 0; i < 2; ++i) {
    const int m = m0 + a_row + i * 32;
    column[i] = m % wd;
    row[i] = m / wd % h;
    image[i] = m < pixels ? m / (wd * h) : -1;
  }
  float4 ra[2], rb[2];
  const auto load = [&](int step) {
    const int c0 = step * kBlockK % c, tap = step * kBlockK / c;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int p = row[i] + tap / 3 - 1, q = column[i] + tap % 3 - 1;
      const bool below = bug == Bug::OutOfBounds || p < h;
      const bool inside = image[i] >= 0 && p >= 0 && below && q >= 0 && q < wd;
      const std::size_t pixel = (static_cast<std::size_t>(image[i]) * h + p) * wd + q;
      ra[i] = make_float4(0, 0, 0, 0);
      if (inside)
        ra[i] = *reinterpret_cast<const float4*>(x + pixel * c + c0 + a_chunk * 4);  // [conv x]
      rb[i] = *reinterpret_cast<const float4*>(
          w + static_cast<std::size_t>(step * kBlockK + b_row + i * 8) * k + n0 + b_chunk * 4);
    }
  };
  const auto store = [&](int buffer) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float v[4] = {ra[i].x, ra[i].y, ra[i].z, ra[i].w};
#pragma unroll
      for (int j = 0; j < 4; ++j)
        s.a[buffer][a_chunk * 4 + j][a_row + i * 32] = v[j];  // [conv store]
      float* b = &s.b[buffer][b_row + i * 8][b_chunk * 4];
      *reinterpret_cast<float4*>(b) = rb[i];  // [conv store b]
    }
  };
  const int tm = t / 16 * 8, tn = t % 16 * 4, steps = 9 * c / kBlockK;
  float sum[8][4] = {};
  load(0);
  store(0);
  __syncthreads();
  for (int step = 0; step < steps; ++step) {
    const int buffer = step & 1;
    if (step + 1 < steps) load(step + 1);
#pragma unroll
    for (int kk = 0; kk < kBlockK; ++kk) {
      const float4 a0 = *reinterpret_cast<const float4*>(&s.a[buffer][kk][tm]);      // [conv a]
      const float4 a1 = *reinterpret_cast<const float4*>(&s.a[buffer][kk][tm + 4]);  // [conv a1]
      const float4 b = *reinterpret_cast<const float4*>(&s.b[buffer][kk][tn]);       // [conv b]
      const float av[8] = {a0.x, a0.y, a0.z, a0.w, a1.x, a1.y, a1.z, a1.w};
      const float bv[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) sum[i][j] += av[i] * bv[j];
    }
    if (step + 1 < steps) store(buffer ^ 1);
    // The next step reads what was stored, and overwrites what this one has read.
    if constexpr (bug != Bug::MissingSync) __syncthreads();
  }
  const float4 add = *reinterpret_cast<const float4*>(bias + n0 + tn);
  for (int i = 0; i < 8; ++i) {
    const int m = m0 + tm + i;
    if (m >= pixels) continue;
    *reinterpret_cast<float4*>(y + static_cast<std::size_t>(m) * k + n0 + tn) =
        make_float4(sum[i][0] + add.x, sum[i][1] + add.y, sum[i][2] + add.z, sum[i][3] + add.w);
  }
}

}  // namespace

void conv_fp32(Bug bug, const float* x, const float* w, const float* bias, float* y, int n, int h,
               int wd, int c, int k, void* stream) {
  with_bug<Bug::MissingSync, Bug::OutOfBounds>(bug, [&](auto b) {
    gpu::launch(conv_fp32_kernel<b>,
                {.grid = dim3(static_cast<unsigned>(gpu::cdiv(n * h * wd, kBlockM)),
                              static_cast<unsigned>(k / kBlockN)),
                 .block = kThreads,
                 .smem = sizeof(ConvShared),
                 .stream = stream},
                x, w, bias, y, n, h, wd, c, k);
  });
}

}  // namespace subpix::kernels::KERNEL_TARGET
