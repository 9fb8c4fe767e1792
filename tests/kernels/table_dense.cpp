#include "kernels/reference/dense.h"
#include "tests/kernels/op_case.h"
#include "tests/support/problems.h"

namespace subpix::tests {

namespace {

namespace reference = kernels::reference;
using kernels::Filter;
using kernels::TypedOps;

Values zeros(Index count) { return Values(static_cast<std::size_t>(count), 0.0); }

/// An output of type T whose elements are sums of `terms` products; magnitude: the sums of
/// absolutes.
template <class T>
Expected sums(const char* what, Dims dims, Fill fill, const Values& value, const Values& magnitude,
              Index terms) {
  if (fill == Fill::Integers) return {what, std::move(dims), rounded_all<T>(value), exact(value)};
  Expected expected{what, std::move(dims), value, exact(value)};
  for (std::size_t i = 0; i < value.size(); ++i)
    expected.bound[i] = allowed<T>(value[i], growth(static_cast<double>(terms)), magnitude[i]);
  return expected;
}

/// The proof for the last element, from which the largest product a[i]*b[i] is left out.
template <class T, class Product>
std::string prove_lost_product(const Expected& expected, Index terms, Product&& product) {
  double largest = 0.0;
  for (Index i = 0; i < terms; ++i)
    if (std::fabs(product(i)) > std::fabs(largest)) largest = product(i);
  const std::size_t last = expected.value.size() - 1;
  return prove<T>(expected, last, expected.value[last] - largest);
}

std::size_t at(Index row, Index width, Index column) {
  return static_cast<std::size_t>(row * width + column);
}

template <class T>
void run_forward(Report& report) {
  for (const DenseProblem& d : dense_problems())
    for (const Fill fill : {Fill::Integers, Fill::Uniform})
      for (const bool has_bias : {true, false}) {
        const Values x = fill_values<T>(fill, d.n * d.in, d.key(), "x");
        const Values w = fill_values<T>(fill, d.out * d.in, d.key(), "w");
        const Values bias = fill_values<float>(fill, has_bias ? d.out : 0, d.key(), "bias");
        Values value = zeros(d.n * d.out), magnitude = value;
        const auto or_null = [](const Values& v) { return v.empty() ? nullptr : v.data(); };
        reference::dense_forward<double>(d, x.data(), w.data(), or_null(bias), value.data());
        reference::dense_forward<double>(d, magnitudes(x).data(), magnitudes(w).data(),
                                         or_null(magnitudes(bias)), magnitude.data());
        const Expected y =
            sums<T>("y", {{"n", d.n}, {"o", d.out}}, fill, value, magnitude, d.in + 1);
        if (fill == Fill::Uniform)
          report.check("dense_forward " + d.key(), prove_lost_product<T>(y, d.in, [&](Index i) {
                         return x[at(d.n - 1, d.in, i)] * w[at(d.out - 1, d.in, i)];
                       }));
        check_variants(report, &TypedOps<T>::dense_forward, d,
                       concat(name(fill), has_bias ? " bias" : " no bias"), {y},
                       [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                         T* out = buffers.out<T>("y", d.n * d.out);
                         run(buffers.in<T>("x", x), Filter<T>(buffers.in<T>("w", w)),
                             buffers.in<float>("bias", bias), out);
                         return {buffers.read(out)};
                       });
      }
}

template <class T>
void run_backward_data(Report& report) {
  for (const DenseProblem& d : dense_problems())
    for (const Fill fill : {Fill::Integers, Fill::Uniform}) {
      const Values dy = fill_values<T>(fill, d.n * d.out, d.key(), "dy");
      const Values w = fill_values<T>(fill, d.out * d.in, d.key(), "w");
      Values value = zeros(d.n * d.in), magnitude = value;
      reference::dense_backward_data<double>(d, dy.data(), w.data(), value.data());
      reference::dense_backward_data<double>(d, magnitudes(dy).data(), magnitudes(w).data(),
                                             magnitude.data());
      const Expected dx = sums<T>("dx", {{"n", d.n}, {"i", d.in}}, fill, value, magnitude, d.out);
      if (fill == Fill::Uniform)
        report.check("dense_backward_data " + d.key(),
                     prove_lost_product<T>(dx, d.out, [&](Index o) {
                       return dy[at(d.n - 1, d.out, o)] * w[at(o, d.in, d.in - 1)];
                     }));
      check_variants(report, &TypedOps<T>::dense_backward_data, d, name(fill), {dx},
                     [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                       T* out = buffers.out<T>("dx", d.n * d.in);
                       run(buffers.in<T>("dy", dy), Filter<T>(buffers.in<T>("w", w)), out);
                       return {buffers.read(out)};
                     });
    }
}

template <class T>
void run_backward_filter(Report& report) {
  for (const DenseProblem& d : dense_problems())
    for (const Fill fill : {Fill::Integers, Fill::Uniform})
      for (const bool has_bias : {true, false}) {
        const Values x = fill_values<T>(fill, d.n * d.in, d.key(), "x");
        const Values dy = fill_values<T>(fill, d.n * d.out, d.key(), "dy");
        Values value = zeros(d.out * d.in), magnitude = value;
        Values bias = zeros(d.out), bias_magnitude = bias;
        reference::dense_backward_filter<double>(d, x.data(), dy.data(), value.data(), bias.data());
        reference::dense_backward_filter<double>(d, magnitudes(x).data(), magnitudes(dy).data(),
                                                 magnitude.data(), bias_magnitude.data());
        std::vector<Expected> expected = {
            sums<float>("dw", {{"o", d.out}, {"i", d.in}}, fill, value, magnitude, d.n)};
        if (has_bias)
          expected.push_back(sums<float>("db", {{"o", d.out}}, fill, bias, bias_magnitude, d.n));
        if (fill == Fill::Uniform)
          report.check("dense_backward_filter " + d.key(),
                       prove_lost_product<float>(expected[0], d.n, [&](Index n) {
                         return x[at(n, d.in, d.in - 1)] * dy[at(n, d.out, d.out - 1)];
                       }));
        check_variants(report, &TypedOps<T>::dense_backward_filter, d,
                       concat(name(fill), has_bias ? " bias" : " no bias"), expected,
                       [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                         float* dw = buffers.out<float>("dw", d.out * d.in);
                         float* db = buffers.out<float>("db", has_bias ? d.out : 0);
                         run(buffers.in<T>("x", x), buffers.in<T>("dy", dy), dw, db);
                         std::vector<Values> got = {buffers.read(dw)};
                         if (has_bias) got.push_back(buffers.read(db));
                         return got;
                       });
      }
}

template <class T>
void add_typed(std::vector<OpCase>& cases) {
  cases.push_back({typed_name<T>("dense_forward"), run_forward<T>});
  cases.push_back({typed_name<T>("dense_backward_data"), run_backward_data<T>});
  cases.push_back({typed_name<T>("dense_backward_filter"), run_backward_filter<T>});
}

}  // namespace

void add_dense_cases(std::vector<OpCase>& cases) {
  add_typed<float>(cases);
  add_typed<bf16>(cases);
}

}  // namespace subpix::tests
