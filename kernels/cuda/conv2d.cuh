#pragma once

// The techniques of convolution, one source each (conv2d_<technique>.cu). conv2d.cu holds the lists
// of variants that name them; a new technique is one file, its declarations here and its rows
// there. A technique that takes every problem has no supports function.

#include "kernels/api/kernels.h"
#include "kernels/cuda/gpu/gpu.cuh"

namespace subpix::kernels::KERNEL_TARGET {

/// What every forward kernel does with a sum: add bias[k] (null: none), then multiply negative
/// values by `slope` (1: no activation, 0: ReLU), then round once to T.
struct Conv2dEpilogue {
  const float* bias = nullptr;
  float slope = 1.0f;

  GPU_DEV float operator()(float sum, Index k) const {
    return activate(bias ? sum + bias[k] : sum);
  }
  GPU_DEV float activate(float v) const { return v < 0.0f ? slope * v : v; }
};

// direct: one thread an output. Takes everything.
template <class T>
void conv2d_forward_direct(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                           Conv2dEpilogue epilogue, T* y);
template <class T>
void conv2d_backward_data_direct(Context& ctx, const Conv2dProblem& d, const T* dy, const T* w,
                                 T* dx);
template <class T>
void conv2d_backward_filter_direct(Context& ctx, const Conv2dProblem& d, const T* x, const T* dy,
                                   float* dw, float* db);

// halo_mma (bf16): stride 1, tensor cores, each activation loaded once a tile.
bool supports_forward_halo_mma(const Conv2dProblem& d, const DeviceInfo&);
template <class T>
void conv2d_forward_halo_mma(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                             Conv2dEpilogue epilogue, T* y);
bool supports_backward_data_halo_mma(const Conv2dProblem& d, const DeviceInfo&);
template <class T>
void conv2d_backward_data_halo_mma(Context& ctx, const Conv2dProblem& d, const T* dy, const T* w,
                                   T* dx);

// column_sum_mma (bf16): stride 1, few output channels, the taps of a row as columns.
bool supports_forward_column_sum_mma(const Conv2dProblem& d, const DeviceInfo&);
template <class T>
void conv2d_forward_column_sum_mma(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                                   Conv2dEpilogue epilogue, T* y);
bool supports_backward_data_column_sum_mma(const Conv2dProblem& d, const DeviceInfo&);
template <class T>
void conv2d_backward_data_column_sum_mma(Context& ctx, const Conv2dProblem& d, const T* dy,
                                         const T* w, T* dx);

// few_channels_mma (bf16): at most four input channels, the rows of taps as reduction.
bool supports_forward_few_channels_mma(const Conv2dProblem& d, const DeviceInfo&);
template <class T>
void conv2d_forward_few_channels_mma(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                                     Conv2dEpilogue epilogue, T* y);
bool supports_backward_data_few_channels_mma(const Conv2dProblem& d, const DeviceInfo&);
template <class T>
void conv2d_backward_data_few_channels_mma(Context& ctx, const Conv2dProblem& d, const T* dy,
                                           const T* w, T* dx);

}  // namespace subpix::kernels::KERNEL_TARGET
