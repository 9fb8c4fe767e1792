#include "kernels/reference/conv2d.h"
#include "kernels/reference/dense.h"
#include "tests/kernels/op_case.h"
#include "tests/support/catch.h"
#include "tests/support/problems.h"

// A backend may keep a filter in its own layout under Filter::id, as long as Filter::version stays.
// Integer data, so that every path must give the same bits.
namespace subpix::tests {

namespace {

using kernels::Context;
using kernels::Filter;
using kernels::TypedOps;

/// Calls run(variant name, filter) through the life of a cached filter; run returns the op's result
/// for that filter and `expect(values)` the oracle's for those weights.
template <class T, class Run, class Expect>
void check_filter_life(Context& ctx, const Values& first, const Values& second, Run&& run,
                       Expect&& expect) {
  constexpr std::uint64_t kId = 4711, kOtherId = 4712;
  const Expected of_first = expect(first), of_second = expect(second);
  Buffers buffers(ctx);
  const T* a = buffers.in<T>("first weights", first);
  const T* b = buffers.in<T>("second weights", second);
  const auto check = [&](const char* what, const Expected& expected, Filter<T> filter) {
    INFO(what);
    const std::string message = compare(run(filter), expected);
    CHECK(message == "");
  };
  check("not cached", of_first, Filter<T>(a));
  check("first use", of_first, Filter<T>(a, kId, 1));
  check("second use", of_first, Filter<T>(a, kId, 1));
  check("after an update", of_second, Filter<T>(b, kId, 2));
  check("the update again", of_second, Filter<T>(b, kId, 2));
  check("another filter of the same shape", of_first, Filter<T>(a, kOtherId, 2));
  check("the first one again", of_second, Filter<T>(b, kId, 2));
  check("not cached between the others", of_first, Filter<T>(a));
  ctx.forget(kId);
  check("an id used again by a new storage", of_first, Filter<T>(a, kId, 2));
  ctx.forget(kId);
  ctx.forget(kOtherId);
  CHECK(buffers.damages().empty());
}

Expected exactly(Index count, Values value) {
  Values bound = exact(value);
  return {"result", {{"i", count}}, std::move(value), std::move(bound)};
}

template <class T>
void check_conv2d(TableUnderTest& under, const Conv2dProblem& d) {
  Context& ctx = *under.ctx;
  const Values x = fill_values<T>(Fill::Integers, d.x_count(), d.key(), "x");
  const Values dy = fill_values<T>(Fill::Integers, d.y_count(), d.key(), "dy");
  const Values first = fill_values<T>(Fill::Integers, d.w_count(), d.key(), "first");
  const Values second = fill_values<T>(Fill::Integers, d.w_count(), d.key(), "second");
  const TypedOps<T>& ops = under.table->typed<T>();

  for (const auto& variant : ops.conv2d_forward.variants()) {
    if (variant.supports && !variant.supports(d, ctx.device())) continue;
    INFO(under.table->name << " conv2d_forward [" << variant.name << "] " << d.key());
    check_filter_life<T>(
        ctx, first, second,
        [&](Filter<T> filter) {
          Buffers buffers(ctx);
          T* y = buffers.out<T>("y", d.y_count());
          variant.run(ctx, d, buffers.in<T>("x", x), filter, nullptr, y);
          return buffers.read(y);
        },
        [&](const Values& w) {
          Values y(static_cast<std::size_t>(d.y_count()));
          kernels::reference::conv2d_forward<double>(d, x.data(), w.data(), nullptr, y.data());
          return exactly(d.y_count(), rounded_all<T>(y));
        });
  }
  for (const auto& variant : ops.conv2d_backward_data.variants()) {
    if (variant.supports && !variant.supports(d, ctx.device())) continue;
    INFO(under.table->name << " conv2d_backward_data [" << variant.name << "] " << d.key());
    check_filter_life<T>(
        ctx, first, second,
        [&](Filter<T> filter) {
          Buffers buffers(ctx);
          T* dx = buffers.out<T>("dx", d.x_count());
          variant.run(ctx, d, buffers.in<T>("dy", dy), filter, dx);
          return buffers.read(dx);
        },
        [&](const Values& w) {
          Values dx(static_cast<std::size_t>(d.x_count()));
          kernels::reference::conv2d_backward_data<double>(d, dy.data(), w.data(), dx.data());
          return exactly(d.x_count(), rounded_all<T>(dx));
        });
  }
}

template <class T>
void check_dense(TableUnderTest& under, const DenseProblem& d) {
  Context& ctx = *under.ctx;
  const Values x = fill_values<T>(Fill::Integers, d.n * d.in, d.key(), "x");
  const Values dy = fill_values<T>(Fill::Integers, d.n * d.out, d.key(), "dy");
  const Values first = fill_values<T>(Fill::Integers, d.out * d.in, d.key(), "first");
  const Values second = fill_values<T>(Fill::Integers, d.out * d.in, d.key(), "second");
  const TypedOps<T>& ops = under.table->typed<T>();

  for (const auto& variant : ops.dense_forward.variants()) {
    if (variant.supports && !variant.supports(d, ctx.device())) continue;
    INFO(under.table->name << " dense_forward [" << variant.name << "] " << d.key());
    check_filter_life<T>(
        ctx, first, second,
        [&](Filter<T> filter) {
          Buffers buffers(ctx);
          T* y = buffers.out<T>("y", d.n * d.out);
          variant.run(ctx, d, buffers.in<T>("x", x), filter, nullptr, y);
          return buffers.read(y);
        },
        [&](const Values& w) {
          Values y(static_cast<std::size_t>(d.n * d.out));
          kernels::reference::dense_forward<double>(d, x.data(), w.data(), nullptr, y.data());
          return exactly(d.n * d.out, rounded_all<T>(y));
        });
  }
  for (const auto& variant : ops.dense_backward_data.variants()) {
    if (variant.supports && !variant.supports(d, ctx.device())) continue;
    INFO(under.table->name << " dense_backward_data [" << variant.name << "] " << d.key());
    check_filter_life<T>(
        ctx, first, second,
        [&](Filter<T> filter) {
          Buffers buffers(ctx);
          T* dx = buffers.out<T>("dx", d.n * d.in);
          variant.run(ctx, d, buffers.in<T>("dy", dy), filter, dx);
          return buffers.read(dx);
        },
        [&](const Values& w) {
          Values dx(static_cast<std::size_t>(d.n * d.in));
          kernels::reference::dense_backward_data<double>(d, dy.data(), w.data(), dx.data());
          return exactly(d.n * d.in, rounded_all<T>(dx));
        });
  }
}

}  // namespace

TEMPLATE_TEST_CASE("cached filters follow their version", "[kernels][tables][filter]", float,
                   bf16) {
  for (TableUnderTest& under : tables_under_test()) {
    for (const Conv2dProblem& d : std::vector<Conv2dProblem>{{1, 5, 7, 3, 6, 3, 3, 1, 1},
                                                             {2, 6, 6, 16, 32, 3, 3, 2, 1},
                                                             {1, 7, 9, 24, 3, 9, 9, 1, 4},
                                                             {1, 12, 12, 64, 64, 3, 3, 1, 1}})
      check_conv2d<TestType>(under, d);
    for (const DenseProblem& d : std::vector<DenseProblem>{{3, 17, 5}, {2, 130, 64}})
      check_dense<TestType>(under, d);
  }
}

}  // namespace subpix::tests
