#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/api/problem.h"
#include "kernels/api/types.h"

/// Test data. A buffer's seed is its case key and its name, so a failing case can be rerun alone
/// and gives the same numbers. Values travel as double and are exact in the tested type.
namespace subpix::tests {

using kernels::Index;

/// Integers: -3 to 3, sums of products stay exact in fp32, so equal bits are demanded of linear
/// ops. Uniform: [-1, 1], rounded to the tested type first.
enum class Fill { Integers, Uniform };

inline const char* name(Fill fill) { return fill == Fill::Integers ? "integers" : "uniform"; }

using Values = std::vector<double>;

/// FNV-1a, 64 bits.
inline std::uint64_t seed_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

/// SplitMix64: small, and independent of the generator under test.
class Generator {
 public:
  explicit Generator(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  double uniform(double low, double high) {
    return low + (high - low) * (static_cast<double>(next() >> 11) * 0x1p-53);
  }
  int integer(int low, int high) {
    return low + static_cast<int>(next() % static_cast<std::uint64_t>(high - low + 1));
  }

 private:
  std::uint64_t state_;
};

/// v as the type T holds it.
template <class T>
double rounded(double v) {
  return static_cast<double>(to_float(store<T>(v)));
}

/// `count` values for the buffer called `buffer` of the case called `key`.
template <class T>
Values fill_values(Fill fill, Index count, const std::string& key, const std::string& buffer) {
  Generator generator(seed_of(key + "/" + buffer));
  Values values(static_cast<std::size_t>(count));
  for (double& v : values)
    v = fill == Fill::Integers ? generator.integer(-3, 3) : rounded<T>(generator.uniform(-1, 1));
  return values;
}

/// Uniform in [low, high], rounded to T.
template <class T>
Values uniform_values(double low, double high, Index count, const std::string& key,
                      const std::string& buffer) {
  Generator generator(seed_of(key + "/" + buffer));
  Values values(static_cast<std::size_t>(count));
  for (double& v : values) v = rounded<T>(generator.uniform(low, high));
  return values;
}

inline Values magnitudes(Values values) {
  for (double& v : values) v = v < 0 ? -v : v;
  return values;
}

}  // namespace subpix::tests
