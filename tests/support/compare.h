#pragma once

#include <cmath>
#include <cstddef>
#include <iomanip>
#include <limits>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "kernels/api/types.h"
#include "tests/support/fill.h"

/// Comparison with an oracle by the one tolerance rule of docs/numerics.md.
namespace subpix::tests {

/// Unit roundoff 2^-p of a type with p significant bits: half a unit in the last place, relatively.
template <class T>
constexpr double kRoundoff = 0x1p-24;
template <>
inline constexpr double kRoundoff<bf16> = 0x1p-8;
constexpr double kAccumulate = 0x1p-24;  // sums run in fp32, whatever the storage

/// c * K of the rule: how many roundings a sum of `terms` products may pile up (docs/numerics.md).
inline double growth(double terms) { return 4.0 + 4.0 * std::sqrt(terms); }

/// The same for reductions of a whole tensor. One running fp32 sum over millions of elements would
/// lose most digits, so these are held to blocks of at most 1024 terms (or wider accumulators).
inline double reduction_growth(double terms) { return growth(terms < 1024.0 ? terms : 1024.0); }

/// Allowed error of one element: one rounding to T on top of `roundings` roundings in fp32 of
/// values no larger than `magnitude` (the sum of the absolute terms). The last summand admits
/// subnormal results.
template <class T>
double allowed(double reference, double roundings, double magnitude) {
  return kRoundoff<T> * std::fabs(reference) + roundings * kAccumulate * magnitude + 0x1p-126;
}

/// Names and sizes of an output's dimensions, outermost first: {{"n", 2}, {"p", 5}, ...}.
using Dims = std::vector<std::pair<const char*, Index>>;

inline std::string coordinates(const Dims& dims, Index index) {
  std::string text;
  for (std::size_t i = dims.size(); i-- > 0;) {
    const Index at = dims[i].second > 0 ? index % dims[i].second : 0;
    index = dims[i].second > 0 ? index / dims[i].second : 0;
    text =
        std::string(text.empty() ? "" : " ").insert(0, dims[i].first + std::to_string(at)) + text;
  }
  return text;
}

/// What an output must be. bound holds the allowed error of each element; 0 demands equality (0 and
/// -0 count as equal). Where value is NaN, the output must be NaN too.
struct Expected {
  std::string what;  ///< name of the output: "y", "dw", ...
  Dims dims;
  Values value;
  Values bound;
  Values tf32_bound = {};  ///< of variants whose operands are rounded to TF32, where it differs
};

/// Empty where every element is within its bound, else a sentence with the worst element. A NaN in
/// `got`, or a wrong count, never passes.
inline std::string compare(const Values& got, const Expected& expected) {
  const std::size_t count = expected.value.size();
  if (got.size() != count || expected.bound.size() != count)
    return concat(expected.what, ": ", got.size(), " elements, expected ", count, " with ",
                  expected.bound.size(), " bounds");
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::size_t wrong = 0, worst = 0;
  double worst_ratio = -1.0;
  for (std::size_t i = 0; i < count; ++i) {
    const double reference = expected.value[i], bound = expected.bound[i];
    if (std::isnan(reference) ? std::isnan(got[i]) : got[i] == reference) continue;
    const double error = std::fabs(got[i] - reference);
    if (std::isfinite(bound) && error <= bound) continue;
    ++wrong;
    double ratio = bound > 0.0 ? error / bound : error;
    if (!std::isfinite(ratio)) ratio = kInfinity;
    if (ratio > worst_ratio) {
      worst_ratio = ratio;
      worst = i;
    }
  }
  if (wrong == 0) return {};
  std::ostringstream text;
  text << expected.what << ": " << wrong << " of " << count << " elements wrong, worst at "
       << coordinates(expected.dims, static_cast<Index>(worst)) << ": " << std::setprecision(9)
       << got[worst] << " instead of " << expected.value[worst] << " (off by "
       << std::fabs(got[worst] - expected.value[worst]) << ", allowed " << expected.bound[worst]
       << ")";
  return text.str();
}

/// Bounds of zero: equality everywhere.
inline Values exact(const Values& value) { return Values(value.size(), 0.0); }

/// The same values as T stores them.
template <class T>
Values rounded_all(Values values) {
  for (double& v : values) v = rounded<T>(v);
  return values;
}

/// A tolerance proves itself: the oracle's own result, rounded to T, must pass, and with element
/// `index` replaced by `wrong` (what a kernel with one fault would store) it must fail. Returns a
/// sentence where the check is blind, else nothing.
template <class T>
std::string prove(const Expected& expected, std::size_t index, double wrong) {
  Values got = rounded_all<T>(expected.value);
  if (const std::string message = compare(got, expected); !message.empty())
    return "the oracle fails its own check: " + message;
  got[index] = rounded<T>(wrong);
  if (!compare(got, expected).empty()) return {};
  std::ostringstream text;
  text << expected.what << ": the tolerance is blind at "
       << coordinates(expected.dims, static_cast<Index>(index)) << ": it takes "
       << std::setprecision(9) << got[index] << " for " << expected.value[index] << ", allowed "
       << expected.bound[index];
  return text.str();
}

/// prove() with a whole faulty result: the one element that differs most from the oracle must be
/// enough.
template <class T>
std::string prove(const Expected& expected, const Values& faulty) {
  std::size_t most = 0;
  double difference = -1.0;
  for (std::size_t i = 0; i < faulty.size(); ++i)
    if (const double d = std::fabs(faulty[i] - expected.value[i]); d > difference) {
      difference = d;
      most = i;
    }
  return prove<T>(expected, most, faulty[most]);
}

}  // namespace subpix::tests
