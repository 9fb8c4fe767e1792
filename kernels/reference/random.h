#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "kernels/api/problem.h"
#include "kernels/reference/number.h"

/// Counter-based random numbers: Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy
/// as 1, 2, 3", SC'11. Element i depends on seed, stream, offset and i alone, so any number of
/// threads or blocks makes the same numbers.
namespace subpix::kernels::reference {

/// Ten rounds of Philox on one block.
constexpr std::array<std::uint32_t, 4> philox4x32_10(std::array<std::uint32_t, 4> counter,
                                                     std::array<std::uint32_t, 2> key) {
  constexpr std::uint64_t kMultiply0 = 0xD2511F53, kMultiply1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;  // golden ratio, sqrt(3) - 1
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = kMultiply0 * counter[0], b = kMultiply1 * counter[2];
    counter = {
        static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
        static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key = {key[0] + kWeyl0, key[1] + kWeyl1};
  }
  return counter;
}

/// The block of words that holds elements 4*block .. 4*block + 3 of a problem.
constexpr std::array<std::uint32_t, 4> philox_block(const RandomProblem& d, Index block) {
  const std::uint64_t position = d.offset + static_cast<std::uint64_t>(block);
  return philox4x32_10(
      {static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32),
       static_cast<std::uint32_t>(d.stream), static_cast<std::uint32_t>(d.stream >> 32)},
      {static_cast<std::uint32_t>(d.seed), static_cast<std::uint32_t>(d.seed >> 32)});
}

/// Every operation rounded to float on its own, so that all backends give equal bits.
template <class Real>
void philox_uniform(const RandomProblem& d, Real* y) {
  constexpr Real kUlp = static_cast<Real>(0x1p-24);
  const Real low = d.low, width = static_cast<Real>(d.high) - low;
  for (Index i = 0; i < d.count; ++i) {
    const std::uint32_t word = philox_block(d, i / 4)[static_cast<std::size_t>(i % 4)];
    const Real step = width * (static_cast<Real>(word >> 8) * kUlp);
    y[i] = low + step;
  }
}

/// Box-Muller: of words a, b come radius * cos(angle) and radius * sin(angle) with
/// radius = sqrt(-2 ln u), u = ((a >> 8) + 1) * 2^-24 in (0,1], angle = 2 pi (b >> 8) * 2^-24.
template <class Real>
void philox_normal(const RandomProblem& d, Real* y) {
  for (Index i = 0; i < d.count; ++i) {
    const auto words = philox_block(d, i / 4);
    const std::size_t pair = static_cast<std::size_t>(i % 4) / 2 * 2;
    const double u = (static_cast<double>(words[pair] >> 8) + 1.0) * 0x1p-24;
    const double angle =
        2.0 * std::numbers::pi * (static_cast<double>(words[pair + 1] >> 8) * 0x1p-24);
    const double radius = std::sqrt(-2.0 * std::log(u));
    const double z = radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
    y[i] = static_cast<Real>(load(d.low) + load(d.high) * z);
  }
}

}  // namespace subpix::kernels::reference
