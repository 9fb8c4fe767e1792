#include <cmath>
#include <map>

#include "engine/autograd/node.h"
#include "engine/ops/ops.h"
#include "tests/models/fixture.h"
#include "tests/support/catch.h"
#include "tests/support/shared_data.h"
#include "tests/train/pictures.h"
#include "train/step.h"

namespace subpix::train {
namespace {

using engine::Device;
using engine::Tensor;
using subpix::tests::Fixture;
using subpix::tests::fixture_path;

std::shared_ptr<Device> device() {
  static const std::shared_ptr<Device> one = Device::open("auto", 1);
  return one;
}

Tensor noise(const engine::Shape& shape, std::uint64_t seed, float low = -1.0f, float high = 1.0f) {
  engine::Philox random(seed);
  std::vector<float> values(static_cast<std::size_t>(shape.count()));
  for (float& v : values) v = random.uniform(low, high);
  return Tensor::from_host(*device(), shape, values);
}

double norm(const Tensor& t) {
  double squares = 0.0;
  for (const float v : t.to_host()) squares += double{v} * v;
  return std::sqrt(squares);
}

/// Two networks of a few hundred weights.
RunConfig tiny(bool adversarial) {
  RunConfig c;
  c.data.crop = 16;
  c.data.batch = 2;
  c.model.blocks = 1;
  c.model.channels = 4;
  c.discriminator = {2, 4, 0.2};
  c.phases[0].lr = 1e-3;
  if (adversarial) c.phases[0].loss.adversarial = AdversarialLoss{0.01};
  return c;
}

Batch batch_of(Index step, Index count, Index hr) {
  Batch b;
  b.step = step;
  b.count = count;
  b.hr_size = hr;
  b.lr_size = hr / 4;
  engine::Philox random(static_cast<std::uint64_t>(step) + 100);
  b.lr.resize(static_cast<std::size_t>(count * b.lr_size * b.lr_size * 3));
  b.hr.resize(static_cast<std::size_t>(count * hr * hr * 3));
  for (auto& v : b.lr) v = static_cast<std::uint8_t>(random.next());
  for (auto& v : b.hr) v = static_cast<std::uint8_t>(random.next());
  return b;
}

struct Bench {
  explicit Bench(RunConfig wanted)
      : config(std::move(wanted)), networks(make_networks(*device(), config)) {
    if (config.phases[0].loss.has_adversarial()) add_discriminator(*device(), config, networks);
    reset_optimisers(config, config.phases[0], networks);
    step = std::make_unique<TrainStep>(*device(), config, config.phases[0], networks, nullptr);
  }
  void run(Index i, StepReport* report = nullptr) {
    step->run(batch_of(i, config.data.batch, config.data.crop), i, report);
  }
  std::vector<std::vector<float>> weights() const {
    std::vector<std::vector<float>> all;
    const auto add = [&](const std::vector<engine::nn::NamedTensor>& state) {
      for (const auto& entry : state) all.push_back(entry.tensor.to_host());
    };
    add(networks.generator->state());
    add(networks.generator_adam->state());
    if (networks.average) add(networks.average->state());
    if (networks.discriminator) add(networks.discriminator->state());
    if (networks.discriminator_adam) add(networks.discriminator_adam->state());
    return all;
  }

  RunConfig config;
  Networks networks;
  std::unique_ptr<TrainStep> step;
};

}  // namespace

TEST_CASE("an adversarial step's losses and gradients are PyTorch's", "[step]") {
  const Fixture oracle("gan_steps");
  const auto setting = [&](const std::string& name) {
    return double{oracle.value("setting." + name)};
  };
  for (const std::string& backend : engine::available_backends()) {
    DYNAMIC_SECTION(backend) {
      const auto dev = Device::open(backend, 1);
      const auto g = models::load_generator(*dev, fixture_path("generator_x4"));
      g->set_training(true);
      models::DiscriminatorConfig config;
      config.crop = 32;
      config.channels = 4;
      config.dense = 16;
      models::Discriminator d(*dev, config, 1);
      engine::nn::load_module(d, fixture_path("discriminator_32"));
      const models::Vgg19 vgg(*dev, fixture_path("vgg_rgb"), models::VggLayer::parse("conv3_1"));
      engine::Adam adam(d.state(), {});

      const Tensor hr = oracle.tensor(*dev, "hr.0");
      const Tensor sr = (*g)(oracle.tensor(*dev, "lr.0"));
      AdversaryReport adversary;
      discriminator_gradients(d, hr, sr.detach(), &adversary);
      subpix::tests::check_gradients(d, oracle, "grad_d.", 3e-5);
      CHECK(adversary.loss ==
            Approx(double{oracle.value("loss.0.d_real")} + oracle.value("loss.0.d_fake"))
                .epsilon(2e-6));
      CHECK((adversary.real > 0.0 && adversary.real < 1.0));
      adam.step(setting("lr"));
      adam.clear_grad();

      // A phase has one pixel and one vgg term, the fixture two of each: gradients add.
      LossConfig first, second;
      first.pixel = PixelLoss{PixelKind::Mse, setting("mse"), Reduction::Mean};
      first.vgg = VggLoss{"relu2_2", Distance::Squared, setting("vgg_squared"), 1.0 / 12.75,
                          Reduction::Mean};
      first.adversarial = AdversarialLoss{setting("adversarial")};
      second.pixel = PixelLoss{PixelKind::L1, setting("l1"), Reduction::Mean};
      second.vgg =
          VggLoss{"conv3_1", Distance::L1, setting("vgg_l1"), 1.0 / 12.75, Reduction::Mean};
      second.tv =
          VariationLoss{setting("tv") * static_cast<double>(sr.count()), false, Reduction::Mean};
      std::vector<TermReport> a, b;
      const Tensor da = Objective(*dev, first, &vgg, &d).gradient(sr, hr, &a);
      const Tensor db = Objective(*dev, second, &vgg, nullptr).gradient(sr, hr, &b);
      for (const auto& entry : d.state())
        if (entry.trainable) {
          CHECK_FALSE(entry.tensor.grad().defined());
          CHECK(entry.tensor.requires_grad());
        }
      engine::backward(sr, engine::ops::add(da, db));
      subpix::tests::check_gradients(*g, oracle, "grad_g.", 1e-4);

      REQUIRE(a.size() == 3);
      REQUIRE(b.size() == 3);
      const auto loss = [&](const char* name) {
        return Approx(double{oracle.value(concat("loss.0.", name))}).epsilon(2e-6);
      };
      CHECK(a[0].name == "pixel");
      CHECK(a[0].loss == loss("mse"));
      CHECK(a[1].name == "vgg");
      CHECK(a[1].loss == loss("vgg_squared"));
      CHECK(a[2].name == "adversarial");
      CHECK(a[2].loss == loss("adversarial"));
      CHECK(b[0].loss == loss("l1"));
      CHECK(b[1].loss == loss("vgg_l1"));
      CHECK(b[2].name == "tv");
      CHECK(b[2].loss * static_cast<double>(sr.count()) == loss("tv"));
    }
  }
}

TEST_CASE("each term's gradient is measured by itself and weighted", "[step]") {
  const Tensor sr = noise({2, 16, 16, 3}, 1), hr = noise({2, 16, 16, 3}, 2);
  LossConfig loss;
  loss.pixel = PixelLoss{PixelKind::Mse, 3.0, Reduction::Mean};
  loss.tv = VariationLoss{0.5, true, Reduction::Mean};
  std::vector<TermReport> report;
  const Tensor both = Objective(*device(), loss, nullptr, nullptr).gradient(sr, hr, &report);
  const std::vector<float> unmeasured =
      Objective(*device(), loss, nullptr, nullptr).gradient(sr, hr, nullptr).to_host();
  CHECK(both.to_host() == unmeasured);

  LossConfig pixel = loss, tv = loss;
  pixel.tv.reset();
  tv.pixel->weight = 0.0;  // off
  const Tensor p = Objective(*device(), pixel, nullptr, nullptr).gradient(sr, hr, nullptr);
  const Tensor v = Objective(*device(), tv, nullptr, nullptr).gradient(sr, hr, nullptr);
  CHECK(engine::ops::add(p, v).to_host() == both.to_host());
  REQUIRE(report.size() == 2);
  CHECK(report[0].gradient == Approx(norm(p)).epsilon(1e-5));
  CHECK(report[1].gradient == Approx(norm(v)).epsilon(1e-5));

  // weight * 2 (sr - hr) / count, and the loss without its weight.
  const auto s = sr.to_host(), h = hr.to_host(), g = p.to_host();
  double mse = 0.0;
  for (std::size_t i = 0; i < s.size(); ++i) {
    const double e = double{s[i]} - h[i];
    mse += e * e / static_cast<double>(s.size());
    REQUIRE(std::fabs(g[i] - 6.0 * e / static_cast<double>(s.size())) < 1e-9);
  }
  CHECK(report[0].loss == Approx(mse).epsilon(1e-5));
}

TEST_CASE("the paper's reductions leave the channels in", "[step]") {
  const Tensor sr = noise({2, 16, 16, 3}, 1), hr = noise({2, 16, 16, 3}, 2);
  const models::Vgg19 vgg(*device(), fixture_path("vgg_rgb"), models::VggLayer::parse("conv2_1"));
  const auto losses = [&](Reduction reduction, double scale, Distance distance) {
    LossConfig loss;
    loss.pixel = PixelLoss{PixelKind::L1, 1.0, reduction};
    loss.vgg = VggLoss{"conv2_1", distance, 1.0, scale, reduction};
    loss.tv = VariationLoss{1.0, false, reduction};
    std::vector<TermReport> report;
    Objective(*device(), loss, &vgg, nullptr).gradient(sr, hr, &report);
    return report;
  };
  const auto mean = losses(Reduction::Mean, 1.0, Distance::Squared);
  const auto paper = losses(Reduction::Paper, 1.0, Distance::Squared);
  Tensor map;
  {
    const engine::NoGrad no_grad;
    map = vgg.features(hr, models::VggLayer::parse("conv2_1"));
  }
  const auto channels = static_cast<double>(map.shape().back());
  CHECK(paper[0].loss == Approx(3.0 * mean[0].loss).epsilon(1e-6));
  CHECK(paper[1].loss == Approx(channels * mean[1].loss).epsilon(1e-6));
  CHECK(paper[2].loss == Approx(3.0 * mean[2].loss).epsilon(1e-6));
  const auto half = losses(Reduction::Mean, 0.5, Distance::Squared);
  CHECK(half[1].loss == Approx(0.25 * mean[1].loss).epsilon(1e-6));
  const auto l1 = losses(Reduction::Mean, 1.0, Distance::L1);
  const auto half_l1 = losses(Reduction::Mean, 0.5, Distance::L1);
  CHECK(half_l1[1].loss == Approx(0.5 * l1[1].loss).epsilon(1e-6));
}

TEST_CASE("a measured step changes the weights as an unmeasured one", "[step]") {
  RunConfig config = tiny(true);
  config.ema = 0.99;
  Bench a(config), b(config);
  StepReport report;
  for (Index i = 0; i < 3; ++i) {
    a.run(i, &report);
    b.run(i);
  }
  CHECK(a.weights() == b.weights());
  CHECK(report.first_bad().empty());
  REQUIRE(report.terms.size() == 2);
  CHECK(report.terms[0].name == "pixel");
  CHECK(report.terms[0].gradient > 0.0);
  CHECK(report.terms[1].gradient > 0.0);
  REQUIRE(report.adversary);
  CHECK((report.adversary->fake > 0.0 && report.adversary->fake < 1.0));
  CHECK(a.networks.generator_adam->steps() == 3);
  CHECK(a.networks.discriminator_adam->steps() == 3);
  // Another seed, other weights.
  config.seed = 2;
  CHECK(Bench(config).weights() != Bench(a.config).weights());
}

TEST_CASE("rates follow the schedules of the phase", "[step]") {
  RunConfig config = tiny(true);
  PhaseConfig& p = config.phases[0];
  p.lr = 1e-3;
  p.lr_discriminator = 5e-3;
  p.schedule = {engine::Schedule::Kind::Steps, {2}, 0.1, 0.0, 0};
  Bench bench(config);
  StepReport report;
  for (Index i = 0; i < 4; ++i) {
    const auto before = bench.weights();
    bench.run(i, &report);
    CHECK(report.lr == Approx(i < 2 ? 1e-3 : 1e-4));
    // The discriminator's last bias: Adam's very first step is the rate itself.
    if (i == 0) {
      const Tensor bias = bench.networks.discriminator->state().back().tensor;
      CHECK(std::fabs(bias.item()) == Approx(5e-3).epsilon(1e-3));
    }
  }
}

TEST_CASE("the average follows the generator with a rising decay", "[step]") {
  RunConfig config = tiny(false);
  config.ema = 0.3;
  Bench bench(config);
  CHECK_FALSE(bench.networks.average->training());
  CHECK(&bench.networks.best_generator() == bench.networks.average.get());
  std::vector<std::vector<double>> mean;
  for (const auto& entry : bench.networks.generator->state()) {
    const auto values = entry.tensor.to_host();
    mean.emplace_back(values.begin(), values.end());
  }
  for (Index i = 0; i < 6; ++i) {
    bench.run(i);
    const double decay =
        std::min(0.3, (1.0 + static_cast<double>(i)) / (10.0 + static_cast<double>(i)));
    const auto state = bench.networks.generator->state();
    for (std::size_t t = 0; t < state.size(); ++t) {
      const auto now = state[t].tensor.to_host();
      for (std::size_t k = 0; k < now.size(); ++k)
        mean[t][k] = decay * mean[t][k] + (1.0 - decay) * double{now[k]};
    }
  }
  const auto average = bench.networks.average->state();
  bool moved = false;
  for (std::size_t t = 0; t < average.size(); ++t) {
    const auto got = average[t].tensor.to_host();
    const auto plain = bench.networks.generator->state()[t].tensor.to_host();
    moved |= got != plain;
    for (std::size_t k = 0; k < got.size(); ++k)
      REQUIRE(std::fabs(got[k] - mean[t][k]) <= 1e-6 * (1.0 + std::fabs(mean[t][k])));
  }
  CHECK(moved);
  // Without, inference uses the plain weights.
  Bench plain(tiny(false));
  CHECK(&plain.networks.best_generator() == plain.networks.generator.get());
}

TEST_CASE("after the first steps a step takes no memory from the system", "[step]") {
  const bool adversarial = GENERATE(false, true);
  const auto own = Device::open("auto", 1);
  RunConfig config = tiny(adversarial);
  config.ema = 0.9;
  Networks networks = make_networks(*own, config);
  if (adversarial) add_discriminator(*own, config, networks);
  reset_optimisers(config, config.phases[0], networks);
  TrainStep step(*own, config, config.phases[0], networks, nullptr);
  StepReport report;
  for (Index i = 0; i < 2; ++i) step.run(batch_of(i, 2, 16), i, i == 0 ? &report : nullptr);
  const auto before = own->memory();
  own->reset_peak();
  for (Index i = 2; i < 8; ++i) step.run(batch_of(i, 2, 16), i, i % 3 == 0 ? &report : nullptr);
  CHECK(own->memory().requests > before.requests);
  CHECK(own->memory().allocations == before.allocations);
  CHECK(own->memory().in_use == before.in_use);
  CHECK(own->memory().reserved == before.reserved);
}

TEST_CASE("two patches are learnt by heart", "[step]") {
  RunConfig config = tiny(false);
  config.model.channels = 16;
  config.model.blocks = 2;
  config.phases[0].lr = 4e-3;
  config.phases[0].steps = 400;
  config.phases[0].schedule.kind = engine::Schedule::Kind::Cosine;
  const Batch batch = [] {
    Batch b = batch_of(0, 2, 16);
    for (Index i = 0; i < 2; ++i) {
      const Image photo = tests::make_photo(16, 16, static_cast<std::uint64_t>(i) + 5);
      std::copy(photo.pixels.begin(), photo.pixels.end(), b.hr.begin() + i * 768);
    }
    return b;
  }();
  Bench bench(config);
  StepReport report;
  double first = 0.0;
  for (Index i = 0; i < 400; ++i) {
    const bool measured = i == 0 || i == 399;
    bench.step->run(batch, i, measured ? &report : nullptr);
    if (i == 0) first = report.terms[0].loss;
  }
  const double last = report.terms[0].loss;
  CAPTURE(first, last);
  // The noise LR tells nothing about the photo, so only memory can reach this: 45 dB.
  CHECK(first > 0.3);
  CHECK(last < 4.0 * std::pow(10.0, -4.5));
}

TEST_CASE("training on the real VGG19's features lowers their distance", "[step][data]") {
  const auto file = subpix::tests::shared_data("vgg19/vgg19_keras_conv1_1-conv3_4.safetensors");
  if (!file) return;
  RunConfig config = tiny(true);
  config.phases[0].lr = 5e-3;
  config.phases[0].loss.pixel.reset();
  config.phases[0].loss.vgg = VggLoss{};
  config.phases[0].loss.vgg->layer = GENERATE("VGG22", "conv1_2");
  const models::Vgg19 vgg(*device(), file->string(), models::VggLayer::parse("VGG22"));
  Networks networks = make_networks(*device(), config);
  add_discriminator(*device(), config, networks);
  reset_optimisers(config, config.phases[0], networks);
  TrainStep step(*device(), config, config.phases[0], networks, &vgg);
  const Batch batch = batch_of(1, 2, 16);
  StepReport report;
  std::vector<double> losses;
  for (Index i = 0; i < 30; ++i) {
    step.run(batch, i, &report);
    REQUIRE(report.first_bad().empty());
    REQUIRE(report.terms.size() == 2);
    CHECK(report.terms[0].name == "vgg");
    CHECK(report.terms[0].gradient > 0.0);
    losses.push_back(report.terms[0].loss);
  }
  CAPTURE(losses.front(), losses.back());
  CHECK(losses.back() < 0.8 * losses.front());
}

}  // namespace subpix::train
