#include "kernels/reference/conv2d.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/gradcheck.h"
#include "tests/support/problems.h"

namespace subpix::tests {

namespace {

namespace reference = kernels::reference;

struct ConvData {
  Values x, w, bias, dy;
  ConvData(const Conv2dProblem& d, Fill fill)
      : x(fill_values<double>(fill, d.x_count(), d.key(), "x")),
        w(fill_values<double>(fill, d.w_count(), d.key(), "w")),
        bias(fill_values<double>(fill, d.k, d.key(), "bias")),
        dy(fill_values<double>(fill, d.y_count(), d.key(), "dy")) {}
};

Values forward(const Conv2dProblem& d, const ConvData& data) {
  Values y(static_cast<std::size_t>(d.y_count()));
  reference::conv2d_forward<double>(d, data.x.data(), data.w.data(), data.bias.data(), y.data());
  return y;
}

/// The same sum the other way round: a padded copy of the image, and every pixel of it handed to
/// the outputs that read it.
Values forward_by_scatter(const Conv2dProblem& d, const ConvData& data) {
  const Index height = d.h + 2 * d.pad, width = d.w + 2 * d.pad;
  Values y(static_cast<std::size_t>(d.y_count()));
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = data.bias[i % static_cast<std::size_t>(d.k)];
  for (Index n = 0; n < d.n; ++n)
    for (Index row = 0; row < height; ++row)
      for (Index column = 0; column < width; ++column) {
        const Index h = row - d.pad, w = column - d.pad;
        const bool inside = h >= 0 && h < d.h && w >= 0 && w < d.w;
        for (Index p = 0; p < d.p(); ++p)
          for (Index q = 0; q < d.q(); ++q) {
            const Index r = row - p * d.stride, s = column - q * d.stride;
            if (!inside || r < 0 || r >= d.r || s < 0 || s >= d.s) continue;
            for (Index k = 0; k < d.k; ++k)
              for (Index c = 0; c < d.c; ++c)
                y[static_cast<std::size_t>(((n * d.p() + p) * d.q() + q) * d.k + k)] +=
                    data.x[static_cast<std::size_t>(((n * d.h + h) * d.w + w) * d.c + c)] *
                    data.w[static_cast<std::size_t>(((k * d.r + r) * d.s + s) * d.c + c)];
          }
      }
  return y;
}

}  // namespace

TEST_CASE("conv2d_forward of a 2x2 image, by hand", "[kernels][conv2d]") {
  const Values x = {1, 2, 3, 4}, w = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const double bias = 100;
  SECTION("same size") {
    const Conv2dProblem d{1, 2, 2, 1, 1, 3, 3, 1, 1};
    Values y(4);
    reference::conv2d_forward<double>(d, x.data(), w.data(), nullptr, y.data());
    CHECK(y == Values{77, 67, 47, 37});
    reference::conv2d_forward<double>(d, x.data(), w.data(), &bias, y.data());
    CHECK(y == Values{177, 167, 147, 137});
  }
  SECTION("stride 2 keeps the first pixel") {
    const Conv2dProblem d{1, 2, 2, 1, 1, 3, 3, 2, 1};
    REQUIRE(d.y_count() == 1);
    Values y(1);
    reference::conv2d_forward<double>(d, x.data(), w.data(), nullptr, y.data());
    CHECK(y == Values{77});
  }
  SECTION("channels lie innermost in x and w, outputs innermost in y") {
    const Conv2dProblem d{1, 1, 2, 2, 3, 1, 1, 1, 0};
    const Values pixels = {1, 10, 2, 20}, taps = {1, 0, 0, 1, 1, 1};
    Values y(6);
    reference::conv2d_forward<double>(d, pixels.data(), taps.data(), nullptr, y.data());
    CHECK(y == Values{1, 10, 11, 2, 20, 22});
  }
}

TEST_CASE("conv2d gradients of a 2x2 image, by hand", "[kernels][conv2d]") {
  const Conv2dProblem d{1, 2, 2, 1, 1, 3, 3, 1, 1};
  const Values x = {1, 2, 3, 4}, w = {1, 2, 3, 4, 5, 6, 7, 8, 9}, dy = {1, 0, 0, 0};
  Values dx(4), dw(9);
  double db = 0;
  reference::conv2d_backward_data<double>(d, dy.data(), w.data(), dx.data());
  CHECK(dx == Values{5, 6, 8, 9});
  reference::conv2d_backward_filter<double>(d, x.data(), dy.data(), dw.data(), &db);
  CHECK(dw == Values{0, 0, 0, 0, 1, 2, 0, 3, 4});
  CHECK(db == 1);
}

TEST_CASE("conv2d_forward equals a scatter over the padded image", "[kernels][conv2d]") {
  for (const Conv2dProblem& d : conv2d_edge_problems()) {
    INFO(d.key());
    const ConvData data(d, Fill::Integers);
    CHECK(forward(d, data) == forward_by_scatter(d, data));
  }
}

TEST_CASE("conv2d_backward_data and _filter are adjoints of forward", "[kernels][conv2d]") {
  for (const Conv2dProblem& d : conv2d_edge_problems()) {
    INFO(d.key());
    ConvData data(d, Fill::Uniform);
    data.bias.assign(data.bias.size(), 0.0);
    Values dx(data.x.size()), dw(data.w.size()), db(data.bias.size());
    reference::conv2d_backward_data<double>(d, data.dy.data(), data.w.data(), dx.data());
    reference::conv2d_backward_filter<double>(d, data.x.data(), data.dy.data(), dw.data(),
                                              db.data());
    const double inner = dot(forward(d, data), data.dy);
    const double margin = 1e-12 * static_cast<double>(d.y_count() * d.r * d.s * d.c);
    CHECK(std::fabs(dot(data.x, dx) - inner) <= margin);
    CHECK(std::fabs(dot(data.w, dw) - inner) <= margin);
    // The bias adds itself to every output of its channel.
    const Values ones(db.size(), 1.0);
    double total = 0.0;
    for (const double v : data.dy) total += v;
    CHECK(std::fabs(dot(ones, db) - total) <= margin);
  }
}

TEST_CASE("conv2d gradients agree with central differences", "[kernels][conv2d][gradcheck]") {
  for (const Conv2dProblem& d : std::vector<Conv2dProblem>{{2, 4, 5, 2, 3, 3, 3, 1, 1},
                                                           {1, 5, 4, 3, 2, 3, 3, 2, 1},
                                                           {1, 6, 6, 1, 2, 5, 3, 1, 2},
                                                           {1, 3, 3, 2, 1, 9, 9, 2, 4},
                                                           {2, 3, 2, 3, 2, 1, 1, 1, 0}}) {
    INFO(d.key());
    ConvData data(d, Fill::Uniform);
    Values dx(data.x.size()), dw(data.w.size()), db(data.bias.size());
    reference::conv2d_backward_data<double>(d, data.dy.data(), data.w.data(), dx.data());
    reference::conv2d_backward_filter<double>(d, data.x.data(), data.dy.data(), dw.data(),
                                              db.data());
    const auto loss = [&] { return dot(forward(d, data), data.dy); };
    CHECK(gradcheck("dx", data.x, dx, loss) == "");
    CHECK(gradcheck("dw", data.w, dw, loss) == "");
    CHECK(gradcheck("db", data.bias, db, loss) == "");
  }
}

TEST_CASE("conv2d_backward_filter leaves a null db alone", "[kernels][conv2d]") {
  const Conv2dProblem d{1, 3, 3, 2, 2, 3, 3, 1, 1};
  const ConvData data(d, Fill::Uniform);
  Values with(data.w.size()), without(data.w.size()), db(2);
  reference::conv2d_backward_filter<double>(d, data.x.data(), data.dy.data(), with.data(),
                                            db.data());
  reference::conv2d_backward_filter<double>(d, data.x.data(), data.dy.data(), without.data(),
                                            nullptr);
  CHECK(with == without);
}

TEST_CASE("conv2d_activation_forward is conv2d_forward and then the activation",
          "[kernels][conv2d]") {
  using kernels::Activation;
  const Conv2dProblem d{1, 5, 7, 3, 6, 3, 3, 1, 1};
  const ConvData data(d, Fill::Uniform);
  const Values plain = forward(d, data);
  for (const auto& [activation, slope] :
       {std::pair{Activation::None, 1.0}, std::pair{Activation::Relu, 0.0},
        std::pair{Activation::LeakyRelu, 0.25}}) {
    Values y(plain.size()), expected = plain;
    for (double& v : expected) v = v < 0 ? slope * v : v;
    reference::conv2d_activation_forward<double>({d, activation, 0.25f}, data.x.data(),
                                                 data.w.data(), data.bias.data(), y.data());
    CHECK(y == expected);
  }
}

TEST_CASE("conv2d rounds once: float and bf16 results are the rounded double result",
          "[kernels][conv2d]") {
  const Conv2dProblem d{1, 5, 7, 33, 4, 3, 3, 1, 1};
  // Inputs that bf16 holds, so that all three types see the same numbers.
  const Values x = fill_values<bf16>(Fill::Uniform, d.x_count(), d.key(), "x");
  const Values w = fill_values<bf16>(Fill::Uniform, d.w_count(), d.key(), "w");
  Values y(static_cast<std::size_t>(d.y_count()));
  reference::conv2d_forward<double>(d, x.data(), w.data(), nullptr, y.data());
  const std::vector<float> x32(x.begin(), x.end()), w32(w.begin(), w.end());
  std::vector<float> y32(y.size());
  reference::conv2d_forward<float>(d, x32.data(), w32.data(), nullptr, y32.data());
  std::vector<bf16> x16, w16, y16(y.size());
  for (const float v : x32) x16.push_back(to_bf16(v));
  for (const float v : w32) w16.push_back(to_bf16(v));
  reference::conv2d_forward<bf16>(d, x16.data(), w16.data(), nullptr, y16.data());
  for (std::size_t i = 0; i < y.size(); ++i) {
    REQUIRE(y32[i] == static_cast<float>(y[i]));
    REQUIRE(y16[i].bits == to_bf16(y32[i]).bits);
  }
}

}  // namespace subpix::tests
