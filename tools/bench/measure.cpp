#include "tools/bench/measure.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "kernels/api/error.h"

namespace subpix::tools::bench {

namespace {

double seconds_now() {
  using clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(clock::now().time_since_epoch()).count();
}

bool settled(const std::vector<double>& us, const StopRule& rule) {
  if (us.size() < static_cast<std::size_t>(rule.least)) return false;
  const Interval i = median_interval(us);
  return i.high - i.low <= 2.0 * rule.spread * quantile(us, 0.5);
}

}  // namespace

Interval median_interval(std::vector<double> values) {
  if (values.empty()) throw Error("no samples: there is no median");
  std::sort(values.begin(), values.end());
  // The number of samples below the median is binomial: mean n/2, deviation sqrt(n)/2.
  const auto n = static_cast<double>(values.size());
  const double rank = std::floor((n - 1.96 * std::sqrt(n)) / 2.0);
  const auto low = static_cast<std::size_t>(std::max(rank, 0.0));
  return {values[low], values[values.size() - 1 - low]};
}

Series series_of(std::vector<double> us, const StopRule& rule) {
  Series s;
  s.spread = spread_of(us);
  s.median = median_interval(us);
  s.settled = settled(us, rule);
  s.us = std::move(us);
  return s;
}

std::vector<Series> interleave(const std::vector<std::function<double()>>& contenders,
                               const StopRule& rule) {
  std::vector<std::vector<double>> samples(contenders.size());
  const double begin = seconds_now();
  std::size_t checked = 0;
  for (int round = 0; round < rule.most; ++round) {
    for (std::size_t i = 0; i < contenders.size(); ++i) {
      const std::size_t at = round % 2 == 0 ? i : contenders.size() - 1 - i;
      samples[at].push_back(contenders[at]());
    }
    const std::size_t taken = samples.empty() ? 0 : samples.front().size();
    const double passed = seconds_now() - begin;
    if (taken >= kFewest && passed >= 10.0 * rule.seconds) break;
    if (taken < static_cast<std::size_t>(rule.least)) continue;
    if (passed >= rule.seconds) break;
    // Sorting after every sample would become the measured load.
    if (taken < checked + checked / 8) continue;
    checked = taken;
    if (std::all_of(samples.begin(), samples.end(),
                    [&](const std::vector<double>& us) { return settled(us, rule); }))
      break;
  }
  std::vector<Series> all;
  for (std::vector<double>& us : samples) all.push_back(series_of(std::move(us), rule));
  return all;
}

Ratio ratio_of(const Series& ours, const Series& rival) {
  const bool enough = std::min(ours.us.size(), rival.us.size()) >= kFewest;
  return {ours.spread.median / rival.spread.median, ours.median.low / rival.median.high,
          ours.median.high / rival.median.low,
          enough && (ours.median.high < rival.median.low || rival.median.high < ours.median.low)};
}

}  // namespace subpix::tools::bench
