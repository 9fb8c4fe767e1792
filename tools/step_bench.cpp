// Times one training step and its phases on synthetic crops: the same ops in the same order as the
// trainer, without reading pictures. docs/benchmarking.md says how the numbers are to be read.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/autograd/node.h"
#include "engine/core/device.h"
#include "engine/core/file.h"
#include "engine/core/random.h"
#include "engine/ops/ops.h"
#include "engine/optim/adam.h"
#include "models/srgan/discriminator.h"
#include "models/srgan/generator.h"
#include "models/vgg/vgg19.h"
#include "tools/main_helper.h"
#include "tools/statistics.h"
#include "train/objective.h"

namespace subpix::tools {
namespace {

using engine::Device;
using engine::Index;
using engine::Tensor;
using nlohmann::ordered_json;

struct Options {
  std::string backend = "auto", mode = "srresnet", vgg, vgg_layer = "VGG22", json;
  int threads = 0, steps = 20, warmup = 5;
  Index batch = 4, blocks = 16, channels = 64, crop = 96, scale = 4;
};

constexpr double kLearningRate = 1e-4;

/// Cuts a step into named phases. The device is waited for at each cut, so the phases of an
/// asynchronous backend sum up to more than an undivided step would take; host backends lose
/// nothing.
class PhaseClock {
 public:
  explicit PhaseClock(Device& device) : device_(device) {}

  void start() {
    device_.synchronize();
    step_ = last_ = now();
    current_.clear();
  }
  /// Ends a phase; a name that comes twice in a step is summed up.
  void cut(const char* phase) {
    device_.synchronize();
    const double t = now();
    if (!current_.contains(phase)) order_seen(phase);
    current_[phase] += t - last_;
    last_ = t;
  }
  /// Ends the step; `keep` false: it was a warm-up.
  void finish(bool keep) {
    if (!keep) return;
    steps_.push_back(last_ - step_);
    for (const auto& [phase, ms] : current_) phases_[phase].push_back(ms);
  }

  const std::vector<double>& steps() const { return steps_; }
  const std::vector<std::string>& order() const { return order_; }
  const std::vector<double>& phase(const std::string& name) const { return phases_.at(name); }

 private:
  static double now() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
  }
  void order_seen(const std::string& phase) {
    if (std::find(order_.begin(), order_.end(), phase) == order_.end()) order_.push_back(phase);
  }

  Device& device_;
  double step_ = 0, last_ = 0;
  std::map<std::string, double> current_;
  std::vector<double> steps_;
  std::vector<std::string> order_;
  std::map<std::string, std::vector<double>> phases_;
};

/// Random bytes as a picture in [low, high]: dense values, as photographs have.
Tensor random_image(Device& device, const engine::Shape& shape, float low, float high,
                    engine::Philox& random) {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(shape.count()));
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random.next());
  const Tensor raw = Tensor::from_bytes(device, shape, bytes);
  return engine::ops::from_bytes(raw, (high - low) / 255.0f, low);
}

/// The networks of one mode and their step.
class Workload {
 public:
  Workload(Device& device, const Options& o)
      : generator_(device, {.blocks = o.blocks, .channels = o.channels, .scale = o.scale}, 1),
        adam_(generator_.state(), {}) {
    if (o.crop < o.scale || o.crop % o.scale != 0)
      throw InputError(concat("--crop ", o.crop, " is no multiple of --scale ", o.scale));
    engine::Philox random(1);
    const Index lr = o.crop / o.scale;
    lr_ = random_image(device, {o.batch, lr, lr, 3}, 0.0f, 1.0f, random);
    hr_ = random_image(device, {o.batch, o.crop, o.crop, 3}, -1.0f, 1.0f, random);
    if (o.mode == "srgan") {
      discriminator_ = std::make_unique<models::Discriminator>(
          device, models::DiscriminatorConfig{.crop = o.crop}, 2);
      discriminator_adam_ =
          std::make_unique<engine::Adam>(discriminator_->state(), engine::Adam::Options{});
    }
    train::LossConfig content, adversarial;
    if (o.vgg.empty()) {
      content.pixel = train::PixelLoss{};
      add_term(device, "pixel_loss", content);
    } else {
      content.vgg = train::VggLoss{};
      content.vgg->layer = o.vgg_layer;
      vgg_ = std::make_unique<models::Vgg19>(device, o.vgg, models::VggLayer::parse(o.vgg_layer));
      add_term(device, "vgg_loss", content);
    }
    if (discriminator_) {
      adversarial.adversarial = train::AdversarialLoss{};
      add_term(device, "adversarial_loss", adversarial);
    }
  }

  /// The step of train::TrainStep, with a cut after each phase.
  void step(PhaseClock& clock) {
    namespace ops = engine::ops;
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

  /// The loss terms of the networks as they are now, each without its weight.
  std::vector<train::TermReport> losses() {
    const Tensor sr = generator_(lr_).detach();
    std::vector<train::TermReport> all;
    for (const Term& term : terms_) {
      std::vector<train::TermReport> one;
      term.objective.gradient(sr, hr_, &one);
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }

  Index generator_parameters() const { return generator_.parameter_count(); }

 private:
  /// The trainer has one objective for all terms; here each has its own, so that it can be timed.
  struct Term {
    const char* phase;
    train::Objective objective;
  };
  void add_term(Device& device, const char* phase, const train::LossConfig& loss) {
    terms_.push_back({phase, train::Objective(device, loss, vgg_.get(), discriminator_.get())});
  }

  models::Generator generator_;
  engine::Adam adam_;
  std::unique_ptr<models::Discriminator> discriminator_;
  std::unique_ptr<engine::Adam> discriminator_adam_;
  std::unique_ptr<models::Vgg19> vgg_;
  std::vector<Term> terms_;
  Tensor lr_, hr_;
};

double rounded(double ms) { return std::round(ms * 1e4) / 1e4; }

ordered_json to_json(const std::vector<double>& values) {
  const Spread s = spread_of(values);
  return {{"median_ms", rounded(s.median)},
          {"min_ms", rounded(s.min)},
          {"p5_ms", rounded(s.p5)},
          {"p95_ms", rounded(s.p95)}};
}

ordered_json report(const Options& o, Device& device, const Workload& workload,
                    const PhaseClock& clock, const std::vector<train::TermReport>& losses) {
  ordered_json out{{"tool", "step_bench"},
                   {"backend", device.backend()},
                   {"device", device.description()},
                   {"mode", o.mode},
                   {"precision", "fp32"},
                   {"threads", o.threads},
                   {"batch", o.batch},
                   {"blocks", o.blocks},
                   {"channels", o.channels},
                   {"crop", o.crop},
                   {"scale", o.scale},
                   {"vgg_layer", o.vgg.empty() ? ordered_json() : ordered_json(o.vgg_layer)},
                   {"warmup", o.warmup},
                   {"steps", o.steps},
                   {"generator_parameters", workload.generator_parameters()}};
  out.update(to_json(clock.steps()));
  out["images_per_second"] = static_cast<double>(o.batch) * 1000.0 / quantile(clock.steps(), 0.5);
  ordered_json phases = ordered_json::object();
  for (const std::string& name : clock.order()) phases[name] = to_json(clock.phase(name));
  out["phases"] = phases;
  out["memory"] = {{"tensor_peak_bytes", device.memory().peak},
                   {"tensor_reserved_bytes", device.memory().reserved},
                   {"workspace_bytes", device.context().workspace_bytes()},
                   {"process_peak_bytes", peak_resident_bytes()}};
  ordered_json terms = ordered_json::object();
  for (const train::TermReport& term : losses) terms[term.name] = term.loss;
  out["losses"] = terms;
  ordered_json series = ordered_json::array();
  for (double ms : clock.steps()) series.push_back(rounded(ms));
  out["step_ms"] = series;
  return out;
}

void print(const ordered_json& r) {
  const auto number = [&](const char* key) { return r.at(key).get<double>(); };
  std::printf("%s, %s, batch %lld, %lld blocks, crop %lld\n",
              r.at("device").get<std::string>().c_str(), r.at("mode").get<std::string>().c_str(),
              r.at("batch").get<long long>(), r.at("blocks").get<long long>(),
              r.at("crop").get<long long>());
  std::printf("%-24s %10s %10s %10s %10s\n", "ms", "median", "min", "p5", "p95");
  const auto line = [](const std::string& name, const ordered_json& v) {
    std::printf("%-24s %10.3f %10.3f %10.3f %10.3f\n", name.c_str(),
                v.at("median_ms").get<double>(), v.at("min_ms").get<double>(),
                v.at("p5_ms").get<double>(), v.at("p95_ms").get<double>());
  };
  for (const auto& [name, value] : r.at("phases").items()) line(name, value);
  line("step", r);
  const auto mib = [&](const char* key) {
    return r.at("memory").at(key).get<double>() / 1048576.0;
  };
  std::printf(
      "%.2f images/s; peak memory: tensors %.0f MiB, workspace %.0f MiB, process %.0f MiB\n",
      number("images_per_second"), mib("tensor_peak_bytes"), mib("workspace_bytes"),
      mib("process_peak_bytes"));
}

int run(const Options& o) {
  const auto device = Device::open(o.backend, o.threads);
  Workload workload(*device, o);
  PhaseClock clock(*device);
  for (int step = 0; step < o.warmup + o.steps; ++step) {
    workload.step(clock);
    clock.finish(step >= o.warmup);
  }
  const std::vector<train::TermReport> losses = workload.losses();
  for (const train::TermReport& term : losses)
    if (!std::isfinite(term.loss))
      throw Error(concat("the ", term.name, " loss became ", term.loss, "; the timing is void"));
  const ordered_json result = report(o, *device, workload, clock, losses);
  print(result);
  if (!o.json.empty()) engine::atomic_write(o.json, result.dump(2) + "\n");
  return kSuccess;
}

}  // namespace
}  // namespace subpix::tools

int main(int argc, char** argv) {
  using namespace subpix::tools;
  Options o;
  CLI::App app("Times a training step and its phases.", "step_bench");
  app.add_option("--backend", o.backend, "auto, cpu, reference, ...")->capture_default_str();
  app.add_option("--mode", o.mode, "srresnet: pixel loss only; srgan: with discriminator")
      ->check(CLI::IsMember({"srresnet", "srgan"}))
      ->capture_default_str();
  app.add_option("--batch", o.batch)->check(CLI::Range(1, 4096))->capture_default_str();
  app.add_option("--blocks", o.blocks)->check(CLI::Range(1, 256))->capture_default_str();
  app.add_option("--channels", o.channels)->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--crop", o.crop, "HR pixels")->check(CLI::Range(4, 4096))->capture_default_str();
  app.add_option("--scale", o.scale)->check(CLI::IsMember({2, 4}))->capture_default_str();
  app.add_option("--threads", o.threads, "compute threads, 0: all")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--steps", o.steps, "timed steps")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  app.add_option("--warmup", o.warmup, "steps before")
      ->check(CLI::Range(0, 1000000))
      ->capture_default_str();
  app.add_option("--vgg", o.vgg, "VGG19 weights: the content loss is taken on its features");
  app.add_option("--vgg-layer", o.vgg_layer)->capture_default_str();
  app.add_option("--json", o.json, "file to write");
  return run_main(argc, argv, app, [&] { return run(o); });
}
