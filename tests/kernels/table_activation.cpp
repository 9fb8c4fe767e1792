#include <algorithm>
#include <limits>

#include "kernels/reference/activation.h"
#include "tests/kernels/op_case.h"
#include "tests/support/problems.h"

namespace subpix::tests {

namespace {

namespace reference = kernels::reference;
using kernels::ElementProblem;
using kernels::TypedOps;

/// Slopes for exact results on integers (quarters), or any.
Values slopes(Fill fill, const ChannelProblem& d) {
  const Index count = d.shared ? 1 : d.c;
  Values values = uniform_values<float>(0.05, 0.45, count, d.key(), "slope");
  if (fill == Fill::Integers)
    for (double& v : values) v = v < 0.25 ? 0.25 : 0.5;
  return values;
}

template <class T>
Values product_bounds(Fill fill, const Values& value) {
  Values bounds = exact(value);
  if (fill == Fill::Uniform)
    for (std::size_t i = 0; i < value.size(); ++i)
      bounds[i] = allowed<T>(value[i], 2.0, std::fabs(value[i]));
  return bounds;
}

/// What a kernel off by one element would store.
Values neighbours(Values values) {
  if (values.size() > 1) std::rotate(values.begin(), values.begin() + 1, values.end());
  return values;
}

template <class T>
void run_prelu_forward(Report& report) {
  for (const ChannelProblem& d : channel_problems())
    for (const Fill fill : {Fill::Integers, Fill::Uniform}) {
      const Values x = fill_values<T>(fill, d.count(), d.key(), "x");
      const Values slope = slopes(fill, d);
      Values value(x.size());
      reference::prelu_forward<double>(d, x.data(), slope.data(), value.data());
      const Expected y{"y", {{"row", d.rows}, {"c", d.c}}, value, product_bounds<T>(fill, value)};
      if (d.count() > 1 && fill == Fill::Uniform)
        report.check("prelu_forward " + d.key(), prove<T>(y, neighbours(value)));
      check_variants(report, &TypedOps<T>::prelu_forward, d, name(fill), {y},
                     [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                       T* out = buffers.out<T>("y", d.count());
                       run(buffers.in<T>("x", x), buffers.in<float>("slope", slope), out);
                       return {buffers.read(out)};
                     });
    }
}

template <class T>
void run_prelu_backward(Report& report) {
  for (const ChannelProblem& d : channel_problems())
    for (const Fill fill : {Fill::Integers, Fill::Uniform}) {
      const Values x = fill_values<T>(fill, d.count(), d.key(), "x");
      const Values dy = fill_values<T>(fill, d.count(), d.key(), "dy");
      const Values slope = slopes(fill, d);
      Values dx(x.size()), dslope(slope.size()), magnitude(slope.size());
      reference::prelu_backward<double>(d, x.data(), dy.data(), slope.data(), dx.data(),
                                        dslope.data());
      // Where the sum takes x it is negative, so with |dy| all its terms have one sign.
      reference::prelu_backward<double>(d, x.data(), magnitudes(dy).data(), slope.data(), nullptr,
                                        magnitude.data());
      const double terms = static_cast<double>(d.shared ? d.count() : d.rows);
      Values dslope_bounds = exact(dslope);
      if (fill == Fill::Uniform)
        for (std::size_t i = 0; i < dslope.size(); ++i)
          dslope_bounds[i] =
              allowed<float>(dslope[i], reduction_growth(terms), std::fabs(magnitude[i]));
      const Expected want_dx{"dx", {{"row", d.rows}, {"c", d.c}}, dx, product_bounds<T>(fill, dx)};
      const Expected want_dslope{
          "dslope", {{"c", static_cast<Index>(slope.size())}}, dslope, dslope_bounds};
      if (fill == Fill::Uniform && d.count() > 1) {
        report.check("prelu_backward dx " + d.key(), prove<T>(want_dx, neighbours(dx)));
        // The largest product that counts, left out.
        std::size_t most = x.size();
        for (std::size_t i = 0; i < x.size(); ++i)
          if (x[i] < 0.0 &&
              (most == x.size() || std::fabs(x[i] * dy[i]) > std::fabs(x[most] * dy[most])))
            most = i;
        if (most < x.size()) {
          const std::size_t ch = d.shared ? 0 : most % slope.size();
          report.check("prelu_backward dslope " + d.key(),
                       prove<float>(want_dslope, ch, dslope[ch] - x[most] * dy[most]));
        }
      }
      for (const int outputs : {3, 1, 2}) {  // bit 0: dx, bit 1: dslope
        std::vector<Expected> expected;
        if (outputs & 1) expected.push_back(want_dx);
        if (outputs & 2) expected.push_back(want_dslope);
        check_variants(
            report, &TypedOps<T>::prelu_backward, d, concat(name(fill), " outputs ", outputs),
            expected, [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
              T* out_dx = buffers.out<T>("dx", outputs & 1 ? d.count() : 0);
              float* out_dslope =
                  buffers.out<float>("dslope", outputs & 2 ? static_cast<Index>(slope.size()) : 0);
              run(buffers.in<T>("x", x), buffers.in<T>("dy", dy), buffers.in<float>("slope", slope),
                  out_dx, out_dslope);
              std::vector<Values> got;
              if (outputs & 1) got.push_back(buffers.read(out_dx));
              if (outputs & 2) got.push_back(buffers.read(out_dslope));
              return got;
            });
      }
    }
}

template <class T>
void run_leaky_relu_forward(Report& report) {
  for (const Index count : element_counts())
    for (const float alpha : {0.0f, 0.25f, 0.2f}) {
      const Fill fill = alpha == 0.2f ? Fill::Uniform : Fill::Integers;
      const ElementProblem d{.count = count, .alpha = alpha};
      const Values x = fill_values<T>(fill, count, d.key(), "x");
      Values value(x.size());
      reference::leaky_relu_forward<double>(d, x.data(), value.data());
      const Expected y{"y", {{"i", count}}, value, product_bounds<T>(fill, value)};
      if (fill == Fill::Uniform && count > 1)
        report.check("leaky_relu_forward " + d.key(), prove<T>(y, neighbours(value)));
      for (const bool in_place : {false, true})
        check_variants(report, &TypedOps<T>::leaky_relu_forward, d,
                       concat("alpha ", alpha, in_place ? " in place" : ""), {y},
                       [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                         if (in_place) {
                           T* both = buffers.inout<T>("x", x);
                           run(both, both);
                           return {buffers.read(both)};
                         }
                         T* out = buffers.out<T>("y", count);
                         run(buffers.in<T>("x", x), out);
                         return {buffers.read(out)};
                       });
    }
  // A NaN or infinity must come out again: training stops on them, so no activation may hide one.
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const ElementProblem d{.count = 3, .alpha = 0.25f};
  const Expected y{"y", {{"i", 3}}, {kNan, kInf, -kInf}, {0, 0, 0}};
  check_variants(report, &TypedOps<T>::leaky_relu_forward, d, "not finite", {y},
                 [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                   T* out = buffers.out<T>("y", 3);
                   run(buffers.in<T>("x", {kNan, kInf, -kInf}), out);
                   return {buffers.read(out)};
                 });
}

template <class T>
void run_leaky_relu_backward(Report& report) {
  for (const Index count : element_counts())
    for (const float alpha : {0.0f, 0.25f, 0.2f}) {
      const Fill fill = alpha == 0.2f ? Fill::Uniform : Fill::Integers;
      const ElementProblem d{.count = count, .alpha = alpha};
      const Values y = fill_values<T>(fill, count, d.key(), "y");
      const Values dy = fill_values<T>(fill, count, d.key(), "dy");
      Values value(y.size());
      reference::leaky_relu_backward<double>(d, y.data(), dy.data(), value.data());
      const Expected dx{"dx", {{"i", count}}, value, product_bounds<T>(fill, value)};
      if (fill == Fill::Uniform && count > 1)
        report.check("leaky_relu_backward " + d.key(), prove<T>(dx, neighbours(value)));
      check_variants(report, &TypedOps<T>::leaky_relu_backward, d, concat("alpha ", alpha), {dx},
                     [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                       T* out = buffers.out<T>("dx", count);
                       run(buffers.in<T>("y", y), buffers.in<T>("dy", dy), out);
                       return {buffers.read(out)};
                     });
    }
}

template <class T>
void add_typed(std::vector<OpCase>& cases) {
  cases.push_back({typed_name<T>("prelu_forward"), run_prelu_forward<T>});
  cases.push_back({typed_name<T>("prelu_backward"), run_prelu_backward<T>});
  cases.push_back({typed_name<T>("leaky_relu_forward"), run_leaky_relu_forward<T>});
  cases.push_back({typed_name<T>("leaky_relu_backward"), run_leaky_relu_backward<T>});
}

}  // namespace

void add_activation_cases(std::vector<OpCase>& cases) {
  add_typed<float>(cases);
  add_typed<bf16>(cases);
}

}  // namespace subpix::tests
