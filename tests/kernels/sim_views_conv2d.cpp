// Convolutions, plain and fused, whose operands do not start at a pack's address, each operand by
// itself: kernels that copy 16 bytes at a time must notice and hand over.

#include <cmath>
#include <functional>
#include <memory>
#include <type_traits>
#include <vector>

#include "kernels/sim/sim.h"
#include "kernels/sim/table.h"
#include "tests/kernels/views.h"
#include "tests/support/catch.h"

namespace subpix::tests {
namespace {

using kernels::Context;
using kernels::Conv2dProblem;
using kernels::Filter;
using kernels::Index;
using kernels::InputForm;
using kernels::TypedOps;

/// Gives every operand its memory; the one at `shifted` starts one element late. Values are -1, 0
/// and 1: sums are integers that bf16 holds, whatever the order.
class Operands {
 public:
  Operands(Context& ctx, int shifted) : ctx_(ctx), shifted_(shifted) {}

  template <class T>
  const T* in(Index n) {
    std::vector<T> values;
    unsigned state = 12345u + static_cast<unsigned>(count_);
    for (Index i = 0; i < n; ++i) {
      state = state * 1664525u + 1013904223u;
      values.push_back(store<T>(static_cast<float>(static_cast<int>(state >> 20) % 3 - 1)));
    }
    return hold(std::move(values))->data();
  }
  const float* constant(Index n, float value) {
    return hold(std::vector<float>(static_cast<std::size_t>(n), value))->data();
  }
  template <class T>
  T* out(Index n) {
    auto view = hold(std::vector<T>(static_cast<std::size_t>(n)));
    results_.push_back([view] {
      std::vector<double> values;
      for (const T v : view->read())
        if constexpr (std::is_same_v<T, bf16>)
          values.push_back(to_float(v));
        else
          values.push_back(v);
      return values;
    });
    return view->data();
  }
  int count() const { return count_; }
  std::vector<std::vector<double>> read() const {
    std::vector<std::vector<double>> all;
    for (const auto& result : results_) all.push_back(result());
    return all;
  }

 private:
  template <class T>
  std::shared_ptr<View<T>> hold(std::vector<T> values) {
    auto view = std::make_shared<View<T>>(ctx_, std::move(values), count_++ == shifted_ ? 1 : 0);
    held_.push_back(view);
    return view;
  }
  Context& ctx_;
  int shifted_, count_ = 0;
  std::vector<std::shared_ptr<void>> held_;
  std::vector<std::function<std::vector<double>()>> results_;
};

/// Every variant of `op` that takes the problem, with each operand shifted in turn, against none.
/// call(operands, run) makes the operands and calls run with them.
template <class Op, class Call>
void shift_each(Context& ctx, const Op& op, const typename Op::Problem& d, Call&& call) {
  for (const auto& variant : op.variants()) {
    if (variant.supports && !variant.supports(d, ctx.device())) continue;
    // What the other flavours add is the same for every variant that hands over.
    if (sim::flavour() != sim::Flavour::Sim && variant.name != op.variants().front().name) continue;
    std::vector<std::vector<double>> want;
    int operands = 0;
    for (int shifted = -1; shifted < operands; ++shifted) {
      INFO(op.name() << " " << variant.name << " " << d.key() << ": operand " << shifted);
      Operands given(ctx, shifted);
      call(given, [&](auto... args) { variant.run(ctx, d, args...); });
      const auto got = given.read();
      if (shifted < 0) {
        want = got;
        operands = given.count();
        continue;
      }
      // Only sums of squares about the mean depend on the order.
      for (std::size_t k = 0; k < want.size(); ++k)
        for (std::size_t i = 0; i < want[k].size(); ++i)
          if (!(std::abs(got[k][i] - want[k][i]) <= 1e-6 * std::abs(want[k][i])))
            FAIL("output " << k << " element " << i << ": " << got[k][i] << ", not " << want[k][i]);
      SUCCEED();
    }
  }
}

kernels::NormInput norm_input(Operands& o, InputForm form, Index c) {
  if (form == InputForm::Plain) return {};
  // Slope -1 and no shift keep integers: -1, 0 and 1 become 0 and 1.
  const float* scale = o.constant(c, 1.0f);
  const float* shift = o.constant(c, 0.0f);
  return {scale, shift, form == InputForm::NormPRelu ? o.constant(c, -1.0f) : nullptr};
}

template <class T>
void plain(Context& ctx, const Conv2dProblem& d) {
  const TypedOps<T>& ops = ctx.table().typed<T>();
  shift_each(ctx, ops.conv2d_forward, d, [&](Operands& o, auto&& run) {
    const T* x = o.in<T>(d.x_count());
    const T* w = o.in<T>(d.w_count());
    const float* bias = o.in<float>(d.k);
    run(x, Filter<T>(w), bias, o.out<T>(d.y_count()));
  });
  shift_each(ctx, ops.conv2d_backward_data, d, [&](Operands& o, auto&& run) {
    const T* dy = o.in<T>(d.y_count());
    const T* w = o.in<T>(d.w_count());
    run(dy, Filter<T>(w), o.out<T>(d.x_count()));
  });
  shift_each(ctx, ops.conv2d_backward_filter, d, [&](Operands& o, auto&& run) {
    const T* x = o.in<T>(d.x_count());
    const T* dy = o.in<T>(d.y_count());
    float* dw = o.out<float>(d.w_count());
    run(x, dy, dw, o.out<float>(d.k));
  });
}

template <class T>
void with_norm(Context& ctx, const Conv2dProblem& d, InputForm form) {
  const TypedOps<T>& ops = ctx.table().typed<T>();
  shift_each(ctx, ops.conv2d_norm_forward, {d, form}, [&](Operands& o, auto&& run) {
    const T* x = o.in<T>(d.x_count());
    const kernels::NormInput in = norm_input(o, form, d.c);
    const T* w = o.in<T>(d.w_count());
    T* y = o.out<T>(d.y_count());
    kernels::NormOutput out{};
    out.gamma = o.constant(d.k, 1.0f);
    out.beta = o.constant(d.k, 0.5f);
    for (float** p : {&out.mean, &out.inv_std, &out.scale, &out.running_mean, &out.running_var})
      *p = o.out<float>(d.k);
    // beta - mean * scale: near zero where the two are equal, so the result itself is no measure.
    Operands unread(ctx, -1);
    out.shift = unread.out<float>(d.k);
    run(x, in, Filter<T>(w), y, out);
  });
  shift_each(ctx, ops.conv2d_norm_backward_filter, {d, form}, [&](Operands& o, auto&& run) {
    const T* x = o.in<T>(d.x_count());
    const kernels::NormInput in = norm_input(o, form, d.c);
    const T* dy = o.in<T>(d.y_count());
    run(x, in, dy, o.out<float>(d.w_count()));
  });
  shift_each(ctx, ops.conv2d_norm_backward_data, {d, true, form}, [&](Operands& o, auto&& run) {
    const T* dy = o.in<T>(d.y_count());
    const T* w = o.in<T>(d.w_count());
    const T* skip = o.in<T>(d.x_count());
    const T* x = form == InputForm::Plain ? nullptr : o.in<T>(d.x_count());
    const kernels::NormInput in = norm_input(o, form, d.c);
    const float* mean = o.constant(d.c, 0.0f);
    const float* inv_std = o.constant(d.c, 0.5f);
    T* dx = o.out<T>(d.x_count());
    kernels::NormGradients sums{};
    if (form != InputForm::Plain) sums = {o.out<float>(d.c), o.out<float>(d.c), o.out<float>(d.c)};
    run(dy, Filter<T>(w), skip, x, in, mean, inv_std, dx, sums);
  });
}

template <class T>
void with_epilogue(Context& ctx, const Conv2dProblem& d) {
  const TypedOps<T>& ops = ctx.table().typed<T>();
  shift_each(ctx, ops.conv2d_activation_forward, {d, kernels::Activation::Relu},
             [&](Operands& o, auto&& run) {
               const T* x = o.in<T>(d.x_count());
               const T* w = o.in<T>(d.w_count());
               const float* bias = o.in<float>(d.k);
               run(x, Filter<T>(w), bias, o.out<T>(d.y_count()));
             });
  shift_each(ctx, ops.conv2d_shuffle_forward, {d}, [&](Operands& o, auto&& run) {
    const T* x = o.in<T>(d.x_count());
    const T* w = o.in<T>(d.w_count());
    const float* bias = o.in<float>(d.k);
    const float* slope = o.constant(d.k / 4, -1.0f);
    T* z = o.out<T>(d.y_count());
    run(x, Filter<T>(w), bias, slope, z, o.out<T>(d.y_count()));
  });
  shift_each(ctx, ops.conv2d_pool_forward, {d}, [&](Operands& o, auto&& run) {
    const T* x = o.in<T>(d.x_count());
    const T* w = o.in<T>(d.w_count());
    const float* bias = o.in<float>(d.k);
    const Index n = kernels::Conv2dPoolProblem{d}.pool().y_count();
    T* y = o.out<T>(n);
    run(x, Filter<T>(w), bias, y, o.out<std::uint8_t>(n));
  });
}

template <class T>
void all(Context& ctx) {
  const Conv2dProblem trunk{1, 4, 6, 64, 64, 3, 3, 1, 1}, strided{1, 5, 6, 64, 64, 3, 3, 2, 1};
  plain<T>(ctx, trunk);
  plain<T>(ctx, strided);
  plain<T>(ctx, {1, 4, 6, 3, 64, 3, 3, 1, 1});
  plain<T>(ctx, {1, 4, 6, 64, 3, 9, 9, 1, 4});
  for (const InputForm form : {InputForm::Plain, InputForm::NormPRelu}) {
    with_norm<T>(ctx, trunk, form);
    with_norm<T>(ctx, strided, form);
  }
  with_epilogue<T>(ctx, trunk);
}

}  // namespace

TEST_CASE("convolutions take operands at any address", "[sim]") {
  Context ctx(kernels::sim::table(), kernels::sim::device_info());
  all<float>(ctx);
  all<bf16>(ctx);
}

}  // namespace subpix::tests
