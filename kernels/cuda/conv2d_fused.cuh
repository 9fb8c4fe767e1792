#pragma once

// The kernels of the fused convolutions, most of them instances of a technique of conv2d.cuh;
// conv2d_fused.cu lists them. supports_... says which problems they take; tensors may be views that
// begin anywhere.

#include "kernels/cuda/conv2d.cuh"

namespace subpix::kernels::KERNEL_TARGET {

// conv2d_wide_forward: problems as the technique's supports_forward_... takes them.
void conv2d_wide_forward_column_sum_mma(Context& ctx, const Conv2dProblem& d, const bf16* x,
                                        const bf16* w, const float* bias, float* y);
void conv2d_wide_forward_implicit_gemm_mma(Context& ctx, const Conv2dProblem& d, const bf16* x,
                                           const bf16* w, const float* bias, float* y);

// conv2d_norm_backward_filter, split_pixels_mma: the form is applied in shared memory. Problems
// without a form are left to the plain op.
bool supports_norm_backward_filter_split_pixels_mma(const Conv2dNormProblem& d, const DeviceInfo&);
void conv2d_norm_backward_filter_split_pixels_mma(Context& ctx, const Conv2dNormProblem& d,
                                                  const bf16* x, NormInput in, const bf16* dy,
                                                  float* dw);

}  // namespace subpix::kernels::KERNEL_TARGET
