#pragma once

#include <cmath>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/core/device.h"
#include "engine/core/safetensors.h"
#include "engine/nn/module.h"
#include "tests/support/catch.h"

namespace subpix::tests {

/// A file of tests/fixtures (make_fixtures.py wrote it): PyTorch's numbers, computed in float64.
inline std::string fixture_path(const std::string& name) {
  return (std::filesystem::path(SUBPIX_SOURCE_DIR) / "tests/fixtures" / (name + ".safetensors"))
      .string();
}

class Fixture {
 public:
  explicit Fixture(const std::string& name)
      : file_(engine::SafetensorsFile::open(fixture_path(name))) {}

  std::vector<float> values(const std::string& name) const { return file_.read_f32(name); }
  float value(const std::string& name) const {
    const std::vector<float> all = values(name);
    REQUIRE(all.size() == 1);
    return all[0];
  }
  engine::Tensor tensor(engine::Device& device, const std::string& name) const {
    return engine::Tensor::from_host(device, engine::Shape(file_.at(name).shape), values(name));
  }
  /// Names that begin with `prefix`, without it.
  std::vector<std::string> names(const std::string& prefix) const {
    std::vector<std::string> all;
    for (const engine::TensorInfo& info : file_.tensors())
      if (info.name.starts_with(prefix)) all.push_back(info.name.substr(prefix.size()));
    return all;
  }

 private:
  engine::SafetensorsFile file_;
};

/// Empty if every |got - want| <= tolerance * (|want| + rms(want)), else a sentence with the worst
/// element. NaN never passes.
inline std::string mismatch(const std::string& what, std::span<const float> got,
                            std::span<const float> want, double tolerance) {
  if (got.size() != want.size())
    return concat(what, " has ", got.size(), " elements, not ", want.size());
  double squares = 0.0;
  for (const float v : want) squares += double{v} * v;
  const double rms = std::sqrt(squares / static_cast<double>(want.size()));
  std::size_t worst = 0;
  double worst_ratio = -1.0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double bound = tolerance * (std::fabs(double{want[i]}) + rms);
    const double error = std::fabs(double{got[i]} - double{want[i]});
    if (error == 0.0) continue;
    const double ratio = error / bound;
    if (!(ratio <= worst_ratio)) {
      worst = i;
      worst_ratio = std::isnan(ratio) ? HUGE_VAL : ratio;
    }
  }
  if (worst_ratio <= 1.0) return {};
  return concat(what, " element ", worst, ": ", got[worst], " instead of ", want[worst],
                ", error is ", worst_ratio, " times the allowed one; rms is ", rms);
}

inline void check_close(const std::string& what, const engine::Tensor& got,
                        const std::vector<float>& want, double tolerance) {
  const std::string message = mismatch(what, got.to_host(), want, tolerance);
  CHECK(message == "");
}

/// Gradients of a module's parameters (file order) against the fixture's "<prefix><name>".
inline void check_gradients(const engine::nn::Module& module, const Fixture& fixture,
                            const std::string& prefix, double tolerance) {
  std::size_t compared = 0;
  for (const engine::nn::NamedTensor& entry : module.state()) {
    if (!entry.trainable) continue;
    INFO(entry.name);
    REQUIRE(entry.tensor.grad().defined());
    const std::vector<float> got =
        engine::nn::to_file(entry.tensor.grad().to_host(), entry.tensor.shape(), entry.layout);
    const std::string message =
        mismatch("gradient of " + entry.name, got, fixture.values(prefix + entry.name), tolerance);
    CHECK(message == "");
    ++compared;
  }
  CHECK(compared == fixture.names(prefix).size());
}

/// Moves one element in the middle of a tensor by a share of the tensor's rms: for tests that a
/// comparison is not blind.
inline void nudge(const engine::Tensor& tensor, double share) {
  std::vector<float> values = tensor.to_host();
  double squares = 0.0;
  for (const float v : values) squares += double{v} * v;
  values.at(values.size() / 2) +=
      static_cast<float>(share * std::sqrt(squares / static_cast<double>(values.size())));
  tensor.upload(values);
}

}  // namespace subpix::tests
