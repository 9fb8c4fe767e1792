#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "kernels/sim/race.h"

/// Device memory: every allocation on its own, poisoned, between red zones, and known by its
/// bounds.
namespace subpix::sim {

/// What uninitialised and in-flight memory holds: NaN as fp32 and bf16, -1 as an integer.
inline constexpr int kPoison = 0xFF;

/// Red zones hold NaNs of another pattern, so that both reading and writing them shows.
void mark_red_zone(unsigned char* zone, std::size_t bytes);
/// The first byte that is not as marked, or end.
const unsigned char* first_damage(const unsigned char* zone, const unsigned char* end);

struct Allocation {
  unsigned char* data = nullptr;
  std::size_t bytes = 0;
  std::unique_ptr<Shadow> shadow;  ///< made at the first access that is checked for races
  bool contains(const void* p) const {
    return static_cast<std::size_t>(static_cast<const unsigned char*>(p) - data) < bytes;
  }
};

unsigned char* allocate_device(std::size_t bytes);
void release_device(void* data);
/// The allocation that p points into, or null.
Allocation* find_allocation(const void* p);
/// "inside memory that was released", "8 bytes behind the last of an allocation of 4096 bytes", ...
std::string describe_address(const void* p);
/// Null, or a sentence about the first red zone that was written to. The zone is repaired.
std::string damaged_red_zone();

}  // namespace subpix::sim
