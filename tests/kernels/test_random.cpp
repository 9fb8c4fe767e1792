#include <algorithm>

#include "kernels/reference/random.h"
#include "tests/support/catch.h"
#include "tests/support/fill.h"

namespace subpix::tests {

namespace {

namespace reference = kernels::reference;
using kernels::RandomProblem;
using reference::philox4x32_10;
using Words = std::array<std::uint32_t, 4>;

}  // namespace

TEST_CASE("philox4x32_10 gives the known answers of Random123", "[kernels][random]") {
  CHECK(philox4x32_10({0, 0, 0, 0}, {0, 0}) ==
        Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr std::uint32_t kOnes = 0xffffffff;
  CHECK(philox4x32_10({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("a problem's words go to their places in counter and key", "[kernels][random]") {
  const RandomProblem d{.count = 1,
                        .seed = 0x299f31d0a4093822,
                        .stream = 0x0370734413198a2e,
                        .offset = 0x85a308d3243f6a88 - 2};
  CHECK(reference::philox_block(d, 2) == Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
  std::vector<float> y(12);
  reference::philox_uniform<float>(
      {.count = 12, .seed = d.seed, .stream = d.stream, .offset = d.offset}, y.data());
  CHECK(y[8] == static_cast<float>(0xd16cfe) * 0x1p-24f);
  CHECK(y[11] == static_cast<float>(0x24126e) * 0x1p-24f);
}

TEST_CASE("offset continues a stream, seed and stream change it", "[kernels][random]") {
  const RandomProblem whole{.count = 100, .seed = 3, .stream = 1};
  std::vector<float> all(100), part(20);
  reference::philox_uniform<float>(whole, all.data());
  reference::philox_uniform<float>({.count = 20, .seed = 3, .stream = 1, .offset = 5}, part.data());
  CHECK(std::equal(part.begin(), part.end(), all.begin() + 20));
  std::vector<float> other(20);
  reference::philox_uniform<float>({.count = 20, .seed = 4, .stream = 1, .offset = 5},
                                   other.data());
  CHECK(other != part);
  reference::philox_uniform<float>({.count = 20, .seed = 3, .stream = 2, .offset = 5},
                                   other.data());
  CHECK(other != part);
}

TEST_CASE("uniform numbers fill their range evenly", "[kernels][random]") {
  const RandomProblem d{.count = 100000, .seed = 11, .low = -2, .high = 3};
  std::vector<float> y(static_cast<std::size_t>(d.count));
  reference::philox_uniform<float>(d, y.data());
  std::vector<int> bins(10);
  double sum = 0;
  for (const float v : y) {
    REQUIRE((v >= -2.0f && v < 3.0f));
    ++bins[static_cast<std::size_t>((v + 2.0f) * 2.0f)];
    sum += static_cast<double>(v);
  }
  // Five standard deviations of a bin count, sqrt(n p (1-p)), and of the mean, 5/sqrt(12 n).
  for (const int bin : bins) CHECK(std::abs(bin - 10000) < 5 * 95);
  CHECK(std::fabs(sum / 100000 - 0.5) < 5 * 0.0046);
}

TEST_CASE("normal numbers have the moments and tails of a normal distribution",
          "[kernels][random]") {
  const RandomProblem d{.count = 100001, .seed = 12, .low = 2, .high = 3};
  Values y(static_cast<std::size_t>(d.count));
  reference::philox_normal<double>(d, y.data());
  double mean = 0, square = 0, third = 0, fourth = 0, product = 0;
  int beyond_two = 0;
  const double n = static_cast<double>(d.count);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double z = (y[i] - 2.0) / 3.0;
    REQUIRE(std::isfinite(z));
    mean += z / n;
    square += z * z / n;
    third += z * z * z / n;
    fourth += z * z * z * z / n;
    beyond_two += std::fabs(z) > 2.0;
    if (i > 0) product += z * (y[i - 1] - 2.0) / 3.0 / n;
  }
  // Within five standard errors: 1, sqrt(2), sqrt(15), sqrt(96) over sqrt(n).
  const double root = std::sqrt(n);
  CHECK(std::fabs(mean) < 5.0 / root);
  CHECK(std::fabs(square - 1.0) < 5.0 * std::sqrt(2.0) / root);
  CHECK(std::fabs(third) < 5.0 * std::sqrt(15.0) / root);
  CHECK(std::fabs(fourth - 3.0) < 5.0 * std::sqrt(96.0) / root);
  CHECK(std::fabs(product) < 5.0 / root);
  CHECK(std::fabs(beyond_two / n - 0.0455) < 5.0 * 0.208 / root);
}

TEST_CASE("normal numbers stay finite at the ends of the word range", "[kernels][random]") {
  // u = ((a >> 8) + 1) * 2^-24 is never 0 and never above 1.
  const double smallest = (0.0 + 1.0) * 0x1p-24, largest = (0xffffff + 1.0) * 0x1p-24;
  CHECK(std::isfinite(std::sqrt(-2.0 * std::log(smallest))));
  CHECK(std::sqrt(-2.0 * std::log(largest)) == 0.0);
}

}  // namespace subpix::tests
