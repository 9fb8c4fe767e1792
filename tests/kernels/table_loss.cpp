#include <algorithm>

#include "kernels/reference/loss.h"
#include "tests/kernels/op_case.h"
#include "tests/support/problems.h"

namespace subpix::tests {

namespace {

namespace reference = kernels::reference;
using kernels::LossProblem;
using kernels::TypedOps;

/// The scalar loss, whose summands without the scale are `terms`.
Expected scalar_loss(Fill fill, double value, double scale, const Values& terms) {
  Expected loss{"loss", {{"i", 1}}, {value}, {0.0}};
  if (fill == Fill::Integers) return loss;
  double magnitude = 0.0;
  for (const double term : terms) magnitude += std::fabs(term);
  const double roundings = reduction_growth(static_cast<double>(terms.size())) + 8.0;
  loss.bound[0] = allowed<float>(value, roundings, std::fabs(scale) * magnitude);
  return loss;
}

/// The largest summand left out must be noticed.
void prove_lost_term(Report& report, const std::string& where, const Expected& loss, double scale,
                     const Values& terms) {
  double largest = 0.0;
  for (const double term : terms)
    if (std::fabs(term) > std::fabs(largest)) largest = term;
  report.check(where, prove<float>(loss, 0, loss.value[0] - scale * largest));
}

template <class T>
Expected gradient(Fill fill, Dims dims, const Values& value, double roundings,
                  const Values& magnitude) {
  if (fill == Fill::Integers) return {"dx", std::move(dims), rounded_all<T>(value), exact(value)};
  Expected dx{"dx", std::move(dims), value, exact(value)};
  for (std::size_t i = 0; i < value.size(); ++i)
    dx.bound[i] = allowed<T>(value[i], roundings, std::fabs(magnitude[i]));
  return dx;
}

/// Runs with and without dx. `inputs(buffers, call)` makes the inputs and calls call(inputs...).
template <class T, class Member, class Problem, class Inputs>
void check_loss(Report& report, Member member, const Problem& d, const std::string& remark,
                const Expected& loss, const Expected& dx, Inputs&& inputs) {
  for (const bool with_dx : {true, false}) {
    std::vector<Expected> expected = {loss};
    if (with_dx) expected.push_back(dx);
    check_variants(report, member, d, remark + (with_dx ? "" : " no dx"), expected,
                   [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                     float* out = buffers.out<float>("loss", 1);
                     T* grad =
                         buffers.out<T>("dx", with_dx ? static_cast<Index>(dx.value.size()) : 0);
                     inputs(buffers, [&](auto... in) { run(in..., out, grad); });
                     std::vector<Values> got = {buffers.read(out)};
                     if (with_dx) got.push_back(buffers.read(grad));
                     return got;
                   });
  }
}

template <class T>
void run_difference_loss(Report& report, bool squared) {
  for (const Index count : element_counts())
    for (const Fill fill : {Fill::Integers, Fill::Uniform}) {
      const LossProblem d{.count = count, .scale = fill == Fill::Integers ? 0.25f : 0.3f};
      const double scale = static_cast<double>(d.scale);
      const Values x = fill_values<T>(fill, count, d.key(), "x");
      const Values t = fill_values<T>(fill, count, d.key(), "target");
      Values value(1), dx_value(x.size()), terms(x.size());
      if (squared)
        reference::mse_loss<double>(d, x.data(), t.data(), value.data(), dx_value.data());
      else
        reference::l1_loss<double>(d, x.data(), t.data(), value.data(), dx_value.data());
      for (std::size_t i = 0; i < x.size(); ++i)
        terms[i] = squared ? (x[i] - t[i]) * (x[i] - t[i]) : std::fabs(x[i] - t[i]);
      const Expected loss = scalar_loss(fill, value[0], scale, terms);
      const Expected dx = gradient<T>(fill, {{"i", count}}, dx_value, 4.0, dx_value);
      const std::string where = concat(squared ? "mse_loss " : "l1_loss ", d.key());
      if (fill == Fill::Uniform) {
        prove_lost_term(report, where, loss, scale, terms);
        Values faulty = dx_value;
        for (double& v : faulty) v *= 1.01;
        report.check(where + " dx", prove<T>(dx, faulty));
      }
      const auto member = squared ? &TypedOps<T>::mse_loss : &TypedOps<T>::l1_loss;
      check_loss<T>(report, member, d, name(fill), loss, dx, [&](Buffers& buffers, auto&& call) {
        call(buffers.in<T>("x", x), buffers.in<T>("target", t));
      });
    }
}

template <class T>
void run_bce_with_logits(Report& report) {
  for (const Index count : element_counts())
    for (const float target : {0.0f, 1.0f, 0.9f}) {
      // Logits far beyond the range of exp() in fp32 included.
      const LossProblem d{.count = count, .scale = 0.3f, .target = target};
      const double scale = static_cast<double>(d.scale), label = static_cast<double>(target);
      Values x = uniform_values<T>(-8, 8, count, d.key(), "x");
      const Values special = {0.0, 200.0, -200.0, 88.0, -104.0};
      for (std::size_t i = 0; i < special.size() && i + 5 < x.size(); ++i) x[i + 5] = special[i];
      Values value(1), dx_value(x.size()), terms(x.size()), magnitude(x.size());
      reference::bce_with_logits<double>(d, x.data(), value.data(), dx_value.data());
      double total = 0.0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        terms[i] = std::max(x[i], 0.0) - x[i] * label + std::log1p(std::exp(-std::fabs(x[i])));
        // The summands of a term may cancel: its rounding errors follow |x|, not the term.
        total += std::fabs(x[i]) * (1.0 + label) + 1.0;
        magnitude[i] = scale * (1.0 / (1.0 + std::exp(-x[i])) + label);
      }
      Expected loss = scalar_loss(Fill::Uniform, value[0], scale, terms);
      loss.bound[0] += 8.0 * kAccumulate * scale * total;
      const Expected dx = gradient<T>(Fill::Uniform, {{"i", count}}, dx_value, 16.0, magnitude);
      prove_lost_term(report, "bce_with_logits " + d.key(), loss, scale, terms);
      if (count > 1) {
        Values faulty = dx_value;
        for (double& v : faulty) v += scale * 0.01;
        report.check("bce_with_logits dx " + d.key(), prove<T>(dx, faulty));
      }
      check_loss<T>(report, &TypedOps<T>::bce_with_logits, d, concat("target ", target), loss, dx,
                    [&](Buffers& buffers, auto&& call) { call(buffers.in<T>("x", x)); });
    }
}

template <class T>
void run_total_variation(Report& report) {
  for (const bool squared : {false, true})
    for (const VariationProblem& d : variation_problems(squared))
      for (const Fill fill : {Fill::Integers, Fill::Uniform}) {
        const double scale = static_cast<double>(d.scale);
        const Values x = fill_values<T>(fill, d.count(), d.key(), "x");
        Values value(1), dx_value(x.size()), terms;
        reference::total_variation<double>(d, x.data(), value.data(), dx_value.data());
        const auto at = [&](Index n, Index h, Index w, Index c) {
          return x[static_cast<std::size_t>(((n * d.h + h) * d.w + w) * d.c + c)];
        };
        for (Index n = 0; n < d.n; ++n)
          for (Index h = 0; h < d.h; ++h)
            for (Index w = 0; w < d.w; ++w)
              for (Index c = 0; c < d.c; ++c) {
                const double here = at(n, h, w, c);
                if (h + 1 < d.h) terms.push_back(at(n, h + 1, w, c) - here);
                if (w + 1 < d.w) terms.push_back(at(n, h, w + 1, c) - here);
              }
        for (double& term : terms) term = squared ? term * term : std::fabs(term);
        const Expected loss = scalar_loss(fill, value[0], scale, terms);
        // Up to four differences of at most 2 meet in a pixel, each counts twice when squared.
        const Dims dims = {{"n", d.n}, {"h", d.h}, {"w", d.w}, {"c", d.c}};
        const Expected dx = gradient<T>(fill, dims, dx_value, 8.0, Values(x.size(), 16.0 * scale));
        if (fill == Fill::Uniform && !terms.empty()) {
          prove_lost_term(report, "total_variation " + d.key(), loss, scale, terms);
          Values faulty = dx_value;  // one of the differences missing
          faulty[0] += scale * (squared ? 2.0 * (x[x.size() - 1] - x[0]) : 1.0);
          report.check("total_variation dx " + d.key(), prove<T>(dx, faulty));
        }
        check_loss<T>(report, &TypedOps<T>::total_variation, d, name(fill), loss, dx,
                      [&](Buffers& buffers, auto&& call) { call(buffers.in<T>("x", x)); });
      }
}

template <class T>
void add_typed(std::vector<OpCase>& cases) {
  cases.push_back(
      {typed_name<T>("mse_loss"), [](Report& report) { run_difference_loss<T>(report, true); }});
  cases.push_back(
      {typed_name<T>("l1_loss"), [](Report& report) { run_difference_loss<T>(report, false); }});
  cases.push_back({typed_name<T>("bce_with_logits"), run_bce_with_logits<T>});
  cases.push_back({typed_name<T>("total_variation"), run_total_variation<T>});
}

}  // namespace

void add_loss_cases(std::vector<OpCase>& cases) {
  add_typed<float>(cases);
  add_typed<bf16>(cases);
}

}  // namespace subpix::tests
