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

// conv2d_backward_filter_group, split_pixels_mma: the same kernel, one launch for all filters.
bool supports_backward_filter_group_split_pixels_mma(const Conv2dGroupProblem& d,
                                                     const DeviceInfo&);
void conv2d_backward_filter_group_split_pixels_mma(Context& ctx, const Conv2dGroupProblem& d,
                                                   const FilterGradient<bf16>* filters);

// conv2d_shuffle_forward, halo_mma: eight channels behind the shuffle or multiples of it.
bool supports_shuffle_forward_halo_mma(const Conv2dShuffleProblem& d, const DeviceInfo&);
void conv2d_shuffle_forward_halo_mma(Context& ctx, const Conv2dShuffleProblem& d, const bf16* x,
                                     Filter<bf16> w, const float* bias, const float* slope, bf16* z,
                                     bf16* y);

// conv2d_pool_forward, halo_mma.
bool supports_pool_forward_halo_mma(const Conv2dPoolProblem& d, const DeviceInfo&);
void conv2d_pool_forward_halo_mma(Context& ctx, const Conv2dPoolProblem& d, const bf16* x,
                                  Filter<bf16> w, const float* bias, bf16* y, std::uint8_t* which);

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
