#include "kernels/reference/norm.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/gradcheck.h"
#include "tests/support/problems.h"

namespace subpix::tests {

namespace {

namespace reference = kernels::reference;

struct Result {
  Values y, mean, inv_std;
};

Result forward(const NormProblem& d, const Values& x, const Values& gamma, const Values& beta) {
  const auto c = static_cast<std::size_t>(d.c);
  Result result{Values(x.size()), Values(c), Values(c)};
  reference::batchnorm_forward<double>(d, x.data(), gamma.data(), beta.data(), result.y.data(),
                                       result.mean.data(), result.inv_std.data(), nullptr, nullptr);
  return result;
}

}  // namespace

TEST_CASE("batchnorm_forward of four rows, by hand", "[kernels][batchnorm]") {
  // Channel 0: 1 2 3 4, mean 5/2, variance 5/4 (unbiased 5/3). Channel 1: constant.
  const NormProblem d{.rows = 4, .c = 2, .eps = 0.75f, .momentum = 0.25f};
  const Values x = {1, 7, 2, 7, 3, 7, 4, 7}, gamma = {2, 3}, beta = {10, -1};
  Values y(8), mean(2), inv_std(2), running_mean = {1, 1}, running_var = {1, 1};
  reference::batchnorm_forward<double>(d, x.data(), gamma.data(), beta.data(), y.data(),
                                       mean.data(), inv_std.data(), running_mean.data(),
                                       running_var.data());
  CHECK(mean == Values{2.5, 7});
  CHECK(inv_std[0] == Approx(1.0 / std::sqrt(2.0)).epsilon(1e-14));
  CHECK(inv_std[1] == Approx(1.0 / std::sqrt(0.75)).epsilon(1e-14));
  CHECK(y[0] == Approx(10.0 - 2.0 * 1.5 / std::sqrt(2.0)).epsilon(1e-14));
  CHECK(y[6] == Approx(10.0 + 2.0 * 1.5 / std::sqrt(2.0)).epsilon(1e-14));
  CHECK(y[1] == -1);
  CHECK(running_mean[0] == Approx(0.75 + 0.25 * 2.5).epsilon(1e-14));
  CHECK(running_mean[1] == Approx(0.75 + 0.25 * 7).epsilon(1e-14));
  CHECK(running_var[0] == Approx(0.75 + 0.25 * 5.0 / 3.0).epsilon(1e-14));
  CHECK(running_var[1] == Approx(0.75).epsilon(1e-14));
}

TEST_CASE("batchnorm of a single row has variance 0", "[kernels][batchnorm]") {
  const NormProblem d{.rows = 1, .c = 1, .eps = 0.25f, .momentum = 0.5f};
  const double x = 3, gamma = 2, beta = 5;
  double y = 0, mean = 0, inv_std = 0, running_mean = 1, running_var = 1;
  reference::batchnorm_forward<double>(d, &x, &gamma, &beta, &y, &mean, &inv_std, &running_mean,
                                       &running_var);
  CHECK(y == 5);
  CHECK(mean == 3);
  CHECK(inv_std == 2);
  CHECK(running_mean == 2);
  CHECK(running_var == 0.5);
}

TEST_CASE("batchnorm_inference uses the running statistics", "[kernels][batchnorm]") {
  const NormProblem d{.rows = 2, .c = 2, .eps = 0.25f};
  const Values x = {1, 2, 3, 4}, gamma = {2, 3}, beta = {1, 0}, mean = {1, 2}, var = {0.75, 3.75};
  Values y(4);
  reference::batchnorm_inference<double>(d, x.data(), gamma.data(), beta.data(), mean.data(),
                                         var.data(), y.data());
  CHECK(y == Values{1, 0, 5, 3});
}

TEST_CASE("batchnorm_forward normalises: mean beta, deviation gamma", "[kernels][batchnorm]") {
  const NormProblem d{.rows = 117, .c = 3, .eps = 1e-12f};
  const Values x = uniform_values<double>(5, 9, d.count(), d.key(), "x");
  const Values gamma = {1, 2, -3}, beta = {0, 5, -7};
  const Result f = forward(d, x, gamma, beta);
  for (std::size_t c = 0; c < 3; ++c) {
    double mean = 0, square = 0;
    for (std::size_t i = c; i < x.size(); i += 3) mean += f.y[i] / 117.0;
    for (std::size_t i = c; i < x.size(); i += 3)
      square += (f.y[i] - mean) * (f.y[i] - mean) / 117.0;
    CHECK(mean == Approx(beta[c]).margin(1e-10));
    CHECK(square == Approx(gamma[c] * gamma[c]).epsilon(1e-9));
  }
}

TEST_CASE("batchnorm gradients agree with central differences", "[kernels][batchnorm][gradcheck]") {
  for (const NormProblem& d : std::vector<NormProblem>{
           {.rows = 2, .c = 3}, {.rows = 7, .c = 2, .eps = 1e-3f}, {.rows = 24, .c = 5}}) {
    INFO(d.key());
    Values x = uniform_values<double>(-1, 1, d.count(), d.key(), "x");
    Values gamma = uniform_values<double>(0.5, 2, d.c, d.key(), "gamma");
    Values beta = uniform_values<double>(-1, 1, d.c, d.key(), "beta");
    const Values dy = uniform_values<double>(-1, 1, d.count(), d.key(), "dy");
    const Result f = forward(d, x, gamma, beta);
    Values dx(x.size()), dgamma(gamma.size()), dbeta(beta.size());
    reference::batchnorm_backward<double>(d, x.data(), dy.data(), gamma.data(), f.mean.data(),
                                          f.inv_std.data(), dx.data(), dgamma.data(), dbeta.data());
    const auto loss = [&] { return dot(forward(d, x, gamma, beta).y, dy); };
    CHECK(gradcheck("dx", x, dx, loss) == "");
    CHECK(gradcheck("dgamma", gamma, dgamma, loss) == "");
    CHECK(gradcheck("dbeta", beta, dbeta, loss) == "");
    // The output does not change when a channel of x is shifted, so dx sums to nothing.
    for (Index c = 0; c < d.c; ++c) {
      double sum = 0.0;
      for (Index i = 0; i < d.rows; ++i) sum += dx[static_cast<std::size_t>(i * d.c + c)];
      CHECK(std::fabs(sum) <= 1e-9);
    }
  }
}

}  // namespace subpix::tests
