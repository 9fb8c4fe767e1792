#pragma once

// The techniques of convolution, one source each (conv2d_<technique>.cu). conv2d.cu holds the lists
// of variants that name them; a new technique is one file, its declarations here and its rows
// there.

#include "kernels/api/kernels.h"
#include "kernels/cuda/gpu/gpu.cuh"

namespace subpix::kernels::KERNEL_TARGET {

/// What every forward kernel does with a sum: add bias[k] (null: none), then multiply negative
/// values by `slope` (1: no activation, 0: ReLU), then round once to T.
struct Conv2dEpilogue {
  const float* bias = nullptr;
  float slope = 1.0f;
};

// split_pixels_mma: weight gradients on tensor cores, the pixels split between blocks. float rounds
// its operands to TF32.
bool supports_backward_filter_split_pixels_mma(const Conv2dProblem& d, const DeviceInfo& device);
bool supports_backward_filter_split_pixels_mma_tf32(const Conv2dProblem& d,
                                                    const DeviceInfo& device);
template <class T>
void conv2d_backward_filter_split_pixels_mma(Context& ctx, const Conv2dProblem& d, const T* x,
                                             const T* dy, float* dw, float* db);

// few_channels_mma, few_filters_mma: weight gradients on tensor cores where C <= 4 or K <= 4. bf16.
bool supports_backward_filter_few_channels_mma(const Conv2dProblem& d, const DeviceInfo& device);
template <class T>
void conv2d_backward_filter_few_channels_mma(Context& ctx, const Conv2dProblem& d, const T* x,
                                             const T* dy, float* dw, float* db);
bool supports_backward_filter_few_filters_mma(const Conv2dProblem& d, const DeviceInfo& device);
template <class T>
void conv2d_backward_filter_few_filters_mma(Context& ctx, const Conv2dProblem& d, const T* x,
                                            const T* dy, float* dw, float* db);

}  // namespace subpix::kernels::KERNEL_TARGET
