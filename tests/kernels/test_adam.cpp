#include "kernels/reference/adam.h"
#include "tests/support/catch.h"
#include "tests/support/fill.h"

namespace subpix::tests {

namespace {

namespace reference = kernels::reference;
using kernels::AdamProblem;

struct DoubleTensor {
  double* w;
  const double* g;
  double* m;
  double* v;
  bf16* w_bf16;
  Index count;
};

}  // namespace

TEST_CASE("adam is algorithm 1 of the paper", "[kernels][adam]") {
  const AdamProblem d{.count = 12, .beta1 = 0.5f, .beta2 = 0.75f, .eps = 1e-3f};
  const double beta1 = 0.5, beta2 = 0.75, eps = static_cast<double>(d.eps), lr = 0.01;
  Values w = uniform_values<double>(-1, 1, 7, "adam", "w0"), m(7), v(7);
  Values w1 = uniform_values<double>(-1, 1, 5, "adam", "w1"), m1(5), v1(5);
  Values paper = w, paper_m(7), paper_v(7), paper1 = w1, paper_m1(5), paper_v1(5);
  // theta -= lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps), element by element.
  const auto step = [&](Values& theta, Values& first, Values& second, const Values& g, double t) {
    for (std::size_t i = 0; i < theta.size(); ++i) {
      first[i] = beta1 * first[i] + (1 - beta1) * g[i];
      second[i] = beta2 * second[i] + (1 - beta2) * g[i] * g[i];
      const double m_hat = first[i] / (1 - std::pow(beta1, t));
      const double v_hat = second[i] / (1 - std::pow(beta2, t));
      theta[i] -= lr * m_hat / (std::sqrt(v_hat) + eps);
    }
  };
  for (int t = 1; t <= 5; ++t) {
    const Values g = uniform_values<double>(-1, 1, 7, "adam", concat("g0 ", t));
    const Values g1 = uniform_values<double>(-1, 1, 5, "adam", concat("g1 ", t));
    const DoubleTensor tensors[2] = {{w.data(), g.data(), m.data(), v.data(), nullptr, 7},
                                     {w1.data(), g1.data(), m1.data(), v1.data(), nullptr, 5}};
    const double scalars[2] = {lr / (1 - std::pow(beta1, t)),
                               1 / std::sqrt(1 - std::pow(beta2, t))};
    reference::adam(d, tensors, 2, scalars);
    step(paper, paper_m, paper_v, g, t);
    step(paper1, paper_m1, paper_v1, g1, t);
    for (std::size_t i = 0; i < w.size(); ++i) REQUIRE(w[i] == Approx(paper[i]).epsilon(1e-13));
    for (std::size_t i = 0; i < w1.size(); ++i) REQUIRE(w1[i] == Approx(paper1[i]).epsilon(1e-13));
  }
}

TEST_CASE("adam's first step has the size of the learning rate and leaves unused weights",
          "[kernels][adam]") {
  const AdamProblem d{.count = 3};
  std::vector<float> w = {1.0f, -1.0f, 0.5f}, g = {3e-3f, -2.0f, 0.0f}, m(3), v(3);
  std::vector<bf16> copy(3);
  const kernels::AdamTensor tensor{w.data(), g.data(), m.data(), v.data(), copy.data(), 3};
  const double lr = 1e-2;
  const float scalars[2] = {static_cast<float>(lr / (1 - 0.9)),
                            static_cast<float>(1 / std::sqrt(1 - 0.999))};
  reference::adam(d, &tensor, 1, scalars);
  CHECK(w[0] == Approx(1.0 - lr).epsilon(1e-5));
  CHECK(w[1] == Approx(-1.0 + lr).epsilon(1e-5));
  CHECK(w[2] == 0.5f);
  for (std::size_t i = 0; i < 3; ++i) CHECK(copy[i].bits == to_bf16(w[i]).bits);
}

}  // namespace subpix::tests
