#include "engine/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/core/error.h"

namespace subpix::engine {

double Schedule::at(std::int64_t step) const {
  SUBPIX_REQUIRE(step >= 0, "a schedule starts at step 0, not ", step);
  double value = lr;
  if (kind == Kind::Steps) {
    for (const std::int64_t milestone : milestones)
      if (step >= milestone) value *= factor;
  } else if (kind == Kind::Cosine) {
    const std::int64_t last = total - 1;
    const double done = last > 0
                            ? static_cast<double>(std::min(step, last)) / static_cast<double>(last)
                            : 0.0;  // a single step runs at lr
    // At the end cos(pi) is -1 to the last bit and the value final_lr exactly.
    value = final_lr + (lr - final_lr) * 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  }
  if (step < warmup) value *= static_cast<double>(step + 1) / static_cast<double>(warmup);
  return value;
}

}  // namespace subpix::engine
