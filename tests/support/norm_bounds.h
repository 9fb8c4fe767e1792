#pragma once

#include <cmath>

#include "kernels/api/problem.h"
#include "tests/support/compare.h"
#include "tests/support/fill.h"

/// Bounds of batch statistics, derived in docs/numerics.md.
namespace subpix::tests {

using kernels::NormProblem;

/// What the bounds need of channel c of x [rows,c].
struct ChannelStatistics {
  double mean = 0.0, var = 0.0, mean_magnitude = 0.0, mean_square = 0.0;
};

inline ChannelStatistics statistics(const NormProblem& d, const Values& x, Index c) {
  ChannelStatistics s;
  const double rows = static_cast<double>(d.rows);
  for (Index i = 0; i < d.rows; ++i) {
    const double v = x[static_cast<std::size_t>(i * d.c + c)];
    s.mean += v / rows;
    s.mean_magnitude += std::fabs(v) / rows;
    s.mean_square += v * v / rows;
  }
  for (Index i = 0; i < d.rows; ++i) {
    const double e = x[static_cast<std::size_t>(i * d.c + c)] - s.mean;
    s.var += e * e / rows;
  }
  return s;
}

/// Bounds of the statistics themselves, derived in docs/numerics.md.
struct StatisticsBounds {
  double mean, var, inv_std;  // inv_std: relative
};

inline StatisticsBounds statistics_bounds(const NormProblem& d, const ChannelStatistics& s) {
  const double g = reduction_growth(static_cast<double>(d.rows));
  StatisticsBounds b{};
  b.mean = g * kAccumulate * s.mean_magnitude;
  b.var = kAccumulate * (g * s.var + 4.0 * std::sqrt(s.mean_square * s.var)) + b.mean * b.mean;
  b.inv_std = 0.5 * b.var / (s.var + static_cast<double>(d.eps)) + 4.0 * kAccumulate;
  return b;
}

}  // namespace subpix::tests
