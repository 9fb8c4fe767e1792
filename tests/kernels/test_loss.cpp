#include "kernels/reference/loss.h"
#include "tests/support/catch.h"
#include "tests/support/gradcheck.h"
#include "tests/support/problems.h"

namespace subpix::tests {

namespace reference = kernels::reference;
using kernels::LossProblem;

TEST_CASE("losses by hand", "[kernels][loss]") {
  const LossProblem d{.count = 3, .scale = 0.5f};
  const Values x = {1, 5, -2}, target = {3, 5, 2};
  double loss = 0;
  Values dx(3);
  reference::mse_loss<double>(d, x.data(), target.data(), &loss, dx.data());
  CHECK(loss == 10);
  CHECK(dx == Values{-2, 0, -4});
  reference::l1_loss<double>(d, x.data(), target.data(), &loss, dx.data());
  CHECK(loss == 3);
  CHECK(dx == Values{-0.5, 0, -0.5});
}

TEST_CASE("bce_with_logits is the cross-entropy of the sigmoid", "[kernels][loss]") {
  for (const float label : {0.0f, 1.0f, 0.9f}) {
    const LossProblem d{.count = 1, .scale = 2.0f, .target = label};
    const double t = static_cast<double>(label);
    for (const double x : {-3.0, -0.1, 0.0, 0.5, 4.0}) {
      const double p = 1.0 / (1.0 + std::exp(-x));
      double loss = 0, dx = 0;
      reference::bce_with_logits<double>(d, &x, &loss, &dx);
      CHECK(loss ==
            Approx(-2.0 * (t * std::log(p) + (1.0 - t) * std::log(1.0 - p))).epsilon(1e-12));
      CHECK(dx == Approx(2.0 * (p - t)).margin(1e-14));
    }
  }
  // Where exp() overflows the loss is |x| on the wrong side and 0 on the right one.
  const LossProblem d{.count = 1, .scale = 1.0f, .target = 1.0f};
  double loss = 0, dx = 0;
  double x = -2000;
  reference::bce_with_logits<double>(d, &x, &loss, &dx);
  CHECK(loss == 2000);
  CHECK(dx == -1);
  x = 2000;
  reference::bce_with_logits<double>(d, &x, &loss, &dx);
  CHECK(loss == 0);
  CHECK(dx == 0);
}

TEST_CASE("total_variation of a 2x3 image, by hand", "[kernels][loss]") {
  // 1 3 2
  // 4 0 2   vertical 3 3 0, horizontal 2 1 4 2
  const Values x = {1, 3, 2, 4, 0, 2};
  double loss = 0;
  Values dx(6);
  reference::total_variation<double>({1, 2, 3, 1, 0.5f, false}, x.data(), &loss, dx.data());
  CHECK(loss == 7.5);
  CHECK(dx == Values{-1, 1.5, -0.5, 1, -1.5, 0.5});
  reference::total_variation<double>({1, 2, 3, 1, 0.5f, true}, x.data(), &loss, dx.data());
  CHECK(loss == 21.5);
  CHECK(dx == Values{-5, 6, -1, 7, -9, 2});
}

TEST_CASE("loss gradients agree with central differences", "[kernels][loss][gradcheck]") {
  const LossProblem d{.count = 29, .scale = 0.3f, .target = 0.9f};
  Values x = uniform_values<double>(-2, 2, d.count, d.key(), "x"), dx(x.size());
  // Targets stay clear of x, where the absolute value has its kink.
  Values target = uniform_values<double>(0.2, 1, d.count, d.key(), "target");
  for (std::size_t i = 0; i < x.size(); ++i) target[i] = x[i] + (i % 2 ? target[i] : -target[i]);
  double loss = 0;
  const auto value = [&](auto&& f) {
    return [&, f] {
      double v = 0;
      f(&v, nullptr);
      return v;
    };
  };
  const auto mse = [&](double* l, double* g) {
    reference::mse_loss<double>(d, x.data(), target.data(), l, g);
  };
  mse(&loss, dx.data());
  CHECK(gradcheck("mse", x, dx, value(mse)) == "");
  const auto l1 = [&](double* l, double* g) {
    reference::l1_loss<double>(d, x.data(), target.data(), l, g);
  };
  l1(&loss, dx.data());
  CHECK(gradcheck("l1", x, dx, value(l1)) == "");
  const auto bce = [&](double* l, double* g) {
    reference::bce_with_logits<double>(d, x.data(), l, g);
  };
  bce(&loss, dx.data());
  CHECK(gradcheck("bce", x, dx, value(bce)) == "");
  for (const bool squared : {false, true})
    for (const VariationProblem& v : variation_problems(squared)) {
      if (v.count() > 300) continue;
      INFO(v.key());
      Values image = uniform_values<double>(-1, 1, v.count(), v.key(), "x"), grad(image.size());
      const auto tv = [&](double* l, double* g) {
        reference::total_variation<double>(v, image.data(), l, g);
      };
      tv(&loss, grad.data());
      CHECK(gradcheck("tv", image, grad, value(tv)) == "");
    }
}

}  // namespace subpix::tests
