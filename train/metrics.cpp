#include "train/metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "kernels/api/error.h"

namespace subpix::train {
namespace {

constexpr double kPeak = 255.0;
constexpr double kC1 = (0.01 * kPeak) * (0.01 * kPeak);
constexpr double kC2 = (0.03 * kPeak) * (0.03 * kPeak);

template <class Weigh>
Plane weighted_channels(const Image& image, const Weigh& weigh) {
  SUBPIX_REQUIRE(image.channels == 1 || image.channels == 3, "the luma of ", image.channels,
                 " channels");
  Plane plane{image.width, image.height, {}};
  plane.values.resize(static_cast<std::size_t>(image.width * image.height));
  const std::uint8_t* p = image.pixels.data();
  for (double& value : plane.values) {
    value = image.channels == 1 ? p[0] : weigh(p[0], p[1], p[2]);
    p += image.channels;
  }
  return plane;
}

void require_alike(const Plane& a, const Plane& b) {
  SUBPIX_REQUIRE(a.width == b.width && a.height == b.height && a.width >= 1 && a.height >= 1,
                 "planes of ", a.width, "x", a.height, " and ", b.width, "x", b.height);
}

/// The five sums from which SSIM's means, variances and covariance come.
struct Moments {
  double a, b, aa, bb, ab;
};

void add(Moments& to, double weight, const Moments& m) {
  to.a += weight * m.a;
  to.b += weight * m.b;
  to.aa += weight * m.aa;
  to.bb += weight * m.bb;
  to.ab += weight * m.ab;
}

/// SSIM at one position from moments normalised to weight 1.
double similarity(const Moments& m) {
  const double mean_product = m.a * m.b;
  const double mean_squares = m.a * m.a + m.b * m.b;
  const double variances = m.aa + m.bb - mean_squares;
  const double covariance = m.ab - mean_product;
  return (2.0 * mean_product + kC1) * (2.0 * covariance + kC2) /
         ((mean_squares + kC1) * (variances + kC2));
}

/// One row of both planes under a horizontal window of 2 L + 1 weights, centred at each x from
/// `x_begin` on; taps outside the row are left out.
void filter_row(const double* a, const double* b, std::int64_t width,
                const std::vector<double>& window, std::int64_t x_begin,
                std::vector<Moments>& out) {
  const auto reach = static_cast<std::int64_t>(window.size() / 2);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::int64_t x = x_begin + static_cast<std::int64_t>(i);
    Moments sum{};
    const std::int64_t from = std::max<std::int64_t>(x - reach, 0);
    const std::int64_t to = std::min(x + reach, width - 1);
    for (std::int64_t j = from; j <= to; ++j) {
      const double w = window[static_cast<std::size_t>(j - x + reach)];
      const double wa = w * a[j], wb = w * b[j];
      sum.a += wa;
      sum.b += wb;
      sum.aa += wa * a[j];
      sum.bb += wb * b[j];
      sum.ab += wa * b[j];
    }
    out[i] = sum;
  }
}

/// For each position of a coordinate: the weight of the window's taps that lie within 0..size-1.
std::vector<double> weight_inside(const std::vector<double>& window, std::int64_t size) {
  const auto reach = static_cast<std::int64_t>(window.size() / 2);
  std::vector<double> inside(static_cast<std::size_t>(size));
  for (std::int64_t i = 0; i < size; ++i)
    for (std::int64_t j = std::max<std::int64_t>(i - reach, 0); j <= std::min(i + reach, size - 1);
         ++j)
      inside[static_cast<std::size_t>(i)] += window[static_cast<std::size_t>(j - i + reach)];
  return inside;
}

/// The weighted mean of the similarity over the positions from `margin` to size - 1 - margin in
/// both directions, each position normalised by, and counted with, the weight of its taps inside
/// the planes. Needs memory for as many rows as the window has.
double mean_similarity(const Plane& a, const Plane& b, const std::vector<double>& window,
                       std::int64_t margin) {
  const auto reach = static_cast<std::int64_t>(window.size() / 2);
  const std::int64_t columns = a.width - 2 * margin;
  const std::vector<double> inside_x = weight_inside(window, a.width);
  const std::vector<double> inside_y = weight_inside(window, a.height);
  std::vector<std::vector<Moments>> ring(window.size(),
                                         std::vector<Moments>(static_cast<std::size_t>(columns)));
  const auto ring_row = [&](std::int64_t y) -> std::vector<Moments>& {
    return ring[static_cast<std::size_t>(y) % ring.size()];
  };
  std::vector<Moments> sums(static_cast<std::size_t>(columns));
  double total = 0.0, total_weight = 0.0;
  std::int64_t filtered = 0;  // rows that have gone into the ring
  for (std::int64_t y = margin; y < a.height - margin; ++y) {
    const std::int64_t from = std::max<std::int64_t>(y - reach, 0);
    const std::int64_t to = std::min(y + reach, a.height - 1);
    for (; filtered <= to; ++filtered)
      filter_row(a.row(filtered), b.row(filtered), a.width, window, margin, ring_row(filtered));
    std::fill(sums.begin(), sums.end(), Moments{});
    for (std::int64_t j = from; j <= to; ++j) {
      const double w = window[static_cast<std::size_t>(j - y + reach)];
      const std::vector<Moments>& row = ring_row(j);
      for (std::size_t x = 0; x < sums.size(); ++x) add(sums[x], w, row[x]);
    }
    double row_total = 0.0, row_weight = 0.0;
    for (std::size_t x = 0; x < sums.size(); ++x) {
      const double weight =
          inside_y[static_cast<std::size_t>(y)] * inside_x[x + static_cast<std::size_t>(margin)];
      Moments normalised{};
      add(normalised, 1.0 / weight, sums[x]);
      row_total += weight * similarity(normalised);
      row_weight += weight;
    }
    total += row_total;
    total_weight += row_weight;
  }
  return total / total_weight;
}

}  // namespace

Plane luma(const Image& image) {
  return weighted_channels(image, [](double r, double g, double b) {
    return 16.0 + (65.481 * r + 128.553 * g + 24.966 * b) / 255.0;
  });
}

Plane full_range_grey(const Image& image) {
  return weighted_channels(
      image, [](double r, double g, double b) { return 0.299 * r + 0.587 * g + 0.114 * b; });
}

Plane without_border(const Plane& plane, std::int64_t border) {
  SUBPIX_REQUIRE(border >= 0 && plane.width > 2 * border && plane.height > 2 * border,
                 "a plane of ", plane.width, "x", plane.height, " has nothing inside a border of ",
                 border);
  Plane inner{plane.width - 2 * border, plane.height - 2 * border, {}};
  inner.values.reserve(static_cast<std::size_t>(inner.width * inner.height));
  for (std::int64_t y = 0; y < inner.height; ++y) {
    const double* row = plane.row(y + border) + border;
    inner.values.insert(inner.values.end(), row, row + inner.width);
  }
  return inner;
}

double psnr(const Plane& a, const Plane& b) {
  require_alike(a, b);
  double sum = 0.0;
  for (std::int64_t y = 0; y < a.height; ++y) {
    // Row by row, so that a large picture's sum keeps its last digits.
    double row_sum = 0.0;
    for (std::int64_t x = 0; x < a.width; ++x) {
      const double d = a.row(y)[x] - b.row(y)[x];
      row_sum += d * d;
    }
    sum += row_sum;
  }
  if (sum == 0.0) return std::numeric_limits<double>::infinity();
  return 10.0 * std::log10(kPeak * kPeak * static_cast<double>(a.width * a.height) / sum);
}

double ssim_gauss(const Plane& a, const Plane& b) {
  require_alike(a, b);
  constexpr int kReach = 5;
  constexpr double kDeviation = 1.5;
  if (a.width <= 2 * kReach || a.height <= 2 * kReach)
    return std::numeric_limits<double>::quiet_NaN();
  std::vector<double> window;
  double sum = 0.0;
  for (int x = -kReach; x <= kReach; ++x) {
    window.push_back(std::exp(-x * x / (2.0 * kDeviation * kDeviation)));
    sum += window.back();
  }
  for (double& w : window) w /= sum;
  return mean_similarity(a, b, window, kReach);
}

double ssim_daala(const Plane& a, const Plane& b) {
  require_alike(a, b);
  constexpr double kUnit = 256.0;  // the weights are whole numbers that add up to this
  const double deviation = 1.5 * static_cast<double>(a.height) / 256.0;
  // The Gaussian density falls to half a unit at this distance. Windows so wide that no density
  // reaches one unit (heights beyond 34,000) would leave nothing but the centre.
  const double peak = std::sqrt(std::numbers::pi / 2.0) * deviation / kUnit;
  const double extent = peak < 1.0 ? deviation * std::sqrt(-2.0 * std::log(peak)) : 0.0;
  const auto reach = static_cast<std::int64_t>(std::floor(extent));
  std::vector<double> window(static_cast<std::size_t>(2 * reach + 1));
  const double density = 1.0 / (std::sqrt(2.0 * std::numbers::pi) * deviation);
  double others = 0.0;
  for (std::int64_t x = 1; x <= reach; ++x) {
    const double distance = static_cast<double>(x) / deviation;
    const double w = std::floor(kUnit * density * std::exp(-0.5 * distance * distance) + 0.5);
    window[static_cast<std::size_t>(reach - x)] = window[static_cast<std::size_t>(reach + x)] = w;
    others += 2.0 * w;
  }
  window[static_cast<std::size_t>(reach)] = kUnit - others;
  return mean_similarity(a, b, window, 0);
}

}  // namespace subpix::train
