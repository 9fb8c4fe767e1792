#include <cmath>

#include "engine/nn/layers.h"
#include "engine/optim/adam.h"
#include "engine/optim/schedule.h"
#include "tests/engine/backends.h"
#include "tests/support/fill.h"

using namespace subpix;
using namespace subpix::engine;
using namespace subpix::tests;

namespace {

nn::NamedTensor parameter(Device& device, const std::string& name, const std::vector<float>& w) {
  const Tensor t = Tensor::from_host(device, {static_cast<Index>(w.size())}, w);
  return {name, t.set_requires_grad(true), {}, true};
}

/// Algorithm 1 of arXiv 1412.6980 as it stands there (m_hat and v_hat formed), in double.
struct PlainAdam {
  double beta1, beta2, eps;
  Values w, m, v;
  int t = 0;

  void step(const Values& g, double lr) {
    ++t;
    for (std::size_t i = 0; i < w.size(); ++i) {
      m[i] = beta1 * m[i] + (1 - beta1) * g[i];
      v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
      const double m_hat = m[i] / (1 - std::pow(beta1, t));
      const double v_hat = v[i] / (1 - std::pow(beta2, t));
      w[i] -= lr * m_hat / (std::sqrt(v_hat) + eps);
    }
  }
};

}  // namespace

TEST_CASE("Adam follows its formula", "[engine][optim]") {
  on_each_backend([](Device& device) {
    const std::vector<std::size_t> sizes{1, 37, 1000};
    std::vector<nn::NamedTensor> parameters;
    std::vector<PlainAdam> plain;
    const float beta1 = 0.8f, beta2 = 0.97f, eps = 1e-6f;
    for (std::size_t size : sizes) {
      const Values w = fill_values<float>(Fill::Uniform, static_cast<Index>(size), "adam", "w");
      parameters.push_back(
          parameter(device, "p" + std::to_string(size), std::vector<float>(w.begin(), w.end())));
      plain.push_back({beta1, beta2, eps, w, Values(size), Values(size)});
    }
    parameters.push_back({"buffer", Tensor::zeros(device, {2}), {}, false});
    Adam adam(parameters, {beta1, beta2, eps});
    CHECK(adam.state().size() == 6);

    for (int t = 0; t < 6; ++t) {
      const double lr = 0.01 / (1 + t);
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        const Values g = fill_values<float>(Fill::Uniform, static_cast<Index>(sizes[i]),
                                            "adam" + std::to_string(t), "g");
        parameters[i].tensor.set_grad(Tensor::from_host(device, {static_cast<Index>(sizes[i])},
                                                        std::vector<float>(g.begin(), g.end())));
        plain[i].step(g, lr);
      }
      const std::uint64_t version = parameters[0].tensor.version();
      adam.step(lr);
      CHECK(parameters[0].tensor.version() > version);
      CHECK(adam.steps() == t + 1);
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        const std::vector<float> w = parameters[i].tensor.to_host();
        double worst = 0.0;
        for (std::size_t e = 0; e < w.size(); ++e) {
          const double error = std::fabs(w[e] - plain[i].w[e]);
          if (!(error <= worst)) worst = error;
        }
        CAPTURE(t, i);
        CHECK(worst <= 2e-7 * (t + 1));
      }
    }
    adam.clear_grad();
    CHECK_FALSE(parameters[0].tensor.grad().defined());
  });
}

TEST_CASE("Adam's state continues where it stopped", "[engine][optim]") {
  on_each_backend([](Device& device) {
    const auto step = [&](Adam& adam, const Tensor& w, float g) {
      w.set_grad(Tensor::full(device, w.shape(), g));
      adam.step(1e-2);
    };
    const nn::NamedTensor whole = parameter(device, "w", {1, 2, 3});
    Adam one({whole}, {});
    step(one, whole.tensor, 0.5f);
    step(one, whole.tensor, -0.25f);

    const nn::NamedTensor first = parameter(device, "w", {1, 2, 3});
    Adam before({first}, {});
    step(before, first.tensor, 0.5f);
    const nn::NamedTensor second = parameter(device, "w", first.tensor.to_host());
    Adam after({second}, {});
    const auto from = before.state(), to = after.state();
    CHECK(from[0].name == "w.m");
    CHECK(from[1].name == "w.v");
    for (std::size_t i = 0; i < from.size(); ++i) to[i].tensor.upload(from[i].tensor.to_host());
    after.set_steps(before.steps());
    step(after, second.tensor, -0.25f);
    CHECK(second.tensor.to_host() == whole.tensor.to_host());
  });
}

TEST_CASE("a missing gradient names the parameter and moves nothing", "[engine][optim]") {
  const auto device = Device::open("reference");
  const nn::NamedTensor a = parameter(*device, "head.weight", {1}),
                        b = parameter(*device, "tail.bias", {1});
  Adam adam({a, b}, {});
  a.tensor.set_grad(Tensor::full(*device, {1}, 1.0f));
  const std::string message = error_of([&] { adam.step(0.1); });
  CHECK(message.find("'tail.bias' has no gradient") != std::string::npos);
  CHECK(a.tensor.item() == 1.0f);
  CHECK(adam.steps() == 0);
  b.tensor.set_grad(Tensor::full(*device, {1}, 1.0f));
  CHECK(error_of([&] { adam.step(std::nan("")); }).find("learning rate") != std::string::npos);
  adam.step(0.1);
  CHECK(a.tensor.item() == Approx(0.9f));
  CHECK(error_of([&] { Adam({}, {}); }).find("no parameter") != std::string::npos);
  CHECK(error_of([&] { Adam({a}, {1.0f, 0.999f, 1e-8f}); }).find("beta1") != std::string::npos);
}

TEST_CASE("schedules take the values of their formulas", "[engine][optim]") {
  Schedule constant;
  constant.lr = 2e-4;
  CHECK(constant.at(0) == 2e-4);
  CHECK(constant.at(1'000'000) == 2e-4);

  Schedule steps;
  steps.kind = Schedule::Kind::Steps;
  steps.lr = 1.0;
  steps.milestones = {10, 20};
  steps.factor = 0.5;
  CHECK(steps.at(9) == 1.0);
  CHECK(steps.at(10) == 0.5);
  CHECK(steps.at(19) == 0.5);
  CHECK(steps.at(20) == 0.25);

  Schedule cosine;
  cosine.kind = Schedule::Kind::Cosine;
  cosine.lr = 1.0;
  cosine.final_lr = 0.2;
  cosine.total = 101;
  CHECK(cosine.at(0) == 1.0);
  CHECK(cosine.at(25) == Approx(0.2 + 0.8 * (0.5 + std::sqrt(0.5) / 2)));
  CHECK(cosine.at(50) == Approx(0.6));
  CHECK(cosine.at(100) == 0.2);
  CHECK(cosine.at(5000) == 0.2);
  cosine.total = 1;
  CHECK(cosine.at(0) == 1.0);

  constant.warmup = 4;
  CHECK(constant.at(0) == Approx(0.5e-4));
  CHECK(constant.at(1) == Approx(1e-4));
  CHECK(constant.at(3) == 2e-4);
  CHECK(constant.at(4) == 2e-4);
  CHECK_THROWS_AS(constant.at(-1), Error);
}

TEST_CASE("training steps after the first take no memory from the backend", "[engine][optim]") {
  on_each_backend([](Device& device) {
    Philox random(1);
    nn::Conv2d head(device, {.in = 3, .out = 8, .kernel = 3}, random);
    nn::BatchNorm2d bn(device, 8);
    nn::PRelu prelu(device, 8, false);
    nn::Conv2d tail(device, {.in = 8, .out = 12, .kernel = 3, .shuffle = 2}, random);
    std::vector<nn::NamedTensor> parameters;
    for (const nn::Module* module : std::vector<const nn::Module*>{&head, &bn, &prelu, &tail})
      for (const nn::NamedTensor& t : module->state()) parameters.push_back(t);
    Adam adam(parameters, {});
    const Tensor x = Tensor::full(device, {2, 8, 8, 3}, 0.5f);
    const Tensor target = Tensor::full(device, {2, 16, 16, 3}, 0.25f);
    std::vector<float> losses;
    std::size_t allocations = 0, in_use = 0;
    for (int step = 0; step < 5; ++step) {
      adam.clear_grad();
      const Tensor h = prelu(bn(head(x)));
      const Tensor y = ops::pixel_shuffle(tail(ops::add(h, h)), 2);
      const Tensor loss = ops::mse_loss(y, target, 1.0f / static_cast<float>(y.count()));
      backward(loss);
      adam.step(1e-2);
      losses.push_back(loss.item());
      if (step == 0) {
        allocations = device.memory().allocations;
        in_use = device.memory().in_use;
      }
      CHECK(device.memory().allocations == allocations);
      CHECK(device.memory().in_use == in_use);
    }
    CHECK(losses[4] < losses[0]);
  });
}

TEST_CASE("the same seed gives the same bits", "[engine][optim]") {
  on_each_backend([](Device& device) {
    const auto train = [&] {
      Philox random(42);
      nn::Conv2d conv(device, {.in = 2, .out = 2, .kernel = 3}, random);
      Adam adam(conv.state(), {});
      const Tensor x = Tensor::from_host(device, {1, 5, 5, 2}, [&] {
        std::vector<float> values(50);
        for (float& v : values) v = random.normal();
        return values;
      }());
      for (int step = 0; step < 3; ++step) {
        adam.clear_grad();
        const Tensor y = conv(x);
        backward(ops::l1_loss(y, Tensor::zeros(device, y.shape()), 0.01f));
        adam.step(1e-3);
      }
      return conv.weight.to_host();
    };
    CHECK(train() == train());
  });
}
