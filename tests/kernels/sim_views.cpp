// What the table tests do not reach: views whose address is not that of a pack, tensors of more
// than a grid, lists longer than a launch, graphs.

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/sim/runtime.h"
#include "kernels/sim/sim.h"
#include "kernels/sim/table.h"
#include "tests/kernels/views.h"
#include "tests/support/catch.h"

namespace subpix::tests {
namespace {

using kernels::AdamProblem;
using kernels::AdamTensor;
using kernels::Context;
using kernels::ElementProblem;
using kernels::Index;
using kernels::LossProblem;
using kernels::Reduction;
using kernels::TypedOps;
using kernels::VariationProblem;

template <class T>
std::vector<T> numbers(std::size_t n, int step) {
  std::vector<T> values;
  for (std::size_t i = 0; i < n; ++i)
    values.push_back(store<T>(static_cast<float>(static_cast<int>(i) * step % 7 - 3) * 0.5f));
  return values;
}
template <>
std::vector<std::uint8_t> numbers<std::uint8_t>(std::size_t n, int step) {
  std::vector<std::uint8_t> values;
  for (std::size_t i = 0; i < n; ++i)
    values.push_back(static_cast<std::uint8_t>(i * 29 + static_cast<std::size_t>(step)));
  return values;
}

/// The same bytes from the view as from the aligned tensor. The inputs are multiples of 1/2 below
/// 2, so that sums are exact in any order.
template <class T>
void check_same(const std::vector<T>& a, const std::vector<T>& b) {
  REQUIRE(a.size() == b.size());
  CHECK(std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class Out, class In, class Call>
void compare_views(Context& ctx, std::size_t n, Call&& call) {
  std::vector<Out> want;
  std::vector<float> want_loss;
  for (const std::size_t shift : {0, 1, 2, 3}) {
    INFO("shift " << shift);
    View<In> x(ctx, numbers<In>(n, 3), shift), t(ctx, numbers<In>(n, 5), shift);
    View<Out> y(ctx, std::vector<Out>(n), shift);
    View<float> loss(ctx, {0.0f}, 0);
    call(x.data(), t.data(), loss.data(), y.data());
    const std::vector<Out> got = y.read();
    if (shift == 0) {
      want = got;
      want_loss = loss.read();
    }
    check_same(got, want);
    check_same(loss.read(), want_loss);
  }
}

template <class T>
void compare_typed(Context& ctx) {
  const TypedOps<T>& ops = ctx.table().typed<T>();
  constexpr Index n = 4803;
  View<float> scale(ctx, numbers<float>(n, 2), 1);
  const ElementProblem e{.count = n, .alpha = 0.5f, .beta = 1.0f};
  compare_views<T, T>(ctx, n, [&](T* x, T*, float*, T* y) { ops.scale(ctx, e, x, nullptr, y); });
  compare_views<T, T>(ctx, n, [&](T*, T*, float*, T* y) { ops.fill(ctx, e, y); });
  compare_views<T, T>(ctx, n, [&](T* x, T*, float*, T* y) {
    ops.channel_affine(ctx, {1601, 3}, x, scale.data(), scale.data(), y);
  });
  compare_views<T, T>(ctx, 4800, [&](T* x, T*, float*, T* y) {
    ops.channel_affine(ctx, {75, 64}, x, scale.data(), nullptr, y);
  });
  compare_views<T, std::uint8_t>(
      ctx, n, [&](std::uint8_t* x, std::uint8_t*, float*, T* y) { ops.from_bytes(ctx, e, x, y); });
  compare_views<std::uint8_t, T>(
      ctx, n, [&](T* x, T*, float*, std::uint8_t* y) { ops.to_bytes(ctx, e, x, y); });
  for (const Reduction r : {Reduction::Sum, Reduction::MaxAbs})
    compare_views<T, T>(ctx, n, [&](T* x, T*, float* loss, T* y) {
      ops.reduce(ctx, {n, r}, x, loss);
      ops.fill(ctx, e, y);
    });
  const LossProblem l{.count = n, .scale = 0.5f, .target = 1.0f};
  compare_views<T, T>(
      ctx, n, [&](T* x, T* t, float* loss, T* dx) { ops.mse_loss(ctx, l, x, t, loss, dx); });
  compare_views<T, T>(ctx, n,
                      [&](T* x, T* t, float* loss, T* dx) { ops.l1_loss(ctx, l, x, t, loss, dx); });
  const VariationProblem v{.n = 1, .h = 25, .w = 64, .c = 3, .scale = 0.5f};
  compare_views<T, T>(
      ctx, 4800, [&](T* x, T*, float* loss, T* dx) { ops.total_variation(ctx, v, x, loss, dx); });
  const float* k = scale.data();
  compare_views<T, T>(ctx, 4800, [&](T* x, T* t, float*, T* y) {
    ops.norm_add_forward(ctx, {75, 64}, x, k, k + 64, t, y);
  });
  compare_views<T, T>(ctx, 4800, [&](T* x, T*, float*, T* y) {
    ops.norm_activation_forward(ctx, {75, 64, kernels::InputForm::NormPRelu}, x,
                                {.scale = k, .shift = k + 64, .slope = k + 129}, y);
  });
  compare_views<T, T>(ctx, 4800, [&](T* x, T* t, float*, T* dx) {
    ops.norm_backward_apply(ctx, {75, 64}, x, t, k, k + 64, k + 129, k + 195, k + 260, dx);
  });
  compare_views<T, T>(ctx, 4800, [&](T* z, T* t, float* dslope, T* dx) {
    ops.prelu_shuffle_backward(ctx, {{1, 3, 5, 80, 2}, true}, z, t, k, dx, dslope);
  });
  std::vector<std::uint8_t> places(7 * 10 * 16);
  for (std::size_t i = 0; i < places.size(); ++i) places[i] = i * 29 / 8 % 4;
  View<std::uint8_t> which(ctx, places, 0);
  compare_views<T, T>(ctx, 4800, [&](T* y, T* t, float*, T* dx) {
    ops.max_pool_relu_backward(ctx, {1, 15, 20, 16}, y, t, which.data(), dx);
  });
}

}  // namespace

TEST_CASE("views at any address give what tensors give", "[sim]") {
  Context ctx(kernels::sim::table(), kernels::sim::device_info());
  compare_typed<float>(ctx);
  compare_typed<bf16>(ctx);
  const ElementProblem e{.count = 1003};
  compare_views<bf16, float>(ctx, 1003, [&](float* x, float*, float*, bf16* y) {
    ctx.table().cast_to_bf16(ctx, e, x, y);
  });
  compare_views<float, bf16>(ctx, 1003, [&](bf16* x, bf16*, float*, float* y) {
    ctx.table().cast_to_float(ctx, e, x, y);
  });
  compare_views<float, float>(ctx, 1003, [&](float*, float*, float*, float* y) {
    ctx.table().philox_uniform(ctx, {.count = 1003, .seed = 3}, y);
    ctx.table().philox_normal(ctx, {.count = 500, .seed = 3}, y);
  });
}

TEST_CASE("reductions of more chunks than blocks take each element once", "[sim]") {
  if (sim::flavour() != sim::Flavour::Sim) return;  // nothing new for them, and slow
  Context ctx(kernels::sim::table(), kernels::sim::device_info());
  // Two rounds of 512 blocks and a remainder: 4096 floats a chunk. Ones, so that the sum is exact.
  const Index n = 2 * 512 * 4096 + 4097;
  std::vector<float> ones(static_cast<std::size_t>(n), 1.0f);
  View<float> x(ctx, ones, 0), sum(ctx, {0.0f}, 0);
  for (const auto& variant : ctx.table().f32.reduce.variants()) {
    INFO(variant.name);
    variant.run(ctx, {n, Reduction::Sum}, x.data(), sum.data());
    CHECK(sum.read()[0] == static_cast<float>(n));
  }
  ctx.table().f32.bce_with_logits(ctx, {.count = n, .scale = 1.0f / static_cast<float>(n)},
                                  x.data(), sum.data(), nullptr);
  CHECK(std::abs(sum.read()[0] - 1.31326169f) < 1e-6f);
}

TEST_CASE("adam: long lists, empty tensors and views, in a graph with new scalars", "[sim]") {
  void* stream = sim::create_stream();
  {
    Context ctx(kernels::sim::table(), kernels::sim::device_info());
    ctx.stream = stream;
    // More than a launch takes, some empty, some at odd addresses, one of several blocks.
    std::vector<std::vector<std::unique_ptr<View<float>>>> buffers;
    std::vector<std::unique_ptr<View<bf16>>> copies;
    std::vector<AdamTensor> list;
    AdamProblem p{.count = 0};
    for (std::size_t k = 0; k < 200; ++k) {
      const std::size_t n = k == 50 ? 5003 : k % 9 == 4 ? 0 : k % 23 + 1, shift = k % 4 == 1;
      std::vector<std::unique_ptr<View<float>>> own;
      for (const int step : {1, 2, 3, 4}) {
        std::vector<float> values = numbers<float>(n, step);
        if (step == 4)
          for (float& v : values) v = v * v;  // the second moment
        own.push_back(std::make_unique<View<float>>(ctx, values, shift));
      }
      copies.push_back(std::make_unique<View<bf16>>(ctx, std::vector<bf16>(n), k % 4 == 2));
      list.push_back({own[0]->data(), own[1]->data(), own[2]->data(), own[3]->data(),
                      k % 3 == 0 ? nullptr : copies.back()->data(), static_cast<Index>(n)});
      p.count += static_cast<Index>(n);
      buffers.push_back(std::move(own));
    }
    View<float> scalars(ctx, {0.0f, 0.0f}, 0);
    sim::synchronize(stream);
    sim::reset_stats();
    sim::begin_capture(stream);
    const std::vector<AdamTensor> kept = list;
    ctx.table().adam(ctx, p, list.data(), static_cast<int>(list.size()), scalars.data());
    void* graph = sim::end_capture(stream);
    list.assign(list.size(), AdamTensor{});  // the graph has its own copy

    std::vector<std::vector<float>> w, m, v;
    for (std::size_t k = 0; k < kept.size(); ++k) {
      w.push_back(buffers[k][0]->read());
      m.push_back(buffers[k][2]->read());
      v.push_back(buffers[k][3]->read());
    }
    for (const float step : {0.25f, 0.125f}) {
      const float now[2] = {step, 2.0f};
      ctx.table().memory.copy_to_device(ctx, scalars.data(), now, sizeof now);
      sim::launch_graph(graph, stream);
      sim::synchronize(stream);
      for (std::size_t k = 0; k < kept.size(); ++k) {
        const std::vector<float> g = buffers[k][1]->read(), got = buffers[k][0]->read();
        const std::vector<bf16> copy = copies[k]->read();
        for (std::size_t i = 0; i < got.size(); ++i) {
          INFO("tensor " << k << " element " << i << " step " << step);
          m[k][i] = p.beta1 * m[k][i] + (1.0f - p.beta1) * g[i];
          v[k][i] = p.beta2 * v[k][i] + (1.0f - p.beta2) * g[i] * g[i];
          w[k][i] -= step * m[k][i] / (std::sqrt(v[k][i]) * now[1] + p.eps);
          REQUIRE(std::abs(got[i] - w[k][i]) <= 1e-6f);
          if (kept[k].w_bf16) REQUIRE(copy[i].bits == to_bf16(got[i]).bits);
        }
      }
    }
    CHECK(sim::stats().launches == 2 * 3);  // 200 tensors by 96, twice
    sim::destroy_graph(graph);
  }
  sim::synchronize(stream);
  sim::destroy_stream(stream);
}

}  // namespace subpix::tests
