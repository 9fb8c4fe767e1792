#pragma once

#include <cmath>
#include <cstddef>
#include <functional>
#include <string>

#include "kernels/api/error.h"
#include "tests/support/fill.h"

/// Derivatives of the double oracle against central differences.
namespace subpix::tests {

inline double dot(const Values& a, const Values& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// Compares `gradient` with (f(x + h) - f(x - h)) / 2h for every element of x, which f reads; error
/// relative to 1 + |gradient|. Returns a sentence about the first element that is off, else
/// nothing. h is small enough for the h^2 term and large enough that double's rounding stays below
/// 1e-10.
inline std::string gradcheck(const std::string& what, Values& x, const Values& gradient,
                             const std::function<double()>& f, double tolerance = 1e-6,
                             double h = 1e-5) {
  if (x.size() != gradient.size())
    return concat(what, ": ", gradient.size(), " derivatives for ", x.size(), " elements");
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double kept = x[i];
    x[i] = kept + h;
    const double above = f();
    x[i] = kept - h;
    const double below = f();
    x[i] = kept;
    const double difference = (above - below) / (2.0 * h);
    if (!(std::fabs(difference - gradient[i]) <= tolerance * (1.0 + std::fabs(gradient[i]))))
      return concat(what, "[", i, "]: derivative ", gradient[i], ", central difference ",
                    difference);
  }
  return {};
}

/// Moves values away from 0, where absolute values and slopes have a kink.
inline Values away_from_zero(Values values, double least = 0.05) {
  for (double& v : values)
    if (std::fabs(v) < least) v = v < 0.0 ? -least - std::fabs(v) : least + std::fabs(v);
  return values;
}

}  // namespace subpix::tests
