#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace subpix::engine {

/// Where a random sequence stands: everything that a checkpoint must keep to continue it.
struct RandomState {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;    ///< sequences of one seed with different streams are independent
  std::uint64_t position = 0;  ///< 32-bit words drawn so far
  bool operator==(const RandomState&) const = default;
};

/// Random numbers on the host: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
/// 1, 2, 3", SC'11) laid out as kernels::RandomProblem lays it out, so word i is word i % 4 of the
/// block with counter i / 4. A number depends on seed, stream and position alone, and every
/// function takes a fixed number of words. The same numbers come out on every machine: no function
/// of the system's mathematical library whose last bit is free is used.
class Philox {
 public:
  explicit Philox(std::uint64_t seed, std::uint64_t stream = 0, std::uint64_t position = 0)
      : state_{seed, stream, position} {}
  explicit Philox(const RandomState& state) : state_(state) {}

  const RandomState& state() const { return state_; }

  /// Word `index` of the sequence (seed, stream), whatever was drawn before.
  static std::uint32_t word(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);

  /// 32 random bits; takes one word.
  std::uint32_t next();
  /// 64 random bits, the low word first; takes two words.
  std::uint64_t next64();
  /// [0, 1) in steps of 2^-24; takes one word.
  float uniform();
  /// [low, high], each operation rounded to float; takes one word.
  float uniform(float low, float high);
  /// Mean 0, deviation 1, at most 5.77 from 0 (Box and Muller's cosine branch, computed in double
  /// and rounded once); takes two words.
  float normal();
  /// 0 .. bound - 1; bound >= 1. The high half of bound times 64 random bits, so no value is more
  /// than bound * 2^-64 off its fair share; takes two words.
  std::uint64_t bounded(std::uint64_t bound);
  /// True with the given probability in steps of 2^-24; takes one word.
  bool chance(float probability) { return uniform() < probability; }

  /// Every order equally likely (Fisher and Yates); takes two words per element but the first.
  template <class T>
  void shuffle(std::span<T> values) {
    for (std::size_t i = values.size(); i > 1; --i)
      std::swap(values[i - 1], values[static_cast<std::size_t>(bounded(i))]);
  }
  /// 0 .. count - 1 in random order.
  std::vector<std::int64_t> permutation(std::int64_t count);

 private:
  RandomState state_;
  std::array<std::uint32_t, 4> block_{};            ///< the words of block `block_number_`
  std::uint64_t block_number_ = ~std::uint64_t{0};  ///< no position reaches this block
};

}  // namespace subpix::engine
