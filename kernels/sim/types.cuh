#pragma once

#include <cstdint>

/// The vector types of CUDA that kernel sources use, so that the simulator needs no toolkit. They
/// live in a namespace of their own: a program may also contain objects that nvcc compiled with
/// CUDA's types.
namespace subpix::sim_types {

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned vx = 1, unsigned vy = 1, unsigned vz = 1) : x(vx), y(vy), z(vz) {}
};

// Aligned like CUDA's, so that one value is one access.
#define SUBPIX_VECTOR_TYPES(type, element)                               \
  struct alignas(2 * sizeof(element)) type##2 {                          \
    element x, y;                                                        \
  };                                                                     \
  struct alignas(4 * sizeof(element)) type##4 {                          \
    element x, y, z, w;                                                  \
  };                                                                     \
  inline type##2 make_##type##2(element x, element y) { return {x, y}; } \
  inline type##4 make_##type##4(element x, element y, element z, element w) { return {x, y, z, w}; }
SUBPIX_VECTOR_TYPES(float, float)
SUBPIX_VECTOR_TYPES(int, int)
SUBPIX_VECTOR_TYPES(uint, unsigned)
#undef SUBPIX_VECTOR_TYPES

}  // namespace subpix::sim_types

using namespace subpix::sim_types;  // NOLINT: CUDA has these names in the global namespace
