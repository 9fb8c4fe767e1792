// The gradient of a convolution's input on tensor cores, mma.sync: conv2d_mma.cuh has the method
// and the kernel.
//
// y[n,p,q,k] reads x[n,h,v,c] through w[k,r,s,c] where h = p*stride + r - pad, v = q*stride + s -
// pad. Turned round:
//
//   dx[n,h,v,c] = sum over k,r,s of dy[n, (h + pad - r) / stride, (v + pad - s) / stride, k] *
//                                   w[k,r,s,c],     where both divisions leave no remainder.
//
// Stride 1: a GEMM of N*H*W rows, C columns and a reduction of R*S*K, whose taps run backwards.
// Stride 2: h + pad - r must be even, so the parity of h decides which taps count. The pixels of
// each of the four parities form a grid of their own on which the convolution has stride 1 and a
// quarter of the taps (4, 2, 2, 1 of 3x3): four phases of one launch, none of which multiplies by
// zero. With r = r0 + 2i the source row is (h + pad - r0) / 2 - i. A phase without taps (1x1)
// writes zeros. Phases are numbered by (r0, s0): those with most taps come first.
//
// The columns of B are input channels, contiguous in w [K,R,S,C], while its reduction k is not. A
// stage therefore holds B as it lies in memory, rows of k with kN channels, and the transposition
// happens on the way to registers: ldmatrix.trans for bf16, single loads for TF32. No filter is
// flipped or copied, unless its channels are no multiple of a pack (the gradient of an image):
// then a copy with padded rows is made first, a few kilobytes.
//
// Bytes, operations and bound are the forward pass's with C and K exchanged.
//
// implicit_gemm_mma        bf16.
// implicit_gemm_mma_tf32   fp32 with operands rounded to TF32, where the device info allows it.

#include "kernels/cuda/conv2d_mma_passes.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace mma {

/// Thread i owns element i of the copy: rows of c elements, padded with zeros to `padded`.
template <class T>
__global__ void __launch_bounds__(256)
    conv2d_pad_filter_kernel(Index count, int c, int padded, const T* __restrict__ w,
                             T* __restrict__ copy) {
  const Index i = Index{blockIdx.x} * 256 + threadIdx.x;
  if (i >= count) return;
  const Index row = i / padded, column = i % padded;
  copy[i] = column < c ? w[row * c + column] : T{};
}

}  // namespace mma

bool supports_backward_data_implicit_gemm_mma(const Conv2dProblem& d, const DeviceInfo& device) {
  return device.compute_major >= 8 && d.k % kPack<bf16> == 0 && mma::pixels_fit(d);
}
bool supports_backward_data_implicit_gemm_mma_tf32(const Conv2dProblem& d,
                                                   const DeviceInfo& device) {
  return device.tf32 && device.compute_major >= 8 && d.k % kPack<float> == 0 && mma::pixels_fit(d);
}

template <class T>
void conv2d_backward_data_implicit_gemm_mma(Context& ctx, const Conv2dProblem& d, const T* dy,
                                            const T* w, T* dx) {
  Workspace scratch(ctx);
  const Index filter_rows = d.k * d.r * d.s;
  const Index filter_c = gpu::cdiv(d.c, Index{kPack<T>}) * kPack<T>;
  if (filter_c != d.c || !packable(w)) {
    T* copy = scratch.take<T>(static_cast<std::size_t>(filter_rows * filter_c));
    gpu::launch(
        mma::conv2d_pad_filter_kernel<T>,
        {.grid = gpu::grid_for(filter_rows * filter_c, 256), .block = 256, .stream = ctx.stream},
        filter_rows * filter_c, static_cast<int>(d.c), static_cast<int>(filter_c), w, copy);
    w = copy;
  }
  const mma::ImplicitGemm g = mma::backward_data_gemm(d, filter_c, filter_c == d.c && packable(dx));
  mma::run_implicit_gemm<T, mma::BackwardData>(
      ctx, g, mma::largest_phase(d), static_cast<int>(d.stride * d.stride),
      aligned_operand(ctx, scratch, dy, d.y_count()), w, Conv2dEpilogue{}, dx);
}
template void conv2d_backward_data_implicit_gemm_mma(Context&, const Conv2dProblem&, const float*,
                                                     const float*, float*);
template void conv2d_backward_data_implicit_gemm_mma(Context&, const Conv2dProblem&, const bf16*,
                                                     const bf16*, bf16*);

}  // namespace subpix::kernels::KERNEL_TARGET
