#include "models/srgan/generator.h"

#include <locale>
#include <map>
#include <sstream>
#include <string_view>
#include <utility>

#include "engine/core/safetensors.h"

namespace subpix::models {

using engine::Device;
using engine::Index;
using engine::Philox;
using engine::Tensor;
namespace nn = engine::nn;
namespace ops = engine::ops;

namespace {

constexpr Index kImageChannels = 3;
constexpr Index kOuterKernel = 9;  // head and tail
constexpr Index kInnerKernel = 3;
constexpr float kSlopeStart = 0.25f;
// Layers that feed an addition or the output have no activation: a slope of 1 makes Kaiming's
// gain 1.
constexpr float kLinear = 1.0f;
// All convolutions of the trunk have one shape, so their filters' gradients are one launch.
constexpr bool kDeferFilters = true;

Index stages_of(Index scale) { return scale == 2 ? 1 : 2; }

const GeneratorConfig& checked(const GeneratorConfig& config) {
  if (config.blocks < 1)
    throw InputError(concat("the generator needs at least 1 residual block, not ", config.blocks));
  if (config.channels < 1)
    throw InputError(concat("the generator needs at least 1 channel, not ", config.channels));
  if (config.scale != 2 && config.scale != 4)
    throw InputError(concat("the generator's scale is 2 or 4, not ", config.scale));
  return config;
}

nn::Conv2d::Options conv_before_norm(const GeneratorConfig& c, float init_slope) {
  nn::Conv2d::Options o{c.channels, c.channels, kInnerKernel};
  o.bias = false;  // batch norm subtracts any constant and has its own shift
  o.init_slope = init_slope;
  // Icnr speaks of sub-pixel filters only.
  o.init = c.init == nn::InitKind::Icnr ? nn::InitKind::KaimingNormal : c.init;
  return o;
}

nn::Conv2d::Options outer_conv(const GeneratorConfig& c, Index in, Index out, float init_slope) {
  nn::Conv2d::Options o{in, out, kOuterKernel};
  o.init_slope = init_slope;
  o.init = c.init == nn::InitKind::Icnr ? nn::InitKind::KaimingNormal : c.init;
  return o;
}

nn::Conv2d::Options up_conv(const GeneratorConfig& c) {
  nn::Conv2d::Options o{c.channels, 4 * c.channels, kInnerKernel};
  o.shuffle = 2;
  o.init_slope = kSlopeStart;
  o.init = c.init;
  return o;
}

}  // namespace

struct Generator::Block final : nn::Module {
  Block(Device& device, const GeneratorConfig& c, Philox& random)
      : conv1(device, conv_before_norm(c, kSlopeStart), random),
        bn1(device, c.channels, c.bn_eps, c.bn_momentum),
        prelu(device, c.channels, c.prelu_shared, kSlopeStart),
        conv2(device, conv_before_norm(c, kLinear), random),
        bn2(device, c.channels, c.bn_eps, c.bn_momentum) {
    add_child("conv1", conv1);
    add_child("bn1", bn1);
    add_child("prelu", prelu);
    add_child("conv2", conv2);
    add_child("bn2", bn2);
  }

  Tensor operator()(const Tensor& x) const {
    if (!training() || !ops::prefers_fused_norm(ops::plain(x), conv1.weight, 1))
      return ops::add(x, bn2(conv2(prelu(bn1(conv1(x))))));
    const ops::Normed first =
        ops::conv2d_norm(ops::plain(x), conv1.weight, bn1.parts(), 1, kDeferFilters);
    const ops::Formed between = ops::with_prelu(first, prelu.weight);
    return ops::norm_add(ops::conv2d_norm(between, conv2.weight, bn2.parts(), 1, kDeferFilters), x);
  }

  nn::Conv2d conv1;
  nn::BatchNorm2d bn1;
  nn::PRelu prelu;
  nn::Conv2d conv2;
  nn::BatchNorm2d bn2;
};

struct Generator::Up final : nn::Module {
  Up(Device& device, const GeneratorConfig& c, Philox& random)
      : conv(device, up_conv(c), random), prelu(device, c.channels, c.prelu_shared, kSlopeStart) {
    add_child("conv", conv);
    add_child("prelu", prelu);
  }

  Tensor operator()(const Tensor& x) const {
    if (training() && ops::prefers_fused_shuffle(x, conv.weight, prelu.weight))
      return ops::conv2d_shuffle_prelu(x, conv.weight, conv.bias, prelu.weight);
    return prelu(ops::pixel_shuffle(conv(x), 2));
  }

  nn::Conv2d conv;
  nn::PRelu prelu;
};

Generator::Generator(Device& device, const GeneratorConfig& config, std::uint64_t seed)
    : config_(checked(config)) {
  Philox random(seed);
  head_ = std::make_unique<nn::Conv2d>(
      device, outer_conv(config_, kImageChannels, config_.channels, kSlopeStart), random);
  add_child("head", *head_);
  head_prelu_ =
      std::make_unique<nn::PRelu>(device, config_.channels, config_.prelu_shared, kSlopeStart);
  add_child("head_prelu", *head_prelu_);
  for (Index i = 0; i < config_.blocks; ++i) {
    blocks_.push_back(std::make_unique<Block>(device, config_, random));
    add_child(concat("blocks.", i), *blocks_.back());
  }
  trunk_conv_ = std::make_unique<nn::Conv2d>(device, conv_before_norm(config_, kLinear), random);
  add_child("trunk_conv", *trunk_conv_);
  trunk_bn_ = std::make_unique<nn::BatchNorm2d>(device, config_.channels, config_.bn_eps,
                                                config_.bn_momentum);
  add_child("trunk_bn", *trunk_bn_);
  for (Index j = 0; j < stages_of(config_.scale); ++j) {
    up_.push_back(std::make_unique<Up>(device, config_, random));
    add_child(concat("up.", j), *up_.back());
  }
  tail_ = std::make_unique<nn::Conv2d>(
      device, outer_conv(config_, config_.channels, kImageChannels, kLinear), random);
  add_child("tail", *tail_);
}

Generator::~Generator() = default;

Tensor Generator::operator()(const Tensor& lr) const {
  SUBPIX_REQUIRE(lr.shape().rank() == 4 && lr.dim(3) == kImageChannels,
                 "the generator takes [N,H,W,3], not ", lr.shape());
  const Tensor head = (*head_prelu_)((*head_)(ops::cast(lr, compute_type_)));
  Tensor x = head;
  for (const auto& block : blocks_) x = (*block)(x);
  if (training() && ops::prefers_fused_norm(ops::plain(x), trunk_conv_->weight, 1))
    x = ops::norm_add(
        ops::conv2d_norm(ops::plain(x), trunk_conv_->weight, trunk_bn_->parts(), 1, kDeferFilters),
        head);
  else
    x = ops::add(head, (*trunk_bn_)((*trunk_conv_)(x)));
  for (const auto& up : up_) x = (*up)(x);
  // 8 bits of a bf16 are too few for a picture.
  return compute_type_ == DType::BF16 ? tail_->forward_wide(x) : (*tail_)(x);
}

double Generator::receptive_radius() const { return config_.trunk_radius() + config_.up_radius(); }

double GeneratorConfig::trunk_radius() const {
  return kOuterKernel / 2 + static_cast<double>(2 * blocks + 1) * (kInnerKernel / 2);
}

double GeneratorConfig::up_radius() const {
  double radius = 0.0;
  double pixel = 1.0;  // of this resolution, in LR pixels
  for (Index j = 0; j < stages_of(scale); ++j, pixel /= 2) radius += (kInnerKernel / 2) * pixel;
  return radius + (kOuterKernel / 2) * pixel;
}

// --- weight files --------------------------------------------------------------------------------

namespace {

using engine::SafetensorsFile;
using engine::TensorInfo;
using Dims = std::vector<std::int64_t>;

/// Not through Shape, which refuses what a foreign file may hold (rank 5, size 0).
std::string text(const Dims& dims) {
  std::string all = "[";
  for (std::size_t i = 0; i < dims.size(); ++i) all += (i ? "," : "") + std::to_string(dims[i]);
  return all + "]";
}

[[noreturn]] void refuse(const SafetensorsFile& file, const std::string& reason) {
  throw InputError(concat(file.path().string(), " is not a generator of this program: ", reason,
                          "; give the generator.safetensors of a training run, or name the tensors "
                          "as docs/weights.md lists them"));
}

bool has(const SafetensorsFile& file, const std::string& name) { return file.find(name); }

/// What a file without a generator's first tensor probably is.
std::string guess(const SafetensorsFile& file) {
  if (has(file, "blocks.0.conv.weight") && has(file, "fc1.weight"))
    return ", it looks like a discriminator";
  if (has(file, "features.0.weight")) return ", it looks like VGG features";
  return "";
}

const Dims& shape_of(const SafetensorsFile& file, const std::string& name) {
  const TensorInfo* info = file.find(name);
  if (!info) refuse(file, concat("it has no tensor '", name, "'", guess(file)));
  return info->shape;
}

/// Length of the run of `prefix`0`suffix`, `prefix`1`suffix`, ...
Index run_length(const SafetensorsFile& file, const std::string& prefix,
                 const std::string& suffix) {
  Index n = 0;
  while (has(file, concat(prefix, n, suffix))) ++n;
  return n;
}

/// Every tensor of a generator's file with its shape.
std::map<std::string, Dims> file_shapes(const GeneratorConfig& config) {
  const Index c = config.channels;
  const Dims slope = {config.prelu_shared ? 1 : c};
  std::map<std::string, Dims> all;
  const auto conv = [&](const std::string& name, Index in, Index out, Index kernel, bool bias) {
    all[name + ".weight"] = {out, in, kernel, kernel};
    if (bias) all[name + ".bias"] = {out};
  };
  const auto norm = [&](const std::string& name) {
    for (const char* part : {".weight", ".bias", ".running_mean", ".running_var"})
      all[name + part] = {c};
  };
  conv("head", kImageChannels, c, kOuterKernel, true);
  all["head_prelu.weight"] = slope;
  for (Index i = 0; i < config.blocks; ++i) {
    const std::string block = concat("blocks.", i, ".");
    conv(block + "conv1", c, c, kInnerKernel, false);
    norm(block + "bn1");
    all[block + "prelu.weight"] = slope;
    conv(block + "conv2", c, c, kInnerKernel, false);
    norm(block + "bn2");
  }
  conv("trunk_conv", c, c, kInnerKernel, false);
  norm("trunk_bn");
  for (Index j = 0; j < stages_of(config.scale); ++j) {
    const std::string up = concat("up.", j, ".");
    conv(up + "conv", c, 4 * c, kInnerKernel, true);
    all[up + "prelu.weight"] = slope;
  }
  conv("tail", c, kImageChannels, kOuterKernel, true);
  return all;
}

/// PyTorch's batch norm counts its calls in an integer that nothing here needs.
bool is_call_counter(const std::string& name) {
  constexpr std::string_view kSuffix = ".num_batches_tracked";
  return name.size() > kSuffix.size() && name.ends_with(kSuffix);
}

constexpr const char* kEpsKey = "bn_eps";

float read_eps(const SafetensorsFile& file, float otherwise) {
  const auto stated = file.metadata().find(kEpsKey);
  if (stated == file.metadata().end()) return otherwise;
  std::istringstream in(stated->second);
  float eps = 0.0f;
  in.imbue(std::locale::classic());
  if (!(in >> eps) || !in.eof() || !(eps > 0.0f && eps < 1.0f))
    throw InputError(concat(file.path().string(), ": its metadata says ", kEpsKey, " = '",
                            stated->second, "', which is no number between 0 and 1"));
  return eps;
}

}  // namespace

GeneratorConfig read_generator_config(const std::string& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  GeneratorConfig config;
  const Dims& head = shape_of(file, "head.weight");
  if (head.size() != 4 || head[0] < 1 || head[1] != kImageChannels || head[2] != kOuterKernel ||
      head[3] != kOuterKernel)
    refuse(file, concat("its 'head.weight' has shape ", text(head), ", not [channels,3,9,9]"));
  config.channels = head[0];
  config.blocks = run_length(file, "blocks.", ".conv1.weight");
  if (config.blocks == 0) refuse(file, "it has no residual block 'blocks.0.conv1.weight'");
  const Index stages = run_length(file, "up.", ".conv.weight");
  if (stages != 1 && stages != 2)
    refuse(file, concat("it has ", stages, " up stages 'up.J.conv.weight', which is scale ",
                        stages < 16 ? Index{1} << stages : stages, ", not 2 or 4"));
  config.scale = Index{1} << stages;
  config.prelu_shared = config.channels > 1 && shape_of(file, "head_prelu.weight") == Dims{1};
  config.bn_eps = read_eps(file, config.bn_eps);

  const auto expected = file_shapes(config);
  for (const auto& [name, dims] : expected)
    if (const Dims& found = shape_of(file, name); found != dims)
      refuse(file, concat("its '", name, "' has shape ", text(found), ", not ", text(dims),
                          " as a generator of ", config.blocks, " blocks, ", config.channels,
                          " channels and scale ", config.scale, " has"));
  for (const TensorInfo& info : file.tensors())
    if (!expected.contains(info.name) && !is_call_counter(info.name))
      refuse(file,
             concat("it has a tensor '", info.name, "' that a generator of ", config.blocks,
                    " blocks, ", config.channels, " channels and scale ", config.scale, " lacks"));
  return config;
}

std::unique_ptr<Generator> load_generator(Device& device, const std::string& path) {
  auto generator = std::make_unique<Generator>(device, read_generator_config(path), 0);
  nn::load_module(*generator, path);
  generator->set_training(false);
  return generator;
}

std::vector<std::pair<std::string, std::string>> generator_metadata(const GeneratorConfig& config) {
  std::ostringstream eps;
  eps.imbue(std::locale::classic());
  eps << config.bn_eps;
  return {{"format", "pt"},
          {"network", "srgan generator"},
          {"blocks", std::to_string(config.blocks)},
          {"channels", std::to_string(config.channels)},
          {"scale", std::to_string(config.scale)},
          {"prelu", config.prelu_shared ? "shared" : "channel"},
          {kEpsKey, eps.str()},
          {"channel_order", "RGB"},
          {"input_range", "0..1"},
          {"output_range", "-1..1"}};
}

void save_generator(const Generator& generator, const std::string& path) {
  nn::save_module(generator, path, generator_metadata(generator.config()));
}

}  // namespace subpix::models
