#include "tools/spectrum.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <complex>
#include <numbers>

#include "kernels/api/error.h"

namespace subpix::tools {

namespace {

using Complex = std::complex<double>;

constexpr std::int64_t kLargestTile = 128;
constexpr std::int64_t kSmallestTile = 8;
constexpr double kRoundingVariance = 1.0 / 12.0;  // of a value rounded to an integer

/// Radix-2 transform in place of values[start + i*stride], i < roots.size() * 2; roots[k] = e^(-2
/// pi i k/n).
void transform(std::vector<Complex>& values, std::size_t start, std::size_t stride,
               const std::vector<Complex>& roots) {
  const std::size_t n = roots.size() * 2;
  const auto at = [&](std::size_t i) -> Complex& { return values[start + i * stride]; };
  for (std::size_t i = 1, reversed = 0; i < n; ++i) {
    std::size_t bit = n >> 1;
    for (; reversed & bit; bit >>= 1) reversed ^= bit;
    reversed |= bit;
    if (i < reversed) std::swap(at(i), at(reversed));
  }
  for (std::size_t half = 1; half < n; half *= 2) {
    const std::size_t step = roots.size() / half;
    for (std::size_t block = 0; block < n; block += 2 * half)
      for (std::size_t k = 0; k < half; ++k) {
        const Complex odd = at(block + half + k) * roots[k * step];
        const Complex even = at(block + k);
        at(block + k) = even + odd;
        at(block + half + k) = even - odd;
      }
  }
}

std::size_t lowest_ring(const RadialSpectrum& s, double low) {
  return static_cast<std::size_t>(std::ceil(low * static_cast<double>(s.tile) - 1e-9));
}

template <class Visit>
void visit_rings(const RadialSpectrum& a, const RadialSpectrum& b, double low, Visit&& visit) {
  SUBPIX_REQUIRE(a.tile == b.tile && a.power.size() == b.power.size(), "spectra of tiles of ",
                 a.tile, " and ", b.tile);
  const std::size_t first = lowest_ring(a, low);
  SUBPIX_REQUIRE(first < a.power.size(), "no ring at or above ", low, " cycles per pixel");
  for (std::size_t k = first; k < a.power.size(); ++k)
    visit(10.0 * std::log10(a.power[k] / b.power[k]));
}

}  // namespace

std::int64_t largest_tile(std::int64_t width, std::int64_t height) {
  const std::int64_t side = std::min({width, height, kLargestTile});
  if (side < kSmallestTile) return 0;
  return static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(side)));
}

RadialSpectrum radial_spectrum(const std::vector<double>& luma, std::int64_t width,
                               std::int64_t height, std::int64_t tile) {
  SUBPIX_REQUIRE(static_cast<std::int64_t>(luma.size()) == width * height, "luma has ", luma.size(),
                 " values, not ", width, " x ", height);
  SUBPIX_REQUIRE(tile >= kSmallestTile && std::has_single_bit(static_cast<std::uint64_t>(tile)) &&
                     tile <= std::min(width, height),
                 "tile ", tile, " does not suit ", width, " x ", height);
  const auto n = static_cast<std::size_t>(tile);
  std::vector<Complex> roots(n / 2);
  for (std::size_t k = 0; k < roots.size(); ++k)
    roots[k] =
        std::polar(1.0, -2.0 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n));
  std::vector<double> window(n);
  for (std::size_t i = 0; i < n; ++i)
    window[i] = 0.5 - 0.5 * std::cos(2.0 * std::numbers::pi * static_cast<double>(i) /
                                     static_cast<double>(n));

  std::vector<double> power(n * n, 0.0);
  std::vector<Complex> values(n * n);
  std::int64_t tiles = 0;
  for (std::int64_t y0 = 0; y0 + tile <= height; y0 += tile / 2)
    for (std::int64_t x0 = 0; x0 + tile <= width; x0 += tile / 2, ++tiles) {
      const auto pixel = [&](std::size_t y, std::size_t x) {
        return luma[static_cast<std::size_t>((y0 + static_cast<std::int64_t>(y)) * width + x0) + x];
      };
      double mean = 0.0;
      for (std::size_t y = 0; y < n; ++y)
        for (std::size_t x = 0; x < n; ++x) mean += pixel(y, x);
      mean /= static_cast<double>(n * n);
      for (std::size_t y = 0; y < n; ++y)
        for (std::size_t x = 0; x < n; ++x)
          values[y * n + x] = (pixel(y, x) - mean) * window[y] * window[x];
      for (std::size_t y = 0; y < n; ++y) transform(values, y * n, 1, roots);
      for (std::size_t x = 0; x < n; ++x) transform(values, x, n, roots);
      for (std::size_t i = 0; i < n * n; ++i) power[i] += std::norm(values[i]);
    }

  double window_energy = 0.0;
  for (double w : window) window_energy += w * w;
  const double floor = kRoundingVariance * window_energy * window_energy;
  std::vector<double> sum(n / 2 + 1, 0.0), count(n / 2 + 1, 0.0);
  const auto signed_frequency = [&](std::size_t i) {
    return static_cast<double>(i) - (i > n / 2 ? static_cast<double>(n) : 0.0);
  };
  for (std::size_t y = 0; y < n; ++y)
    for (std::size_t x = 0; x < n; ++x) {
      const auto ring = static_cast<std::size_t>(
          std::lround(std::hypot(signed_frequency(y), signed_frequency(x))));
      if (ring >= sum.size()) continue;  // the corners: frequencies that only diagonals have
      sum[ring] += power[y * n + x];
      count[ring] += 1.0;
    }
  RadialSpectrum spectrum{tile, std::vector<double>(sum.size())};
  for (std::size_t k = 0; k < sum.size(); ++k)
    spectrum.power[k] = sum[k] / count[k] / static_cast<double>(tiles) + floor;
  return spectrum;
}

double spectral_distance_db(const RadialSpectrum& a, const RadialSpectrum& b, double low) {
  double sum = 0.0, rings = 0.0;
  visit_rings(a, b, low, [&](double db) {
    sum += db * db;
    rings += 1.0;
  });
  return std::sqrt(sum / rings);
}

double spectral_bias_db(const RadialSpectrum& a, const RadialSpectrum& b, double low) {
  double sum = 0.0, rings = 0.0;
  visit_rings(a, b, low, [&](double db) {
    sum += db;
    rings += 1.0;
  });
  return sum / rings;
}

}  // namespace subpix::tools
