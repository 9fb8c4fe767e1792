#include "tools/statistics.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>

#include "kernels/api/error.h"

namespace subpix::tools {

double quantile(std::vector<double> values, double q) {
  SUBPIX_REQUIRE(!values.empty(), "quantile of nothing");
  SUBPIX_REQUIRE(q >= 0.0 && q <= 1.0, "quantile ", q, " lies outside 0..1");
  for (double value : values) SUBPIX_REQUIRE(!std::isnan(value), "quantile of a NaN");
  std::sort(values.begin(), values.end());
  const double position = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return std::lerp(values[below], values[above], position - static_cast<double>(below));
}

Spread spread_of(const std::vector<double>& values) {
  return {quantile(values, 0.5), quantile(values, 0.0), quantile(values, 0.05),
          quantile(values, 0.95)};
}

std::size_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0) return std::stoull(line.substr(6)) * 1024;  // in kB
  return 0;
}

}  // namespace subpix::tools
