#pragma once

// The techniques of the fused convolutions, as conv2d.cuh has those of the plain ones;
// conv2d_fused.cu holds the lists.

#include "kernels/api/kernels.h"
#include "kernels/cuda/gpu/gpu.cuh"

namespace subpix::kernels::KERNEL_TARGET {

// halo_mma (bf16): stride 1, batch norm around the kernel on halo tiles.
bool supports_norm_forward_halo_mma(const Conv2dNormProblem& d, const DeviceInfo&);
template <class T>
void conv2d_norm_forward_halo_mma(Context& ctx, const Conv2dNormProblem& d, const T* x,
                                  NormInput in, Filter<T> w, T* y, NormOutput out);
bool supports_norm_backward_data_halo_mma(const Conv2dNormBackwardProblem& d, const DeviceInfo&);
template <class T>
void conv2d_norm_backward_data_halo_mma(Context& ctx, const Conv2dNormBackwardProblem& d,
                                        const T* dy, Filter<T> w, const T* skip, const T* x,
                                        NormInput in, const float* mean, const float* inv_std,
                                        T* dx, NormGradients sums);

// implicit_gemm_mma (bf16): the same on the implicit GEMM, strides 1 and 2.
bool supports_norm_forward_implicit_gemm_mma(const Conv2dNormProblem& d, const DeviceInfo& device);
template <class T>
void conv2d_norm_forward_implicit_gemm_mma(Context& ctx, const Conv2dNormProblem& d, const T* x,
                                           NormInput in, Filter<T> w, T* y, NormOutput out);
bool supports_norm_backward_data_implicit_gemm_mma(const Conv2dNormBackwardProblem& d,
                                                   const DeviceInfo& device);
template <class T>
void conv2d_norm_backward_data_implicit_gemm_mma(Context& ctx, const Conv2dNormBackwardProblem& d,
                                                 const T* dy, Filter<T> w, const T* skip,
                                                 const T* x, NormInput in, const float* mean,
                                                 const float* inv_std, T* dx, NormGradients sums);

}  // namespace subpix::kernels::KERNEL_TARGET
