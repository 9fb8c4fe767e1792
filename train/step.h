#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/core/graph.h"
#include "engine/optim/adam.h"
#include "models/srgan/discriminator.h"
#include "models/srgan/generator.h"
#include "train/dataset.h"
#include "train/objective.h"

namespace subpix::train {

/// All that training changes. The discriminator and its optimiser are null until the first phase
/// with an adversarial term, average without ema.
struct Networks {
  std::unique_ptr<models::Generator> generator, average;
  std::unique_ptr<models::Discriminator> discriminator;
  std::unique_ptr<engine::Adam> generator_adam, discriminator_adam;

  /// What inference uses: the average if there is one.
  const models::Generator& best_generator() const { return average ? *average : *generator; }
};

/// The networks as a run begins: weights from the seed or from config.init.
Networks make_networks(engine::Device& device, const RunConfig& config);
/// Makes the discriminator from the seed if it is not there yet.
void add_discriminator(engine::Device& device, const RunConfig& config, Networks& networks);
/// Every phase starts with optimisers that know nothing.
void reset_optimisers(const RunConfig& config, const PhaseConfig& phase, Networks& networks);

/// What a measured step has to tell.
struct StepReport {
  double lr = 0.0;
  std::vector<TermReport> terms;
  std::optional<AdversaryReport> adversary;  ///< phases with an adversarial term
  /// Name of the first value that is NaN or infinite, or empty.
  std::string first_bad() const;
};

/// One training step of a phase (paper section 3.2, one discriminator update per generator update):
///  1. SR = G(LR), once;
///  2. with an adversarial term: D's update on HR and the detached SR, in two forward passes with
///  their
///     own batch statistics;
///  3. the objective's gradient at the image, judged by the updated D, whose parameters are frozen;
///  4. that gradient through G, G's update, the average.
///
/// On a backend with graphs (and `cuda_graph`) everything from the uploaded bytes to the optimisers
/// is one graph, launched at once; uploads, the rates and the average stay outside.
///
/// Note [Discriminator statistics]: D is always in training mode, so each of its three forward
/// passes of a step also moves its running statistics. Nothing in training reads them; they are
/// saved for who wants to run D in inference mode.
class TrainStep {
 public:
  /// networks and vgg are borrowed; vgg may be null without a vgg term.
  TrainStep(engine::Device& device, const RunConfig& config, const PhaseConfig& phase,
            Networks& networks, const models::Vgg19* vgg);

  /// phase_step counts from 0 within the phase and sets the learning rate; batch.step, from 0 over
  /// the whole run, the average's decay. report, if given, is filled, which waits for the device;
  /// without it nothing waits. The same bits come out with and without.
  void run(const Batch& batch, Index phase_step, StepReport* report);

 private:
  void compute(bool measure);
  void update_average(Index step) const;

  engine::Device& device_;
  Networks& networks_;
  Objective objective_;
  engine::Schedule generator_schedule_, discriminator_schedule_;
  bool adversarial_;
  double decay_;
  engine::Tensor lr_bytes_, hr_bytes_;
  std::vector<TermValues> terms_;  // of the latest measured step
  AdversaryValues adversary_;
  std::optional<engine::Graph> graph_;
};

}  // namespace subpix::train
