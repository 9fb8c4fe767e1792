#include <limits>

#include "kernels/reference/shape_pool.h"
#include "tests/kernels/op_case.h"
#include "tests/support/problems.h"

// These ops only move values, so their results are exact for any data.
namespace subpix::tests {

namespace {

namespace reference = kernels::reference;
using kernels::TypedOps;

/// Values that differ from their neighbours in every direction: an index error cannot hide.
template <class T>
Values distinct(Index count, const std::string& key, const char* buffer) {
  return fill_values<T>(Fill::Uniform, count, key, buffer);
}

Expected equal_to(const char* what, Dims dims, Values value) {
  Values bounds = exact(value);
  return {what, std::move(dims), std::move(value), std::move(bounds)};
}

template <class T>
void run_pixel_shuffle(Report& report, bool backward) {
  for (const ShuffleProblem& d : shuffle_problems()) {
    const Dims x_dims = {{"n", d.n}, {"h", d.h}, {"w", d.w}, {"channel", d.c * d.scale * d.scale}};
    const Dims y_dims = {{"n", d.n}, {"h", d.h * d.scale}, {"w", d.w * d.scale}, {"c", d.c}};
    const Values from = distinct<T>(d.count(), d.key(), backward ? "dy" : "x");
    Values to(from.size());
    if (backward)
      reference::pixel_shuffle_backward<double>(d, from.data(), to.data());
    else
      reference::pixel_shuffle_forward<double>(d, from.data(), to.data());
    const Expected want = backward ? equal_to("dx", x_dims, to) : equal_to("y", y_dims, to);
    const auto member =
        backward ? &TypedOps<T>::pixel_shuffle_backward : &TypedOps<T>::pixel_shuffle_forward;
    check_variants(report, member, d, "", {want},
                   [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                     T* out = buffers.out<T>("out", d.count());
                     run(buffers.in<T>("in", from), out);
                     return {buffers.read(out)};
                   });
  }
}

template <class T>
void check_max_pool_forward(Report& report, const PoolProblem& d, const Values& x,
                            const std::string& remark) {
  Values y(static_cast<std::size_t>(d.y_count()));
  std::vector<std::uint8_t> places(y.size());
  reference::max_pool_forward<double>(d, x.data(), y.data(), places.data());
  const Dims dims = {{"n", d.n}, {"p", d.p()}, {"q", d.q()}, {"c", d.c}};
  for (const bool with_which : {true, false}) {
    std::vector<Expected> expected = {equal_to("y", dims, y)};
    if (with_which)
      expected.push_back(equal_to("which", dims, Values(places.begin(), places.end())));
    check_variants(report, &TypedOps<T>::max_pool_forward, d,
                   remark + (with_which ? "" : " no which"), expected,
                   [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                     T* out = buffers.out<T>("y", d.y_count());
                     auto* which = buffers.out<std::uint8_t>("which", with_which ? d.y_count() : 0);
                     run(buffers.in<T>("x", x), out, which);
                     std::vector<Values> got = {buffers.read(out)};
                     if (with_which) got.push_back(buffers.read(which));
                     return got;
                   });
  }
}

template <class T>
void run_max_pool_forward(Report& report) {
  for (const PoolProblem& d : pool_problems()) {
    check_max_pool_forward<T>(report, d, distinct<T>(d.x_count(), d.key(), "x"), "uniform");
    // Integers have many ties, whose first must win.
    check_max_pool_forward<T>(report, d, fill_values<T>(Fill::Integers, d.x_count(), d.key(), "x"),
                              "ties");
    Values x = distinct<T>(d.x_count(), d.key(), "x");
    for (std::size_t i = 0; i < x.size(); i += 5) x[i] = std::numeric_limits<double>::quiet_NaN();
    for (std::size_t i = 1; i < x.size(); i += 3) x[i] = -std::numeric_limits<double>::infinity();
    check_max_pool_forward<T>(report, d, x, "nan");
    check_max_pool_forward<T>(report, d, Values(x.size(), -std::numeric_limits<double>::infinity()),
                              "all -inf");
  }
}

template <class T>
void run_max_pool_backward(Report& report) {
  for (const PoolProblem& d : pool_problems()) {
    const Values dy = distinct<T>(d.y_count(), d.key(), "dy");
    Generator generator(seed_of(d.key() + "/which"));
    std::vector<std::uint8_t> places(dy.size());
    for (auto& place : places) place = static_cast<std::uint8_t>(generator.integer(0, 3));
    Values value(static_cast<std::size_t>(d.x_count()));
    reference::max_pool_backward<double>(d, dy.data(), places.data(), value.data());
    const Expected dx = equal_to("dx", {{"n", d.n}, {"h", d.h}, {"w", d.w}, {"c", d.c}}, value);
    check_variants(report, &TypedOps<T>::max_pool_backward, d, "", {dx},
                   [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                     T* out = buffers.out<T>("dx", d.x_count());
                     run(buffers.in<T>("dy", dy),
                         buffers.in<std::uint8_t>("which", Values(places.begin(), places.end())),
                         out);
                     return {buffers.read(out)};
                   });
  }
}

template <class T>
void add_typed(std::vector<OpCase>& cases) {
  cases.push_back({typed_name<T>("pixel_shuffle_forward"),
                   [](Report& report) { run_pixel_shuffle<T>(report, false); }});
  cases.push_back({typed_name<T>("pixel_shuffle_backward"),
                   [](Report& report) { run_pixel_shuffle<T>(report, true); }});
  cases.push_back({typed_name<T>("max_pool_forward"), run_max_pool_forward<T>});
  cases.push_back({typed_name<T>("max_pool_backward"), run_max_pool_backward<T>});
}

}  // namespace

void add_shape_pool_cases(std::vector<OpCase>& cases) {
  add_typed<float>(cases);
  add_typed<bf16>(cases);
}

}  // namespace subpix::tests
