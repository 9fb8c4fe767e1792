#pragma once

// What pool.cu lends to others: how a maximum is chosen and its place stored (the convolution with
// pooling), max pooling's way back with a gate (shape_fused.cu).

#include "kernels/api/kernels.h"
#include "kernels/cuda/gpu/gpu.cuh"

namespace subpix::kernels::KERNEL_TARGET {

/// The places of `which` for one pack, byte e for channel e.
template <class T>
struct Places;
template <>
struct Places<float> {
  using Word = std::uint32_t;
  static GPU_DEV Word store(const int (&v)[4]) {
    return static_cast<Word>(v[0] | v[1] << 8 | v[2] << 16 | v[3] << 24);
  }
  static GPU_DEV int get(Word w, int e) { return static_cast<int>(w >> (8 * e) & 255u); }
};
template <>
struct Places<bf16> {
  using Word = uint2;
  static GPU_DEV Word store(const int (&v)[8]) {
    return make_uint2(static_cast<std::uint32_t>(v[0] | v[1] << 8 | v[2] << 16 | v[3] << 24),
                      static_cast<std::uint32_t>(v[4] | v[5] << 8 | v[6] << 16 | v[7] << 24));
  }
  static GPU_DEV int get(Word w, int e) {
    return static_cast<int>((e < 4 ? w.x : w.y) >> (8 * (e % 4)) & 255u);
  }
};

/// Takes the candidate of `place` if it is greater than the best so far or the first NaN.
GPU_DEV void choose(float candidate, int place, float& best, int& winner) {
  if (!(candidate <= best) && !isnan(best)) {
    best = candidate;
    winner = place;
  }
}

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
