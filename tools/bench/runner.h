#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/bench/cases.h"
#include "tools/bench/measure.h"

/// Checks and times one variant of a case, beside a rival or alone.
namespace subpix::tools::bench {

/// Whom to compare with: a backend's default variant, or one by name. "cpu:reference".
struct RivalName {
  std::string backend, variant;
};
RivalName parse_rival(const std::string& text);

struct RunOptions {
  StopRule rule;
  /// Bytes that a call must not find in a cache: operands rotate over three times as many.
  std::size_t cache_bytes = 0;
  std::size_t most_bytes = std::size_t{4} << 30;  ///< of all copies of the operands
};

enum class Status : std::uint8_t { Measured, Simulated, Wrong, Unsupported, Unavailable, NoMemory };
const char* name(Status s);

/// One contender's times. cold: each call finds its operands in memory; warm: the same ones again.
struct Times {
  Series cold, warm;
};

struct RivalResult {
  std::string backend, variant;
  std::string kind;  ///< "same": the same work; "fused": in one kernel; "sequence": of plain ops
  std::optional<Times> times;
  Ratio cold{}, warm{};
  std::string note;  ///< why there are no times
};

struct Result {
  std::string backend, variant;
  Status status = Status::Measured;
  std::string note = {};
  std::string oracle = {};  ///< what the output was compared with
  std::optional<Times> times = {};
  std::vector<RivalResult> rivals = {};
  /// What the simulator counted, where it ran.
  std::vector<std::pair<std::string, std::uint64_t>> counters = {};
};

/// A backend that is open: its name, and the context its kernels run with.
struct Bench {
  std::string backend;
  kernels::Context& ctx;
};

/// A backend, and the oracle that its results are held to.
class Runner {
 public:
  Runner(Bench bench, Bench oracle, RunOptions options);

  /// Times `variant` of the case; rival: null, or whom to compare with, by rival_variant (empty:
  /// its default). Never throws for what a case does wrong: the status says it.
  Result run(const BenchCase& c, const std::string& variant, const Bench* rival = nullptr,
             const std::string& rival_variant = "");
  /// Runs it under the simulator and counts.
  Result simulate(const BenchCase& c, const std::string& variant);

 private:
  class Contender;
  /// Empty if the contender's output is right. oracle: receives what it was compared with.
  std::string check(const BenchCase& c, Contender& contender, std::string* oracle);

  Bench bench_, oracle_;
  RunOptions options_;
};

/// Bytes of the largest cache of the host, 0 where the system does not tell.
std::size_t host_cache_bytes();

}  // namespace subpix::tools::bench
