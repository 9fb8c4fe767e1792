#include <algorithm>
#include <set>

#include "kernels/api/error.h"
#include "models/vgg/vgg19.h"
#include "train/config_fields.h"

namespace subpix::train {
namespace {

constexpr Index kSmallestAdversarialCrop = 16;  // four halvings leave one pixel
constexpr std::size_t kLongestName = 64;

bool is_file_name_part(const std::string& text) {
  return !text.empty() && text.size() <= kLongestName &&
         text.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
             std::string::npos;
}

class Checker {
 public:
  Checker(const RunConfig& config, const std::function<std::string(const std::string&)>& origin)
      : c_(config), origin_(origin) {}

  void run() {
    if (c_.precision != "fp32" && c_.precision != "tf32" && c_.precision != "bf16")
      fail("precision", quoted(c_.precision), "it must be \"fp32\", \"tf32\" or \"bf16\"");
    const Index scale = c_.model.scale;
    if (scale != 2 && scale != 4) fail("model.scale", scale, "it must be 2 or 4");
    if (c_.data.crop % scale != 0)
      fail("data.crop", c_.data.crop,
           concat("it must be a multiple of model.scale, which is ", scale));
    if (c_.uses_adversarial() && c_.data.crop < kSmallestAdversarialCrop)
      fail("data.crop", c_.data.crop,
           concat("the discriminator needs crops of at least ", kSmallestAdversarialCrop,
                  " pixels"));
    std::set<std::string> names;
    for (std::size_t i = 0; i < c_.phases.size(); ++i) phase(i, names);
  }

 private:
  void phase(std::size_t i, std::set<std::string>& names) {
    const PhaseConfig& p = c_.phases[i];
    const std::string path = concat("phases[", i, "]");
    if (!is_file_name_part(p.name))
      fail(path + ".name", quoted(p.name),
           concat("it becomes part of a file name: use 1 to ", kLongestName,
                  " letters, digits, _ and -"));
    if (!names.insert(p.name).second)
      fail(path + ".name", quoted(p.name), "another phase has this name; give each its own");
    const LossConfig& loss = p.loss;
    if (!loss.has_pixel() && !loss.has_vgg() && !loss.has_adversarial() && !loss.has_tv())
      throw InputError(concat(origin_(path + ".loss"), ": ", path,
                              ".loss has no term with a weight above 0; name at least one of "
                              "pixel, vgg, adversarial, tv"));
    if (!std::is_sorted(p.schedule.milestones.begin(), p.schedule.milestones.end()))
      fail(path + ".schedule.milestones", "unordered", "list the steps in ascending order");
    if (loss.vgg) vgg(path + ".loss.vgg.layer", loss.vgg->layer, loss.has_vgg());
  }

  void vgg(const std::string& path, const std::string& text, bool used) {
    models::VggLayer layer{};
    try {
      layer = models::VggLayer::parse(text);
    } catch (const InputError& error) {
      throw InputError(concat(origin_(path), ": ", path, ": ", error.what()));
    }
    const Index halvings = layer.block - 1;
    if (used && c_.data.crop >> halvings < 1)
      fail("data.crop", c_.data.crop,
           concat("VGG19's ", text, " needs crops of at least ", Index{1} << halvings, " pixels"));
  }

  static std::string quoted(const std::string& text) { return "\"" + text + "\""; }

  template <class Value>
  [[noreturn]] void fail(const std::string& path, const Value& value,
                         const std::string& reason) const {
    throw InputError(concat(origin_(path), ": ", path, " is ", value, "; ", reason));
  }

  const RunConfig& c_;
  const std::function<std::string(const std::string&)>& origin_;
};

}  // namespace

void check_values(const RunConfig& config,
                  const std::function<std::string(const std::string&)>& origin) {
  Checker(config, origin).run();
}

void check_ready(const RunConfig& config) {
  if (config.data.train.empty())
    throw InputError(
        "data.train is empty; name at least one folder with photographs: --set data.train=FOLDER");
  if (config.total_steps() == 0)
    throw InputError("every phase has 0 steps, so there is nothing to train; set phases[0].steps");
  if (config.uses_vgg() && config.vgg.weights.empty())
    throw InputError(
        "a phase has a vgg loss but vgg.weights is empty; name the VGG19 weight file: "
        "--set vgg.weights=FILE");
}

engine::Schedule PhaseConfig::generator_schedule() const {
  engine::Schedule s;
  s.kind = schedule.kind;
  s.lr = lr;
  s.milestones = schedule.milestones;
  s.factor = schedule.factor;
  s.final_lr = schedule.final_lr;
  s.total = std::max<Index>(steps, 1);
  s.warmup = schedule.warmup;
  return s;
}

engine::Schedule PhaseConfig::discriminator_schedule() const {
  engine::Schedule s = generator_schedule();
  const double ratio = lr_discriminator.value_or(lr) / lr;
  s.lr = lr_discriminator.value_or(lr);
  s.final_lr *= ratio;
  return s;
}

models::GeneratorConfig RunConfig::generator_config() const {
  models::GeneratorConfig g;
  g.blocks = model.blocks;
  g.channels = model.channels;
  g.scale = model.scale;
  g.prelu_shared = model.prelu_shared;
  g.init = model.init;
  g.bn_momentum = static_cast<float>(model.bn_momentum);
  g.bn_eps = static_cast<float>(model.bn_eps);
  return g;
}

models::DiscriminatorConfig RunConfig::discriminator_config() const {
  models::DiscriminatorConfig d;
  d.crop = data.crop;
  d.channels = discriminator.channels;
  d.dense = discriminator.dense;
  d.slope = static_cast<float>(discriminator.slope);
  return d;
}

DType RunConfig::compute_type() const { return precision == "bf16" ? DType::BF16 : DType::F32; }

Index RunConfig::total_steps() const {
  Index sum = 0;
  for (const PhaseConfig& p : phases) sum += p.steps;
  return sum;
}

bool RunConfig::uses_vgg() const {
  return std::any_of(phases.begin(), phases.end(),
                     [](const PhaseConfig& p) { return p.steps > 0 && p.loss.has_vgg(); });
}

bool RunConfig::uses_adversarial() const {
  return std::any_of(phases.begin(), phases.end(),
                     [](const PhaseConfig& p) { return p.steps > 0 && p.loss.has_adversarial(); });
}

}  // namespace subpix::train
