#pragma once

// A map taken as it was before its batch norm (InputForm): what kernels hold of the norm and of the
// activation behind it.

#include "kernels/api/kernels.h"
#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"

namespace subpix::kernels::KERNEL_TARGET {

/// The normalised value is one fma everywhere, so that a map is the same whether it was made
/// explicit or not.
struct ScaleShift {
  float scale, shift;
  GPU_DEV float operator()(float x) const { return __fmaf_rn(scale, x, shift); }
};

/// Every form is b > 0 ? b : slope b of the normalised value b: of a slope per channel, of one in
/// memory, of a constant (LeakyReLU), or of 1 (no activation). scale is null for Plain.
struct NormForm {
  const float *scale, *shift, *slope;
  bool shared;
  float constant;

  static NormForm of(InputForm form, float leaky, NormInput in) {
    if (form == InputForm::Plain) return {};
    const bool shared = form == InputForm::NormPReluShared;
    return {in.scale, in.shift, shared || form == InputForm::NormPRelu ? in.slope : nullptr, shared,
            form == InputForm::NormLeakyRelu ? leaky : 1.0f};
  }

  struct Channel {
    ScaleShift norm;
    float slope;
  };
  GPU_DEV Channel channel(Index c) const {
    return {{scale[c], shift[c]}, slope ? slope[shared ? 0 : c] : constant};
  }
  GPU_DEV static float activate(float b, float slope) { return b > 0.0f ? b : slope * b; }

  /// Eight neighbouring channels. packs(): whether this can be called.
  struct Channels {
    Pack<float> scale[2], shift[2], slope[2];
  };
  GPU_DEV Channels channels(int c) const {
    Channels k;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      k.scale[half] = load_pack(scale + c + half * 4);
      k.shift[half] = load_pack(shift + c + half * 4);
      if (slope && !shared) {
        k.slope[half] = load_pack(slope + c + half * 4);
      } else {
        const float one = slope ? *slope : constant;
        k.slope[half] = {{one, one, one, one}};
      }
    }
    return k;
  }
  bool packs() const { return packable(scale, shift) && (shared || packable(slope)); }

  /// Eight values of these channels in their form, computed in fp32 and rounded once.
  GPU_DEV static uint4 form(const Channels& k, uint4 values) {
    const std::uint32_t in[4] = {values.x, values.y, values.z, values.w};
    std::uint32_t out[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 x = gpu::unpack_bf16(in[i]);
      const int h = i / 2, e = i % 2 * 2;
      const float b0 = ScaleShift{k.scale[h].v[e], k.shift[h].v[e]}(x.x);
      const float b1 = ScaleShift{k.scale[h].v[e + 1], k.shift[h].v[e + 1]}(x.y);
      out[i] = gpu::pack_bf16(activate(b0, k.slope[h].v[e]), activate(b1, k.slope[h].v[e + 1]));
    }
    return make_uint4(out[0], out[1], out[2], out[3]);
  }
};

}  // namespace subpix::kernels::KERNEL_TARGET
