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

}  // namespace subpix::kernels::KERNEL_TARGET
