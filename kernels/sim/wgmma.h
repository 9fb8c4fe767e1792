#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "kernels/sim/entry.h"

namespace subpix::sim {

struct Thread;

inline constexpr int kWarpgroup = 128;

/// The accumulators of a warpgroup while wgmma works on them: the threads' registers hold poison.
struct Accumulator {
  int n = 0;
  std::vector<float> d;  ///< [64][n]
};

struct WgmmaOperation {
  std::uint64_t a = 0, b = 0;
  int n = 0;
  bool transpose_a = false, transpose_b = false, accumulate = false, registers = false;
  Where where;
  int threads = 0;  ///< that have issued it
  std::shared_ptr<Accumulator> accumulator;
  std::vector<std::uint16_t> operands;  ///< [64][16] of A, then [n][16] of B, when all had issued
  std::vector<std::uint32_t> a_registers;  ///< [128][4]
};

struct Warpgroup {
  std::deque<WgmmaOperation> operations;  ///< not yet computed
  std::uint64_t computed = 0;             ///< operations before the first of these
  std::uint64_t complete = 0;             ///< operations issued by all 128 threads
  std::vector<Thread*> waiting;
};

/// One thread's side.
struct WgmmaThread {
  struct Hidden {
    float* registers;
    std::shared_ptr<Accumulator> accumulator;
    std::uint64_t last;  ///< one past its last operation
  };
  std::vector<Hidden> hidden;
  std::uint64_t issued = 0;
  std::vector<std::uint64_t> groups;  ///< committed: operations issued until then
  std::size_t groups_done = 0;
  bool fenced = false;
  void reset() {
    hidden.clear();
    issued = 0;
    groups.clear();
    groups_done = 0;
    fenced = false;
  }
};

}  // namespace subpix::sim
