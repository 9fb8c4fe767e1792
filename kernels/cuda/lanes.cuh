#pragma once

// W elements of a tensor at a time, as fp32 in registers, whatever their type: ops that mix types,
// or that come once in packs and once element by element (W = 1), are written over these.

#include <algorithm>

#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"

namespace subpix::kernels::KERNEL_TARGET {

/// As many elements as make 16 bytes of the widest type.
template <class... T>
inline constexpr int kLanes = static_cast<int>(16 / std::max({sizeof(T)...}));

/// Packs of a thread: with 16 elements of each input in flight a full multiprocessor covers the
/// latency of memory, and they fit its registers as fp32.
template <int W>
inline constexpr int kUnroll = 16 / W;

template <int W>
struct Lanes {
  float v[W];
};

/// True if p is aligned to packs of W elements; a view into a tensor need not be.
template <int W, class T>
GPU_FN bool aligned_lanes(const T* p) {
  return reinterpret_cast<std::uintptr_t>(p) % (W * sizeof(T)) == 0;
}

GPU_DEV float load_value(float v) { return v; }
GPU_DEV float load_value(bf16 v) { return gpu::to_float(v); }
GPU_DEV float load_value(std::uint8_t v) { return static_cast<float>(v); }
GPU_DEV void store_value(std::uint8_t* p, float v) { *p = static_cast<std::uint8_t>(v); }

/// One access of W * sizeof(T) bytes, which p is aligned to.
template <int W>
GPU_DEV Lanes<W> load_lanes(const float* p) {
  if constexpr (W == 1) {
    return {{*p}};
  } else {
    static_assert(W == 4);
    const float4 x = *reinterpret_cast<const float4*>(p);
    return {{x.x, x.y, x.z, x.w}};
  }
}
template <int W>
GPU_DEV Lanes<W> load_lanes(const bf16* p) {
  if constexpr (W == 1) {
    return {{gpu::to_float(*p)}};
  } else if constexpr (W == 4) {
    const uint2 x = *reinterpret_cast<const uint2*>(p);
    const float2 a = gpu::unpack_bf16(x.x), b = gpu::unpack_bf16(x.y);
    return {{a.x, a.y, b.x, b.y}};
  } else {
    static_assert(W == 8);
    const Pack<bf16> x = load_pack(p);
    return {{x.v[0], x.v[1], x.v[2], x.v[3], x.v[4], x.v[5], x.v[6], x.v[7]}};
  }
}
template <int W>
GPU_DEV Lanes<W> load_lanes(const std::uint8_t* p) {
  static_assert(W == 4 || W == 8);
  std::uint32_t words[W / 4];
  if constexpr (W == 4) {
    words[0] = *reinterpret_cast<const std::uint32_t*>(p);
  } else {
    const uint2 x = *reinterpret_cast<const uint2*>(p);
    words[0] = x.x;
    words[1] = x.y;
  }
  Lanes<W> to;
#pragma unroll
  for (int e = 0; e < W; ++e) to.v[e] = static_cast<float>(words[e / 4] >> (8 * (e % 4)) & 0xFFu);
  return to;
}

template <int W>
GPU_DEV void store_lanes(float* p, const Lanes<W>& x) {
  if constexpr (W == 1) {
    *p = x.v[0];
  } else {
    static_assert(W == 4);
    *reinterpret_cast<float4*>(p) = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
  }
}
template <int W>
GPU_DEV void store_lanes(bf16* p, const Lanes<W>& x) {
  if constexpr (W == 1) {
    *p = gpu::to_bf16(x.v[0]);
  } else if constexpr (W == 4) {
    *reinterpret_cast<uint2*>(p) =
        make_uint2(gpu::pack_bf16(x.v[0], x.v[1]), gpu::pack_bf16(x.v[2], x.v[3]));
  } else {
    static_assert(W == 8);
    *reinterpret_cast<uint4*>(p) =
        make_uint4(gpu::pack_bf16(x.v[0], x.v[1]), gpu::pack_bf16(x.v[2], x.v[3]),
                   gpu::pack_bf16(x.v[4], x.v[5]), gpu::pack_bf16(x.v[6], x.v[7]));
  }
}
/// The values are whole numbers from 0 to 255.
template <int W>
GPU_DEV void store_lanes(std::uint8_t* p, const Lanes<W>& x) {
  static_assert(W == 4 || W == 8);
  std::uint32_t words[W / 4] = {};
#pragma unroll
  for (int e = 0; e < W; ++e) words[e / 4] |= static_cast<std::uint32_t>(x.v[e]) << (8 * (e % 4));
  if constexpr (W == 4)
    *reinterpret_cast<std::uint32_t*>(p) = words[0];
  else
    *reinterpret_cast<uint2*>(p) = make_uint2(words[0], words[1]);
}

}  // namespace subpix::kernels::KERNEL_TARGET
