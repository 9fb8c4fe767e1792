#include <array>

#include "kernels/reference/activation.h"
#include "kernels/reference/conv2d.h"
#include "kernels/reference/norm.h"
#include "tests/kernels/fused_data.h"
#include "tests/kernels/op_case.h"
#include "tests/support/norm_bounds.h"
#include "tests/support/problems.h"

// The fused ops against the double reference of their parts. Most data are "dyadic": small
// integers, scales and slopes that are powers of two, so that normalised and activated maps are
// exact in bf16 and sums exact in fp32. Fused and composed variants then give the same bits, and
// one wrong, missing or doubled term shows with no tolerance to hide in.
namespace subpix::tests {

namespace {

namespace reference = kernels::reference;
using kernels::Conv2dGroupProblem;
using kernels::Conv2dNormBackwardProblem;
using kernels::Conv2dNormProblem;
using kernels::Filter;
using kernels::FilterGradient;
using kernels::InputForm;
using kernels::NormActivationProblem;
using kernels::NormGradients;
using kernels::NormInput;
using kernels::NormOutput;
using kernels::TypedOps;

constexpr float kLeaky = 0.25f;
constexpr std::array kForms = {InputForm::Plain, InputForm::Norm, InputForm::NormPRelu,
                               InputForm::NormPReluShared, InputForm::NormLeakyRelu};

bool has_prelu(InputForm form) {
  return form == InputForm::NormPRelu || form == InputForm::NormPReluShared;
}

/// A form's parameters: powers of two, integers, powers of two.
struct Form {
  Values scale, shift, slope;
  InputForm form;
  Form(InputForm f, Index c, const std::string& key) : form(f) {
    if (f == InputForm::Plain) return;
    scale = chosen({0.5, 1.0, 2.0, -1.0}, c, key, "scale");
    shift = chosen({-2.0, -1.0, 0.0, 1.0, 2.0}, c, key, "shift");
    if (has_prelu(f))
      slope = chosen({0.25, 0.5, 0.125}, f == InputForm::NormPRelu ? c : 1, key, "slope");
  }
  double normalized(double x, Index c) const { return scale[at(c)] * x + shift[at(c)]; }
  /// The activation's factor for a normalised value; 0 counts as negative.
  double factor(double b, Index c) const {
    if (b > 0.0 || form == InputForm::Norm) return 1.0;
    if (form == InputForm::NormLeakyRelu) return static_cast<double>(kLeaky);
    return slope[form == InputForm::NormPRelu ? at(c) : 0];
  }
  double operator()(double x, Index c) const {
    if (form == InputForm::Plain) return x;
    const double b = normalized(x, c);
    return factor(b, c) * b;
  }
  Values operator()(const Values& x) const {
    Values v = x;
    const Index c = form == InputForm::Plain ? 1 : static_cast<Index>(scale.size());
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = (*this)(x[i], static_cast<Index>(i) % c);
    return v;
  }
  NormInput upload(Buffers& buffers) const {
    return {buffers.in<float>("scale", scale), buffers.in<float>("shift", shift),
            buffers.in<float>("slope", slope)};
  }
};

/// Trunk and discriminator shapes, whole and broken tiles, and sizes that only a fallback takes.
std::vector<Conv2dProblem> conv_problems() {
  return {
      {2, 12, 12, 64, 64, 3, 3, 1, 1}, {1, 24, 24, 64, 64, 3, 3, 1, 1},
      {1, 7, 5, 64, 64, 3, 3, 1, 1},   {1, 9, 8, 64, 128, 3, 3, 2, 1},
      {1, 6, 6, 128, 256, 3, 3, 2, 1}, {2, 4, 6, 64, 128, 3, 3, 1, 1},
      {2, 5, 6, 3, 5, 3, 3, 1, 1},     {1, 6, 7, 8, 16, 3, 3, 1, 1},
      {1, 4, 9, 16, 8, 5, 5, 1, 2},    {3, 1, 1, 32, 24, 3, 3, 1, 1},
      {3, 5, 6, 72, 40, 3, 3, 1, 1},   {1, 3, 4, 200, 64, 3, 3, 1, 1},
      {2, 7, 5, 40, 72, 3, 3, 2, 1},   {1, 4, 3, 512, 136, 3, 3, 2, 1},
  };
}

Dims x_dims(const Conv2dProblem& d) { return map_dims(d.n, d.h, d.w, d.c); }

// --- convolution with statistics -----------------------------------------------------------------

/// Statistics of y [rows,k] as stored, with bounds: mean, inv_std, scale, shift, running mean and
/// variance.
std::vector<Expected> expect_statistics(const NormProblem& d, const Values& y, const Values& gamma,
                                        const Values& beta, const Values& running_mean,
                                        const Values& running_var) {
  const std::size_t k = at(d.c);
  Values scratch(y.size()), mean(k), inv_std(k), new_mean = running_mean, new_var = running_var;
  reference::batchnorm_forward<double>(d, y.data(), gamma.data(), beta.data(), scratch.data(),
                                       mean.data(), inv_std.data(), new_mean.data(),
                                       new_var.data());
  const Dims dims = {{"k", d.c}};
  std::vector<Expected> all = {{"mean", dims, mean, mean},
                               {"inv_std", dims, inv_std, inv_std},
                               {"scale", dims, Values(k), Values(k)},
                               {"shift", dims, Values(k), Values(k)},
                               {"running_mean", dims, new_mean, Values(k)},
                               {"running_var", dims, new_var, Values(k)}};
  const double take = static_cast<double>(d.momentum), u = kAccumulate;
  const double unbiased =
      static_cast<double>(d.rows) / static_cast<double>(d.rows > 1 ? d.rows - 1 : 1);
  for (std::size_t c = 0; c < k; ++c) {
    const ChannelStatistics s = statistics(d, y, static_cast<Index>(c));
    const StatisticsBounds b = statistics_bounds(d, s);
    const double scale = gamma[c] * inv_std[c];
    all[0].bound[c] = allowed<float>(s.mean, 1.0, 0.0) + b.mean;
    all[1].bound[c] = inv_std[c] * b.inv_std;
    all[2].value[c] = scale;
    all[2].bound[c] = std::fabs(scale) * (b.inv_std + 4.0 * u);
    all[3].value[c] = beta[c] - mean[c] * scale;
    all[3].bound[c] = std::fabs(scale) * b.mean +
                      std::fabs(mean[c] * scale) * (b.inv_std + 8.0 * u) +
                      4.0 * u * std::fabs(beta[c]);
    all[4].bound[c] =
        allowed<float>(new_mean[c], 4.0, std::fabs(running_mean[c]) + take * std::fabs(s.mean)) +
        take * b.mean;
    all[5].bound[c] = allowed<float>(new_var[c], 4.0, running_var[c] + take * unbiased * s.var) +
                      take * unbiased * b.var;
  }
  return all;
}

template <class T>
void run_norm_forward(Report& report) {
  bool with_running = false;
  for (const Conv2dProblem& conv : conv_problems())
    for (const InputForm form : kForms) {
      with_running = !with_running;
      const Conv2dNormProblem d{conv, form, kLeaky, 1e-3f, 0.25f};
      const Form f(form, conv.c, d.key());
      const Values x = fill_values<T>(Fill::Integers, conv.x_count(), d.key(), "x");
      const Values w = fill_values<T>(Fill::Integers, conv.w_count(), d.key(), "w");
      const Values gamma = uniform_values<float>(-2, 2, conv.k, d.key(), "gamma");
      const Values beta = uniform_values<float>(-2, 2, conv.k, d.key(), "beta");
      const Values running_mean = uniform_values<float>(-1, 1, conv.k, d.key(), "running_mean");
      const Values running_var = uniform_values<float>(0.5, 2, conv.k, d.key(), "running_var");
      Values y(at(conv.y_count()));
      reference::conv2d_forward<double>(conv, f(x).data(), w.data(), nullptr, y.data());
      y = rounded_all<T>(y);
      const NormProblem norm{conv.n * conv.p() * conv.q(), conv.k, d.eps, d.momentum};
      std::vector<Expected> expected = {{"y", y_dims(conv), y, exact(y)}};
      for (Expected& e : expect_statistics(norm, y, gamma, beta, running_mean, running_var))
        expected.push_back(std::move(e));
      if (norm.rows > 2) {  // the last pixel left out of the statistics
        NormProblem less = norm;
        --less.rows;
        const auto wrong = expect_statistics(less, Values(y.begin(), y.end() - conv.k), gamma, beta,
                                             running_mean, running_var);
        for (const std::size_t i : {1u, 2u, 6u})
          report.check("conv2d_norm_forward " + d.key(),
                       prove<float>(expected[i], wrong[i - 1].value));
      }
      if (!with_running) expected.resize(5);
      check_variants(
          report, &TypedOps<T>::conv2d_norm_forward, d, with_running ? "running" : "", expected,
          [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
            T* out = buffers.out<T>("y", conv.y_count());
            const NormOutput o{
                buffers.in<float>("gamma", gamma),
                buffers.in<float>("beta", beta),
                buffers.out<float>("mean", conv.k),
                buffers.out<float>("inv_std", conv.k),
                buffers.out<float>("scale", conv.k),
                buffers.out<float>("shift", conv.k),
                buffers.inout<float>("running_mean", with_running ? running_mean : Values{}),
                buffers.inout<float>("running_var", with_running ? running_var : Values{})};
            run(buffers.in<T>("x", x), f.upload(buffers), Filter<T>(buffers.in<T>("w", w)), out, o);
            std::vector<Values> got = {buffers.read(out), buffers.read(o.mean),
                                       buffers.read(o.inv_std), buffers.read(o.scale),
                                       buffers.read(o.shift)};
            if (with_running) {
              got.push_back(buffers.read(o.running_mean));
              got.push_back(buffers.read(o.running_var));
            }
            return got;
          });
    }
}

template <class T>
void run_norm_backward_filter(Report& report) {
  std::vector<Conv2dProblem> problems = conv_problems();
  // More pixels than are on their way at once, channels that end within a chunk, single taps.
  for (const Conv2dProblem& d : std::vector<Conv2dProblem>{{3, 13, 11, 72, 40, 3, 3, 1, 1},
                                                           {1, 41, 27, 72, 40, 3, 3, 2, 1},
                                                           {3, 9, 11, 40, 16, 1, 1, 1, 0},
                                                           {1, 19, 23, 8, 8, 1, 1, 2, 0},
                                                           {1, 6, 9, 16, 72, 5, 5, 2, 2}})
    problems.push_back(d);
  for (const Conv2dProblem& conv : problems)
    for (const InputForm form : kForms) {
      const Conv2dNormProblem d{conv, form, kLeaky};
      const Form f(form, conv.c, d.key());
      const Values x = fill_values<T>(Fill::Integers, conv.x_count(), d.key(), "x");
      const Values dy = fill_values<T>(Fill::Integers, conv.y_count(), d.key(), "dy");
      Values dw(at(conv.w_count())), db(at(conv.k));
      reference::conv2d_backward_filter<double>(conv, f(x).data(), dy.data(), dw.data(), db.data());
      const Dims dims = {{"k", conv.k}, {"r", conv.r}, {"s", conv.s}, {"c", conv.c}};
      check_variants(report, &TypedOps<T>::conv2d_norm_backward_filter, d, "",
                     {{"dw", dims, dw, exact(dw)}},
                     [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                       float* out = buffers.out<float>("dw", conv.w_count());
                       run(buffers.in<T>("x", x), f.upload(buffers), buffers.in<T>("dy", dy), out);
                       return {buffers.read(out)};
                     });
    }
}

/// Groups of filters with forms of all kinds: fewer and more than a launch takes, one alone, parts
/// and none. Every filter has its own operands, so one that took another's shows.
template <class T>
void run_backward_filter_group(Report& report) {
  const std::vector<Conv2dGroupProblem> problems = {
      {{2, 12, 12, 64, 64, 3, 3, 1, 1}, 6}, {{1, 24, 24, 64, 64, 3, 3, 1, 1}, 1},
      {{3, 13, 11, 72, 40, 3, 3, 1, 1}, 5}, {{2, 7, 5, 40, 72, 3, 3, 2, 1}, 5},
      {{3, 9, 11, 40, 16, 1, 1, 1, 0}, 3},  {{1, 19, 23, 8, 8, 1, 1, 2, 0}, 5},
      {{1, 3, 4, 8, 16, 3, 3, 1, 1}, 67},   {{2, 41, 27, 8, 8, 3, 3, 1, 1}, 65},
      {{2, 5, 6, 3, 5, 3, 3, 1, 1}, 5},
  };
  for (const Conv2dGroupProblem& d : problems) {
    const Conv2dProblem& conv = d.conv;
    const Dims dims = {{"k", conv.k}, {"r", conv.r}, {"s", conv.s}, {"c", conv.c}};
    std::vector<Form> forms;
    std::vector<Values> x, dy;
    std::vector<Expected> expected;
    for (Index i = 0; i < d.filters; ++i) {
      const std::string key = d.key() + "#" + std::to_string(i);
      const Form& f = forms.emplace_back(kForms[at(i) % kForms.size()], conv.c, key);
      x.push_back(fill_values<T>(Fill::Integers, conv.x_count(), key, "x"));
      dy.push_back(fill_values<T>(Fill::Integers, conv.y_count(), key, "dy"));
      Values dw(at(conv.w_count())), db(at(conv.k));
      reference::conv2d_backward_filter<double>(conv, f(x.back()).data(), dy.back().data(),
                                                dw.data(), db.data());
      expected.push_back({"dw of filter " + std::to_string(i), dims, dw, exact(dw), {}});
    }
    check_variants(report, &TypedOps<T>::conv2d_backward_filter_group, d, "", expected,
                   [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                     std::vector<FilterGradient<T>> list;
                     for (std::size_t i = 0; i < forms.size(); ++i)
                       list.push_back({buffers.in<T>("x", x[i]), forms[i].form, kLeaky,
                                       forms[i].upload(buffers), buffers.in<T>("dy", dy[i]),
                                       buffers.out<float>("dw", conv.w_count())});
                     run(list.data());
                     std::vector<Values> got;
                     for (const auto& f : list) got.push_back(buffers.read(f.dw));
                     return got;
                   });
  }
}

// --- the gradient of the input, with sums
// ----------------------------------------------------------

/// What the op must give, and how far variants may lie apart that round the convolution's sum
/// before they add the skip gradient: nothing where T holds these sums exactly.
template <class T>
std::vector<Expected> expect_backward_data(const Conv2dNormBackwardProblem& d, const Form& f,
                                           const Values& dy, const Values& w, const Values& skip,
                                           const Values& x, const Values& mean,
                                           const Values& inv_std) {
  const Conv2dProblem& conv = d.conv;
  const Index c = conv.c;
  Values sum(at(conv.x_count()));
  reference::conv2d_backward_data<double>(conv, dy.data(), w.data(), sum.data());
  Expected dx{"dx", x_dims(conv), sum, exact(sum)};
  const Dims channels = {{"c", c}};
  const Values none(at(c), 0.0);
  Expected dgamma{"dgamma", channels, none, none}, dbeta{"dbeta", channels, none, none};
  Expected dslope{"dslope",
                  {{"c", static_cast<Index>(f.slope.size())}},
                  Values(f.slope.size()),
                  Values(f.slope.size())};
  for (std::size_t i = 0; i < sum.size(); ++i) {
    const std::size_t ch = i % at(c);
    const double v = sum[i] + (d.skip ? skip[i] : 0.0);
    const bool exact_sum = rounded<T>(sum[i]) == sum[i] && rounded<T>(v) == v;
    const double slack = exact_sum ? 0.0 : kRoundoff<T> * (std::fabs(sum[i]) + 2.0 * std::fabs(v));
    if (d.form == InputForm::Plain) {
      dx.value[i] = rounded<T>(v);
      dx.bound[i] = slack;
      continue;
    }
    const double b = f.normalized(x[i], static_cast<Index>(ch));
    const double factor = f.factor(b, static_cast<Index>(ch));
    const double xhat = (x[i] - mean[ch]) * inv_std[ch];
    dx.value[i] = rounded<T>(factor * v);
    dx.bound[i] = factor * slack;
    dbeta.value[ch] += dx.value[i];
    dbeta.bound[ch] += dx.bound[i];
    dgamma.value[ch] += dx.value[i] * xhat;
    dgamma.bound[ch] += dx.bound[i] * std::fabs(xhat);
    if (has_prelu(d.form) && !(b > 0.0)) {
      const std::size_t to = d.form == InputForm::NormPRelu ? ch : 0;
      dslope.value[to] += b * v;
      dslope.bound[to] += std::fabs(b) * slack;
    }
  }
  std::vector<Expected> all = {dx};
  if (d.form == InputForm::Plain) return all;
  // Where the elements are not exact, neither are the sums: some roundings of fp32 on top.
  for (Expected* e : {&dgamma, &dbeta, &dslope})
    for (std::size_t i = 0; i < e->bound.size(); ++i)
      if (e->bound[i] > 0.0) e->bound[i] *= 1.01;
  all.push_back(dgamma);
  all.push_back(dbeta);
  if (has_prelu(d.form)) all.push_back(dslope);
  return all;
}

template <class T>
void run_norm_backward_data(Report& report) {
  bool with_skip = false;
  for (const Conv2dProblem& conv : conv_problems())
    for (const InputForm form : kForms) {
      with_skip = !with_skip;
      const Conv2dNormBackwardProblem d{conv, with_skip, form, kLeaky};
      const Form f(form, conv.c, d.key());
      const bool plain = form == InputForm::Plain;
      const Values dy = chosen({-1, 0, 0, 1}, conv.y_count(), d.key(), "dy");
      const Values w = chosen({-1, 0, 1}, conv.w_count(), d.key(), "w");
      const Values skip =
          chosen({-3, -2, -1, 0, 1, 2, 3}, with_skip ? conv.x_count() : 0, d.key(), "skip");
      const Values x = chosen({-3, -2, -1, 0, 1, 2, 3}, plain ? 0 : conv.x_count(), d.key(), "x");
      const Values mean = chosen({-1, -0.5, 0, 0.5, 1}, plain ? 0 : conv.c, d.key(), "mean");
      const Values inv_std = chosen({0.5, 1, 2}, plain ? 0 : conv.c, d.key(), "inv_std");
      const auto expected = expect_backward_data<T>(d, f, dy, w, skip, x, mean, inv_std);
      check_variants(report, &TypedOps<T>::conv2d_norm_backward_data, d, "", expected,
                     [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                       T* dx = buffers.out<T>("dx", conv.x_count());
                       const NormGradients sums{
                           buffers.out<float>("dgamma", plain ? 0 : conv.c),
                           buffers.out<float>("dbeta", plain ? 0 : conv.c),
                           buffers.out<float>("dslope", static_cast<Index>(f.slope.size()))};
                       run(buffers.in<T>("dy", dy), Filter<T>(buffers.in<T>("w", w)),
                           buffers.in<T>("skip", skip), buffers.in<T>("x", x), f.upload(buffers),
                           buffers.in<float>("mean", mean), buffers.in<float>("inv_std", inv_std),
                           dx, sums);
                       std::vector<Values> got = {buffers.read(dx)};
                       for (const float* sum : {sums.dgamma, sums.dbeta, sums.dslope})
                         if (sum) got.push_back(buffers.read(sum));
                       return got;
                     });
    }
}

// --- batch norm's parts
// ----------------------------------------------------------------------------

template <class T>
void run_norm_backward_apply(Report& report) {
  for (const NormProblem& d : norm_problems()) {
    const Values x = fill_values<T>(Fill::Uniform, d.count(), d.key(), "x");
    const Values dy = fill_values<T>(Fill::Uniform, d.count(), d.key(), "dy");
    const double rows = static_cast<double>(d.rows);
    const Values gamma = uniform_values<float>(-2, 2, d.c, d.key(), "gamma");
    const Values mean = uniform_values<float>(-1, 1, d.c, d.key(), "mean");
    const Values inv_std = uniform_values<float>(0.5, 2, d.c, d.key(), "inv_std");
    const Values dgamma = uniform_values<float>(-rows, rows, d.c, d.key(), "dgamma");
    const Values dbeta = uniform_values<float>(-rows, rows, d.c, d.key(), "dbeta");
    Expected dx{"dx", {{"row", d.rows}, {"c", d.c}}, Values(x.size()), Values(x.size())};
    Values faulty = dx.value;  // the term with dgamma forgotten
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t c = i % at(d.c);
      const double s = gamma[c] * inv_std[c], of_x = -s * inv_std[c] * dgamma[c] / rows;
      const double part = of_x * (x[i] - mean[c]) - s * dbeta[c] / rows;
      dx.value[i] = s * dy[i] + part;
      faulty[i] = s * (dy[i] - dbeta[c] / rows);
      // The composed form stores both summands as T before it adds them.
      dx.bound[i] = kRoundoff<T> * (std::fabs(s * dy[i]) + std::fabs(part)) +
                    allowed<T>(dx.value[i], 12.0,
                               std::fabs(s * dy[i]) + std::fabs(s * dbeta[c] / rows) +
                                   std::fabs(of_x) * (std::fabs(x[i]) + std::fabs(mean[c])));
    }
    report.check("norm_backward_apply " + d.key(), prove<T>(dx, faulty));
    check_variants(report, &TypedOps<T>::norm_backward_apply, d, "", {dx},
                   [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                     T* out = buffers.out<T>("dx", d.count());
                     run(buffers.in<T>("x", x), buffers.in<T>("dy", dy),
                         buffers.in<float>("gamma", gamma), buffers.in<float>("mean", mean),
                         buffers.in<float>("inv_std", inv_std), buffers.in<float>("dgamma", dgamma),
                         buffers.in<float>("dbeta", dbeta), out);
                     return {buffers.read(out)};
                   });
  }
}

template <class T>
void run_norm_add_forward(Report& report) {
  for (kernels::ChannelProblem d : channel_problems()) {
    d.shared = false;
    const Form f(InputForm::Norm, d.c, d.key());
    const Values x = fill_values<T>(Fill::Integers, d.count(), d.key(), "x");
    const Values skip = fill_values<T>(Fill::Integers, d.count(), d.key(), "skip");
    Values y = f(x);
    for (std::size_t i = 0; i < y.size(); ++i) y[i] += skip[i];
    check_variants(report, &TypedOps<T>::norm_add_forward, d, "",
                   {{"y", {{"row", d.rows}, {"c", d.c}}, y, exact(y)}},
                   [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                     T* out = buffers.out<T>("y", d.count());
                     const NormInput in = f.upload(buffers);
                     run(buffers.in<T>("x", x), in.scale, in.shift, buffers.in<T>("skip", skip),
                         out);
                     return {buffers.read(out)};
                   });
  }
}

template <class T>
void run_norm_activation_forward(Report& report) {
  for (const kernels::ChannelProblem& rows : channel_problems())
    for (const InputForm form : kForms) {
      if (form == InputForm::Plain) continue;
      const NormActivationProblem d{rows.rows, rows.c, form, kLeaky};
      const Form f(form, d.c, d.key());
      const Values x = fill_values<T>(Fill::Integers, d.count(), d.key(), "x");
      const Values y = f(x);
      check_variants(report, &TypedOps<T>::norm_activation_forward, d, "",
                     {{"y", {{"row", d.rows}, {"c", d.c}}, y, exact(y)}},
                     [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                       T* out = buffers.out<T>("y", d.count());
                       run(buffers.in<T>("x", x), f.upload(buffers), out);
                       return {buffers.read(out)};
                     });
    }
}

template <class T>
void add_typed(std::vector<OpCase>& cases) {
  cases.push_back({typed_name<T>("conv2d_norm_forward"), run_norm_forward<T>});
  cases.push_back({typed_name<T>("conv2d_norm_backward_filter"), run_norm_backward_filter<T>});
  cases.push_back({typed_name<T>("conv2d_backward_filter_group"), run_backward_filter_group<T>});
  cases.push_back({typed_name<T>("conv2d_norm_backward_data"), run_norm_backward_data<T>});
  cases.push_back({typed_name<T>("norm_backward_apply"), run_norm_backward_apply<T>});
  cases.push_back({typed_name<T>("norm_add_forward"), run_norm_add_forward<T>});
  cases.push_back({typed_name<T>("norm_activation_forward"), run_norm_activation_forward<T>});
}

}  // namespace

void add_fused_cases(std::vector<OpCase>& cases) {
  add_typed<float>(cases);
  add_typed<bf16>(cases);
}

}  // namespace subpix::tests
