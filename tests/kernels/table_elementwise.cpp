#include <algorithm>
#include <limits>

#include "kernels/reference/elementwise.h"
#include "tests/kernels/op_case.h"
#include "tests/support/problems.h"

namespace subpix::tests {

namespace {

namespace reference = kernels::reference;
using kernels::ElementProblem;
using kernels::KernelTable;
using kernels::ReduceProblem;
using kernels::Reduction;
using kernels::TypedOps;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

Values neighbours(Values values) {
  std::rotate(values.begin(), values.begin() + 1, values.end());
  return values;
}

/// A [count] output "y": exact for integers, else `roundings` of values up to magnitude[i].
template <class T>
Expected elements(Fill fill, const Values& value, double roundings, const Values& magnitude) {
  const Dims dims = {{"i", static_cast<Index>(value.size())}};
  if (fill == Fill::Integers) return {"y", dims, rounded_all<T>(value), exact(value)};
  Expected y{"y", dims, value, exact(value)};
  for (std::size_t i = 0; i < value.size(); ++i)
    y.bound[i] = allowed<T>(value[i], roundings, std::fabs(magnitude[i]));
  return y;
}

/// Proves the tolerance of y against an index error by one element.
template <class T>
void prove_index(Report& report, const std::string& where, Fill fill, const Expected& y) {
  if (fill == Fill::Uniform && y.value.size() > 1)
    report.check(where, prove<T>(y, neighbours(y.value)));
}

template <class T>
void run_add(Report& report) {
  for (const Index count : element_counts())
    for (const Fill fill : {Fill::Integers, Fill::Uniform}) {
      const ElementProblem d{.count = count};
      const Values a = fill_values<T>(fill, count, d.key(), "a");
      const Values b = fill_values<T>(fill, count, d.key(), "b");
      Values value(a.size());
      reference::add<double>(d, a.data(), b.data(), value.data());
      const Expected y = elements<T>(fill, value, 1.0, value);
      prove_index<T>(report, "add " + d.key(), fill, y);
      for (const int place : {0, 1, 2})
        check_variants(
            report, &TypedOps<T>::add, d,
            concat(name(fill), place == 0   ? ""
                               : place == 1 ? " y = a"
                                            : " y = b"),
            {y}, [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
              const T* in_a = place == 1 ? buffers.inout<T>("a", a) : buffers.in<T>("a", a);
              const T* in_b = place == 2 ? buffers.inout<T>("b", b) : buffers.in<T>("b", b);
              T* out = place == 0   ? buffers.out<T>("y", count)
                       : place == 1 ? const_cast<T*>(in_a)
                                    : const_cast<T*>(in_b);
              run(in_a, in_b, out);
              return {buffers.read(out)};
            });
    }
}

template <class T>
void run_axpby(Report& report) {
  for (const Index count : element_counts())
    for (const auto& [alpha, beta] : {std::pair{2.0f, 0.0f}, std::pair{1.0f, 1.0f},
                                      std::pair{0.5f, -2.0f}, std::pair{0.3f, 0.7f}}) {
      const Fill fill = alpha == 0.3f ? Fill::Uniform : Fill::Integers;
      const ElementProblem d{.count = count, .alpha = alpha, .beta = beta};
      const Values x = fill_values<T>(fill, count, d.key(), "x");
      const bool fresh = beta == 0.0f;  // then y must not be read, and starts as poison
      const Values before = fill_values<T>(fill, fresh ? 0 : count, d.key(), "y");
      Values value = fresh ? Values(x.size(), kNan) : before, magnitude(x.size());
      reference::axpby<double>(d, x.data(), value.data());
      for (std::size_t i = 0; i < x.size(); ++i)
        magnitude[i] = std::fabs(static_cast<double>(alpha) * x[i]) +
                       (fresh ? 0.0 : std::fabs(static_cast<double>(beta) * before[i]));
      const Expected y = elements<T>(fill, value, 3.0, magnitude);
      prove_index<T>(report, "axpby " + d.key(), fill, y);
      check_variants(report, &TypedOps<T>::axpby, d, concat("alpha ", alpha, " beta ", beta), {y},
                     [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                       T* both = fresh ? buffers.out<T>("y", count) : buffers.inout<T>("y", before);
                       run(buffers.in<T>("x", x), both);
                       return {buffers.read(both)};
                     });
    }
}

template <class T>
void run_scale(Report& report) {
  for (const Index count : element_counts())
    for (const Fill fill : {Fill::Integers, Fill::Uniform})
      for (const bool with_scalar : {true, false}) {
        const bool integers = fill == Fill::Integers;
        const ElementProblem d{.count = count, .alpha = integers ? -2.0f : 0.3f};
        const Values x = fill_values<T>(fill, count, d.key(), "x");
        const Values s = with_scalar ? Values{rounded<float>(integers ? 0.5 : 1.7)} : Values{};
        Values value(x.size());
        reference::scale<double>(d, x.data(), with_scalar ? s.data() : nullptr, value.data());
        const Expected y = elements<T>(fill, value, 3.0, value);
        prove_index<T>(report, "scale " + d.key(), fill, y);
        for (const bool in_place : {false, true})
          check_variants(
              report, &TypedOps<T>::scale, d,
              concat(name(fill), with_scalar ? "" : " no scalar", in_place ? " in place" : ""), {y},
              [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                const float* scalar = buffers.in<float>("s", s);
                T* out = in_place ? buffers.inout<T>("x", x) : buffers.out<T>("y", count);
                run(in_place ? out : buffers.in<T>("x", x), scalar, out);
                return {buffers.read(out)};
              });
      }
}

template <class T>
void run_fill(Report& report) {
  for (const Index count : element_counts())
    for (const float alpha : {0.0f, -1.5f, 0.1f}) {
      const ElementProblem d{.count = count, .alpha = alpha};
      // One rounding, to nearest: exact after it.
      const Values value(static_cast<std::size_t>(count), static_cast<double>(alpha));
      const Expected y = elements<T>(Fill::Integers, value, 0.0, value);
      check_variants(report, &TypedOps<T>::fill, d, concat("alpha ", alpha), {y},
                     [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                       T* out = buffers.out<T>("y", count);
                       run(out);
                       return {buffers.read(out)};
                     });
    }
}

template <class T>
void run_channel_affine(Report& report) {
  for (const ChannelProblem& d : channel_problems()) {
    if (d.shared) continue;  // PReLU's word
    for (const Fill fill : {Fill::Integers, Fill::Uniform})
      for (const bool with_shift : {true, false}) {
        const Values x = fill_values<T>(fill, d.count(), d.key(), "x");
        const Values factor = fill_values<float>(fill, d.c, d.key(), "scale");
        const Values shift = fill_values<float>(fill, with_shift ? d.c : 0, d.key(), "shift");
        Values value(x.size()), magnitude(x.size());
        reference::channel_affine<double>(d, x.data(), factor.data(),
                                          with_shift ? shift.data() : nullptr, value.data());
        const Values abs_shift = magnitudes(shift);
        reference::channel_affine<double>(d, magnitudes(x).data(), magnitudes(factor).data(),
                                          with_shift ? abs_shift.data() : nullptr,
                                          magnitude.data());
        Expected y = elements<T>(fill, value, 2.0, magnitude);
        y.dims = {{"row", d.rows}, {"c", d.c}};
        prove_index<T>(report, "channel_affine " + d.key(), fill, y);
        check_variants(report, &TypedOps<T>::channel_affine, d,
                       concat(name(fill), with_shift ? "" : " no shift"), {y},
                       [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                         T* out = buffers.out<T>("y", d.count());
                         run(buffers.in<T>("x", x), buffers.in<float>("scale", factor),
                             buffers.in<float>("shift", shift), out);
                         return {buffers.read(out)};
                       });
      }
  }
}

template <class T>
void run_from_bytes(Report& report) {
  for (const Index count : element_counts())
    for (const auto& [alpha, beta] :
         {std::pair{1.0f, 0.0f}, std::pair{1.0f / 255, 0.0f}, std::pair{2.0f / 255, -1.0f}}) {
      const ElementProblem d{.count = count, .alpha = alpha, .beta = beta};
      const Fill fill = alpha == 1.0f ? Fill::Integers : Fill::Uniform;
      std::vector<std::uint8_t> x(static_cast<std::size_t>(count));
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::uint8_t>(i * 37 % 256);
      const Values as_values(x.begin(), x.end());
      Values value(x.size()), magnitude(x.size());
      reference::from_bytes<double>(d, x.data(), value.data());
      for (std::size_t i = 0; i < x.size(); ++i)
        magnitude[i] =
            std::fabs(static_cast<double>(alpha) * x[i]) + std::fabs(static_cast<double>(beta));
      const Expected y = elements<T>(fill, value, 2.0, magnitude);
      prove_index<T>(report, "from_bytes " + d.key(), fill, y);
      check_variants(report, &TypedOps<T>::from_bytes, d, concat("alpha ", alpha, " beta ", beta),
                     {y}, [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                       T* out = buffers.out<T>("y", count);
                       run(buffers.in<std::uint8_t>("x", as_values), out);
                       return {buffers.read(out)};
                     });
    }
}

template <class T>
void check_to_bytes(Report& report, const ElementProblem& d, const Values& x,
                    const std::string& remark) {
  std::vector<std::uint8_t> bytes(x.size());
  reference::to_bytes<double>(d, x.data(), bytes.data());
  Expected y{"y", {{"i", d.count}}, Values(bytes.begin(), bytes.end()), Values(x.size(), 0.0)};
  for (std::size_t i = 0; i < x.size(); ++i) {
    // Within the rounding errors of fp32 from a step of floor() both neighbours are right.
    const double product = static_cast<double>(d.alpha) * x[i];
    const double at = product + static_cast<double>(d.beta) + 0.5;
    const double slack =
        4.0 * kAccumulate * (std::fabs(product) + std::fabs(static_cast<double>(d.beta)) + 0.5);
    if (d.alpha != 1.0f && std::fabs(at - std::round(at)) <= slack) y.bound[i] = 1.0;
  }
  check_variants(report, &TypedOps<T>::to_bytes, d, remark, {y},
                 [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                   auto* out = buffers.out<std::uint8_t>("y", d.count);
                   run(buffers.in<T>("x", x), out);
                   return {buffers.read(out)};
                 });
}

template <class T>
void run_to_bytes(Report& report) {
  for (const Index count : element_counts()) {
    const ElementProblem unit{.count = count, .alpha = 255.0f};
    check_to_bytes<T>(report, unit, uniform_values<T>(-0.2, 1.2, count, unit.key(), "x"), "0..1");
    const ElementProblem symmetric{.count = count, .alpha = 127.5f, .beta = 127.5f};
    check_to_bytes<T>(report, symmetric, uniform_values<T>(-1.1, 1.1, count, unit.key(), "x"),
                      "-1..1");
  }
  // Ties go up, and what is no number or out of range has its place.
  const Values x = {-kInf, -0.5, -0.0, 0.25, 0.5, 0.75, 1.5, 2.5, 254.5, 255.0, 256.0, kInf, kNan};
  check_to_bytes<T>(report, {.count = static_cast<Index>(x.size())}, rounded_all<T>(x), "special");
}

template <class T>
void check_reduce(Report& report, const ReduceProblem& d, Fill fill, const Values& x,
                  const std::string& remark) {
  Expected y{"y", {{"i", 1}}, {0.0}, {0.0}};
  reference::reduce<double>(d, x.data(), y.value.data());
  const bool sum = d.reduction == Reduction::Sum || d.reduction == Reduction::SumSquares;
  if (sum && fill == Fill::Uniform) {
    double magnitude = 0.0, largest = 0.0;
    for (const double v : x) {
      const double term = d.reduction == Reduction::Sum ? v : v * v;
      magnitude += std::fabs(term);
      if (std::fabs(term) > std::fabs(largest)) largest = term;
    }
    y.bound[0] =
        allowed<float>(y.value[0], reduction_growth(static_cast<double>(d.count)), magnitude);
    report.check("reduce " + d.key(), prove<float>(y, 0, y.value[0] - largest));
  }
  check_variants(report, &TypedOps<T>::reduce, d, remark, {y},
                 [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                   float* out = buffers.out<float>("y", 1);
                   run(buffers.in<T>("x", x), out);
                   return {buffers.read(out)};
                 });
}

template <class T>
void run_reduce(Report& report) {
  for (const Index count : element_counts())
    for (const Reduction reduction :
         {Reduction::Sum, Reduction::SumSquares, Reduction::MaxAbs, Reduction::CountNonFinite}) {
      const ReduceProblem d{count, reduction};
      for (const Fill fill : {Fill::Integers, Fill::Uniform})
        check_reduce<T>(report, d, fill, fill_values<T>(fill, count, d.key(), "x"), name(fill));
      // The one value that matters at each end and in the middle.
      for (const Index where : {Index{0}, count / 2, count - 1}) {
        Values x(static_cast<std::size_t>(count), 1.0);
        x[static_cast<std::size_t>(where)] = -5.0;
        check_reduce<T>(report, d, Fill::Integers, x, concat("-5 at ", where));
        for (const double special : {kNan, -kInf}) {
          x[static_cast<std::size_t>(where)] = special;
          // The squares and sums of infinities are plain IEEE arithmetic.
          check_reduce<T>(report, d, Fill::Integers, x, concat(special, " at ", where));
        }
      }
    }
}

void run_cast_to_bf16(Report& report) {
  for (const Index count : element_counts()) {
    const ElementProblem d{.count = count};
    Values x = fill_values<float>(Fill::Uniform, count, d.key(), "x");
    // Ties to even, overflow to infinity, what is not finite, subnormals.
    const Values special = {0x1.01p0, 0x1.03p0, -0x1.01p0, 0x1.010002p0, 0x1.fffffep127,
                            kInf,     -kInf,    kNan,      0x1p-140,     -0x1.8p-133};
    for (std::size_t i = 0; i < std::min(x.size(), special.size()); ++i) x[i] = special[i];
    const Expected y = elements<bf16>(Fill::Integers, x, 0.0, x);
    check_variants(report, &KernelTable::cast_to_bf16, d, "", {y},
                   [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                     bf16* out = buffers.out<bf16>("y", count);
                     run(buffers.in<float>("x", x), out);
                     return {buffers.read(out)};
                   });
  }
}

void run_cast_to_float(Report& report) {
  for (const Index count : element_counts()) {
    const ElementProblem d{.count = count};
    Values x = fill_values<bf16>(Fill::Uniform, count, d.key(), "x");
    const Values special = {kInf, kNan, -0.0, 0x1p-133, -kInf};
    for (std::size_t i = 0; i < std::min(x.size(), special.size()); ++i) x[i] = special[i];
    const Expected y = elements<float>(Fill::Integers, x, 0.0, x);
    check_variants(report, &KernelTable::cast_to_float, d, "", {y},
                   [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                     float* out = buffers.out<float>("y", count);
                     run(buffers.in<bf16>("x", x), out);
                     return {buffers.read(out)};
                   });
  }
}

template <class T>
void add_typed(std::vector<OpCase>& cases) {
  cases.push_back({typed_name<T>("add"), run_add<T>});
  cases.push_back({typed_name<T>("axpby"), run_axpby<T>});
  cases.push_back({typed_name<T>("scale"), run_scale<T>});
  cases.push_back({typed_name<T>("fill"), run_fill<T>});
  cases.push_back({typed_name<T>("channel_affine"), run_channel_affine<T>});
  cases.push_back({typed_name<T>("from_bytes"), run_from_bytes<T>});
  cases.push_back({typed_name<T>("to_bytes"), run_to_bytes<T>});
  cases.push_back({typed_name<T>("reduce"), run_reduce<T>});
}

}  // namespace

void add_elementwise_cases(std::vector<OpCase>& cases) {
  add_typed<float>(cases);
  add_typed<bf16>(cases);
  cases.push_back({"cast_to_bf16", run_cast_to_bf16});
  cases.push_back({"cast_to_float", run_cast_to_float});
}

}  // namespace subpix::tests
