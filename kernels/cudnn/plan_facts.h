#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

/// What is known of one way in which cuDNN would compute a graph: names no type of cuDNN, so that
/// benchmarks can include it.
namespace subpix::kernels::cudnn {

struct PlanFacts {
  std::string heuristic;  ///< "A", "B" or "fallback": the first that named it
  std::int64_t engine = -1;
  std::vector<std::pair<std::string, std::int64_t>> knobs;
  std::vector<std::string> numerical_notes;
  std::vector<std::string> behavior_notes;
  std::size_t workspace = 0;  ///< bytes; known once the plan is made
  std::string obstacle;       ///< why it cannot run; empty where it can
  double microseconds = 0.0;  ///< one run, as measured here; 0: not measured

  bool noted(const std::string& note) const {
    for (const std::string& n : numerical_notes)
      if (n == note) return true;
    return false;
  }
  bool deterministic() const { return !noted("NONDETERMINISTIC"); }
  /// "engine 12 (TILE_SIZE 3, STAGES 4), TENSOR_CORE, 1024 bytes".
  std::string text() const;
  /// Equal for equal engines with equal knobs.
  std::string key() const;
};

/// What a plan must be for a table's variant to choose it. The rest is listed and timed by
/// benchmarks, but never trained with.
struct PlanRule {
  bool fp32 = false;  ///< operands are fp32 ...
  bool tf32 = false;  ///< ... and may be rounded to TF32
  std::size_t most_workspace = std::size_t{256} << 20;
};

/// Why the rule forbids the plan; empty where it does not.
std::string forbidden(const PlanFacts& facts, const PlanRule& rule);

}  // namespace subpix::kernels::cudnn
