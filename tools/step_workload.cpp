#include "tools/step_workload.h"

#include "engine/autograd/node.h"
#include "engine/core/random.h"
#include "engine/core/safetensors.h"
#include "engine/ops/ops.h"

namespace subpix::tools {

using engine::Device;
using engine::Tensor;
namespace ops = engine::ops;

namespace {

constexpr double kLearningRate = 1e-4;
// Networks and data draw from seeds of their own.
constexpr std::uint64_t kGeneratorSeed = 1, kDiscriminatorSeed = 2, kDataSeed = 1;
// Upscaling on the host takes what a small machine has; on a device, whose memory is there for
// this, a quarter of it.
constexpr std::size_t kHostMemory = std::size_t{4} << 30;

std::vector<std::uint8_t> random_bytes(std::size_t count, engine::Philox& random) {
  std::vector<std::uint8_t> bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random.next());
  return bytes;
}

/// Random bytes as a picture: dense values, as photographs have.
Tensor random_image(Device& device, const engine::Shape& shape, engine::Philox& random) {
  return Tensor::from_bytes(device, shape,
                            random_bytes(static_cast<std::size_t>(shape.count()), random));
}

models::GeneratorConfig generator_config(const StepOptions& o) {
  return {.blocks = o.blocks, .channels = o.channels, .scale = o.scale};
}

void save_bytes(const std::filesystem::path& path,
                const std::vector<std::pair<std::string, Tensor>>& pictures) {
  std::vector<std::vector<std::uint8_t>> bytes;
  std::vector<engine::TensorToSave> tensors;
  for (const auto& [name, picture] : pictures) bytes.push_back(picture.to_host_bytes());
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    const engine::Shape& shape = pictures[i].second.shape();
    tensors.push_back({pictures[i].first, "U8", {}, bytes[i].data(), bytes[i].size()});
    for (int d = 0; d < shape.rank(); ++d) tensors.back().shape.push_back(shape[d]);
  }
  engine::save_safetensors(path, tensors, {{"layout", "NHWC"}});
}

}  // namespace

// --- a training step -----------------------------------------------------------------------------

TrainingWorkload::TrainingWorkload(Device& device, const StepOptions& o, DType type,
                                   const std::filesystem::path& folder)
    : options_(o),
      generator_(device, generator_config(o), kGeneratorSeed),
      adam_(generator_.state(), {}) {
  if (o.crop < o.scale || o.crop % o.scale != 0)
    throw InputError(concat("--crop ", o.crop, " is no multiple of --scale ", o.scale));
  generator_.set_compute_type(type);
  engine::Philox random(kDataSeed);
  const Index small = o.crop / o.scale;
  lr_bytes_ = random_image(device, {o.batch, small, small, 3}, random);
  hr_bytes_ = random_image(device, {o.batch, o.crop, o.crop, 3}, random);
  lr_ = ops::from_bytes(lr_bytes_, 1.0f / 255.0f, 0.0f);
  hr_ = ops::from_bytes(hr_bytes_, 2.0f / 255.0f, -1.0f);
  if (o.mode == "srgan") {
    discriminator_ = std::make_unique<models::Discriminator>(
        device, models::DiscriminatorConfig{.crop = o.crop}, kDiscriminatorSeed);
    discriminator_->set_compute_type(type);
    discriminator_adam_ =
        std::make_unique<engine::Adam>(discriminator_->state(), engine::Adam::Options{});
  }
  train::LossConfig all;
  if (o.vgg_layer.empty()) {
    train::LossConfig content;
    content.pixel = all.pixel = train::PixelLoss{};
    add_term(device, "pixel_loss", content);
  } else {
    const models::VggLayer layer = models::VggLayer::parse(o.vgg_layer);
    if (o.seeded_vgg) vgg_file_ = complete_vgg(o.vgg, layer, folder);
    vgg_ = std::make_unique<models::Vgg19>(device, vgg_file_ ? vgg_file_->path : o.vgg, layer);
    if (!vgg_file_) vgg_file_ = complete_vgg(o.vgg, layer, folder);
    vgg_->set_compute_type(type);
    train::LossConfig content;
    content.vgg = all.vgg = train::VggLoss{};
    content.vgg->layer = all.vgg->layer = o.vgg_layer;
    add_term(device, "vgg_loss", content);
  }
  if (discriminator_) {
    train::LossConfig adversarial;
    adversarial.adversarial = all.adversarial = train::AdversarialLoss{};
    add_term(device, "adversarial_loss", adversarial);
  }
  objective_.emplace(device, all, vgg_.get(), discriminator_.get());
  if (engine::Graph::supported(device)) graph_.emplace(device);
}

void TrainingWorkload::add_term(Device& device, const char* phase, const train::LossConfig& loss) {
  terms_.push_back({phase, train::Objective(device, loss, vgg_.get(), discriminator_.get())});
}

/// train::TrainStep::compute, from pictures that are there already.
void TrainingWorkload::compute(std::vector<train::TermValues>* terms,
                               train::AdversaryValues* adversary) {
  const Tensor sr = generator_(lr_);
  if (discriminator_) {
    train::discriminator_gradients(*discriminator_, hr_, sr.detach(), adversary);
    discriminator_adam_->update();
    discriminator_adam_->clear_grad();
  }
  engine::backward(sr, objective_->gradient(sr, hr_, terms));
  adam_.update();
  adam_.clear_grad();
}

void TrainingWorkload::step() {
  adam_.set_rate(kLearningRate);
  if (discriminator_) discriminator_adam_->set_rate(kLearningRate);
  if (!graph_) return compute(nullptr, nullptr);
  bool computed = false;
  graph_->run([&] {
    compute(nullptr, nullptr);
    computed = true;
  });
  if (computed) return;
  adam_.note_update();
  if (discriminator_) discriminator_adam_->note_update();
}

void TrainingWorkload::step(PhaseClock& clock) {
  clock.start();
  const Tensor sr = generator_(lr_);
  clock.cut("generator_forward");
  if (discriminator_) {
    train::discriminator_gradients(*discriminator_, hr_, sr.detach(), nullptr);
    clock.cut("discriminator_gradients");
    discriminator_adam_->step(kLearningRate);
    discriminator_adam_->clear_grad();
    clock.cut("discriminator_optimiser");
  }
  Tensor gradient;
  for (const Term& term : terms_) {
    const Tensor part = term.objective.gradient(sr, hr_, nullptr);
    gradient = gradient.defined() ? ops::add(gradient, part) : part;
    clock.cut(term.phase);
  }
  engine::backward(sr, gradient);
  clock.cut("generator_backward");
  adam_.step(kLearningRate);
  adam_.clear_grad();
  clock.cut("generator_optimiser");
}

std::vector<NamedLoss> TrainingWorkload::step_with_losses() {
  adam_.set_rate(kLearningRate);
  if (discriminator_) discriminator_adam_->set_rate(kLearningRate);
  std::vector<train::TermValues> terms;
  train::AdversaryValues adversary;
  compute(&terms, &adversary);
  std::vector<NamedLoss> all;
  for (const train::TermReport& term : train::read(terms)) all.push_back({term.name, term.loss});
  if (discriminator_) all.push_back({"discriminator", train::read(adversary).loss});
  return all;
}

std::vector<NamedLoss> TrainingWorkload::losses() {
  std::vector<train::TermReport> terms;
  objective_->gradient(generator_(lr_).detach(), hr_, &terms);
  std::vector<NamedLoss> all;
  for (const train::TermReport& term : terms) all.push_back({term.name, term.loss});
  return all;
}

void TrainingWorkload::save(const std::filesystem::path& folder) const {
  models::save_generator(generator_, (folder / "generator.safetensors").string());
  if (discriminator_)
    engine::nn::save_module(*discriminator_, (folder / "discriminator.safetensors").string());
  save_bytes(folder / "data.safetensors", {{"lr", lr_bytes_}, {"hr", hr_bytes_}});
}

// --- inference -----------------------------------------------------------------------------------

InferenceWorkload::InferenceWorkload(Device& device, const StepOptions& o)
    : options_(o), generator_(device, generator_config(o), kGeneratorSeed) {
  generator_.set_training(false);
  const std::size_t of_device = device.context().device().memory_bytes / 4;
  upscaler_ = std::make_unique<models::Upscaler>(
      device, generator_, models::Upscaler::Options{o.tile, std::max(kHostMemory, of_device)});
  engine::Philox random(kDataSeed);
  picture_ = random_bytes(static_cast<std::size_t>(o.width * o.height * 3), random);
}

void InferenceWorkload::step() {
  upscaler_->for_each_piece({picture_, options_.height, options_.width},
                            [](const models::Upscaler::Piece&) {});
}

void InferenceWorkload::step(PhaseClock& clock) {
  clock.start();
  step();
  clock.cut("network");
}

void InferenceWorkload::save(const std::filesystem::path& folder) const {
  models::save_generator(generator_, (folder / "generator.safetensors").string());
  const engine::TensorToSave lr{
      "lr", "U8", {1, options_.height, options_.width, 3}, picture_.data(), picture_.size()};
  engine::save_safetensors(folder / "data.safetensors", {lr}, {{"layout", "NHWC"}});
}

}  // namespace subpix::tools
