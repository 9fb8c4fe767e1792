#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "tools/statistics.h"

/// How long calls take, and what may be said of two of them. docs/benchmarking.md has the method.
namespace subpix::tools::bench {

/// When a measurement ends: the median is known to `spread` of itself with 95 % confidence, from
/// `least` samples at least; or `seconds` are over; where even `least` take ten times that, with
/// the samples there are, but never fewer than kFewest.
inline constexpr std::size_t kFewest =
    6;  ///< of which the range holds the median with 97 % confidence
struct StopRule {
  double spread = 0.01;
  double seconds = 2.0;
  int least = 11;
  int most = 100000;
};

/// Where the true median lies with 95 % confidence, from order statistics: no assumption on how
/// the noise is distributed.
struct Interval {
  double low, high;
};
Interval median_interval(std::vector<double> values);

struct Series {
  std::vector<double> us;  ///< microseconds a call, one value a sample
  Spread spread;
  Interval median;
  bool settled = false;  ///< the stop rule's spread was reached
};
Series series_of(std::vector<double> us, const StopRule& rule);

/// Takes samples of all contenders in turn, forwards and then backwards (A B B A), so that a
/// drifting clock or a neighbour's load meets each of them alike, until all have settled or time
/// is over. A contender returns microseconds a call.
std::vector<Series> interleave(const std::vector<std::function<double()>>& contenders,
                               const StopRule& rule);

/// Time of `ours` over time of `rival`: below 1 ours is quicker.
struct Ratio {
  double value, low, high;
  bool claim;  ///< kFewest samples each, and the intervals of the two medians do not overlap
};
Ratio ratio_of(const Series& ours, const Series& rival);

}  // namespace subpix::tools::bench
