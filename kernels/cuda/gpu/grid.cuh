#pragma once

// The barrier of a whole cooperative grid: apart from gpu.cuh, because NVIDIA's header takes longer
// to parse than everything else that kernels include.

#include "kernels/cuda/gpu/gpu.cuh"

#if defined(__CUDACC__)
#include <cooperative_groups.h>

namespace subpix::gpu {
inline namespace KERNEL_TARGET {

GPU_DEV void grid_sync() { cooperative_groups::this_grid().sync(); }

}  // namespace KERNEL_TARGET
}  // namespace subpix::gpu
#endif
