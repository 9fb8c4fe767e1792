#pragma once

#include <cstdint>
#include <vector>

namespace subpix::engine {

/// Learning rate as a function of the step within a phase, from 0. During the first `warmup` steps
/// the value is multiplied by (step + 1) / warmup, so it rises linearly from 1/warmup of it.
struct Schedule {
  enum class Kind : std::uint8_t { Constant, Steps, Cosine };
  Kind kind = Kind::Constant;
  double lr = 1e-4;
  std::vector<std::int64_t> milestones;  ///< Steps: lr is multiplied by `factor` at each of them
  double factor = 0.1;
  /// Cosine (Loshchilov and Hutter, arXiv 1608.03983, eq. 5 without restarts): half a period from
  /// lr at step 0 to final_lr at the last step, total - 1, and after it.
  double final_lr = 0.0;
  std::int64_t total = 1;   ///< Cosine: number of steps
  std::int64_t warmup = 0;  ///< 0: none

  double at(std::int64_t step) const;
};

}  // namespace subpix::engine
