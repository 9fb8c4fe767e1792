#pragma once

#include <cstdint>
#include <vector>

#include "kernels/sim/race.h"

namespace subpix::sim {

/// A barrier that counts threads: of a block (__syncthreads is number 0), a cluster or a grid.
struct Barrier {
  int arrived = 0, expected = 0;
  Where first;  ///< where the first of this round arrived
  std::vector<Thread*> waiting;
  Knowledge knowledge;
  void reset() {
    arrived = 0;
    waiting.clear();
    knowledge.clear();
  }
};

/// A thread that waits for a word of global memory to reach a value.
struct FlagWait {
  Thread* thread;
  const std::uint32_t* word;
  std::uint32_t value;
};

}  // namespace subpix::sim
