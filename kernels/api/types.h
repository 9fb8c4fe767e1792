#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace subpix {

/// bfloat16 as stored: the upper half of an fp32. Layout-compatible with __nv_bfloat16.
struct bf16 {
  std::uint16_t bits;
};

inline float to_float(bf16 v) { return std::bit_cast<float>(std::uint32_t{v.bits} << 16); }
inline float to_float(float v) { return v; }
inline double to_float(double v) { return v; }

/// Round to nearest, ties to even; NaN stays NaN (quiet).
inline bf16 to_bf16(float v) {
  const auto u = std::bit_cast<std::uint32_t>(v);
  if ((u & 0x7fffffffu) > 0x7f800000u) return bf16{static_cast<std::uint16_t>((u >> 16) | 0x40u)};
  return bf16{static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

/// Stores a value as T: store<float>(x), store<bf16>(x), store<double>(x).
template <class T, class V>
T store(V v) {
  return static_cast<T>(v);
}
template <>
inline bf16 store<bf16, float>(float v) {
  return to_bf16(v);
}
template <>
inline bf16 store<bf16, double>(double v) {
  return to_bf16(static_cast<float>(v));
}

enum class DType : std::uint8_t { F32, BF16, U8 };

inline const char* name(DType t) {
  return t == DType::F32 ? "F32" : t == DType::BF16 ? "BF16" : "U8";
}
inline std::size_t size_of(DType t) { return t == DType::F32 ? 4 : t == DType::BF16 ? 2 : 1; }

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::F32;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::BF16;
};
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType value = DType::U8;
};

}  // namespace subpix
