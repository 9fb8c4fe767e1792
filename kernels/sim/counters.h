#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "kernels/sim/race.h"
#include "kernels/sim/sim.h"

namespace subpix::sim {

/// Totals of everything run since reset_stats(), without the accesses by line.
extern Stats totals;

/// Executions of one instruction by the lanes of a warp since the last block barrier.
struct LineLog {
  struct Request {
    std::uint32_t mask = 0, bytes = 0;
    const void* addresses[32];
  };
  std::uint32_t executed[32] = {};  ///< by each lane: the number of its next request
  std::vector<Request> requests;
};
/// By site and kind.
using WarpLog = std::unordered_map<std::uint64_t, LineLog>;

/// One lane's access at a line. Does nothing unless Config::count is set.
void count_access(const Thread& t, AccessKind kind, const void* p, std::uint32_t bytes, Site site);
/// A block barrier has completed, or the block has ended.
void flush_counters(Block& block);

}  // namespace subpix::sim
