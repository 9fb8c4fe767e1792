#pragma once

#include <vector>

namespace subpix::tools {

/// Quantile of measured values, 0 <= q <= 1, linear between neighbours (q = 0.5: the median).
/// Error if `values` is empty or one of them is NaN.
double quantile(std::vector<double> values, double q);

/// What a series of timings is reported by.
struct Spread {
  double median = 0, min = 0, p5 = 0, p95 = 0;
};
Spread spread_of(const std::vector<double>& values);

/// The process's largest resident set so far, in bytes (VmHWM); 0 where /proc does not tell.
std::size_t peak_resident_bytes();

}  // namespace subpix::tools
