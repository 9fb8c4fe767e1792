#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/api/problem.h"
#include "kernels/api/types.h"

/// One hardware register of floats as GCC's vector extension: arithmetic and comparisons work
/// element by element and compile for any instruction set. kLanes follows the set this library is
/// compiled for. Loads and stores need no alignment; bf16 is widened and rounded on the way.
namespace subpix::kernels::cpu {

#if defined(__AVX512F__)
inline constexpr Index kLanes = 16;
#elif defined(__AVX__)
inline constexpr Index kLanes = 8;
#else
inline constexpr Index kLanes = 4;
#endif

using Vec = float __attribute__((vector_size(kLanes * 4)));
using VecBits = std::uint32_t __attribute__((vector_size(kLanes * 4)));
using VecHalf = std::uint16_t __attribute__((vector_size(kLanes * 2)));

inline Vec load(const float* from) {
  Vec v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
inline Vec load(const bf16* from) {
  VecHalf half;
  std::memcpy(&half, from, sizeof half);
  return (Vec)(__builtin_convertvector(half, VecBits) << 16);
}

inline void save(float* to, Vec v) { std::memcpy(to, &v, sizeof v); }
inline void save(bf16* to, Vec v) {
  // As to_bf16: nearest, ties to even; a NaN keeps its upper bits and becomes quiet.
  const VecBits u = (VecBits)v;
  const VecBits rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const VecBits quiet = (u >> 16) | 0x40u;
  const VecHalf half =
      __builtin_convertvector((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded, VecHalf);
  std::memcpy(to, &half, sizeof half);
}

/// The first `lanes` elements; the others of the register are zero, or stay unwritten.
template <class T>
Vec load(const T* from, Index lanes) {
  if (lanes == kLanes) return load(from);
  T all[kLanes] = {};
  std::memcpy(all, from, static_cast<std::size_t>(lanes) * sizeof(T));
  return load(all);
}
template <class T>
void save(T* to, Vec v, Index lanes) {
  if (lanes == kLanes) return save(to, v);
  T all[kLanes];
  save(all, v);
  std::memcpy(to, all, static_cast<std::size_t>(lanes) * sizeof(T));
}

inline Vec broadcast(float v) { return v - Vec{}; }

}  // namespace subpix::kernels::cpu
