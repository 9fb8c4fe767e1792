// Whole training on the CUDA kernels under the simulator: two phases of a tiny SRGAN against the
// reference backend, the same bits under every schedule, with and without a graph.

#include <algorithm>
#include <cmath>
#include <map>

#include "engine/autograd/node.h"
#include "engine/ops/ops.h"
#include "kernels/api/context_objects.h"
#include "kernels/sim/sim.h"
#include "tests/models/fixture.h"
#include "tests/support/catch.h"
#include "train/step.h"

namespace subpix::train {
namespace {

using engine::Device;
using engine::Tensor;
using subpix::tests::fixture_path;

constexpr Index kSteps = 3;
constexpr double kRate = 1e-4;

/// Two blocks, 16x16 crops; a pixel phase, then content, adversarial and VGG terms.
RunConfig tiny(Index channels, const std::string& precision) {
  RunConfig c;
  c.precision = precision;
  c.data.crop = 16;
  c.data.batch =
      8;  // the discriminator ends with one pixel an image, and needs a batch to normalise
  c.model.blocks = 2;
  c.model.channels = channels;
  c.discriminator = {channels, 32, 0.2};
  c.phases.resize(2);
  for (PhaseConfig& p : c.phases) {
    p.steps = kSteps;
    p.lr = kRate;
  }
  c.phases[1].steps = kSteps - 1;
  c.phases[1].name = "adversarial";
  c.phases[1].loss.vgg = VggLoss{"conv2_2", Distance::Squared, 0.1, 1.0, Reduction::Mean};
  c.phases[1].loss.adversarial = AdversarialLoss{0.01};
  return c;
}

Batch batch_of(Index step, const RunConfig& config) {
  Batch b;
  b.step = step;
  b.count = config.data.batch;
  b.hr_size = config.data.crop;
  b.lr_size = config.data.crop / 4;
  engine::Philox random(static_cast<std::uint64_t>(step) + 100);
  b.lr.resize(static_cast<std::size_t>(b.count * b.lr_size * b.lr_size * 3));
  b.hr.resize(static_cast<std::size_t>(b.count * b.hr_size * b.hr_size * 3));
  for (auto& v : b.lr) v = static_cast<std::uint8_t>(random.next());
  for (auto& v : b.hr) v = static_cast<std::uint8_t>(random.next());
  return b;
}

/// A run through both phases: reports of every step, weights and moments at the end.
struct Outcome {
  std::vector<StepReport> reports;
  std::map<std::string, std::vector<float>> state;
  std::uint64_t launches = 0;  ///< of the last step
};

void add_state(Outcome& o, const std::string& prefix,
               const std::vector<engine::nn::NamedTensor>& state) {
  for (const auto& entry : state) o.state[prefix + entry.name] = entry.tensor.to_host();
}

Outcome train(const std::string& backend, const RunConfig& config) {
  const auto device = Device::open(backend, 1);
  models::Vgg19 vgg(*device, fixture_path("vgg_rgb"), models::VggLayer::parse("conv2_2"));
  vgg.set_compute_type(config.compute_type());
  Networks networks = make_networks(*device, config);
  Outcome o;
  Index step = 0;
  for (const PhaseConfig& phase : config.phases) {
    if (phase.loss.has_adversarial()) add_discriminator(*device, config, networks);
    reset_optimisers(config, phase, networks);
    TrainStep one(*device, config, phase, networks, &vgg);
    for (Index i = 0; i < phase.steps; ++i, ++step) {
      device->synchronize();
      sim::reset_stats();
      one.run(batch_of(step, config), i, &o.reports.emplace_back());
      o.launches = sim::stats().launches;
    }
  }
  add_state(o, "g.", networks.generator->state());
  add_state(o, "g.adam.", networks.generator_adam->state());
  add_state(o, "d.", networks.discriminator->state());
  add_state(o, "d.adam.", networks.discriminator_adam->state());
  return o;
}

double relative(double got, double want) {
  return std::fabs(got - want) / (std::fabs(want) + 1e-9);
}

/// ||got - want|| / ||want||.
double distance(const std::vector<float>& got, const std::vector<float>& want) {
  REQUIRE(got.size() == want.size());
  double difference = 0.0, size = 0.0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    difference += (double{got[i]} - want[i]) * (double{got[i]} - want[i]);
    size += double{want[i]} * want[i];
  }
  return std::sqrt(difference) / (std::sqrt(size) + 1e-12);
}

/// Gradients of all parameters of both networks at the same weights, on one backend.
std::map<std::string, std::vector<float>> gradients(const std::string& backend,
                                                    const RunConfig& config, Index step) {
  const auto device = Device::open(backend, 1);
  models::Vgg19 vgg(*device, fixture_path("vgg_rgb"), models::VggLayer::parse("conv2_2"));
  vgg.set_compute_type(config.compute_type());
  Networks n = make_networks(*device, config);
  add_discriminator(*device, config, n);
  const Batch batch = batch_of(step, config);
  const Index hr_size = config.data.crop, lr_size = hr_size / 4, count = config.data.batch;
  const auto lr = engine::ops::from_bytes(
      Tensor::from_bytes(*device, {count, lr_size, lr_size, 3}, batch.lr), 1.0f / 255.0f, 0.0f);
  const auto hr = engine::ops::from_bytes(
      Tensor::from_bytes(*device, {count, hr_size, hr_size, 3}, batch.hr), 2.0f / 255.0f, -1.0f);
  const Tensor sr = (*n.generator)(lr);
  std::map<std::string, std::vector<float>> all;
  discriminator_gradients(*n.discriminator, hr, sr.detach(), nullptr);
  for (const auto& p : n.discriminator->state())
    if (p.trainable) all["d." + p.name] = p.tensor.grad().to_host();
  n.discriminator->clear_grad();
  const Objective objective(*device, config.phases[1].loss, &vgg, n.discriminator.get());
  engine::backward(sr, objective.gradient(sr, hr, nullptr));
  for (const auto& p : n.generator->state())
    if (p.trainable) all["g." + p.name] = p.tensor.grad().to_host();
  return all;
}

/// Note [Bounds of a step]: each of the about 40 ops on a path rounds its result by at most u and
/// sums K <= 5184 products with at most (4 + 4 sqrt K) 2^-24 of their magnitude; errors of
/// different ops are independent and add like the root of their number. fp32: sqrt(40) * 292 *
/// 2^-24 = 1.1e-4, with a factor of 8 for what batch norm over few pixels amplifies. In bf16 that
/// amplification is the problem's own: eight batch norms over down to eight values. So the
/// reference's bf16 run is the measure: what rounding to bf16 changes there (against fp32), right
/// kernels may change twice. One batch is one draw: of a vector of eight sums the change varies by
/// a factor of three from batch to batch, on either side. So for narrow networks it is the root
/// mean square over batches that counts.
constexpr double kFp32Bound = 1e-3;
double bf16_bound(double reference_change) { return 2.0 * reference_change + 0.02; }

}  // namespace

TEST_CASE("every gradient under the simulator is the reference's", "[sim]") {
  const Index channels = GENERATE(8, 64);
  CAPTURE(channels);
  const RunConfig exact = tiny(channels, "fp32"), mixed = tiny(channels, "bf16");
  const Index batches = channels == 8 ? 4 : 1;
  std::map<std::string, double> want_change, got_change;  // squares, of all batches
  for (Index step = 7; step < 7 + batches; ++step) {
    const auto want = gradients("reference", exact, step), got = gradients("sim", exact, step);
    const auto want_mixed = gradients("reference", mixed, step);
    const auto got_mixed = gradients("sim", mixed, step);
    REQUIRE(want.size() == got.size());
    for (const auto& [name, values] : want) {
      INFO(name << ", batch " << step);
      CHECK(distance(got.at(name), values) <= kFp32Bound);
      want_change[name] += std::pow(distance(want_mixed.at(name), values), 2);
      got_change[name] += std::pow(distance(got_mixed.at(name), values), 2);
    }
  }
  const auto root_mean = [&](double squares) {
    return std::sqrt(squares / static_cast<double>(batches));
  };
  for (const auto& [name, squares] : want_change) {
    INFO(name);
    CHECK(root_mean(got_change.at(name)) <= bf16_bound(root_mean(squares)));
  }
}

/// Share of the weights under `prefix` that lie further than `close` from the other run's.
double share_apart(const Outcome& a, const Outcome& b, const std::string& prefix, double close) {
  std::size_t all = 0, apart = 0;
  // Adam moves no weight by more than its rate a step.
  const double most = 2.0 * kRate * static_cast<double>(2 * kSteps) * 1.1;
  for (const auto& [name, values] : a.state) {
    if (!name.starts_with(prefix) || name.find("running") != std::string::npos ||
        name.find("adam") != std::string::npos)
      continue;
    INFO(name);
    const std::vector<float>& other = b.state.at(name);
    REQUIRE(other.size() == values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double off = std::fabs(double{other[i]} - values[i]);
      if (!(off <= most)) FAIL_CHECK(name << "[" << i << "] is off by " << off);
      ++all;
      apart += !(off <= close);
    }
  }
  return static_cast<double>(apart) / static_cast<double>(all);
}

TEST_CASE("training under the simulator follows the reference", "[sim]") {
  const Index channels = GENERATE(8, 64);
  CAPTURE(channels);
  const Outcome want = train("reference", tiny(channels, "fp32"));
  const Outcome want_mixed = train("reference", tiny(channels, "bf16"));
  const Outcome got = train("sim", tiny(channels, "fp32"));
  const Outcome got_mixed = train("sim", tiny(channels, "bf16"));
  REQUIRE(got.reports.size() == want.reports.size());
  for (std::size_t i = 0; i < want.reports.size(); ++i) {
    CAPTURE(i);
    const StepReport &a = got.reports[i], &b = want.reports[i];
    const StepReport &c = got_mixed.reports[i], &d = want_mixed.reports[i];
    // Where gradients are near zero Adam's first steps go either way, so the runs drift apart.
    const double bound = kFp32Bound * static_cast<double>(1 + 4 * i);
    REQUIRE(a.terms.size() == b.terms.size());
    for (std::size_t t = 0; t < b.terms.size(); ++t) {
      INFO(b.terms[t].name);
      CHECK(relative(a.terms[t].loss, b.terms[t].loss) <= bound);
      CHECK(relative(a.terms[t].gradient, b.terms[t].gradient) <= 2.0 * bound);
      CHECK(relative(c.terms[t].loss, b.terms[t].loss) <=
            bf16_bound(relative(d.terms[t].loss, b.terms[t].loss)));
    }
    if (!b.adversary) continue;
    CHECK(relative(a.adversary->loss, b.adversary->loss) <= bound);
    CHECK(relative(c.adversary->loss, b.adversary->loss) <=
          bf16_bound(relative(d.adversary->loss, b.adversary->loss)));
  }
  // The discriminator's gradients, which pass eight batch norms, have more elements near zero.
  for (const auto& [prefix, most] : {std::pair{"g.", 0.01}, std::pair{"d.", 0.1}}) {
    const double apart = share_apart(want, got, prefix, 0.05 * kRate);
    const double apart_mixed = share_apart(want, got_mixed, prefix, 0.5 * kRate);
    const double reference_apart = share_apart(want, want_mixed, prefix, 0.5 * kRate);
    CAPTURE(prefix, apart, apart_mixed, reference_apart);
    CHECK(apart <= most);
    CHECK(apart_mixed <= 1.25 * reference_apart + 0.01);
  }
}

/// Calls of each op in one step without a report, by name, composed ones beside their parts, and
/// the kernels that were launched.
struct StepCount {
  std::map<std::string, int> calls;
  std::uint64_t launches = 0;
};

StepCount count_step(const RunConfig& config, std::size_t phase_index) {
  const auto device = Device::open("sim", 1);
  models::Vgg19 vgg(*device, fixture_path("vgg_rgb"), models::VggLayer::parse("conv2_2"));
  vgg.set_compute_type(config.compute_type());
  Networks networks = make_networks(*device, config);
  const PhaseConfig& phase = config.phases[phase_index];
  if (phase.loss.has_adversarial()) add_discriminator(*device, config, networks);
  reset_optimisers(config, phase, networks);
  TrainStep step(*device, config, phase, networks, &vgg);
  step.run(batch_of(0, config), 0, nullptr);  // the first one makes the bf16 copies of the weights
  device->synchronize();
  StepCount count;
  kernels::set_trace(device->context(),
                     [&](const char* op, const char* variant, const std::string&) {
                       ++count.calls[std::string(op) + " " + variant];
                     });
  sim::reset_stats();
  step.run(batch_of(1, config), 1, nullptr);
  device->synchronize();
  kernels::set_trace(device->context(), {});
  count.launches = sim::stats().launches;
  return count;
}

std::string list_of(const StepCount& count) {
  std::string all;
  for (const auto& [op, calls] : count.calls) all += op + ": " + std::to_string(calls) + "\n";
  return all;
}

// A fusion that is lost, or a gradient that falls out of its group, gives the same numbers and a
// slower step: only these counts show it. They hold for these sizes (larger maps split more sums);
// whoever fuses more lowers them.
TEST_CASE("a step launches so many kernels and no more", "[sim]") {
  RunConfig config = tiny(64, "bf16");
  config.cuda_graph = false;
  const auto check_trunk = [](const StepCount& s, int blocks) {
    const int layers = 2 * blocks + 1;
    CHECK(s.calls.at("conv2d_norm_forward/bf16 halo_mma") == layers);
    CHECK(s.calls.at("conv2d_norm_backward_data/bf16 halo_mma") == layers);
    CHECK(s.calls.at("conv2d_backward_filter_group/bf16 split_pixels_mma") == 1);
    CHECK(!s.calls.contains("conv2d_norm_backward_filter/bf16 split_pixels_mma"));
    CHECK(!s.calls.contains("conv2d_norm_backward_filter/bf16 composed"));
  };
  SECTION("SRResNet: so many a step, and so many for each block of the trunk") {
    const StepCount two = count_step(config, 0);
    INFO(list_of(two));
    check_trunk(two, 2);
    CHECK(two.launches == 57);
    config.model.blocks = 4;
    const StepCount four = count_step(config, 0);
    INFO(list_of(four));
    check_trunk(four, 4);
    // A block: two convolutions that each add up their statistics, and norm_add; on the way back
    // the norm's gradient, two convolutions, the sums of the formed one, and the first norm's
    // gradient.
    CHECK(four.launches == two.launches + 2 * 10);
  }
  SECTION("SRGAN") {
    const StepCount s = count_step(config, 1);
    INFO(list_of(s));
    // The trunk, and three times the discriminator: three of its layers have stride 1, four 2.
    CHECK(s.calls.at("conv2d_norm_forward/bf16 halo_mma") == 5 + 3 * 3);
    CHECK(s.calls.at("conv2d_norm_forward/bf16 implicit_gemm_mma") == 3 * 4);
    CHECK(s.calls.at("conv2d_norm_backward_data/bf16 halo_mma") == 5 + 3 * 3);
    CHECK(s.calls.at("conv2d_norm_backward_data/bf16 implicit_gemm_mma") == 3 * 4);
    CHECK(s.calls.at("conv2d_backward_filter_group/bf16 split_pixels_mma") == 1);
    CHECK(s.launches == 293);
  }
}

TEST_CASE("training gives the same bits under every schedule, with and without a graph", "[sim]") {
  const std::string precision = GENERATE("fp32", "bf16");
  CAPTURE(precision);
  RunConfig config = tiny(8, precision);
  config.data.batch = 2;
  config.phases[0].steps = config.phases[1].steps = 5;  // two warm-ups, the capture, two replays
  const auto run = [&](sim::Schedule schedule, std::uint64_t seed, bool graph) {
    sim::Config c;
    c.schedule = schedule;
    c.seed = seed;
    const sim::Scope scope(c);
    config.cuda_graph = graph;
    return train("sim", config);
  };
  const Outcome plain = run(sim::Schedule::Fifo, 1, false);
  for (const auto& [schedule, seed, graph] : {std::tuple{sim::Schedule::Fifo, 1, true},
                                              {sim::Schedule::Lifo, 1, true},
                                              {sim::Schedule::Random, 1, false},
                                              {sim::Schedule::Random, 2, true}}) {
    CAPTURE(static_cast<int>(schedule), seed, graph);
    const Outcome other = run(schedule, static_cast<std::uint64_t>(seed), graph);
    CHECK(other.state == plain.state);
    for (std::size_t i = 0; i < plain.reports.size(); ++i)
      for (std::size_t t = 0; t < plain.reports[i].terms.size(); ++t)
        CHECK(other.reports[i].terms[t].loss == plain.reports[i].terms[t].loss);
    CHECK(other.launches > 0);
    if (graph == false) CHECK(other.launches == plain.launches);
  }
}

}  // namespace subpix::train
