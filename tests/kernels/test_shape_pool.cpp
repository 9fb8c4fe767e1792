#include <limits>

#include "kernels/reference/shape_pool.h"
#include "tests/support/catch.h"
#include "tests/support/gradcheck.h"
#include "tests/support/problems.h"

namespace subpix::tests {

namespace reference = kernels::reference;

TEST_CASE("pixel_shuffle by hand: channels are (row, column, c)", "[kernels][pixel_shuffle]") {
  SECTION("one channel") {
    const ShuffleProblem d{1, 1, 2, 1, 2};
    const Values x = {1, 2, 3, 4, 5, 6, 7, 8};
    Values y(8);
    reference::pixel_shuffle_forward<double>(d, x.data(), y.data());
    CHECK(y == Values{1, 2, 5, 6, 3, 4, 7, 8});
  }
  SECTION("three channels stay together") {
    const ShuffleProblem d{1, 1, 1, 3, 2};
    const Values x = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    Values y(12);
    reference::pixel_shuffle_forward<double>(d, x.data(), y.data());
    CHECK(y == x);
  }
}

TEST_CASE("pixel_shuffle_backward is the inverse and the adjoint", "[kernels][pixel_shuffle]") {
  for (const ShuffleProblem& d : shuffle_problems()) {
    INFO(d.key());
    const Values x = uniform_values<double>(-1, 1, d.count(), d.key(), "x");
    const Values dy = uniform_values<double>(-1, 1, d.count(), d.key(), "dy");
    Values y(x.size()), back(x.size()), dx(x.size());
    reference::pixel_shuffle_forward<double>(d, x.data(), y.data());
    reference::pixel_shuffle_backward<double>(d, y.data(), back.data());
    CHECK(back == x);
    reference::pixel_shuffle_backward<double>(d, dy.data(), dx.data());
    CHECK(dot(y, dy) == Approx(dot(x, dx)).margin(1e-10));
  }
}

TEST_CASE("max_pool by hand", "[kernels][max_pool]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  SECTION("an odd last row and column are dropped") {
    const PoolProblem d{1, 3, 5, 1};
    const Values x = {1, 2, 5, 4, 99, 3, 0, 6, 7, 99, 99, 99, 99, 99, 99};
    Values y(2), dx(15, nan);
    std::vector<std::uint8_t> which(2);
    reference::max_pool_forward<double>(d, x.data(), y.data(), which.data());
    CHECK(y == Values{3, 7});
    CHECK(which == std::vector<std::uint8_t>{2, 3});
    const Values dy = {10, 20};
    reference::max_pool_backward<double>(d, dy.data(), which.data(), dx.data());
    CHECK(dx == Values{0, 0, 0, 0, 0, 10, 0, 0, 20, 0, 0, 0, 0, 0, 0});
  }
  SECTION("the first of equals wins, a NaN wins over all") {
    const PoolProblem d{1, 2, 2, 3};
    // Channel by channel the four places hold: 5 5 5 5; 1 3 3 2; 1 nan 9 nan.
    const Values x = {5, 1, 1, 5, 3, nan, 5, 3, 9, 5, 2, nan};
    Values y(3);
    std::vector<std::uint8_t> which(3);
    reference::max_pool_forward<double>(d, x.data(), y.data(), which.data());
    CHECK(y[0] == 5);
    CHECK(y[1] == 3);
    CHECK(std::isnan(y[2]));
    CHECK(which == std::vector<std::uint8_t>{0, 1, 1});
  }
  SECTION("all minus infinity") {
    const double low = -std::numeric_limits<double>::infinity();
    const Values x(4, low);
    double y = 0;
    std::uint8_t which = 9;
    reference::max_pool_forward<double>({1, 2, 2, 1}, x.data(), &y, &which);
    CHECK(y == low);
    CHECK(which == 0);
  }
}

TEST_CASE("max_pool gradients agree with central differences", "[kernels][max_pool][gradcheck]") {
  for (const PoolProblem& d : std::vector<PoolProblem>{{1, 4, 4, 2}, {2, 5, 7, 3}}) {
    INFO(d.key());
    // Distinct values, so that a small step never changes the winner.
    Values x(static_cast<std::size_t>(d.x_count()));
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = 0.01 * static_cast<double>((i * 7919) % x.size());
    const Values dy = uniform_values<double>(-1, 1, d.y_count(), d.key(), "dy");
    Values y(dy.size()), dx(x.size(), std::numeric_limits<double>::quiet_NaN());
    std::vector<std::uint8_t> which(dy.size());
    reference::max_pool_forward<double>(d, x.data(), y.data(), which.data());
    reference::max_pool_backward<double>(d, dy.data(), which.data(), dx.data());
    const auto loss = [&] {
      Values out(dy.size());
      reference::max_pool_forward<double>(d, x.data(), out.data(), nullptr);
      return dot(out, dy);
    };
    CHECK(gradcheck("dx", x, dx, loss) == "");
  }
}

}  // namespace subpix::tests
