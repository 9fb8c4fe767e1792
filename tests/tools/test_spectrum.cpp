#include "tools/spectrum.h"

#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "engine/core/random.h"
#include "kernels/api/error.h"
#include "tests/support/catch.h"

using namespace subpix::tools;

namespace {

std::vector<double> noise(std::int64_t width, std::int64_t height, double deviation,
                          std::uint64_t seed) {
  subpix::engine::Philox random(seed);
  std::vector<double> values(static_cast<std::size_t>(width * height));
  for (double& v : values) v = 128.0 + deviation * random.normal();
  return values;
}

std::vector<double> wave(std::int64_t width, std::int64_t height, double fx, double fy) {
  std::vector<double> values;
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < width; ++x)
      values.push_back(
          128.0 + 50.0 * std::cos(2.0 * std::numbers::pi *
                                  (fx * static_cast<double>(x) + fy * static_cast<double>(y))));
  return values;
}

/// Mean over 2x2 pixels at each place: takes the finest detail away.
std::vector<double> blurred(const std::vector<double>& v, std::int64_t width, std::int64_t height) {
  std::vector<double> out;
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < width; ++x) {
      const std::int64_t right = (x + 1) % width, below = (y + 1) % height;
      out.push_back(0.25 * (v[y * width + x] + v[y * width + right] + v[below * width + x] +
                            v[below * width + right]));
    }
  return out;
}

}  // namespace

TEST_CASE("a wave's power stands in the ring of its frequency", "[tools][spectrum]") {
  // 0.25 cycles per pixel across: ring 16 of a tile of 64; 12/64 and 16/64: ring 20.
  for (const auto& [fx, fy, ring] :
       {std::tuple{0.25, 0.0, 16}, {0.0, 0.25, 16}, {0.1875, 0.25, 20}}) {
    const RadialSpectrum s = radial_spectrum(wave(160, 96, fx, fy), 160, 96, 64);
    REQUIRE(s.power.size() == 33);
    for (int k = 0; k < 33; ++k) {
      INFO("wave " << fx << ", " << fy << ", ring " << k);
      // The window leaks into the two rings beside it.
      if (std::abs(k - ring) > 2) CHECK(s.power[k] < 1e-4 * s.power[ring]);
    }
  }
}

TEST_CASE("the power of a wave and of white noise has the size of the formula",
          "[tools][spectrum]") {
  // Parseval: white noise of variance v gives v * sum of squared window values in each bin.
  const RadialSpectrum s = radial_spectrum(noise(512, 512, 20.0, 3), 512, 512, 64);
  const double window = 64.0 * 0.375;  // sum of Hann's squares over 64 points
  const double expected = (400.0 + 1.0 / 12.0) * window * window;
  for (std::size_t k = 4; k < s.power.size(); ++k)
    CHECK(s.power[k] == Approx(expected).epsilon(0.1));
}

TEST_CASE("the distance is zero for equal pictures and the gain in decibels for scaled noise",
          "[tools][spectrum]") {
  const auto a = noise(256, 192, 10.0, 1);
  std::vector<double> twice;
  for (double v : a) twice.push_back(128.0 + 2.0 * (v - 128.0));
  const auto sa = radial_spectrum(a, 256, 192, 128), sb = radial_spectrum(twice, 256, 192, 128);
  CHECK(spectral_distance_db(sa, sa, 0.125) == 0.0);
  CHECK(spectral_bias_db(sa, sa, 0.125) == 0.0);
  const double six = 20.0 * std::log10(2.0);
  CHECK(spectral_distance_db(sb, sa, 0.125) == Approx(six).epsilon(1e-3));
  CHECK(spectral_distance_db(sa, sb, 0.125) == Approx(six).epsilon(1e-3));
  CHECK(spectral_bias_db(sb, sa, 0.125) == Approx(six).epsilon(1e-3));
  CHECK(spectral_bias_db(sa, sb, 0.125) == Approx(-six).epsilon(1e-3));
}

TEST_CASE("blurring shows as missing fine detail, and more so at higher frequencies",
          "[tools][spectrum]") {
  const auto sharp = noise(256, 256, 30.0, 2);
  const auto s = radial_spectrum(sharp, 256, 256, 128);
  const auto b = radial_spectrum(blurred(sharp, 256, 256), 256, 256, 128);
  CHECK(spectral_bias_db(b, s, 0.125) < -3.0);
  CHECK(spectral_bias_db(b, s, 0.4) < spectral_bias_db(b, s, 0.125) - 2.0);
}

TEST_CASE("what 8 bits cannot hold does not count", "[tools][spectrum]") {
  const auto a = radial_spectrum(std::vector<double>(64 * 64, 100.0), 64, 64, 64);
  const auto b = radial_spectrum(noise(64, 64, 0.01, 5), 64, 64, 64);
  CHECK(spectral_distance_db(a, b, 0.125) < 0.05);
}

TEST_CASE("tiles follow the picture's size", "[tools][spectrum]") {
  CHECK(largest_tile(1000, 700) == 128);
  CHECK(largest_tile(127, 700) == 64);
  CHECK(largest_tile(64, 64) == 64);
  CHECK(largest_tile(8, 9) == 8);
  CHECK(largest_tile(7, 100) == 0);
  CHECK(lost_frequency(4) == 0.125);
  CHECK(lost_frequency(2) == 0.25);
}

TEST_CASE("spectra that do not fit are refused", "[tools][spectrum]") {
  const std::vector<double> v(64 * 64, 1.0);
  CHECK_THROWS_AS(radial_spectrum(v, 64, 63, 32), subpix::Error);
  CHECK_THROWS_AS(radial_spectrum(v, 64, 64, 128), subpix::Error);
  CHECK_THROWS_AS(radial_spectrum(v, 64, 64, 48), subpix::Error);
  const auto a = radial_spectrum(v, 64, 64, 32), b = radial_spectrum(v, 64, 64, 64);
  CHECK_THROWS_AS(spectral_distance_db(a, b, 0.125), subpix::Error);
  CHECK_THROWS_AS(spectral_distance_db(a, a, 0.6), subpix::Error);
}
