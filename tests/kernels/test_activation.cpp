#include "kernels/reference/activation.h"
#include "tests/support/catch.h"
#include "tests/support/gradcheck.h"
#include "tests/support/problems.h"

namespace subpix::tests {

namespace reference = kernels::reference;
using kernels::ElementProblem;

TEST_CASE("prelu by hand, one slope per channel or one for all", "[kernels][prelu]") {
  const Values x = {-2, -4, 0, 8, 3, -1}, dy = {1, 2, 4, 8, 16, 32}, slope = {0.5, 0.25};
  Values y(6), dx(6), dslope(2);
  const ChannelProblem own{3, 2, false}, shared{3, 2, true};
  reference::prelu_forward<double>(own, x.data(), slope.data(), y.data());
  CHECK(y == Values{-1, -1, 0, 8, 3, -0.25});
  reference::prelu_backward<double>(own, x.data(), dy.data(), slope.data(), dx.data(),
                                    dslope.data());
  CHECK(dx == Values{0.5, 0.5, 2, 8, 16, 8});  // at 0 the slope of the negative side
  CHECK(dslope == Values{-2, -40});
  reference::prelu_forward<double>(shared, x.data(), slope.data(), y.data());
  CHECK(y == Values{-1, -2, 0, 8, 3, -0.5});
  Values one(1);
  reference::prelu_backward<double>(shared, x.data(), dy.data(), slope.data(), dx.data(),
                                    one.data());
  CHECK(dx == Values{0.5, 1, 2, 8, 16, 16});
  CHECK(one == Values{-42});
}

TEST_CASE("prelu gradients agree with central differences", "[kernels][prelu][gradcheck]") {
  for (const ChannelProblem& d : std::vector<ChannelProblem>{{5, 3, false}, {7, 4, true}}) {
    INFO(d.key());
    Values x = away_from_zero(uniform_values<double>(-1, 1, d.count(), d.key(), "x"));
    Values slope = uniform_values<double>(0.1, 0.5, d.shared ? 1 : d.c, d.key(), "slope");
    const Values dy = uniform_values<double>(-1, 1, d.count(), d.key(), "dy");
    Values dx(x.size()), dslope(slope.size());
    reference::prelu_backward<double>(d, x.data(), dy.data(), slope.data(), dx.data(),
                                      dslope.data());
    const auto loss = [&] {
      Values y(x.size());
      reference::prelu_forward<double>(d, x.data(), slope.data(), y.data());
      return dot(y, dy);
    };
    CHECK(gradcheck("dx", x, dx, loss) == "");
    CHECK(gradcheck("dslope", slope, dslope, loss) == "");
  }
}

TEST_CASE("leaky_relu by hand", "[kernels][leaky_relu]") {
  const ElementProblem d{.count = 4, .alpha = 0.25f};
  const Values x = {-4, 0, 2, -1}, dy = {4, 8, 12, 16};
  Values y(4), dx(4);
  reference::leaky_relu_forward<double>(d, x.data(), y.data());
  CHECK(y == Values{-1, 0, 2, -0.25});
  reference::leaky_relu_backward<double>(d, y.data(), dy.data(), dx.data());
  CHECK(dx == Values{1, 2, 12, 4});
  const ElementProblem relu{.count = 4, .alpha = 0.0f};
  reference::leaky_relu_forward<double>(relu, x.data(), y.data());
  CHECK(y == Values{0, 0, 2, 0});
  reference::leaky_relu_backward<double>(relu, y.data(), dy.data(), dx.data());
  CHECK(dx == Values{0, 0, 12, 0});
}

TEST_CASE("leaky_relu gradients agree with central differences",
          "[kernels][leaky_relu][gradcheck]") {
  for (const float alpha : {0.0f, 0.2f}) {
    const ElementProblem d{.count = 31, .alpha = alpha};
    Values x = away_from_zero(uniform_values<double>(-1, 1, d.count, d.key(), "x"));
    const Values dy = uniform_values<double>(-1, 1, d.count, d.key(), "dy");
    Values y(x.size()), dx(x.size());
    reference::leaky_relu_forward<double>(d, x.data(), y.data());
    reference::leaky_relu_backward<double>(d, y.data(), dy.data(), dx.data());
    const auto loss = [&] {
      Values out(x.size());
      reference::leaky_relu_forward<double>(d, x.data(), out.data());
      return dot(out, dy);
    };
    CHECK(gradcheck("dx", x, dx, loss) == "");
  }
}

}  // namespace subpix::tests
