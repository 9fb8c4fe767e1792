#include <algorithm>

#include "kernels/reference/norm.h"
#include "tests/kernels/op_case.h"
#include "tests/support/norm_bounds.h"
#include "tests/support/problems.h"

namespace subpix::tests {

namespace {

namespace reference = kernels::reference;
using kernels::TypedOps;

constexpr double kU = kAccumulate;

/// Activations [rows,c]: uniform around `offset`, so that a variance made as E[x^2] - mean^2 loses
/// its digits and fails where the two-pass or shifted form does not.
template <class T>
Values data(const NormProblem& d, double offset, const char* buffer) {
  return uniform_values<T>(offset - 1.0, offset + 1.0, d.count(), d.key(), buffer);
}

struct ForwardValues {
  Values y, mean, inv_std, running_mean, running_var;
};

ForwardValues forward(const NormProblem& d, const Values& x, const Values& gamma,
                      const Values& beta, const Values& running_mean, const Values& running_var) {
  const auto c = static_cast<std::size_t>(d.c);
  ForwardValues f{Values(x.size()), Values(c), Values(c), running_mean, running_var};
  reference::batchnorm_forward<double>(d, x.data(), gamma.data(), beta.data(), f.y.data(),
                                       f.mean.data(), f.inv_std.data(), f.running_mean.data(),
                                       f.running_var.data());
  return f;
}

template <class T>
void run_forward(Report& report) {
  bool with_running = false;
  for (const NormProblem& d : norm_problems())
    for (const double offset : {0.0, 20.0}) {
      with_running = !with_running;
      const Values x = data<T>(d, offset, "x");
      const Values gamma = uniform_values<float>(-2, 2, d.c, d.key(), "gamma");
      const Values beta = uniform_values<float>(-2, 2, d.c, d.key(), "beta");
      const Values running_mean = uniform_values<float>(-1, 1, d.c, d.key(), "running_mean");
      const Values running_var = uniform_values<float>(0.5, 2, d.c, d.key(), "running_var");
      const ForwardValues f = forward(d, x, gamma, beta, running_mean, running_var);

      const Dims channels = {{"c", d.c}};
      std::vector<Expected> expected = {
          {"y", {{"row", d.rows}, {"c", d.c}}, f.y, f.y},
          {"mean", channels, f.mean, f.mean},
          {"inv_std", channels, f.inv_std, f.inv_std},
          {"running_mean", channels, f.running_mean, {}},
          {"running_var", channels, f.running_var, {}},
      };
      for (Index c = 0; c < d.c; ++c) {
        const auto ch = static_cast<std::size_t>(c);
        const ChannelStatistics s = statistics(d, x, c);
        const StatisticsBounds b = statistics_bounds(d, s);
        const double slope = std::fabs(gamma[ch]) * f.inv_std[ch];
        for (Index i = 0; i < d.rows; ++i) {
          const auto at = static_cast<std::size_t>(i * d.c + c);
          const double input = 4.0 * kU * (std::fabs(x[at]) + std::fabs(s.mean)) + b.mean;
          expected[0].bound[at] =
              allowed<T>(f.y[at], 4.0, std::fabs(beta[ch])) +
              slope * (input + std::fabs(x[at] - s.mean) * (b.inv_std + 4.0 * kU));
        }
        expected[1].bound[ch] = allowed<float>(s.mean, 1.0, 0.0) + b.mean;
        expected[2].bound[ch] = f.inv_std[ch] * b.inv_std;
        const double keep = 1.0 - static_cast<double>(d.momentum);
        const double unbiased =
            static_cast<double>(d.rows) / static_cast<double>(d.rows > 1 ? d.rows - 1 : 1);
        const double take = static_cast<double>(d.momentum);
        expected[3].bound.push_back(
            allowed<float>(f.running_mean[ch], 4.0,
                           keep * std::fabs(running_mean[ch]) + take * std::fabs(s.mean)) +
            take * b.mean);
        expected[4].bound.push_back(
            allowed<float>(f.running_var[ch], 4.0,
                           keep * running_var[ch] + take * unbiased * s.var) +
            take * unbiased * b.var);
      }
      if (d.rows > 1) {
        // A border row left out of the statistics, or the biased variance taken for the unbiased
        // one.
        NormProblem less = d;
        less.rows = d.rows - 1;
        const Values x_less(x.begin(), x.end() - d.c);
        ForwardValues wrong = forward(less, x_less, gamma, beta, running_mean, running_var);
        report.check("batchnorm_forward mean " + d.key(), prove<float>(expected[1], wrong.mean));
        if (d.rows > 2)
          report.check("batchnorm_forward inv_std " + d.key(),
                       prove<float>(expected[2], wrong.inv_std));
        Values biased = running_var;
        for (std::size_t ch = 0; ch < biased.size(); ++ch)
          biased[ch] += static_cast<double>(d.momentum) *
                        (statistics(d, x, static_cast<Index>(ch)).var - biased[ch]);
        report.check("batchnorm_forward running_var " + d.key(), prove<float>(expected[4], biased));
        Values shifted = f.y;
        std::rotate(shifted.begin(), shifted.begin() + d.c, shifted.end());
        report.check("batchnorm_forward y " + d.key(), prove<T>(expected[0], shifted));
      }
      if (!with_running) expected.resize(3);
      const std::string remark = concat("around ", offset, with_running ? "" : " no running");
      check_variants(
          report, &TypedOps<T>::batchnorm_forward, d, remark, expected,
          [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
            T* y = buffers.out<T>("y", d.count());
            float* mean = buffers.out<float>("mean", d.c);
            float* inv_std = buffers.out<float>("inv_std", d.c);
            float* mean_so_far =
                buffers.inout<float>("running_mean", with_running ? running_mean : Values{});
            float* var_so_far =
                buffers.inout<float>("running_var", with_running ? running_var : Values{});
            run(buffers.in<T>("x", x), buffers.in<float>("gamma", gamma),
                buffers.in<float>("beta", beta), y, mean, inv_std, mean_so_far, var_so_far);
            std::vector<Values> got = {buffers.read(y), buffers.read(mean), buffers.read(inv_std)};
            if (with_running) {
              got.push_back(buffers.read(mean_so_far));
              got.push_back(buffers.read(var_so_far));
            }
            return got;
          });
    }
}

template <class T>
void run_backward(Report& report) {
  for (const NormProblem& d : norm_problems())
    for (const double offset : {0.0, 20.0}) {
      const Values x = data<T>(d, offset, "x");
      const Values dy = fill_values<T>(Fill::Uniform, d.count(), d.key(), "dy");
      const Values gamma = uniform_values<float>(-2, 2, d.c, d.key(), "gamma");
      const auto c_count = static_cast<std::size_t>(d.c);
      const Values none(c_count, 0.0);
      const ForwardValues f = forward(d, x, gamma, none, none, none);
      const Values mean = rounded_all<float>(f.mean), inv_std = rounded_all<float>(f.inv_std);

      Values dx(x.size()), dgamma(c_count), dbeta(c_count);
      reference::batchnorm_backward<double>(d, x.data(), dy.data(), gamma.data(), mean.data(),
                                            inv_std.data(), dx.data(), dgamma.data(), dbeta.data());
      std::vector<Expected> expected = {{"dx", {{"row", d.rows}, {"c", d.c}}, dx, dx},
                                        {"dgamma", {{"c", d.c}}, dgamma, dgamma},
                                        {"dbeta", {{"c", d.c}}, dbeta, dbeta}};
      Values faulty = dx;  // the term with xhat forgotten
      const double rows = static_cast<double>(d.rows), g = reduction_growth(rows);
      for (Index c = 0; c < d.c; ++c) {
        const auto ch = static_cast<std::size_t>(c);
        // x and mean are given, so x - mean has a small relative error whatever the offset. (Apart,
        // sum dy*x - mean * sum dy would cancel; the bounds do not admit it.)
        const auto xhat = [&](std::size_t at) { return (x[at] - mean[ch]) * inv_std[ch]; };
        double sum = 0.0, dot = 0.0;
        for (Index i = 0; i < d.rows; ++i) {
          const auto at = static_cast<std::size_t>(i * d.c + c);
          sum += std::fabs(dy[at]);
          dot += std::fabs(dy[at] * xhat(at));
        }
        expected[1].bound[ch] = allowed<float>(dgamma[ch], g + 4.0, dot);
        expected[2].bound[ch] = allowed<float>(dbeta[ch], g, sum);
        const double slope = gamma[ch] * inv_std[ch];
        for (Index i = 0; i < d.rows; ++i) {
          const auto at = static_cast<std::size_t>(i * d.c + c);
          const double magnitude = 8.0 * std::fabs(dy[at]) + (g + 8.0) * sum / rows +
                                   (g + 12.0) * std::fabs(xhat(at)) * dot / rows;
          expected[0].bound[at] = allowed<T>(dx[at], 1.0, std::fabs(slope) * magnitude);
          faulty[at] = slope * (dy[at] - dbeta[ch] / rows);
        }
      }
      if (d.rows > 1) {
        report.check("batchnorm_backward dx " + d.key(), prove<T>(expected[0], faulty));
        for (std::size_t out : {1u, 2u}) {
          Values wrong = expected[out].value;  // the last row left out of the sums
          for (std::size_t ch = 0; ch < c_count; ++ch) {
            const std::size_t at = x.size() - c_count + ch;
            wrong[ch] -= out == 1 ? dy[at] * (x[at] - mean[ch]) * inv_std[ch] : dy[at];
          }
          report.check("batchnorm_backward " + d.key(), prove<float>(expected[out], wrong));
        }
      }
      check_variants(report, &TypedOps<T>::batchnorm_backward, d, concat("around ", offset),
                     expected, [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                       T* out = buffers.out<T>("dx", d.count());
                       float* dg = buffers.out<float>("dgamma", d.c);
                       float* db = buffers.out<float>("dbeta", d.c);
                       run(buffers.in<T>("x", x), buffers.in<T>("dy", dy),
                           buffers.in<float>("gamma", gamma), buffers.in<float>("mean", mean),
                           buffers.in<float>("inv_std", inv_std), out, dg, db);
                       return {buffers.read(out), buffers.read(dg), buffers.read(db)};
                     });
    }
}

template <class T>
void run_inference(Report& report) {
  for (const NormProblem& d : norm_problems()) {
    const Values x = data<T>(d, 0.0, "x");
    const Values gamma = uniform_values<float>(-2, 2, d.c, d.key(), "gamma");
    const Values beta = uniform_values<float>(-2, 2, d.c, d.key(), "beta");
    const Values mean = uniform_values<float>(-1, 1, d.c, d.key(), "running_mean");
    const Values var = uniform_values<float>(0.5, 2, d.c, d.key(), "running_var");
    Expected y{"y", {{"row", d.rows}, {"c", d.c}}, Values(x.size()), Values(x.size())};
    reference::batchnorm_inference<double>(d, x.data(), gamma.data(), beta.data(), mean.data(),
                                           var.data(), y.value.data());
    for (std::size_t at = 0; at < x.size(); ++at) {
      const std::size_t ch = at % static_cast<std::size_t>(d.c);
      const double slope = std::fabs(gamma[ch]) / std::sqrt(var[ch] + static_cast<double>(d.eps));
      y.bound[at] = allowed<T>(
          y.value[at], 8.0, slope * (std::fabs(x[at]) + std::fabs(mean[ch])) + std::fabs(beta[ch]));
    }
    Values next = mean;  // the statistics of the neighbouring channel
    std::rotate(next.begin(), next.begin() + 1, next.end());
    Values faulty = y.value;
    reference::batchnorm_inference<double>(d, x.data(), gamma.data(), beta.data(), next.data(),
                                           var.data(), faulty.data());
    if (d.c > 1) report.check("batchnorm_inference " + d.key(), prove<T>(y, faulty));
    check_variants(report, &TypedOps<T>::batchnorm_inference, d, "", {y},
                   [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                     T* out = buffers.out<T>("y", d.count());
                     run(buffers.in<T>("x", x), buffers.in<float>("gamma", gamma),
                         buffers.in<float>("beta", beta), buffers.in<float>("mean", mean),
                         buffers.in<float>("var", var), out);
                     return {buffers.read(out)};
                   });
  }
}

template <class T>
void add_typed(std::vector<OpCase>& cases) {
  cases.push_back({typed_name<T>("batchnorm_forward"), run_forward<T>});
  cases.push_back({typed_name<T>("batchnorm_backward"), run_backward<T>});
  cases.push_back({typed_name<T>("batchnorm_inference"), run_inference<T>});
}

}  // namespace

void add_norm_cases(std::vector<OpCase>& cases) {
  add_typed<float>(cases);
  add_typed<bf16>(cases);
}

}  // namespace subpix::tests
