#pragma once

// What pool.cu lends to shape_fused.cu: max pooling's way back, with a gate.

#include "kernels/api/kernels.h"
#include "kernels/cuda/gpu/gpu.cuh"

namespace subpix::kernels::KERNEL_TARGET {

/// What the variant "vec4" supports.
template <class T>
bool max_pool_takes_packs(const PoolProblem& p, const DeviceInfo& device);

/// dx of the gradients dy [N,P,Q,C] that pass where gate [N,P,Q,C] > 0; a null gate is open.
template <class T>
void max_pool_backward_vec4(Context& ctx, const PoolProblem& p, const T* gate, const T* dy,
                            const std::uint8_t* which, T* dx);
template <class T>
void max_pool_backward_direct(Context& ctx, const PoolProblem& p, const T* gate, const T* dy,
                              const std::uint8_t* which, T* dx);

}  // namespace subpix::kernels::KERNEL_TARGET
