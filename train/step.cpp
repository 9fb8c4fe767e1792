#include "train/step.h"

#include <algorithm>
#include <cmath>

#include "engine/autograd/node.h"
#include "engine/core/debug.h"
#include "engine/ops/ops.h"
#include "kernels/api/error.h"

namespace subpix::train {

using engine::Device;
using engine::Tensor;
namespace ops = engine::ops;

namespace {

// Both networks draw their weights from stream 0 of a seed, so they get different seeds.
constexpr std::uint64_t kDiscriminatorSeed = 0x6a09e667f3bcc908u;

engine::Adam::Options adam_options(const AdamConfig& c) {
  return {static_cast<float>(c.beta1), static_cast<float>(c.beta2), static_cast<float>(c.eps)};
}

void copy_state(const engine::nn::Module& from, const engine::nn::Module& to) {
  const auto source = from.state(), target = to.state();
  for (std::size_t i = 0; i < source.size(); ++i) target[i].tensor.copy_from(source[i].tensor);
}

std::string describe(const models::GeneratorConfig& g) {
  return concat(g.blocks, " blocks, ", g.channels, " channels, scale ", g.scale,
                g.prelu_shared ? ", shared" : ", channel", " slopes, bn_eps ", g.bn_eps);
}

void load_start(const RunConfig& config, models::Generator& generator) {
  const models::GeneratorConfig wanted = config.generator_config();
  models::GeneratorConfig found = models::read_generator_config(config.init);
  // What a file cannot tell.
  found.init = wanted.init;
  found.bn_momentum = wanted.bn_momentum;
  if (!(found == wanted))
    throw InputError(concat(
        config.init, " holds a generator of ", describe(found), ", but the config wants ",
        describe(wanted), "; set model.* to what the file holds or choose another file for init"));
  engine::nn::load_module(generator, config.init);
}

}  // namespace

Networks make_networks(Device& device, const RunConfig& config) {
  Networks n;
  n.generator = std::make_unique<models::Generator>(device, config.generator_config(), config.seed);
  n.generator->set_compute_type(config.compute_type());
  if (!config.init.empty()) load_start(config, *n.generator);
  if (config.ema > 0.0) {
    n.average = std::make_unique<models::Generator>(device, config.generator_config(), config.seed);
    n.average->set_requires_grad(false);
    n.average->set_training(false);
    copy_state(*n.generator, *n.average);
  }
  return n;
}

void add_discriminator(Device& device, const RunConfig& config, Networks& networks) {
  if (networks.discriminator) return;
  networks.discriminator = std::make_unique<models::Discriminator>(
      device, config.discriminator_config(), config.seed ^ kDiscriminatorSeed);
  networks.discriminator->set_compute_type(config.compute_type());
}

void reset_optimisers(const RunConfig& config, const PhaseConfig& phase, Networks& networks) {
  const engine::Adam::Options options = adam_options(config.adam);
  networks.generator_adam = std::make_unique<engine::Adam>(networks.generator->state(), options);
  networks.discriminator_adam =
      phase.loss.has_adversarial()
          ? std::make_unique<engine::Adam>(networks.discriminator->state(), options)
          : nullptr;
}

std::string StepReport::first_bad() const {
  for (const TermReport& t : terms) {
    if (!std::isfinite(t.loss)) return "loss_" + t.name;
    if (!std::isfinite(t.gradient)) return "grad_" + t.name;
  }
  if (adversary && !std::isfinite(adversary->loss)) return "loss_d";
  return {};
}

TrainStep::TrainStep(Device& device, const RunConfig& config, const PhaseConfig& phase,
                     Networks& networks, const models::Vgg19* vgg)
    : device_(device),
      networks_(networks),
      objective_(device, phase.loss, vgg, networks.discriminator.get()),
      generator_schedule_(phase.generator_schedule()),
      discriminator_schedule_(phase.discriminator_schedule()),
      adversarial_(phase.loss.has_adversarial()),
      decay_(config.ema) {
  const Index hr = config.data.crop, lr = hr / config.model.scale, n = config.data.batch;
  lr_bytes_ = Tensor::empty(device, {n, lr, lr, 3}, DType::U8);
  hr_bytes_ = Tensor::empty(device, {n, hr, hr, 3}, DType::U8);
  // Debugging aids look at results as they are made, which a graph does not.
  const engine::Debug& debug = engine::debug();
  const bool watched = debug.level > 0 || debug.nan_check || debug.poison;
  if (config.cuda_graph && !watched && engine::Graph::supported(device)) graph_.emplace(device);
}

void TrainStep::run(const Batch& batch, Index phase_step, StepReport* report) {
  Networks& n = networks_;
  lr_bytes_.upload_bytes(batch.lr);
  hr_bytes_.upload_bytes(batch.hr);
  const double rate = generator_schedule_.at(phase_step);
  n.generator_adam->set_rate(rate);
  if (adversarial_) n.discriminator_adam->set_rate(discriminator_schedule_.at(phase_step));
  if (graph_) {
    bool computed = false;
    graph_->run([&] {
      compute(true);
      computed = true;
    });
    if (!computed) {
      n.generator_adam->note_update();
      if (adversarial_) n.discriminator_adam->note_update();
    }
  } else {
    compute(report != nullptr);
  }
  if (report) {
    *report = {};
    report->lr = rate;
    report->terms = read(terms_);
    if (adversarial_) report->adversary = read(adversary_);
  }
  if (n.average) update_average(batch.step);
}

/// From the uploaded bytes to the updated weights. Nothing here waits for the device or depends on
/// the step but through device memory, so that it can be captured.
void TrainStep::compute(bool measure) {
  Networks& n = networks_;
  terms_.clear();
  adversary_ = {};
  const Tensor lr = ops::from_bytes(lr_bytes_, 1.0f / 255.0f, 0.0f);
  const Tensor hr = ops::from_bytes(hr_bytes_, 2.0f / 255.0f, -1.0f);
  Tensor sr = (*n.generator)(lr);
  if (adversarial_) {
    discriminator_gradients(*n.discriminator, hr, sr.detach(), measure ? &adversary_ : nullptr);
    n.discriminator_adam->update();
    // Freed before the generator's turn, which needs the memory.
    n.discriminator_adam->clear_grad();
  }
  const Tensor gradient = objective_.gradient(sr, hr, measure ? &terms_ : nullptr);
  engine::backward(sr, gradient);
  n.generator_adam->update();
  n.generator_adam->clear_grad();
}

/// average += (1 - d) * (generator - average) with d rising from 0.1 to the configured decay, so
/// that the random start is forgotten soon. Running statistics are averaged like weights: they
/// belong to the averaged weights as the plain ones belong to the plain weights.
void TrainStep::update_average(Index step) const {
  const auto t = static_cast<double>(step);
  const double decay = std::min(decay_, (1.0 + t) / (10.0 + t));
  const auto keep = static_cast<float>(decay), add = static_cast<float>(1.0 - decay);
  const engine::NoGrad no_grad;
  const auto source = networks_.generator->state(), target = networks_.average->state();
  for (std::size_t i = 0; i < source.size(); ++i)
    ops::axpby(add, source[i].tensor, keep, target[i].tensor);
}

}  // namespace subpix::train
