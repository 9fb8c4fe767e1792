#pragma once

// 16 bytes of a tensor at a time, as fp32 in registers: four floats or eight bf16.

#include "kernels/cuda/gpu/gpu.cuh"

namespace subpix::kernels::KERNEL_TARGET {

template <class T>
inline constexpr int kPack = static_cast<int>(16 / sizeof(T));

template <class T>
struct Pack {
  float v[kPack<T>];
};

/// p is 16-byte aligned; one access of 16 bytes.
GPU_DEV Pack<float> load_pack(const float* p) {
  const float4 x = *reinterpret_cast<const float4*>(p);
  return {{x.x, x.y, x.z, x.w}};
}
GPU_DEV Pack<bf16> load_pack(const bf16* p) {
  const uint4 x = *reinterpret_cast<const uint4*>(p);
  const float2 a = gpu::unpack_bf16(x.x), b = gpu::unpack_bf16(x.y), c = gpu::unpack_bf16(x.z),
               d = gpu::unpack_bf16(x.w);
  return {{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
}
GPU_DEV void store_pack(float* p, const Pack<float>& x) {
  *reinterpret_cast<float4*>(p) = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
}
GPU_DEV void store_pack(bf16* p, const Pack<bf16>& x) {
  *reinterpret_cast<uint4*>(p) =
      make_uint4(gpu::pack_bf16(x.v[0], x.v[1]), gpu::pack_bf16(x.v[2], x.v[3]),
                 gpu::pack_bf16(x.v[4], x.v[5]), gpu::pack_bf16(x.v[6], x.v[7]));
}

GPU_DEV void store_value(float* p, float v) { *p = v; }
GPU_DEV void store_value(bf16* p, float v) { *p = gpu::to_bf16(v); }

/// True if all of them can be read and written in packs. Tensors are, views into them need not be.
template <class... Pointers>
bool packable(const Pointers*... pointers) {
  return ((reinterpret_cast<std::uintptr_t>(pointers) % 16 == 0) && ...);
}

}  // namespace subpix::kernels::KERNEL_TARGET
