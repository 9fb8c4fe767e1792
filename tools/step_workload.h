#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/core/graph.h"
#include "engine/optim/adam.h"
#include "models/srgan/discriminator.h"
#include "models/srgan/generator.h"
#include "models/srgan/upscaler.h"
#include "models/vgg/vgg19.h"
#include "tools/seeded_vgg.h"
#include "tools/step_clock.h"
#include "tools/step_options.h"
#include "train/objective.h"

namespace subpix::tools {

/// One value of a step's losses.
struct NamedLoss {
  std::string name;
  double value;
};

/// What step_bench times.
class Workload {
 public:
  virtual ~Workload() = default;
  /// One step as the product runs it: in one graph where there are graphs; does not wait.
  virtual void step() = 0;
  /// The same, waited for and cut after each phase.
  virtual void step(PhaseClock& clock) = 0;
  virtual Index images() const = 0;
  virtual Index generator_parameters() const = 0;
};

/// A training step: the networks of one mode, their data and optimisers. Runs the ops of
/// train::TrainStep in its order on synthetic crops that lie on the device.
class TrainingWorkload final : public Workload {
 public:
  /// folder: where weights are written that had to be drawn.
  TrainingWorkload(engine::Device& device, const StepOptions& o, DType type,
                   const std::filesystem::path& folder);

  void step() override;
  void step(PhaseClock& clock) override;
  Index images() const override { return options_.batch; }
  Index generator_parameters() const override { return generator_.parameter_count(); }

  /// One step, not in a graph, and its losses before the update (each without its weight).
  std::vector<NamedLoss> step_with_losses();
  /// The losses of the networks as they are, each without its weight.
  std::vector<NamedLoss> losses();
  /// Writes networks and data where tools/pytorch_baseline.py reads them.
  void save(const std::filesystem::path& folder) const;
  const std::optional<CompleteVgg>& vgg() const { return vgg_file_; }

 private:
  /// The trainer has one objective for all terms; the divided step has one for each, so that each
  /// can be timed.
  struct Term {
    const char* phase;
    train::Objective objective;
  };
  void compute(std::vector<train::TermValues>* terms, train::AdversaryValues* adversary);
  void add_term(engine::Device& device, const char* phase, const train::LossConfig& loss);

  StepOptions options_;
  models::Generator generator_;
  engine::Adam adam_;
  std::unique_ptr<models::Discriminator> discriminator_;
  std::unique_ptr<engine::Adam> discriminator_adam_;
  std::optional<CompleteVgg> vgg_file_;
  std::unique_ptr<models::Vgg19> vgg_;
  std::optional<train::Objective> objective_;
  std::vector<Term> terms_;
  engine::Tensor lr_bytes_, hr_bytes_, lr_, hr_;
  std::optional<engine::Graph> graph_;
};

/// Upscaling one picture: from its bytes in host memory to the enlarged picture on the device.
class InferenceWorkload final : public Workload {
 public:
  InferenceWorkload(engine::Device& device, const StepOptions& o);

  void step() override;
  void step(PhaseClock& clock) override;
  Index images() const override { return 1; }
  Index generator_parameters() const override { return generator_.parameter_count(); }
  void save(const std::filesystem::path& folder) const;

 private:
  StepOptions options_;
  models::Generator generator_;
  std::unique_ptr<models::Upscaler> upscaler_;
  std::vector<std::uint8_t> picture_;
};

}  // namespace subpix::tools
