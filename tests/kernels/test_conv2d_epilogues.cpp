// Fused convolutions beyond the table tests: every compiled size of tile, which kernels the layers
// of SRGAN and VGG19 get, tensors that begin anywhere.

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "kernels/sim/sim.h"
#include "kernels/sim/table.h"
#include "tests/support/catch.h"
#include "tests/support/fill.h"
#include "tests/support/guarded.h"

namespace subpix::tests {
namespace {

using kernels::Context;
using kernels::Conv2dGroupProblem;
using kernels::Conv2dNormProblem;
using kernels::Conv2dPoolProblem;
using kernels::Conv2dProblem;
using kernels::Conv2dShuffleProblem;
using kernels::Filter;
using kernels::Index;
using kernels::InputForm;

Context make_context(int multiprocessors = 132) {
  kernels::DeviceInfo device = kernels::sim::device_info();
  device.multiprocessors = multiprocessors;
  return {kernels::sim::table(), device};
}

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

using Outputs = std::vector<std::vector<std::byte>>;

/// Two problems of each compiled size of tile: rows of the product, on so many multiprocessors.
struct TileCase {
  int rows, multiprocessors;
  Index n, h, w;
};
constexpr TileCase kTiles[] = {{80, 8, 1, 24, 24},  {48, 7, 7, 6, 6}, {144, 1, 7, 6, 6},
                               {144, 1, 1, 12, 12}, {48, 7, 7, 5, 5}, {128, 4, 1, 16, 31},
                               {80, 8, 1, 23, 23}};

/// Runs `op` by its own kernel, with tiles of the case's size, and composed: the same bytes.
template <class Op, class Problem, class Call>
void check_against_composed(const Op& op, const Problem& d, const TileCase& t, Call&& call) {
  GuardedBytes::guard_bytes = 0;
  Outputs outputs[2];
  for (const bool own : {false, true}) {
    Context ctx = make_context(t.multiprocessors);
    ctx.override_variant(op.name(), own ? "halo_mma" : "composed");
    sim::reset_stats();
    call(ctx, outputs[own]);
    INFO(op.name() << " " << d.key() << " on " << t.multiprocessors);
    if (own) {
      // Products of a block: rows/16 by 8 tiles of 64 filters, 4 of 16 channels, for each tap.
      const auto rows = static_cast<std::uint64_t>(t.rows);
      CHECK(sim::stats().mma == sim::stats().blocks * rows / 16 * 8 * 4 * 9);
      CHECK(outputs[0] == outputs[1]);
    }
    ctx.table().memory.synchronize(ctx);
  }
}

/// Small integers, and a NaN in the middle.
Values with_nan(Index count, const std::string& key) {
  Values x = fill_values<bf16>(Fill::Integers, count, key, "x");
  x[static_cast<std::size_t>(count / 2)] = std::nan("");
  return x;
}
/// An output as bytes, NaN and signs of zeros too.
template <class T>
std::vector<std::byte> bytes_of(Context& ctx, const T* data, Index count) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(count) * sizeof(T));
  ctx.table().memory.synchronize(ctx);
  ctx.table().memory.copy_to_host(ctx, bytes.data(), data, bytes.size());
  return bytes;
}

}  // namespace

TEST_CASE("convolution with shuffle or pooling: every size of tile", "[sim]") {
  for (const TileCase& t : kTiles) {
    const Conv2dProblem conv{t.n, t.h, t.w, 64, 64, 3, 3, 1, 1};
    const Conv2dShuffleProblem shuffle{conv, 2, true, false};
    const auto& shuffle_op = kernels::sim::table().bf16_ops.conv2d_shuffle_forward;
    const Values x = with_nan(conv.x_count(), conv.key());
    const Values w = fill_values<bf16>(Fill::Integers, conv.w_count(), conv.key(), "w");
    const Values bias = fill_values<float>(Fill::Integers, conv.k, conv.key(), "bias");
    check_against_composed(shuffle_op, shuffle, t, [&](Context& ctx, Outputs& outputs) {
      Buffers buffers(ctx);
      bf16* z = buffers.out<bf16>("z", conv.y_count());
      bf16* y = buffers.out<bf16>("y", conv.y_count());
      shuffle_op(ctx, shuffle, buffers.in<bf16>("x", x), Filter<bf16>(buffers.in<bf16>("w", w)),
                 buffers.in<float>("bias", bias),
                 buffers.in<float>("slope", Values(bias.begin(), bias.begin() + 16)), z, y);
      outputs = {bytes_of(ctx, z, conv.y_count()), bytes_of(ctx, y, conv.y_count())};
    });
    const Conv2dPoolProblem pool{conv};
    const auto& pool_op = kernels::sim::table().bf16_ops.conv2d_pool_forward;
    check_against_composed(pool_op, pool, t, [&](Context& ctx, Outputs& outputs) {
      Buffers buffers(ctx);
      const Index count = pool.pool().y_count();
      bf16* y = buffers.out<bf16>("y", count);
      auto* which = buffers.out<std::uint8_t>("which", count);
      pool_op(ctx, pool, buffers.in<bf16>("x", x), Filter<bf16>(buffers.in<bf16>("w", w)),
              buffers.in<float>("bias", bias), y, which);
      outputs = {bytes_of(ctx, y, count), bytes_of(ctx, which, count)};
    });
  }
}

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
  check_choice(table.bf16_ops.conv2d_backward_filter_group, Conv2dGroupProblem{trunk, 33},
               "split_pixels_mma");
  Index size = 48, c = 64;
  for (Index i = 2; i < 8; ++i) {  // the discriminator's layers behind a norm
    const Conv2dProblem d{32, size, size, c, Index{64} << (i / 2), 3, 3, 1 + i % 2, 1};
    check_choice(filter, Conv2dNormProblem{d, InputForm::NormLeakyRelu, 0.2f}, "split_pixels_mma");
    c = d.k;
    size /= d.stride;
  }
  for (const Index up : {24, 48}) {
    const Conv2dProblem d{16, up, up, 64, 256, 3, 3, 1, 1};
    check_choice(table.bf16_ops.conv2d_shuffle_forward, Conv2dShuffleProblem{d}, "halo_mma");
  }
  for (Index i = 0; i < 4; ++i) {  // VGG19's last layers before its pools
    const Index width = Index{64} << i;
    const Conv2dProblem d{16, 96 >> i, 96 >> i, width, width, 3, 3, 1, 1};
    check_choice(table.bf16_ops.conv2d_pool_forward, Conv2dPoolProblem{d}, "halo_mma");
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
  check_views([&](Context& ctx, Views& v) -> std::vector<Values> {
    const Conv2dProblem d{1, 5, 6, 16, 8, 3, 3, 1, 1};
    std::vector<kernels::FilterGradient<bf16>> list;
    for (const InputForm form : {InputForm::Norm, InputForm::Plain, InputForm::NormLeakyRelu}) {
      kernels::NormInput in;
      if (form != InputForm::Plain)
        in = {.scale = v.in<float>("scale", d.c), .shift = v.in<float>("shift", d.c)};
      list.push_back({v.in<bf16>("x", d.x_count()), form, 0.25f, in, v.in<bf16>("dy", d.y_count()),
                      v.out<float>("dw", d.w_count())});
    }
    ctx.table().bf16_ops.conv2d_backward_filter_group(ctx, {d, 3}, list.data());
    std::vector<Values> got;
    for (const auto& f : list) got.push_back(v.read(f.dw));
    return got;
  });
  const Conv2dProblem conv{1, 5, 4, 32, 32, 3, 3, 1, 1};
  check_views([&](Context& ctx, Views& v) -> std::vector<Values> {
    bf16* z = v.out<bf16>("z", conv.y_count());
    bf16* y = v.out<bf16>("y", conv.y_count());
    ctx.table().bf16_ops.conv2d_shuffle_forward(
        ctx, {conv, 2, true, false}, v.in<bf16>("x", conv.x_count()),
        Filter<bf16>(v.in<bf16>("w", conv.w_count())), v.in<float>("bias", conv.k),
        v.in<float>("slope", 8), z, y);
    return {v.read(z), v.read(y)};
  });
  check_views([&](Context& ctx, Views& v) -> std::vector<Values> {
    const Index count = Conv2dPoolProblem{conv}.pool().y_count();
    bf16* y = v.out<bf16>("y", count);
    auto* which = v.out<std::uint8_t>("which", count);
    ctx.table().bf16_ops.conv2d_pool_forward(ctx, {conv}, v.in<bf16>("x", conv.x_count()),
                                             Filter<bf16>(v.in<bf16>("w", conv.w_count())),
                                             v.in<float>("bias", conv.k), y, which);
    return {v.read(y), v.read(which)};
  });
}

}  // namespace subpix::tests
