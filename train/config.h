#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "engine/nn/init.h"
#include "engine/optim/schedule.h"
#include "models/srgan/discriminator.h"
#include "models/srgan/generator.h"

/// What a training run is made of, and its JSON form. docs/config.md lists every key.
namespace subpix::train {

using engine::Index;

enum class LrFrom : std::uint8_t {
  Image,  ///< the whole photo is reduced once; HR and LR crops are cut from aligned places
  Crop,   ///< each HR crop is reduced by itself (its edges repeat at the border of the crop)
};
enum class ChannelRule : std::uint8_t {
  Rgb,      ///< pictures that are not RGB are refused
  Convert,  ///< grey is repeated three times, alpha is dropped
};
enum class PixelKind : std::uint8_t { Mse, L1 };
enum class Distance : std::uint8_t { Squared, L1 };
/// What a loss is divided by.
enum class Reduction : std::uint8_t {
  Mean,   ///< all elements, N*H*W*C
  Paper,  ///< the paper's formulas: N*H*W only, channels are summed
};

struct DataConfig {
  std::vector<std::string> train, val;  ///< folders, searched recursively
  Index crop = 96;                      ///< HR pixels, a multiple of the scale
  Index batch = 16;
  LrFrom lr = LrFrom::Image;
  bool flip = true, rotate = true;
  Index memory_mib = 2048;  ///< decoded pictures beyond it are decoded again when drawn
  double shrink = 1.0;      ///< every photo is first reduced by this factor
  ChannelRule channels = ChannelRule::Rgb;
  bool operator==(const DataConfig&) const = default;
};

struct ModelConfig {
  Index blocks = 16, channels = 64, scale = 4;
  bool prelu_shared = false;
  engine::nn::InitKind init = engine::nn::InitKind::KaimingNormal;
  double bn_momentum = 0.1, bn_eps = 1e-5;
  bool operator==(const ModelConfig&) const = default;
};

struct AdversaryConfig {
  Index channels = 64, dense = 1024;
  double slope = 0.2;
  bool operator==(const AdversaryConfig&) const = default;
};

struct VggConfig {
  std::string weights;  ///< safetensors file, needed by phases with a vgg loss
  bool operator==(const VggConfig&) const = default;
};

struct AdamConfig {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  bool operator==(const AdamConfig&) const = default;
};

struct PixelLoss {
  PixelKind kind = PixelKind::Mse;
  double weight = 1.0;
  Reduction reduction = Reduction::Mean;
  bool operator==(const PixelLoss&) const = default;
};
struct VggLoss {
  std::string layer = "VGG54";
  Distance distance = Distance::Squared;
  double weight = 1.0;
  double scale = 1.0 / 12.75;  ///< feature maps are multiplied by it (paper section 3.2)
  Reduction reduction = Reduction::Mean;
  bool operator==(const VggLoss&) const = default;
};
struct AdversarialLoss {
  double weight = 1e-3;
  bool operator==(const AdversarialLoss&) const = default;
};
struct VariationLoss {
  double weight = 2e-8;
  bool squared = true;
  Reduction reduction = Reduction::Mean;
  bool operator==(const VariationLoss&) const = default;
};
/// Terms that are absent or have weight 0 are not computed.
struct LossConfig {
  std::optional<PixelLoss> pixel;
  std::optional<VggLoss> vgg;
  std::optional<AdversarialLoss> adversarial;
  std::optional<VariationLoss> tv;

  bool has_pixel() const { return pixel && pixel->weight > 0.0; }
  bool has_vgg() const { return vgg && vgg->weight > 0.0; }
  bool has_adversarial() const { return adversarial && adversarial->weight > 0.0; }
  bool has_tv() const { return tv && tv->weight > 0.0; }
  bool operator==(const LossConfig&) const = default;
};

struct ScheduleConfig {
  engine::Schedule::Kind kind = engine::Schedule::Kind::Constant;
  std::vector<Index> milestones;
  double factor = 0.1;
  double final_lr = 0.0;
  Index warmup = 0;
  bool operator==(const ScheduleConfig&) const = default;
};

struct PhaseConfig {
  std::string name = "pixel";  ///< part of file names: letters, digits, _ and -
  Index steps = 1'000'000;
  double lr = 1e-4;
  std::optional<double> lr_discriminator;  ///< as lr if absent
  ScheduleConfig schedule;
  LossConfig loss{PixelLoss{}, {}, {}, {}};
  bool operator==(const PhaseConfig&) const = default;

  engine::Schedule generator_schedule() const;
  /// The generator's schedule times lr_discriminator / lr.
  engine::Schedule discriminator_schedule() const;
};

struct LogConfig {
  Index every = 100;
  bool operator==(const LogConfig&) const = default;
};
struct ValConfig {
  Index every = 5000;  ///< 0: only at the end of a phase
  Index samples = 1;   ///< pictures written to samples/ at each validation
  bool operator==(const ValConfig&) const = default;
};
struct CheckpointConfig {
  Index every = 5000;  ///< 0: only at the start, at the end of a phase and on a signal
  Index keep = 3;
  bool operator==(const CheckpointConfig&) const = default;
};

struct RunConfig {
  std::uint64_t seed = 1;
  Index threads = 0;  ///< compute threads, 0: all processors
  Index loader_threads = 2;
  std::string precision = "fp32";  ///< fp32, tf32 (convolutions of a GPU), bf16 (mixed)
  std::string backend = "auto";
  std::string plan;        ///< plan file of kernel_tune, or empty
  bool cuda_graph = true;  ///< a step as one graph, on backends that have graphs (cuda, sim)
  DataConfig data;
  ModelConfig model;
  AdversaryConfig discriminator;
  VggConfig vgg;
  AdamConfig adam;
  double ema = 0.0;  ///< decay of the averaged generator, 0: none
  LogConfig log;
  ValConfig val;
  CheckpointConfig checkpoint;
  std::string init;  ///< generator weights to start from, empty: random
  std::vector<PhaseConfig> phases{PhaseConfig{}};
  bool operator==(const RunConfig&) const = default;

  models::GeneratorConfig generator_config() const;
  models::DiscriminatorConfig discriminator_config() const;
  DType compute_type() const;  ///< of maps: BF16 where precision is "bf16"
  Index total_steps() const;
  bool uses_vgg() const;
  bool uses_adversarial() const;
};

/// Reads the file and applies overrides "a.b=value" in order; array elements are written
/// phases.0.steps or phases[0].steps, and an index one past the end appends. A value is JSON, or
/// else a plain text. InputError names file (or override), full key and remedy for: a text that is
/// no JSON, a key twice, an unknown key (with the nearest valid one), a wrong type, a value out of
/// its range.
RunConfig load_config(const std::filesystem::path& file, const std::vector<std::string>& overrides);
/// The same from a text; origin stands where the file's name would.
RunConfig parse_config(const std::string& text, const std::string& origin,
                       const std::vector<std::string>& overrides = {});
/// Every key with its effective value; parse_config reads it back to an equal RunConfig.
std::string to_json(const RunConfig& config);

/// What only a run needs: at least one training folder, crop and scale that fit, a VGG file where a
/// phase uses it. InputError as above.
void check_ready(const RunConfig& config);

/// One line of `srgan_train --list-keys`.
struct ConfigKey {
  std::string path;           ///< "phases[].loss.vgg.layer"
  std::string default_value;  ///< JSON
  std::string allowed;        ///< "a whole number from 1 to 4096"
};
std::vector<ConfigKey> config_keys();

/// Paths and values (JSON) of the keys that differ: "data.batch", "phases[1].steps".
struct ConfigChange {
  std::string path;
  std::string before, after;  ///< "absent" where one side lacks the key
};
std::vector<ConfigChange> compare(const RunConfig& before, const RunConfig& after);

/// "key=value" for every key that differs from the defaults.
std::vector<std::string> summary(const RunConfig& config);

}  // namespace subpix::train
