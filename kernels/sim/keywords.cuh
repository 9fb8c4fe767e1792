#pragma once

// Included by gpu.cuh under the host compiler, first: standard headers, then CUDA's keywords taken
// away.

#include <math.h>  // NOLINT: kernels call sqrtf, fmaf, isnan, ... in the global namespace

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/sim/entry.h"
#include "kernels/sim/runtime.h"
#include "kernels/sim/types.cuh"

#define __global__
#define __device__
#define __host__
#define __constant__ static_assert(false, "pass tables as kernel parameters, not as __constant__");
#define __shared__ static_assert(false, "shared memory is a struct: gpu::smem<S>()");
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))

#define threadIdx (::subpix::sim::thread_index())
#define blockIdx (::subpix::sim::block_index())
#define blockDim (::subpix::sim::block_dim())
#define gridDim (::subpix::sim::grid_dim())
#define warpSize 32

#undef assert
#define assert(condition)             \
  ((condition) ? static_cast<void>(0) \
               : ::subpix::sim::fail_assertion(#condition, ::subpix::sim::Where::here()))
