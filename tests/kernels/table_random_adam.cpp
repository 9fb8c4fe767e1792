#include <algorithm>

#include "kernels/reference/adam.h"
#include "kernels/reference/random.h"
#include "tests/kernels/op_case.h"
#include "tests/support/problems.h"

namespace subpix::tests {

namespace {

namespace reference = kernels::reference;
using kernels::AdamProblem;
using kernels::AdamTensor;
using kernels::KernelTable;
using kernels::RandomProblem;

std::vector<RandomProblem> random_problems() {
  std::vector<RandomProblem> list;
  for (const Index count : element_counts())
    list.push_back({.count = count, .seed = 1, .stream = 0, .offset = 0, .low = 0, .high = 1});
  // Every word of the counter and the key, carries from the low to the high word, other ranges.
  list.push_back({.count = 37, .seed = 0x0123456789abcdef, .stream = 5, .low = -1, .high = 1});
  list.push_back({.count = 37,
                  .seed = ~std::uint64_t{0},
                  .stream = 0xfedcba9876543210,
                  .offset = 0xfffffffe,
                  .low = -0.3f,
                  .high = 0.7f});
  list.push_back(
      {.count = 37, .seed = 7, .stream = 1, .offset = ~std::uint64_t{0} - 3, .low = 2, .high = 5});
  return list;
}

std::string remark(const RandomProblem& d) {
  return concat("seed ", d.seed, " stream ", d.stream, " offset ", d.offset);
}

void run_uniform(Report& report) {
  for (const RandomProblem& d : random_problems()) {
    // The formula fixes every rounding, so the float result itself is the oracle.
    std::vector<float> numbers(static_cast<std::size_t>(d.count));
    reference::philox_uniform<float>(d, numbers.data());
    const Values value(numbers.begin(), numbers.end());
    const Expected y{"y", {{"i", d.count}}, value, exact(value)};
    check_variants(report, &KernelTable::philox_uniform, d, remark(d), {y},
                   [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                     float* out = buffers.out<float>("y", d.count);
                     run(out);
                     return {buffers.read(out)};
                   });
  }
}

void run_normal(Report& report) {
  // The radius is largest for u = 2^-24; log, sqrt, sin and cos in fp32 cost a few units each.
  const double most = std::sqrt(2.0 * 24.0 * std::log(2.0));
  for (const RandomProblem& d : random_problems()) {
    Values value(static_cast<std::size_t>(d.count));
    reference::philox_normal<double>(d, value.data());
    Expected y{"y", {{"i", d.count}}, value, exact(value)};
    for (std::size_t i = 0; i < value.size(); ++i)
      y.bound[i] = allowed<float>(
          value[i], 16.0,
          std::fabs(static_cast<double>(d.low)) + most * std::fabs(static_cast<double>(d.high)));
    if (d.count > 1) {
      Values faulty = value;
      std::rotate(faulty.begin(), faulty.begin() + 1, faulty.end());
      report.check("philox_normal " + d.key(), prove<float>(y, faulty));
    }
    check_variants(report, &KernelTable::philox_normal, d, remark(d), {y},
                   [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                     float* out = buffers.out<float>("y", d.count);
                     run(out);
                     return {buffers.read(out)};
                   });
  }
}

/// AdamTensor over double.
struct DoubleTensor {
  double* w;
  const double* g;
  double* m;
  double* v;
  bf16* w_bf16;
  Index count;
};

/// One tensor of the list, and what the step must make of it.
struct AdamData {
  Values w, g, m, v;
  bool has_copy;
  Expected new_w, new_m, new_v;
};

AdamData make_adam_data(const AdamProblem& d, Index count, bool has_copy, const Values& scalars,
                        const std::string& key) {
  AdamData a;
  a.has_copy = has_copy;
  a.w = fill_values<float>(Fill::Uniform, count, key, "w");
  a.g = uniform_values<float>(-0.01, 0.01, count, key, "g");
  a.m = uniform_values<float>(-0.01, 0.01, count, key, "m");
  a.v = uniform_values<float>(0, 1e-4, count, key, "v");
  // A weight that never had a gradient stays as it is; one whose moments are new.
  if (count > 2) a.g[1] = a.m[1] = a.v[1] = 0.0;
  if (count > 3) a.m[2] = a.v[2] = 0.0;
  Values w = a.w, m = a.m, v = a.v;
  const DoubleTensor tensor{w.data(), a.g.data(), m.data(), v.data(), nullptr, count};
  reference::adam(d, &tensor, 1, scalars.data());
  const Dims dims = {{"i", count}};
  a.new_w = {"w of " + key, dims, w, exact(w)};
  a.new_m = {"m of " + key, dims, m, exact(m)};
  a.new_v = {"v of " + key, dims, v, exact(v)};
  const double beta1 = static_cast<double>(d.beta1);
  for (std::size_t i = 0; i < w.size(); ++i) {
    const double m_terms = std::fabs(beta1 * a.m[i]) + std::fabs((1.0 - beta1) * a.g[i]);
    a.new_m.bound[i] = allowed<float>(m[i], 3.0, m_terms);
    a.new_v.bound[i] = allowed<float>(v[i], 4.0, v[i]);
    // The root halves v's relative error; m may cancel, so its error counts against its terms.
    const double divisor = std::sqrt(v[i]) * scalars[1] + static_cast<double>(d.eps);
    const double update = std::fabs(scalars[0] * m[i] / divisor);
    a.new_w.bound[i] = allowed<float>(w[i], 1.0, std::fabs(a.w[i])) +
                       4.0 * kAccumulate * scalars[0] * m_terms / divisor +
                       8.0 * kAccumulate * update;
  }
  return a;
}

void check_adam(Report& report, AdamProblem d, const std::vector<Index>& counts,
                const Values& scalars, const std::string& note) {
  d.count = 0;
  std::vector<AdamData> list;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    d.count += counts[i];
    list.push_back(make_adam_data(d, counts[i], i % 2 == 0, scalars, concat("tensor ", i)));
  }
  std::vector<Expected> expected;
  for (const AdamData& a : list) {
    expected.insert(expected.end(), {a.new_w, a.new_m, a.new_v});
    if (a.has_copy) {
      const Values none(a.w.size(), 0.0);
      expected.push_back({"bf16 copy minus rounded w", a.new_w.dims, none, none});
    }
    // A step without the second bias correction, and one with the old moment.
    Values uncorrected = a.w, m = a.m, v = a.v;
    const DoubleTensor tensor{uncorrected.data(), a.g.data(), m.data(),
                              v.data(),           nullptr,    static_cast<Index>(m.size())};
    const double other[2] = {scalars[0], 1.1 * scalars[1]};
    reference::adam(d, &tensor, 1, other);
    report.check("adam " + d.key() + note, prove<float>(a.new_w, uncorrected));
    report.check("adam " + d.key() + note, prove<float>(a.new_m, a.m));
    report.check("adam " + d.key() + note, prove<float>(a.new_v, a.v));
  }
  check_variants(
      report, &KernelTable::adam, d, note, expected,
      [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
        std::vector<AdamTensor> tensors;
        for (const AdamData& a : list) {
          const Index count = static_cast<Index>(a.w.size());
          tensors.push_back({buffers.inout<float>("w", a.w), buffers.in<float>("g", a.g),
                             buffers.inout<float>("m", a.m), buffers.inout<float>("v", a.v),
                             buffers.out<bf16>("w_bf16", a.has_copy ? count : 0), count});
        }
        run(tensors.data(), static_cast<int>(tensors.size()),
            buffers.in<float>("scalars", scalars));
        std::vector<Values> got;
        for (const AdamTensor& t : tensors) {
          const Values w = buffers.read(static_cast<const float*>(t.w));
          got.insert(got.end(), {w, buffers.read(static_cast<const float*>(t.m)),
                                 buffers.read(static_cast<const float*>(t.v))});
          if (!t.w_bf16) continue;
          Values copy = buffers.read(static_cast<const bf16*>(t.w_bf16));
          for (std::size_t i = 0; i < copy.size(); ++i) copy[i] -= rounded<bf16>(w[i]);
          got.push_back(copy);
        }
        return got;
      });
}

void run_adam(Report& report) {
  // step_size = lr / (1 - b1^t), inv_sqrt_bias2 = 1 / sqrt(1 - b2^t): first step and a late one.
  const Values first = rounded_all<float>({1e-4 / 0.1, 1.0 / std::sqrt(0.001)});
  const Values late = rounded_all<float>({1e-4, 1.0});
  const AdamProblem usual{.count = 1};
  check_adam(report, usual, {5}, first, " first step");
  check_adam(report, usual, {1, 17, 1023, 4, 70001}, first, " first step");
  check_adam(report, usual, {64, 3, 36865}, late, " late step");
  const AdamProblem other{.count = 1, .beta1 = 0.5f, .beta2 = 0.9f, .eps = 1e-4f};
  check_adam(report, other, {257, 31}, late, " other betas");
}

}  // namespace

void add_random_adam_cases(std::vector<OpCase>& cases) {
  cases.push_back({"philox_uniform", run_uniform});
  cases.push_back({"philox_normal", run_normal});
  cases.push_back({"adam", run_adam});
}

}  // namespace subpix::tests
