#pragma once

#include <initializer_list>
#include <string>

#include "kernels/api/problem.h"
#include "tests/support/compare.h"
#include "tests/support/fill.h"

/// What the tests of fused ops share: small exact data and the names of a map's dimensions.
namespace subpix::tests {

inline std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// `count` values drawn from `choices`.
inline Values chosen(std::initializer_list<double> choices, Index count, const std::string& key,
                     const char* buffer) {
  Generator generator(seed_of(key + "/" + buffer));
  Values values(at(count));
  for (double& v : values)
    v = choices.begin()[generator.integer(0, static_cast<int>(choices.size()) - 1)];
  return values;
}

inline Dims map_dims(Index n, Index h, Index w, Index c) {
  return {{"n", n}, {"h", h}, {"w", w}, {"c", c}};
}
inline Dims y_dims(const kernels::Conv2dProblem& d) { return map_dims(d.n, d.p(), d.q(), d.k); }

}  // namespace subpix::tests
