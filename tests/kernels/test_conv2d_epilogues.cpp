// Fused convolutions beyond the table tests: which kernels the layers of SRGAN and VGG19 get, and
// tensors that begin anywhere.

#include <string>

#include "kernels/sim/sim.h"
#include "kernels/sim/table.h"
#include "tests/support/catch.h"
#include "tests/support/fill.h"
#include "tests/support/guarded.h"

namespace subpix::tests {
namespace {

using kernels::Context;
using kernels::Conv2dNormProblem;
using kernels::Conv2dProblem;
using kernels::Filter;
using kernels::Index;
using kernels::InputForm;

Context make_context() { return {kernels::sim::table(), kernels::sim::device_info()}; }

/// Tensors that begin one element into their buffers (shift 1) or at them (0).
class Views {
 public:
  Views(Context& ctx, Index shift) : buffers_(ctx), shift_(shift) {}
  template <class T>
  const T* in(const char* name, Index count) {
    Values values = fill_values<T>(Fill::Integers, count, "view", name);
    values.insert(values.begin(), static_cast<std::size_t>(shift_), 1.0);
    return buffers_.in<T>(name, values) + shift_;
  }
  template <class T>
  T* out(const char* name, Index count) {
    return buffers_.out<T>(name, count + shift_) + shift_;
  }
  template <class T>
  Values read(T* view) {
    Values values = buffers_.read(view - shift_);
    values.erase(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(shift_));
    return values;
  }

 private:
  Buffers buffers_;
  Index shift_;
};

/// call(ctx, views) runs an op and returns its outputs, which must not depend on the shift. Small
/// integers make them exact, so another kernel may stand in for unaligned tensors.
template <class Call>
void check_views(Call&& call) {
  GuardedBytes::guard_bytes = 0;
  std::vector<Values> want;
  for (const Index shift : {0, 1}) {
    Context ctx = make_context();
    {
      Views views(ctx, shift);
      const std::vector<Values> got = call(ctx, views);
      if (shift == 0) want = got;
      CHECK(got == want);
    }
    ctx.table().memory.synchronize(ctx);
  }
}

/// The variant that would run is `name`; then it is left to the context's choice.
template <class Op, class Problem>
void check_choice(const Op& op, const Problem& d, const std::string& name) {
  INFO(op.name() << " " << d.key());
  CHECK(op.select(make_context(), d).name == name);
}

}  // namespace

TEST_CASE("fused convolutions of SRGAN and VGG19 run on kernels of their own", "[sim]") {
  const kernels::KernelTable& table = kernels::sim::table();
  check_choice(table.conv2d_wide_forward, Conv2dProblem{16, 96, 96, 64, 3, 9, 9, 1, 4},
               "column_sum_mma");
  check_choice(table.conv2d_wide_forward, Conv2dProblem{16, 96, 96, 64, 4, 9, 9, 1, 4},
               "implicit_gemm_mma");
  const auto& filter = table.bf16_ops.conv2d_norm_backward_filter;
  const Conv2dProblem trunk{16, 24, 24, 64, 64, 3, 3, 1, 1};
  for (const InputForm form : {InputForm::Norm, InputForm::NormPRelu, InputForm::NormPReluShared})
    check_choice(filter, Conv2dNormProblem{trunk, form}, "split_pixels_mma");
  check_choice(filter, Conv2dNormProblem{trunk, InputForm::Plain}, "composed");
  Index size = 48, c = 64;
  for (Index i = 2; i < 8; ++i) {  // the discriminator's layers behind a norm
    const Conv2dProblem d{32, size, size, c, Index{64} << (i / 2), 3, 3, 1 + i % 2, 1};
    check_choice(filter, Conv2dNormProblem{d, InputForm::NormLeakyRelu, 0.2f}, "split_pixels_mma");
    c = d.k;
    size /= d.stride;
  }
}

TEST_CASE("fused convolutions take views of any alignment", "[sim]") {
  for (const Conv2dProblem& d :
       {Conv2dProblem{1, 3, 4, 8, 3, 9, 9, 1, 4}, Conv2dProblem{1, 3, 4, 16, 12, 3, 3, 1, 1}})
    check_views([&](Context& ctx, Views& v) -> std::vector<Values> {
      float* y = v.out<float>("y", d.y_count());
      ctx.table().conv2d_wide_forward(ctx, d, v.in<bf16>("x", d.x_count()),
                                      Filter<bf16>(v.in<bf16>("w", d.w_count())),
                                      v.in<float>("bias", d.k), y);
      return {v.read(y)};
    });
  check_views([&](Context& ctx, Views& v) -> std::vector<Values> {
    const Conv2dNormProblem d{{1, 5, 6, 16, 8, 3, 3, 1, 1}, InputForm::NormLeakyRelu, 0.25f};
    float* dw = v.out<float>("dw", d.conv.w_count());
    ctx.table().bf16_ops.conv2d_norm_backward_filter(
        ctx, d, v.in<bf16>("x", d.conv.x_count()),
        {.scale = v.in<float>("scale", d.conv.c), .shift = v.in<float>("shift", d.conv.c)},
        v.in<bf16>("dy", d.conv.y_count()), dw);
    return {v.read(dw)};
  });
}

}  // namespace subpix::tests
