#pragma once

#include <cstdint>

#include "kernels/sim/entry.h"

namespace subpix::sim {

/// What the last lane to arrive does for all: slots[lane] is what that lane brought.
using WarpFunction = void (*)(void** slots, std::uint32_t mask);

/// A collective some lanes have reached. Lanes may run ahead of others into a collective of a
/// different mask, so several can be pending; equal masks must be the same call.
struct Collective {
  std::uint32_t mask, arrived;
  WarpFunction function;
  const char* name;
  Where where;
  void* slots[32];
};

struct Warp {
  std::uint32_t exited = 0;
  int pending = 0;
  Collective collectives[8];
};

/// Waits until all lanes of the mask have called; then `function` has run.
void warp_collective(std::uint32_t mask, void* slot, WarpFunction function, const char* name,
                     bool same_line, Where where);

}  // namespace subpix::sim
