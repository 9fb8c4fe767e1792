#include <algorithm>
#include <map>

#include "engine/autograd/node.h"
#include "engine/optim/adam.h"
#include "models/srgan/discriminator.h"
#include "models/srgan/generator.h"
#include "models/vgg/vgg19.h"
#include "tests/models/fixture.h"

namespace subpix {
namespace {

using engine::Adam;
using engine::Device;
using engine::Index;
using engine::Tensor;
using tests::Fixture;
using tests::fixture_path;
namespace ops = engine::ops;

float mean_of(const Tensor& x) { return 1.0f / static_cast<float>(x.count()); }

TEST_CASE("losses and their gradients are PyTorch's", "[models][loss]") {
  const Fixture oracle("losses");
  for (const std::string& backend : engine::available_backends()) {
    DYNAMIC_SECTION(backend) {
      const auto device = Device::open(backend);
      const Tensor target = oracle.tensor(*device, "target");
      using Loss = Tensor (*)(const Tensor& x, const Tensor& target);
      const std::map<std::string, Loss> losses = {
          {"mse", [](const Tensor& x, const Tensor& t) { return ops::mse_loss(x, t, mean_of(x)); }},
          {"l1", [](const Tensor& x, const Tensor& t) { return ops::l1_loss(x, t, mean_of(x)); }},
          {"tv",
           [](const Tensor& x, const Tensor&) { return ops::total_variation(x, 1.0f, false); }},
          {"tv_squared",
           [](const Tensor& x, const Tensor&) { return ops::total_variation(x, 1.0f, true); }},
          {"bce_real", [](const Tensor& x,
                          const Tensor&) { return ops::bce_with_logits(x, 1.0f, mean_of(x)); }},
          {"bce_fake", [](const Tensor& x,
                          const Tensor&) { return ops::bce_with_logits(x, 0.0f, mean_of(x)); }},
          {"bce_smooth", [](const Tensor& x, const Tensor&) {
             return ops::bce_with_logits(x, 0.9f, mean_of(x));
           }}};
      CHECK(oracle.names("loss.").size() == losses.size());
      for (const auto& [name, loss] : losses) {
        INFO(name);
        const Tensor x = oracle.tensor(*device, name.starts_with("bce") ? "logits" : "x");
        x.set_requires_grad(true);
        const Tensor value = loss(x, target);
        CHECK(value.item() == Approx(oracle.value("loss." + name)).epsilon(1e-6));
        engine::backward(value);
        tests::check_close("gradient", x.grad(), oracle.values("grad." + name), 1e-6);
      }
    }
  }
}

TEST_CASE("Adam on given gradients is PyTorch's", "[models][adam]") {
  const Fixture oracle("adam");
  const std::vector<float> rates = oracle.values("lr");
  for (const std::string& backend : engine::available_backends()) {
    DYNAMIC_SECTION(backend) {
      const auto device = Device::open(backend);
      std::vector<engine::nn::NamedTensor> parameters;
      for (const std::string& name : oracle.names("start.")) {
        const Tensor t = oracle.tensor(*device, "start." + name).set_requires_grad(true);
        parameters.push_back({name, t, {}, true});
      }
      REQUIRE(parameters.size() == 3);
      Adam adam(parameters, {});
      for (std::size_t step = 0; step < rates.size(); ++step) {
        for (const auto& p : parameters)
          p.tensor.set_grad(oracle.tensor(*device, concat("grad.", step, ".", p.name)));
        adam.step(rates[step]);
        // The weights are about 1, so the bound is one or two roundings of the weight itself.
        for (const auto& p : parameters)
          tests::check_close(p.name, p.tensor, oracle.values(concat("after.", step, ".", p.name)),
                             1.5e-7);
      }
      for (const auto& moment : adam.state()) {
        const std::string name = moment.name.substr(0, moment.name.size() - 2);
        const bool second = moment.name.ends_with(".v");
        INFO(moment.name);
        const std::vector<float> got = moment.tensor.to_host();
        const std::vector<float> want = oracle.values((second ? "v." : "m.") + name);
        REQUIRE(got.size() == want.size());
        // Elementwise, since the gradients range over thirteen orders of magnitude. m cancels, so
        // its error is judged by the same average of |gradient|.
        std::vector<double> magnitude(want.begin(), want.end());
        if (!second) std::fill(magnitude.begin(), magnitude.end(), 0.0);
        for (std::size_t step = 0; !second && step < rates.size(); ++step) {
          const std::vector<float> g = oracle.values(concat("grad.", step, ".", name));
          for (std::size_t i = 0; i < g.size(); ++i)
            magnitude[i] = 0.9 * magnitude[i] + 0.1 * std::fabs(g[i]);
        }
        // beta2 is a float here and a double there: 1 - 0.999f lies 1.3e-5 below 0.001. The bias
        // correction has the same factor, so the update does not notice.
        const double tolerance = second ? 1.5e-5 : 1e-6;
        for (std::size_t i = 0; i < got.size(); ++i)
          REQUIRE(std::fabs(double{got[i]} - want[i]) <= tolerance * magnitude[i]);
      }
    }
  }
}

/// After n steps with rate lr no weight may differ by more than 2 n lr, which Adam cannot exceed,
/// and 99 in 100 must lie within a hundredth of lr; a gradient near zero may flip the sign of a
/// whole step. Statistics are compared like any result.
void check_after(const engine::nn::Module& module, const Fixture& oracle, const std::string& prefix,
                 double lr, double steps) {
  std::size_t all = 0, near = 0;
  for (const auto& entry : module.state()) {
    INFO(entry.name);
    const std::vector<float> want = oracle.values(prefix + entry.name);
    const std::vector<float> got =
        engine::nn::to_file(entry.tensor.to_host(), entry.tensor.shape(), entry.layout);
    REQUIRE(got.size() == want.size());
    if (!entry.trainable) {
      CHECK(tests::mismatch(entry.name, got, want, 2e-4) == "");
      continue;
    }
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double off = std::fabs(double{got[i]} - double{want[i]});
      REQUIRE(off <= 2.0 * steps * lr);
      ++all;
      near += off <= 0.01 * lr;
    }
  }
  INFO(prefix << ": " << near << " of " << all << " weights within lr / 100");
  CHECK(static_cast<double>(near) >= 0.99 * static_cast<double>(all));
  CHECK(all > 10000);
}

TEST_CASE("whole adversarial steps with every loss are PyTorch's", "[models][steps]") {
  using models::VggLayer;
  const Fixture oracle("gan_steps");
  const auto setting = [&](const std::string& name) { return oracle.value("setting." + name); };
  for (const std::string& backend : engine::available_backends()) {
    DYNAMIC_SECTION(backend) {
      const auto device = Device::open(backend);
      const auto g = models::load_generator(*device, fixture_path("generator_x4"));
      g->set_training(true);
      models::DiscriminatorConfig config;
      config.crop = 32;
      config.channels = 4;
      config.dense = 16;
      models::Discriminator d(*device, config, 1);
      engine::nn::load_module(d, fixture_path("discriminator_32"));
      const VggLayer squared = VggLayer::parse("relu2_2"), l1 = VggLayer::parse("conv3_1");
      const models::Vgg19 vgg(*device, fixture_path("vgg_rgb"), l1);
      Adam adam_g(g->state(), {}), adam_d(d.state(), {});
      const double lr = setting("lr");
      const int steps = static_cast<int>(setting("steps"));
      for (int step = 0; step < steps; ++step) {
        INFO("step " << step);
        const Tensor hr = oracle.tensor(*device, concat("hr.", step));
        const Tensor fake = (*g)(oracle.tensor(*device, concat("lr.", step)));

        d.clear_grad();
        const Tensor real_logits = d(hr), fake_logits = d(fake.detach());
        std::map<std::string, Tensor> loss;
        loss["d_real"] = ops::bce_with_logits(real_logits, 1.0f, mean_of(real_logits));
        loss["d_fake"] = ops::bce_with_logits(fake_logits, 0.0f, mean_of(fake_logits));
        const std::array d_terms = {loss["d_real"], loss["d_fake"]};
        const std::array d_weights = {1.0f, 1.0f};
        engine::backward(ops::weighted_sum(d_terms, d_weights));
        if (step == 0) tests::check_gradients(d, oracle, "grad_d.", 3e-5);
        adam_d.step(lr);

        g->clear_grad();
        d.set_requires_grad(false);
        const Tensor logits = d(fake);
        constexpr float kScale = 1.0f / 12.75f;
        const Tensor vgg2 = vgg.features(fake, squared), vgg3 = vgg.features(fake, l1);
        loss["mse"] = ops::mse_loss(fake, hr, mean_of(fake));
        loss["l1"] = ops::l1_loss(fake, hr, mean_of(fake));
        loss["vgg_squared"] =
            ops::mse_loss(vgg2, vgg.features(hr, squared), kScale * kScale * mean_of(vgg2));
        loss["vgg_l1"] = ops::l1_loss(vgg3, vgg.features(hr, l1), kScale * mean_of(vgg3));
        loss["adversarial"] = ops::bce_with_logits(logits, 1.0f, mean_of(logits));
        loss["tv"] = ops::total_variation(fake, 1.0f, false);
        std::vector<Tensor> terms;
        std::vector<float> weights;
        for (const auto& [name, term] : loss)
          if (!name.starts_with("d_")) {
            terms.push_back(term);
            weights.push_back(setting(name));
          }
        engine::backward(ops::weighted_sum(terms, weights));
        d.set_requires_grad(true);
        if (step == 0) tests::check_gradients(*g, oracle, "grad_g.", 1e-4);
        adam_g.step(lr);

        CHECK(loss.size() == oracle.names(concat("loss.", step, ".")).size());
        for (const auto& [name, term] : loss) {
          INFO(name);
          CHECK(term.item() == Approx(oracle.value(concat("loss.", step, ".", name)))
                                   .epsilon(step == 0 ? 2e-6 : 2e-4));
        }
      }
      check_after(*g, oracle, "after_g.", lr, steps);
      check_after(d, oracle, "after_d.", lr, steps);
    }
  }
}

}  // namespace
}  // namespace subpix
