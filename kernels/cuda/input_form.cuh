#pragma once

// Input forms (kernels/api/problem_fused.h) as kernels apply them to a value.

#include "kernels/api/kernels.h"
#include "kernels/cuda/gpu/gpu.cuh"

namespace subpix::kernels::KERNEL_TARGET {

struct ScaleShift {
  float scale, shift;
  GPU_DEV float operator()(float x) const { return __fmaf_rn(scale, x, shift); }
};

/// Every form is x > 0 ? x : slope x of the normalised value: of a slope per channel, of one in
/// memory, of a constant (LeakyReLU), or of 1 (no activation).
struct NormActivation {
  static constexpr int kInputs = 1;
  NormInput in;
  bool shared;
  float constant;

  /// slope: of NormLeakyRelu.
  NormActivation(InputForm form, float slope, NormInput input)
      : in(input),
        shared(form == InputForm::NormPReluShared),
        constant(form == InputForm::NormLeakyRelu ? slope : 1.0f) {
    if (form != InputForm::NormPRelu && !shared) in.slope = nullptr;
  }
  struct Channel {
    ScaleShift norm;
    float slope;
  };
  GPU_DEV Channel channel(Index c) const {
    return {{in.scale[c], in.shift[c]}, in.slope ? in.slope[shared ? 0 : c] : constant};
  }
  GPU_DEV static float apply(const Channel& k, float x, float) {
    const float b = k.norm(x);
    return b > 0.0f ? b : k.slope * b;
  }
};

}  // namespace subpix::kernels::KERNEL_TARGET
