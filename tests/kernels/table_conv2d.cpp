#include <algorithm>

#include "kernels/reference/conv2d.h"
#include "tests/kernels/op_case.h"
#include "tests/support/problems.h"

namespace subpix::tests {

namespace {

namespace reference = kernels::reference;
using kernels::Activation;
using kernels::Conv2dActivationProblem;
using kernels::Filter;
using kernels::TypedOps;

Dims x_dims(const Conv2dProblem& d) { return {{"n", d.n}, {"h", d.h}, {"w", d.w}, {"c", d.c}}; }
Dims w_dims(const Conv2dProblem& d) { return {{"k", d.k}, {"r", d.r}, {"s", d.s}, {"c", d.c}}; }
Dims y_dims(const Conv2dProblem& d) { return {{"n", d.n}, {"p", d.p()}, {"q", d.q()}, {"k", d.k}}; }

std::vector<Conv2dProblem> all_problems() {
  std::vector<Conv2dProblem> list = conv2d_edge_problems();
  for (const Conv2dProblem& d : conv2d_srgan_problems()) list.push_back(d);
  return list;
}

Values zeros(Index count) { return Values(static_cast<std::size_t>(count), 0.0); }

/// Bounds for sums of `terms` products: `magnitude` is the oracle's result on the absolute values.
template <class T>
Values sum_bounds(Fill fill, const Values& value, const Values& magnitude, double terms) {
  Values bounds = zeros(static_cast<Index>(value.size()));
  if (fill == Fill::Integers) return bounds;
  for (std::size_t i = 0; i < bounds.size(); ++i)
    bounds[i] = allowed<T>(value[i], growth(terms), magnitude[i]);
  return bounds;
}

/// The same for variants that round their operands to TF32 (docs/numerics.md); none for bf16.
template <class T>
Values tf32_bounds(Fill fill, const Values& value, const Values& magnitude, double terms) {
  if (fill == Fill::Integers || !std::is_same_v<T, float>) return {};
  Values bounds = sum_bounds<T>(fill, value, magnitude, terms);
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    // Padding leaves fewer terms than the filter has; their magnitude is 1/4 on average.
    const double inside = std::clamp(4.0 * magnitude[i], 1.0, terms);
    bounds[i] += 0x1p-10 * (std::fabs(value[i]) + 4.0 * magnitude[i] / std::sqrt(inside));
  }
  return bounds;
}

/// Calls term(index into x, into w, into y) for every product of the convolution that belongs to
/// the first output row of the last image.
template <class Term>
void for_each_border_term(const Conv2dProblem& d, Term&& term) {
  const Index n = d.n - 1, p = 0;
  for (Index q = 0; q < d.q(); ++q)
    for (Index k = 0; k < d.k; ++k)
      for (Index r = 0; r < d.r; ++r)
        for (Index s = 0; s < d.s; ++s) {
          const Index h = p * d.stride + r - d.pad, v = q * d.stride + s - d.pad;
          if (h < 0 || h >= d.h || v < 0 || v >= d.w) continue;
          for (Index c = 0; c < d.c; ++c)
            term(static_cast<std::size_t>(((n * d.h + h) * d.w + v) * d.c + c),
                 static_cast<std::size_t>(((k * d.r + r) * d.s + s) * d.c + c),
                 static_cast<std::size_t>(((n * d.p() + p) * d.q() + q) * d.k + k));
        }
}

/// The proof that the tolerance sees a lost tap: of the products that make up one output element,
/// the first element that a border pixel reaches, the largest is left out.
template <class T, class Pick>
std::string prove_lost_tap(const Conv2dProblem& d, const Expected& expected, Pick&& pick) {
  bool found = false;
  std::size_t element = 0;
  double largest = 0.0;
  for_each_border_term(d, [&](std::size_t x, std::size_t w, std::size_t y) {
    const auto [index, product] = pick(x, w, y);
    if (!found) element = index;
    found = true;
    if (index == element && std::fabs(product) > std::fabs(largest)) largest = product;
  });
  // A border output that lies wholly in the padding has no tap to lose.
  return found ? prove<T>(expected, element, expected.value[element] - largest) : std::string();
}

// --- forward -------------------------------------------------------------------------------------

template <class T>
struct ForwardData {
  Values x, w, bias;
  ForwardData(const Conv2dProblem& d, Fill fill, bool has_bias)
      : x(fill_values<T>(fill, d.x_count(), d.key(), "x")),
        w(fill_values<T>(fill, d.w_count(), d.key(), "w")),
        bias(fill_values<float>(fill, has_bias ? d.k : 0, d.key(), "bias")) {}
  const double* bias_or_null() const { return bias.empty() ? nullptr : bias.data(); }
};

template <class T>
Expected expect_forward(const Conv2dProblem& d, Fill fill, const ForwardData<T>& data) {
  Values y = zeros(d.y_count()), magnitude;
  reference::conv2d_forward<double>(d, data.x.data(), data.w.data(), data.bias_or_null(), y.data());
  if (fill == Fill::Integers) return {"y", y_dims(d), rounded_all<T>(y), exact(y), {}};
  magnitude = zeros(d.y_count());
  const Values bias = magnitudes(data.bias);
  reference::conv2d_forward<double>(d, magnitudes(data.x).data(), magnitudes(data.w).data(),
                                    bias.empty() ? nullptr : bias.data(), magnitude.data());
  const double terms = static_cast<double>(d.r * d.s * d.c + 1);
  return {"y", y_dims(d), y, sum_bounds<T>(fill, y, magnitude, terms),
          tf32_bounds<T>(fill, y, magnitude, terms)};
}

template <class T>
void run_forward(Report& report) {
  bool odd = false;
  for (const Conv2dProblem& d : all_problems()) {
    odd = !odd;
    for (const Fill fill : {Fill::Integers, Fill::Uniform}) {
      const bool has_bias = odd == (fill == Fill::Uniform);
      const ForwardData<T> data(d, fill, has_bias);
      const Expected y = expect_forward<T>(d, fill, data);
      if (fill == Fill::Uniform)
        report.check("conv2d_forward " + d.key(),
                     prove_lost_tap<T>(d, y, [&](std::size_t i, std::size_t j, std::size_t out) {
                       return std::pair(out, data.x[i] * data.w[j]);
                     }));
      const std::string remark = concat(name(fill), has_bias ? " bias" : " no bias");
      check_variants(report, &TypedOps<T>::conv2d_forward, d, remark, {y},
                     [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                       T* out = buffers.out<T>("y", d.y_count());
                       run(buffers.in<T>("x", data.x), Filter<T>(buffers.in<T>("w", data.w)),
                           buffers.in<float>("bias", data.bias), out);
                       return {buffers.read(out)};
                     });
    }
  }
}

// --- backward ------------------------------------------------------------------------------------

template <class T>
void run_backward_data(Report& report) {
  for (const Conv2dProblem& d : all_problems())
    for (const Fill fill : {Fill::Integers, Fill::Uniform}) {
      const Values dy = fill_values<T>(fill, d.y_count(), d.key(), "dy");
      const Values w = fill_values<T>(fill, d.w_count(), d.key(), "w");
      Values value = zeros(d.x_count()), magnitude = value;
      reference::conv2d_backward_data<double>(d, dy.data(), w.data(), value.data());
      if (fill == Fill::Integers)
        value = rounded_all<T>(value);
      else
        reference::conv2d_backward_data<double>(d, magnitudes(dy).data(), magnitudes(w).data(),
                                                magnitude.data());
      const double terms = static_cast<double>(d.r * d.s * d.k);
      const Expected dx{"dx", x_dims(d), value, sum_bounds<T>(fill, value, magnitude, terms),
                        tf32_bounds<T>(fill, value, magnitude, terms)};
      if (fill == Fill::Uniform)
        report.check("conv2d_backward_data " + d.key(),
                     prove_lost_tap<T>(d, dx, [&](std::size_t i, std::size_t j, std::size_t out) {
                       return std::pair(i, dy[out] * w[j]);
                     }));
      check_variants(report, &TypedOps<T>::conv2d_backward_data, d, name(fill), {dx},
                     [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                       T* out = buffers.out<T>("dx", d.x_count());
                       run(buffers.in<T>("dy", dy), Filter<T>(buffers.in<T>("w", w)), out);
                       return {buffers.read(out)};
                     });
    }
}

template <class T>
void run_backward_filter(Report& report) {
  bool odd = false;
  for (const Conv2dProblem& d : all_problems()) {
    odd = !odd;
    for (const Fill fill : {Fill::Integers, Fill::Uniform}) {
      const bool has_bias = odd == (fill == Fill::Uniform);
      const Values x = fill_values<T>(fill, d.x_count(), d.key(), "x");
      const Values dy = fill_values<T>(fill, d.y_count(), d.key(), "dy");
      Values value = zeros(d.w_count()), magnitude = value;
      Values bias = zeros(d.k), bias_magnitude = bias;
      reference::conv2d_backward_filter<double>(d, x.data(), dy.data(), value.data(), bias.data());
      if (fill == Fill::Uniform)
        reference::conv2d_backward_filter<double>(d, magnitudes(x).data(), magnitudes(dy).data(),
                                                  magnitude.data(), bias_magnitude.data());
      const double terms = static_cast<double>(d.n * d.p() * d.q());
      // dw and db are float for every T.
      std::vector<Expected> expected = {{"dw", w_dims(d), value,
                                         sum_bounds<float>(fill, value, magnitude, terms),
                                         tf32_bounds<T>(fill, value, magnitude, terms)}};
      if (has_bias)
        expected.push_back(
            {"db", {{"k", d.k}}, bias, sum_bounds<float>(fill, bias, bias_magnitude, terms), {}});
      if (fill == Fill::Uniform)
        report.check("conv2d_backward_filter " + d.key(),
                     prove_lost_tap<float>(d, expected[0],
                                           [&](std::size_t i, std::size_t j, std::size_t out) {
                                             return std::pair(j, x[i] * dy[out]);
                                           }));
      const std::string remark = concat(name(fill), has_bias ? " bias" : " no bias");
      check_variants(report, &TypedOps<T>::conv2d_backward_filter, d, remark, expected,
                     [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                       float* dw = buffers.out<float>("dw", d.w_count());
                       float* db = buffers.out<float>("db", has_bias ? d.k : 0);
                       run(buffers.in<T>("x", x), buffers.in<T>("dy", dy), dw, db);
                       std::vector<Values> got = {buffers.read(dw)};
                       if (has_bias) got.push_back(buffers.read(db));
                       return got;
                     });
    }
  }
}

// --- fused activation
// ------------------------------------------------------------------------------

template <class T>
void run_activation_forward(Report& report) {
  std::vector<Conv2dProblem> problems = conv2d_edge_problems();
  problems.push_back({2, 12, 12, 64, 64, 3, 3, 1, 1});
  for (const Conv2dProblem& d : problems)
    for (const Activation activation : {Activation::None, Activation::Relu, Activation::LeakyRelu})
      for (const Fill fill : {Fill::Integers, Fill::Uniform}) {
        // A slope of 1/4 keeps integers exact; the composed form rounds y to T twice.
        const Conv2dActivationProblem problem{d, activation, 0.25f};
        const bool has_bias = activation != Activation::Relu;
        const ForwardData<T> data(d, fill, has_bias);
        Expected y = expect_forward<T>(d, fill, data);
        const float slope = reference::activation_slope(problem);
        for (std::size_t i = 0; i < y.value.size(); ++i) {
          // Where the sign is certain, the slope shrinks the error too (to nothing for ReLU).
          const double before = y.value[i];
          if (before < 0.0) y.value[i] *= slope;
          for (Values* bounds : {&y.bound, &y.tf32_bound}) {
            if (bounds->empty()) continue;
            double& bound = (*bounds)[i];
            if (before < -bound) bound *= slope;
            if (fill == Fill::Uniform) bound += kRoundoff<T> * std::fabs(y.value[i]);
          }
        }
        check_variants(report, &TypedOps<T>::conv2d_activation_forward, problem, name(fill), {y},
                       [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                         T* out = buffers.out<T>("y", d.y_count());
                         run(buffers.in<T>("x", data.x), Filter<T>(buffers.in<T>("w", data.w)),
                             buffers.in<float>("bias", data.bias), out);
                         return {buffers.read(out)};
                       });
      }
}

template <class T>
void add_typed(std::vector<OpCase>& cases) {
  cases.push_back({typed_name<T>("conv2d_forward"), run_forward<T>});
  cases.push_back({typed_name<T>("conv2d_backward_data"), run_backward_data<T>});
  cases.push_back({typed_name<T>("conv2d_backward_filter"), run_backward_filter<T>});
  cases.push_back({typed_name<T>("conv2d_activation_forward"), run_activation_forward<T>});
}

}  // namespace

void add_conv2d_cases(std::vector<OpCase>& cases) {
  add_typed<float>(cases);
  add_typed<bf16>(cases);
}

}  // namespace subpix::tests
