#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "engine/core/random.h"
#include "kernels/api/error.h"
#include "tests/support/catch.h"
#include "tests/support/shared_data.h"
#include "train/metrics.h"
#include "train/resample.h"

using namespace subpix;
using namespace subpix::train;

namespace {

Plane noise(std::int64_t width, std::int64_t height, std::uint64_t seed) {
  Plane plane{width, height, {}};
  engine::Philox random(seed);
  for (std::int64_t i = 0; i < width * height; ++i) plane.values.push_back(random.uniform(16, 235));
  return plane;
}

/// A plane with detail of its own and some disturbance of the other.
Plane disturbed(const Plane& plane, double amount) {
  Plane result = plane;
  engine::Philox random(99);
  for (double& v : result.values) v += amount * (random.uniform() - 0.5);
  return result;
}

// Both SSIMs by their definition: for each position all taps of the two-dimensional window.
struct Window {
  std::vector<double> line;  ///< odd length; the window is its outer product
  bool inside_only;
};

double ssim_by_definition(const Plane& a, const Plane& b, const Window& window) {
  const auto reach = static_cast<std::int64_t>(window.line.size() / 2);
  const double c1 = 6.5025, c2 = 58.5225;
  double total = 0.0, total_weight = 0.0;
  for (std::int64_t y = 0; y < a.height; ++y) {
    for (std::int64_t x = 0; x < a.width; ++x) {
      if (window.inside_only &&
          (x < reach || y < reach || x >= a.width - reach || y >= a.height - reach))
        continue;
      double weight = 0, mean_a = 0, mean_b = 0, var_a = 0, var_b = 0, cov = 0;
      const auto each = [&](auto&& visit) {
        for (std::int64_t j = -reach; j <= reach; ++j)
          for (std::int64_t i = -reach; i <= reach; ++i) {
            if (x + i < 0 || y + j < 0 || x + i >= a.width || y + j >= a.height) continue;
            visit(window.line[static_cast<std::size_t>(i + reach)] *
                      window.line[static_cast<std::size_t>(j + reach)],
                  a.row(y + j)[x + i], b.row(y + j)[x + i]);
          }
      };
      each([&](double w, double p, double q) {
        weight += w;
        mean_a += w * p;
        mean_b += w * q;
      });
      mean_a /= weight;
      mean_b /= weight;
      each([&](double w, double p, double q) {
        var_a += w * (p - mean_a) * (p - mean_a) / weight;
        var_b += w * (q - mean_b) * (q - mean_b) / weight;
        cov += w * (p - mean_a) * (q - mean_b) / weight;
      });
      const double s = (2 * mean_a * mean_b + c1) * (2 * cov + c2) /
                       ((mean_a * mean_a + mean_b * mean_b + c1) * (var_a + var_b + c2));
      total += weight * s;
      total_weight += weight;
    }
  }
  return total / total_weight;
}

Window gauss_window() {
  Window window{{}, true};
  double sum = 0;
  for (int x = -5; x <= 5; ++x) sum += std::exp(-x * x / 4.5);
  for (int x = -5; x <= 5; ++x) window.line.push_back(std::exp(-x * x / 4.5) / sum);
  return window;
}

Window daala_window(std::int64_t height) {
  const double sigma = 1.5 * static_cast<double>(height) / 256.0;
  const auto reach = static_cast<int>(
      sigma * std::sqrt(-2.0 * std::log(std::sqrt(std::numbers::pi / 2.0) * sigma / 256.0)));
  Window window{{}, false};
  double others = 0;
  for (int x = -reach; x <= reach; ++x) {
    const double g =
        std::exp(-x * x / (2 * sigma * sigma)) / (sigma * std::sqrt(2 * std::numbers::pi));
    window.line.push_back(x == 0 ? 0.0 : std::floor(256 * g + 0.5));
    others += window.line.back();
  }
  window.line[static_cast<std::size_t>(reach)] = 256 - others;
  return window;
}

bool near(double a, double b, double tolerance) { return std::abs(a - b) <= tolerance; }

}  // namespace

TEST_CASE("luma is MATLAB's rgb2ycbcr without rounding", "[train][metrics]") {
  Image image(4, 1, 3);
  image.pixels = {0, 0, 0, 255, 255, 255, 255, 0, 0, 10, 20, 30};
  const Plane y = luma(image);
  CHECK(y.values[0] == 16.0);
  CHECK(near(y.values[1], 235.0, 1e-12));
  CHECK(near(y.values[2], 81.481, 1e-12));
  CHECK(near(y.values[3], 16.0 + (654.81 + 2571.06 + 748.98) / 255.0, 1e-12));
  const Plane full = full_range_grey(image);
  CHECK(full.values[0] == 0.0);
  CHECK(near(full.values[1], 255.0, 1e-12));
  CHECK(near(full.values[3], 2.99 + 11.74 + 3.42, 1e-12));

  Image grey(3, 1, 1);
  grey.pixels = {0, 100, 255};
  CHECK(luma(grey).values == std::vector<double>{0, 100, 255});
  CHECK(full_range_grey(grey).values == std::vector<double>{0, 100, 255});
  CHECK_THROWS_AS(luma(Image(2, 2, 4)), Error);
}

TEST_CASE("without_border drops samples on every side", "[train][metrics]") {
  const Plane plane = noise(11, 9, 1);
  const Plane inner = without_border(plane, 3);
  REQUIRE(inner.width == 5);
  REQUIRE(inner.height == 3);
  REQUIRE(inner.values.size() == 15);
  for (std::int64_t y = 0; y < 3; ++y)
    for (std::int64_t x = 0; x < 5; ++x) CHECK(inner.row(y)[x] == plane.row(y + 3)[x + 3]);
  CHECK(without_border(plane, 0).values == plane.values);
  CHECK(without_border(plane, 4).values.size() == 3);
  CHECK_THROWS_AS(without_border(plane, 5), Error);
}

TEST_CASE("PSNR of known differences", "[train][metrics]") {
  const Plane a = noise(13, 7, 1);
  Plane b = a;
  for (double& v : b.values) v += 1.0;
  CHECK(near(psnr(a, b), 20.0 * std::log10(255.0), 1e-9));
  b = a;
  b.values[5] += 9.1;
  CHECK(near(psnr(a, b), 10.0 * std::log10(65025.0 * 91.0 / (9.1 * 9.1)), 1e-9));
  CHECK(psnr(a, a) == std::numeric_limits<double>::infinity());
  CHECK(psnr(a, b) == psnr(b, a));
  b.values[5] = std::numeric_limits<double>::quiet_NaN();
  CHECK(std::isnan(psnr(a, b)));
  CHECK_THROWS_AS(psnr(a, noise(7, 13, 1)), Error);
}

TEST_CASE("both SSIMs equal their definition", "[train][metrics]") {
  for (const auto& [width, height] : {std::pair{11, 11}, {12, 30}, {40, 17}, {33, 64}}) {
    const Plane a = noise(width, height, 5), b = disturbed(a, 120.0);
    CAPTURE(width, height);
    CHECK(near(ssim_gauss(a, b), ssim_by_definition(a, b, gauss_window()), 1e-11));
    CHECK(near(ssim_daala(a, b), ssim_by_definition(a, b, daala_window(height)), 1e-11));
  }
  // Where the daala window is wider than the usual one.
  const Plane a = noise(30, 600, 6), b = disturbed(a, 90.0);
  CHECK(daala_window(600).line.size() > 11);
  CHECK(near(ssim_daala(a, b), ssim_by_definition(a, b, daala_window(600)), 1e-11));
}

TEST_CASE("SSIM is 1 for equal planes, symmetric, and falls with disturbance", "[train][metrics]") {
  const Plane a = noise(40, 50, 7);
  for (const auto ssim : {ssim_gauss, ssim_daala}) {
    CHECK(ssim(a, a) == 1.0);
    double before = 1.0;
    for (const double amount : {10.0, 40.0, 160.0}) {
      const Plane b = disturbed(a, amount);
      const double now = ssim(a, b);
      CHECK(now < before);
      CHECK(near(now, ssim(b, a), 1e-14));
      before = now;
    }
    CHECK(before > 0.0);
    CHECK(before < 0.95);
    CHECK_THROWS_AS(ssim(a, noise(50, 40, 7)), Error);
  }
}

TEST_CASE("planes too small for the window have no Gaussian SSIM", "[train][metrics]") {
  CHECK(std::isnan(ssim_gauss(noise(10, 30, 1), noise(10, 30, 2))));
  CHECK(std::isnan(ssim_gauss(noise(30, 10, 1), noise(30, 10, 2))));
  CHECK(std::isfinite(ssim_gauss(noise(11, 11, 1), noise(11, 11, 2))));
  CHECK(std::isfinite(ssim_daala(noise(1, 1, 1), noise(1, 1, 2))));
  CHECK(std::isfinite(ssim_daala(noise(3, 2, 1), noise(3, 2, 2))));
}

TEST_CASE("rounded luma and mirrored edges give the other published rows", "[train][metrics]") {
  const auto folder = tests::shared_data("test/set5");
  if (!folder) return;
  // The SelfExSR tables round Y; current MATLAB mirrors the edges.
  const auto mean = [&](Edge edge) {
    double psnr_sum = 0, ssim_sum = 0;
    for (const auto& path : list_images({*folder})) {
      Image hr = load_image(path);
      hr = crop(hr, 0, 0, hr.width / 4 * 4, hr.height / 4 * 4);
      const Image sr = enlarge_bicubic(shrink_bicubic(hr, 4, edge), 4, edge);
      Plane a = without_border(luma(hr), 4), b = without_border(luma(sr), 4);
      for (Plane* plane : {&a, &b})
        for (double& v : plane->values) v = std::floor(v + 0.5);
      psnr_sum += psnr(a, b);
      ssim_sum += ssim_gauss(a, b);
    }
    return std::pair{psnr_sum / 5, ssim_sum / 5};
  };
  const auto [clamped_psnr, clamped_ssim] = mean(Edge::Clamp);
  CHECK(near(clamped_psnr, 28.4177, 5.1e-5));
  CHECK(near(clamped_ssim, 0.8101, 5.1e-5));
  const auto [mirrored_psnr, mirrored_ssim] = mean(Edge::Mirror);
  CHECK(near(mirrored_psnr, 28.4165, 5.1e-5));
  CHECK(near(mirrored_ssim, 0.8101, 5.1e-5));
}
