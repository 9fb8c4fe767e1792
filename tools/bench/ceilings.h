#pragma once

#include <string>
#include <vector>

#include "engine/core/device.h"
#include "tools/bench/measure.h"

/// What a device does at most, measured by the same clock as the kernels.
namespace subpix::tools::bench {

struct Ceiling {
  std::string name;  ///< "copy_gbps", "fp32_tflops", ...
  bool measured = false;
  double value = 0, low = 0, high = 0;
  std::string how;  ///< what ran, or why nothing did
};

class Ceilings {
 public:
  /// Measures what this backend can: a few seconds.
  static Ceilings measure(engine::Device& device, std::size_t cache_bytes, const StopRule& rule);
  /// Figures of a data sheet, for predictions alone.
  static Ceilings data_sheet();

  const std::vector<Ceiling>& all() const { return all_; }
  /// 0 where it was not measured.
  double value(const std::string& name) const;
  /// Floating-point operations a second at the type of an op ("conv2d_forward/bf16").
  double flops(const std::string& op) const;
  double bytes() const { return value("copy_gbps") * 1e9; }

 private:
  std::vector<Ceiling> all_;
};

/// The least time of a call in microseconds, 0 where a ceiling is not known.
double roofline_us(const Ceilings& c, const std::string& op, double flops, double bytes);

}  // namespace subpix::tools::bench
