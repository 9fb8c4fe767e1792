#pragma once

#include <algorithm>
#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "engine/core/device.h"

namespace subpix::tools {

/// Milliseconds since some moment.
inline double clock_ms() {
  using namespace std::chrono;
  return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

/// Cuts a step into named phases. The device is waited for at each cut, so the phases of an
/// asynchronous backend sum up to more than an undivided step takes; host backends lose nothing.
class PhaseClock {
 public:
  explicit PhaseClock(engine::Device& device) : device_(device) {}

  void start() {
    device_.synchronize();
    step_ = last_ = clock_ms();
    current_.clear();
  }
  /// Ends a phase; a name that comes twice in a step is summed up.
  void cut(const char* phase) {
    device_.synchronize();
    const double t = clock_ms();
    if (std::find(order_.begin(), order_.end(), phase) == order_.end()) order_.emplace_back(phase);
    current_[phase] += t - last_;
    last_ = t;
  }
  /// Ends the step; `keep` false: it was a warm-up.
  void finish(bool keep) {
    if (!keep) return;
    steps_.push_back(last_ - step_);
    for (const auto& [phase, ms] : current_) phases_[phase].push_back(ms);
  }

  const std::vector<double>& steps() const { return steps_; }
  const std::vector<std::string>& order() const { return order_; }
  const std::vector<double>& phase(const std::string& name) const { return phases_.at(name); }

 private:
  engine::Device& device_;
  double step_ = 0, last_ = 0;
  std::map<std::string, double> current_;
  std::vector<double> steps_;
  std::vector<std::string> order_;
  std::map<std::string, std::vector<double>> phases_;
};

}  // namespace subpix::tools
