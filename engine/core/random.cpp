#include "engine/core/random.h"

#include <cmath>
#include <numbers>
#include <numeric>

#include "kernels/api/error.h"

namespace subpix::engine {
namespace {

/// Ten rounds on the block with the given counter. The twin of the reference kernels' generator,
/// which the engine must not include; tests hold the two equal.
std::array<std::uint32_t, 4> philox_block(std::uint64_t seed, std::uint64_t stream,
                                          std::uint64_t counter) {
  std::uint32_t c0 = static_cast<std::uint32_t>(counter);
  std::uint32_t c1 = static_cast<std::uint32_t>(counter >> 32);
  std::uint32_t c2 = static_cast<std::uint32_t>(stream);
  std::uint32_t c3 = static_cast<std::uint32_t>(stream >> 32);
  std::uint32_t k0 = static_cast<std::uint32_t>(seed);
  std::uint32_t k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53} * c0;
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<std::uint32_t>(product1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(product1);
    c2 = static_cast<std::uint32_t>(product0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(product0);
    k0 += 0x9E3779B9;  // Weyl sequences: the golden ratio and sqrt(3) - 1
    k1 += 0xBB67AE85;
  }
  return {c0, c1, c2, c3};
}

// Libraries differ in the last bit of log and cos. The following use only +, -, *, / and sqrt,
// which IEEE 754 rounds the same everywhere (this file is compiled without contraction). Both are
// good to about 1e-15, far below the float the result is rounded to.

/// ln x for x in (0, 1]: x = m * 2^e with m near 1, and ln m = 2 artanh((m - 1) / (m + 1)).
double natural_log(double x) {
  int exponent = 0;
  double m = std::frexp(x, &exponent);  // exact, [0.5, 1)
  if (m < 0.70710678118654752) {
    m *= 2.0;
    --exponent;
  }
  const double s = (m - 1.0) / (m + 1.0);  // |s| <= 0.172, so s^2 <= 0.0295
  const double square = s * s;
  double sum = 0.0;
  for (int k = 21; k >= 1; k -= 2) sum = sum * square + 1.0 / k;
  return 2.0 * s * sum + exponent * std::numbers::ln2;
}

/// cos(2 pi t) for t in [0, 1), by symmetry from arguments of at most pi / 4.
double cosine_of_turns(double t) {
  if (t > 0.5) t = 1.0 - t;  // exact, as t has 24 bits
  const bool negative = t > 0.25;
  if (negative) t = 0.5 - t;
  double value = 0.0;
  if (t <= 0.125) {
    const double x = 2.0 * std::numbers::pi * t, square = x * x;
    for (int k = 18; k >= 2; k -= 2) value = (value + 1.0) * (-square / (k * (k - 1)));
    value += 1.0;
  } else {
    const double x = 2.0 * std::numbers::pi * (0.25 - t), square = x * x;
    for (int k = 19; k >= 3; k -= 2) value = (value + 1.0) * (-square / (k * (k - 1)));
    value = (value + 1.0) * x;
  }
  return negative ? -value : value;
}

}  // namespace

std::uint32_t Philox::word(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return philox_block(seed, stream, index / 4)[index % 4];
}

std::uint32_t Philox::next() {
  const std::uint64_t number = state_.position / 4;
  if (number != block_number_) {
    block_ = philox_block(state_.seed, state_.stream, number);
    block_number_ = number;
  }
  return block_[state_.position++ % 4];
}

std::uint64_t Philox::next64() {
  const std::uint64_t low = next();
  return low | std::uint64_t{next()} << 32;
}

float Philox::uniform() { return static_cast<float>(next() >> 8) * 0x1p-24f; }

float Philox::uniform(float low, float high) {
  const float step = (high - low) * uniform();
  return low + step;
}

float Philox::normal() {
  const std::uint32_t a = next();
  const std::uint32_t b = next();
  const double u = (static_cast<double>(a >> 8) + 1.0) * 0x1p-24;  // (0, 1], so that its log exists
  const double radius = std::sqrt(-2.0 * natural_log(u));
  return static_cast<float>(radius * cosine_of_turns(static_cast<double>(b >> 8) * 0x1p-24));
}

std::uint64_t Philox::bounded(std::uint64_t bound) {
  SUBPIX_REQUIRE(bound >= 1, "no number lies below ", bound);
  const auto product = static_cast<unsigned __int128>(next64()) * bound;
  return static_cast<std::uint64_t>(product >> 64);
}

std::vector<std::int64_t> Philox::permutation(std::int64_t count) {
  SUBPIX_REQUIRE(count >= 0, "cannot order ", count, " things");
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  shuffle(std::span(order));
  return order;
}

}  // namespace subpix::engine
