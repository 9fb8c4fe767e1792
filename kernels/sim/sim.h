#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/api/error.h"

/// The simulator as tests and tools see it: how launches are scheduled and checked, what they
/// counted, and what they report. docs/simulator.md is the guide. Device memory, streams and
/// launches go through gpu/host.cuh and gpu/launch.cuh, as on a GPU.
///
///   sim::Scope scope({.schedule = sim::Schedule::Random, .seed = 7});
///   add(ctx, problem, a, b, y);              // queued
///   CHECK_THROWS_AS(sync(ctx), sim::Error);  // runs here: "add.cu:31: race on ..."
///
/// One simulated device a process. Launches may come from several host threads, but run one at a
/// time.
namespace subpix::sim {

/// A defect of a kernel or of the work queued on streams. what() is "file:line: sentence [kernel,
/// block, thread]", where the line is the kernel's and messages name the other line involved, if
/// any.
class Error : public subpix::Error {
 public:
  using subpix::Error::Error;
};

/// Who runs when several may. All are deterministic; results of a correct program are equal under
/// each.
enum class Schedule : std::uint8_t {
  Fifo,   ///< threads, blocks and streams in order; asynchronous work as late as it may
  Lifo,   ///< the last one ready first; blocks and streams backwards
  Random  ///< threads, blocks, streams and the moments of asynchronous work drawn from the seed
};

struct Config {
  Schedule schedule = Schedule::Fifo;  ///< SUBPIX_SIM_SCHEDULE = fifo, lifo, random
  std::uint64_t seed = 1;              ///< SUBPIX_SIM_SEED
  bool races = true;   ///< happens-before checks; `check` flavour only.  SUBPIX_SIM_RACES = 0, 1
  bool count = false;  ///< per-line counters of memory accesses; `check` only. SUBPIX_SIM_COUNT
  /// false: launches are checked and counted but not run, so that the launches of work of any size
  /// are known in no time; results are whatever the memory held. SUBPIX_SIM_EXECUTE = 0, 1
  bool execute = true;
};
/// The settings in force for what runs next; initially those of the environment. A value that does
/// not exist is an InputError at the first use.
Config& config();

/// Sets a configuration for the length of a scope.
class Scope {
 public:
  explicit Scope(const Config& c) : before_(config()) { config() = c; }
  ~Scope() { config() = before_; }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Config before_;
};

/// How the kernels linked into this program were compiled.
enum class Flavour : std::uint8_t { Sim, Check, Asan };
Flavour flavour();
const char* name(Flavour f);

enum class AccessKind : std::uint8_t { GlobalLoad, GlobalStore, SharedLoad, SharedStore };
const char* name(AccessKind k);

/// What one source line did, over all warps: a request is one execution by the lanes of a warp.
/// Units are 32-byte sectors of global memory, or wavefronts of shared memory (128 bytes in 32
/// banks; 8-byte accesses go by half-warps, 16-byte ones by quarters). ideal: units if the distinct
/// bytes touched lay side by side. Lanes are grouped by how often each has executed the line since
/// the last block barrier, so the numbers do not depend on the schedule.
struct AccessCounter {
  AccessKind kind;
  std::string file;
  int line;
  std::uint64_t requests = 0, lanes = 0, bytes = 0, units = 0, ideal = 0;
};

/// Totals since reset_stats(). The first block counts in every flavour.
struct Stats {
  std::uint64_t launches = 0;  ///< kernels run, those of graphs included
  std::uint64_t graph_launches = 0, copies = 0, copied_bytes = 0, allocations = 0;
  std::uint64_t blocks = 0, threads = 0;
  std::uint64_t block_barriers = 0;  ///< completed __syncthreads and named barriers
  std::uint64_t warp_collectives = 0, atomics = 0;
  std::uint64_t cp_async = 0;  ///< copies by single threads
  std::uint64_t bulk_copies = 0, bulk_bytes = 0, bulk_stores = 0;
  std::uint64_t ldmatrix = 0, mma = 0, wgmma = 0;  ///< instructions of a warp; of a warpgroup
  std::uint64_t switches = 0;                      ///< between simulated threads
  /// Memory accesses by source line, ordered by file, line and kind. `check` flavour with
  /// Config::count; cp.async and ldmatrix are counted in every flavour then.
  std::vector<AccessCounter> accesses;

  /// Sum over the counters of a line (all kinds equal to `kind`); zeros where nothing was counted.
  AccessCounter at(AccessKind kind, const std::string& file, int line) const;
  AccessCounter total(AccessKind kind) const;
};
Stats stats();
void reset_stats();
/// A table of the numbers, one line per counter.
std::string report(const Stats& s);

/// Device memory now allocated, for leak checks.
struct MemoryUse {
  std::size_t blocks = 0, bytes = 0;
};
MemoryUse memory_use();

/// Work queued and not run, over all streams.
std::size_t pending();

}  // namespace subpix::sim
