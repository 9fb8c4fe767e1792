// Forward convolution on tensor cores, mma.sync: conv2d_mma.cuh has the method and the kernel.
//
//   y[n,p,q,k] = act(bias[k] + sum over r,s,c of x[n, p*stride + r - pad, q*stride + s - pad, c] *
//                                                w[k,r,s,c])
//
// as a GEMM of N*P*Q rows, K columns and a reduction of R*S*C. Filters [K,R,S,C] already are the
// rows of B with the reduction contiguous: a step takes the next 128 bytes of each, and only A has
// to know of taps.
//
// Per output 2*R*S*C operations; x, w and y once are (N*H*W*C + N*P*Q*K + K*R*S*C) elements. For
// 3x3 over 64 channels that is 280 FLOP a byte in bf16, above the ridge of any GPU, so the bound is
// arithmetic; but every tap reads A again from L2: a 128x64 tile loads 192 rows for 8192 products,
// 43 FLOP a byte, and that traffic is the bound in truth. Loading the pixels once for all taps is
// the next technique's idea.
//
// implicit_gemm_mma        bf16.
// implicit_gemm_mma_tf32   fp32 with operands rounded to TF32, where the device info allows it.
//
// conv2d_wide_forward: the bf16 kernel with its sums stored as fp32.

#include "kernels/cuda/conv2d_fused.cuh"
#include "kernels/cuda/conv2d_mma_passes.cuh"

namespace subpix::kernels::KERNEL_TARGET {

bool supports_forward_implicit_gemm_mma(const Conv2dProblem& d, const DeviceInfo& device) {
  return device.compute_major >= 8 && d.c % kPack<bf16> == 0 && mma::pixels_fit(d);
}
bool supports_forward_implicit_gemm_mma_tf32(const Conv2dProblem& d, const DeviceInfo& device) {
  return device.tf32 && device.compute_major >= 8 && d.c % kPack<float> == 0 && mma::pixels_fit(d);
}

namespace {

/// Out: T, or float for sums that are not rounded.
template <class T, class Out>
void run_forward(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                 Conv2dEpilogue epilogue, Out* y) {
  Workspace scratch(ctx);
  const mma::ImplicitGemm g = mma::forward_gemm(d, d.k % kPack<Out> == 0 && packable(y));
  mma::run_implicit_gemm<T, mma::Forward>(
      ctx, g, d.n * d.p() * d.q(), 1, aligned_operand(ctx, scratch, x, d.x_count()),
      aligned_operand(ctx, scratch, w, d.w_count()), epilogue, y);
}

}  // namespace

template <class T>
void conv2d_forward_implicit_gemm_mma(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                                      Conv2dEpilogue epilogue, T* y) {
  run_forward(ctx, d, x, w, epilogue, y);
}
template void conv2d_forward_implicit_gemm_mma(Context&, const Conv2dProblem&, const float*,
                                               const float*, Conv2dEpilogue, float*);
template void conv2d_forward_implicit_gemm_mma(Context&, const Conv2dProblem&, const bf16*,
                                               const bf16*, Conv2dEpilogue, bf16*);

void conv2d_wide_forward_implicit_gemm_mma(Context& ctx, const Conv2dProblem& d, const bf16* x,
                                           const bf16* w, const float* bias, float* y) {
  run_forward(ctx, d, x, w, {.bias = bias}, y);
}

}  // namespace subpix::kernels::KERNEL_TARGET
