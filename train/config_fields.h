#pragma once

#include <array>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "train/config.h"

/// The ONE list of config keys. visit_fields(v, struct) names every member once with what is
/// allowed; reading, writing, listing and comparing are visitors. Included by config*.cpp only.
namespace subpix::train {

/// An interval of real numbers.
struct Range {
  double low, high;
  bool without_low = false, without_high = false;

  bool contains(double v) const {
    return (without_low ? v > low : v >= low) && (without_high ? v < high : v <= high);
  }
};

namespace choices {
using engine::Schedule;
using engine::nn::InitKind;

template <class Enum, std::size_t kCount>
using Table = std::array<std::pair<const char*, Enum>, kCount>;

inline constexpr Table<LrFrom, 2> kLrFrom{{{"image", LrFrom::Image}, {"crop", LrFrom::Crop}}};
inline constexpr Table<ChannelRule, 2> kChannelRule{
    {{"rgb", ChannelRule::Rgb}, {"convert", ChannelRule::Convert}}};
inline constexpr Table<PixelKind, 2> kPixelKind{{{"mse", PixelKind::Mse}, {"l1", PixelKind::L1}}};
inline constexpr Table<Distance, 2> kDistance{
    {{"squared", Distance::Squared}, {"l1", Distance::L1}}};
inline constexpr Table<Reduction, 2> kReduction{
    {{"mean", Reduction::Mean}, {"paper", Reduction::Paper}}};
inline constexpr Table<bool, 2> kPRelu{{{"channel", false}, {"shared", true}}};
inline constexpr Table<InitKind, 3> kInit{{{"kaiming", InitKind::KaimingNormal},
                                           {"xavier", InitKind::XavierUniform},
                                           {"icnr", InitKind::Icnr}}};
inline constexpr Table<Schedule::Kind, 3> kSchedule{{{"constant", Schedule::Kind::Constant},
                                                     {"steps", Schedule::Kind::Steps},
                                                     {"cosine", Schedule::Kind::Cosine}}};
}  // namespace choices

/// What one value alone cannot tell: sizes that must fit together, names, layers. origin(path) says
/// who set a key.
void check_values(const RunConfig& config,
                  const std::function<std::string(const std::string&)>& origin);

/// What an error message and the key list say is allowed.
std::string allowed_integer(Index low, Index high);
std::string allowed_real(const Range& range);
template <class Enum, std::size_t kCount>
std::string allowed_choice(const choices::Table<Enum, kCount>& table) {
  std::string text;
  for (std::size_t i = 0; i < kCount; ++i) {
    if (i > 0) text += i + 1 == kCount ? " or " : ", ";
    text += std::string("\"") + table[i].first + "\"";
  }
  return text;
}
inline constexpr const char* kAllowedSeed = "a whole number from 0 to 2^64 - 1";
inline constexpr const char* kAllowedFlag = "true or false";
inline constexpr const char* kAllowedText = "a text";
inline constexpr const char* kAllowedTexts = "a text or a list of texts";

inline constexpr Index kManySteps = 1'000'000'000'000;
inline constexpr double kLargest = std::numeric_limits<float>::max();
inline constexpr Range kWeight{0.0, kLargest};
inline constexpr Range kDecay{0.0, 1.0, false, true};
inline constexpr Range kPositive{0.0, kLargest, true};
inline constexpr Range kRate{0.0, 1.0, true};

// The struct is never const: a visitor that only reads gets a copy.

template <class V>
void visit_fields(V& v, DataConfig& c) {
  v.texts("train", c.train);
  v.texts("val", c.val);
  v.integer("crop", c.crop, 8, 4096);
  v.integer("batch", c.batch, 1, 4096);
  v.choice("lr", c.lr, choices::kLrFrom);
  v.flag("flip", c.flip);
  v.flag("rotate", c.rotate);
  v.integer("memory_mib", c.memory_mib, 1, Index{1} << 30);
  v.real("shrink", c.shrink, Range{1.0, 64.0});
  v.choice("channels", c.channels, choices::kChannelRule);
}

template <class V>
void visit_fields(V& v, ModelConfig& c) {
  v.integer("blocks", c.blocks, 1, 1024);
  v.integer("channels", c.channels, 1, 4096);
  v.integer("scale", c.scale, 2, 4);
  v.choice("prelu", c.prelu_shared, choices::kPRelu);
  v.choice("init", c.init, choices::kInit);
  v.real("bn_momentum", c.bn_momentum, kRate);
  v.real("bn_eps", c.bn_eps, kRate);
}

template <class V>
void visit_fields(V& v, AdversaryConfig& c) {
  v.integer("channels", c.channels, 1, 4096);
  v.integer("dense", c.dense, 1, 65536);
  v.real("slope", c.slope, Range{0.0, 1.0});
}

template <class V>
void visit_fields(V& v, VggConfig& c) {
  v.text("weights", c.weights);
}

template <class V>
void visit_fields(V& v, AdamConfig& c) {
  v.real("beta1", c.beta1, kDecay);
  v.real("beta2", c.beta2, kDecay);
  v.real("eps", c.eps, kPositive);
}

template <class V>
void visit_fields(V& v, PixelLoss& c) {
  v.choice("kind", c.kind, choices::kPixelKind);
  v.real("weight", c.weight, kWeight);
  v.choice("reduction", c.reduction, choices::kReduction);
}

template <class V>
void visit_fields(V& v, VggLoss& c) {
  v.text("layer", c.layer);
  v.choice("distance", c.distance, choices::kDistance);
  v.real("weight", c.weight, kWeight);
  v.real("scale", c.scale, kPositive);
  v.choice("reduction", c.reduction, choices::kReduction);
}

template <class V>
void visit_fields(V& v, AdversarialLoss& c) {
  v.real("weight", c.weight, kWeight);
}

template <class V>
void visit_fields(V& v, VariationLoss& c) {
  v.real("weight", c.weight, kWeight);
  v.flag("squared", c.squared);
  v.choice("reduction", c.reduction, choices::kReduction);
}

template <class V>
void visit_fields(V& v, LossConfig& c) {
  v.optional("pixel", c.pixel);
  v.optional("vgg", c.vgg);
  v.optional("adversarial", c.adversarial);
  v.optional("tv", c.tv);
}

template <class V>
void visit_fields(V& v, ScheduleConfig& c) {
  v.choice("kind", c.kind, choices::kSchedule);
  v.integers("milestones", c.milestones, 1, kManySteps);
  v.real("factor", c.factor, kPositive);
  v.real("final_lr", c.final_lr, Range{0.0, 1.0});
  v.integer("warmup", c.warmup, 0, kManySteps);
}

template <class V>
void visit_fields(V& v, PhaseConfig& c) {
  v.text("name", c.name);
  v.integer("steps", c.steps, 0, kManySteps);
  v.real("lr", c.lr, kRate);
  v.optional_real("lr_discriminator", c.lr_discriminator, kRate);
  v.object("schedule", c.schedule);
  v.object("loss", c.loss);
}

template <class V>
void visit_fields(V& v, LogConfig& c) {
  v.integer("every", c.every, 1, kManySteps);
}

template <class V>
void visit_fields(V& v, ValConfig& c) {
  v.integer("every", c.every, 0, kManySteps);
  v.integer("samples", c.samples, 0, 1'000'000);
}

template <class V>
void visit_fields(V& v, CheckpointConfig& c) {
  v.integer("every", c.every, 0, kManySteps);
  v.integer("keep", c.keep, 1, 1'000'000);
}

template <class V>
void visit_fields(V& v, RunConfig& c) {
  v.seed("seed", c.seed);
  v.integer("threads", c.threads, 0, 4096);
  v.integer("loader_threads", c.loader_threads, 1, 256);
  v.text("precision", c.precision);
  v.text("backend", c.backend);
  v.text("plan", c.plan);
  v.flag("cuda_graph", c.cuda_graph);
  v.object("data", c.data);
  v.object("model", c.model);
  v.object("discriminator", c.discriminator);
  v.object("vgg", c.vgg);
  v.object("adam", c.adam);
  v.real("ema", c.ema, kDecay);
  v.object("log", c.log);
  v.object("val", c.val);
  v.object("checkpoint", c.checkpoint);
  v.text("init", c.init);
  v.list("phases", c.phases);
}

}  // namespace subpix::train
