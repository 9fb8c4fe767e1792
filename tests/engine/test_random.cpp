#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numbers>
#include <set>

#include "engine/core/random.h"
#include "kernels/reference/random.h"
#include "tests/support/catch.h"

using namespace subpix;
using engine::Philox;
using engine::RandomState;

namespace {

std::uint64_t join(std::uint32_t low, std::uint32_t high) {
  return low | std::uint64_t{high} << 32;
}

/// Greatest |observed - expected| in standard deviations over the cells of a fair die.
double worst_cell(const std::vector<int>& counts, double draws) {
  const double p = 1.0 / static_cast<double>(counts.size());
  const double deviation = std::sqrt(draws * p * (1.0 - p));
  double worst = 0.0;
  for (const int c : counts) worst = std::max(worst, std::abs(c - draws * p) / deviation);
  return worst;
}

}  // namespace

TEST_CASE("Philox gives the authors' known answers", "[engine][random]") {
  // The three vectors of Random123's kat_vectors: counter, key, result.
  const std::array<std::array<std::uint32_t, 10>, 3> vectors{{
      {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
      {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
      {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
       0x94fdcceb, 0x5001e420, 0x24126ea1},
  }};
  for (const auto& v : vectors) {
    // A word's index fits 64 bits only while the counter does 62: the upper bits of the other two
    // vectors go through the reference twin.
    const std::array<std::uint32_t, 4> expected{v[6], v[7], v[8], v[9]};
    CHECK(kernels::reference::philox4x32_10({v[0], v[1], v[2], v[3]}, {v[4], v[5]}) == expected);
  }
  for (std::uint64_t i = 0; i < 4; ++i) CHECK(Philox::word(0, 0, i) == vectors[0][6 + i]);
}

TEST_CASE("the host generator equals the kernels' generator", "[engine][random]") {
  for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{0xfffffffe}}) {
    kernels::RandomProblem problem{.count = 64, .seed = 0x123456789abcdef0u};
    problem.stream = join(7, 0x80000001);
    problem.offset = offset;
    std::vector<float> uniform(64), normal(64);
    problem.low = -0.25f;
    problem.high = 0.75f;
    kernels::reference::philox_uniform(problem, uniform.data());
    problem.low = 0.0f;
    problem.high = 1.0f;
    kernels::reference::philox_normal(problem, normal.data());

    Philox a(problem.seed, problem.stream, offset * 4);
    for (const float value : uniform) CHECK(a.uniform(-0.25f, 0.75f) == value);
    Philox b(problem.seed, problem.stream, offset * 4);
    for (std::size_t i = 0; i < normal.size(); i += 2)
      CHECK(b.normal() == Approx(normal[i]).epsilon(1e-6).margin(1e-7));
  }
}

TEST_CASE("a saved state continues the sequence", "[engine][random]") {
  Philox random(5, 9);
  for (int i = 0; i < 7; ++i) random.next();
  random.normal();
  const RandomState state = random.state();
  CHECK(state == RandomState{5, 9, 9});
  Philox again(state);
  for (int i = 0; i < 20; ++i) {
    const std::uint32_t value = random.next();
    CHECK(again.next() == value);
    CHECK(Philox::word(5, 9, 9 + static_cast<std::uint64_t>(i)) == value);
  }
}

TEST_CASE("every draw takes its stated number of words", "[engine][random]") {
  Philox random(1);
  const auto taken = [&](auto draw) {
    const std::uint64_t before = random.state().position;
    draw();
    return random.state().position - before;
  };
  for (int repeat = 0; repeat < 5; ++repeat) {
    CHECK(taken([&] { random.next(); }) == 1);
    CHECK(taken([&] { random.next64(); }) == 2);
    CHECK(taken([&] { random.uniform(); }) == 1);
    CHECK(taken([&] { random.normal(); }) == 2);
    CHECK(taken([&] { random.bounded(3); }) == 2);
    CHECK(taken([&] { random.chance(0.5f); }) == 1);
    CHECK(taken([&] { random.permutation(10); }) == 18);
    CHECK(taken([&] { random.permutation(0); }) == 0);
  }
}

TEST_CASE("seeds and streams differ", "[engine][random]") {
  std::set<std::uint64_t> values;
  for (std::uint64_t seed = 0; seed < 30; ++seed)
    for (std::uint64_t stream = 0; stream < 30; ++stream)
      values.insert(Philox(seed, stream).next64());
  CHECK(values.size() == 900);
}

TEST_CASE("uniform is even over [0,1)", "[engine][random]") {
  Philox random(2);
  constexpr int kDraws = 200000;
  std::vector<int> cells(100);
  for (int i = 0; i < kDraws; ++i) {
    const float value = random.uniform();
    REQUIRE((value >= 0.0f && value < 1.0f));
    ++cells[static_cast<std::size_t>(value * 100.0f)];
  }
  CHECK(worst_cell(cells, kDraws) < 4.5);
}

TEST_CASE("normal has the moments and the shape of a normal distribution", "[engine][random]") {
  Philox random(3);
  constexpr int kDraws = 200000;
  double sum = 0.0, squares = 0.0, cubes = 0.0, fourths = 0.0, greatest = 0.0;
  int inside = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double z = random.normal();
    sum += z;
    squares += z * z;
    cubes += z * z * z;
    fourths += z * z * z * z;
    inside += std::abs(z) < 1.0 ? 1 : 0;
    greatest = std::max(greatest, std::abs(z));
  }
  const double root = std::sqrt(static_cast<double>(kDraws));
  CHECK(std::abs(sum / kDraws) < 4.0 / root);
  CHECK(std::abs(squares / kDraws - 1.0) < 4.0 * std::sqrt(2.0) / root);
  CHECK(std::abs(cubes / kDraws) < 4.0 * std::sqrt(15.0) / root);
  CHECK(std::abs(fourths / kDraws - 3.0) < 4.0 * std::sqrt(96.0) / root);
  CHECK(std::abs(inside / static_cast<double>(kDraws) - 0.6826894921) < 4.0 * 0.4655 / root);
  CHECK(greatest > 4.0);
  CHECK(greatest < 5.78);
}

TEST_CASE("normal is Box and Muller's formula rounded to float", "[engine][random]") {
  Philox random(4);
  int different = 0;
  for (int i = 0; i < 100000; ++i) {
    Philox words(random.state());
    const double u = ((words.next() >> 8) + 1.0) * 0x1p-24;
    const double turns = (words.next() >> 8) * 0x1p-24;
    const double z = std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * turns);
    const float value = random.normal();
    // Near a zero of the cosine the library's own argument 2 pi t has an error of 1e-16.
    REQUIRE(!(std::abs(value - z) > 6e-8 * std::abs(z) + 4e-15));
    different += value != static_cast<float>(z) ? 1 : 0;
  }
  CHECK(different <= 2);
}

TEST_CASE("normal gives these very bits everywhere", "[engine][random]") {
  Philox random(1, 2, 3);
  std::uint32_t sum = 0;
  for (int i = 0; i < 1000; ++i) {
    const float value = random.normal();
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    sum = sum * 31 + bits;
  }
  CHECK(sum == 693696976u);
}

TEST_CASE("bounded numbers are even and in range", "[engine][random]") {
  Philox random(6);
  for (const std::uint64_t bound : {std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{3},
                                    std::uint64_t{7}, std::uint64_t{100}}) {
    std::vector<int> cells(bound);
    constexpr int kDraws = 50000;
    for (int i = 0; i < kDraws; ++i) {
      const std::uint64_t value = random.bounded(bound);
      REQUIRE(value < bound);
      ++cells[value];
    }
    if (bound > 1) CHECK(worst_cell(cells, kDraws) < 4.5);
  }
  // Three quarters of the range: a modulus would favour the lower third.
  const std::uint64_t bound = std::uint64_t{3} << 62;
  int lower_third = 0;
  for (int i = 0; i < 30000; ++i) lower_third += random.bounded(bound) < bound / 3 ? 1 : 0;
  CHECK(std::abs(lower_third - 10000) < 400);
  CHECK_THROWS_AS(random.bounded(0), Error);
}

TEST_CASE("every order is equally likely", "[engine][random]") {
  Philox random(7);
  std::vector<int> cells(24);
  constexpr int kDraws = 48000;
  for (int i = 0; i < kDraws; ++i) {
    const std::vector<std::int64_t> p = random.permutation(4);
    std::size_t rank = 0;
    for (std::size_t a = 0; a < 4; ++a) {
      std::size_t smaller = 0;
      for (std::size_t b = a + 1; b < 4; ++b) smaller += p[b] < p[a] ? 1 : 0;
      rank = rank * (4 - a) + smaller;
    }
    ++cells[rank];
  }
  CHECK(worst_cell(cells, kDraws) < 4.5);

  std::vector<std::int64_t> large = random.permutation(1000);
  CHECK(!std::is_sorted(large.begin(), large.end()));
  std::sort(large.begin(), large.end());
  for (std::size_t i = 0; i < large.size(); ++i) REQUIRE(large[i] == static_cast<std::int64_t>(i));
}
