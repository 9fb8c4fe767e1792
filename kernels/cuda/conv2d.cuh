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

  GPU_DEV float shift(Index k) const { return bias ? bias[k] : 0.0f; }
  /// add: shift(k), loaded once for all pixels of a thread.
  GPU_DEV float operator()(float sum, float add) const {
    const float v = sum + add;
    return v < 0.0f ? slope * v : v;
  }
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

// tiled_shared: implicit GEMM with register tiles, exact fp32 arithmetic.
bool supports_forward_tiled_shared(const Conv2dProblem& d, const DeviceInfo& device);
bool supports_backward_data_tiled_shared(const Conv2dProblem& d, const DeviceInfo& device);
bool supports_backward_filter_tiled_shared(const Conv2dProblem& d, const DeviceInfo& device);
template <class T>
void conv2d_forward_tiled_shared(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                                 Conv2dEpilogue epilogue, T* y);
template <class T>
void conv2d_backward_data_tiled_shared(Context& ctx, const Conv2dProblem& d, const T* dy,
                                       const T* w, T* dx);
template <class T>
void conv2d_backward_filter_tiled_shared(Context& ctx, const Conv2dProblem& d, const T* x,
                                         const T* dy, float* dw, float* db);

}  // namespace subpix::kernels::KERNEL_TARGET
