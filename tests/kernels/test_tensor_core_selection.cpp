// Which variants the layers of SRGAN's networks get in bf16, at the sizes they are trained with:
// every product must run on tensor cores. Choosing runs nothing, so real sizes cost nothing. Each
// variant that was chosen is then run once, on a small map with the same channels, so that its name
// is known to keep its promise.

#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kernels/sim/sim.h"
#include "kernels/sim/table.h"
#include "tests/kernels/counters.h"
#include "tests/support/catch.h"

namespace subpix::tests {
namespace {

using kernels::Context;
using kernels::Conv2dProblem;
using kernels::DenseProblem;
using kernels::Index;

constexpr Index kBatch = 16;

template <class Problem>
struct Layer {
  std::string name;
  Problem problem;
};

Conv2dProblem conv(Index size, Index c, Index k, Index taps, Index stride = 1) {
  return {kBatch, size, size, c, k, taps, taps, stride, taps / 2};
}

/// Patches of 24x24 pixels, which G makes 96x96 for D and VGG.
std::vector<Layer<Conv2dProblem>> convolutions() {
  std::vector<Layer<Conv2dProblem>> layers = {
      {"G head", conv(24, 3, 64, 9)},  {"G trunk", conv(24, 64, 64, 3)},
      {"G up1", conv(24, 64, 256, 3)}, {"G up2", conv(48, 64, 256, 3)},
      {"G tail", conv(96, 64, 3, 9)},
  };
  Index size = 96, c = 3;
  for (Index i = 0; i < 8; ++i) {
    const Index k = Index{64} << (i / 2), stride = 1 + i % 2;
    layers.push_back({"D conv" + std::to_string(i + 1), conv(size, c, k, 3, stride)});
    size /= stride;
    c = k;
  }
  const Index depth[] = {2, 2, 4, 4, 4}, width[] = {64, 128, 256, 512, 512};
  size = 96;
  c = 3;
  for (int block = 0; block < 5; ++block, size /= 2)
    for (Index i = 0; i < depth[block]; ++i) {
      layers.push_back({"VGG conv" + std::to_string(block + 1) + "_" + std::to_string(i + 1),
                        conv(size, c, width[block], 3)});
      c = width[block];
    }
  return layers;
}

std::vector<Layer<DenseProblem>> products() {
  return {{"D fc1", {kBatch, 512 * 6 * 6, 1024}}, {"D fc2", {kBatch, 1024, 1}}};
}

Conv2dProblem shrunk(Conv2dProblem d) {
  d.n = 1;
  d.h = d.w = 6;
  return d;
}
DenseProblem shrunk(DenseProblem d) {
  d.in = d.in > 1024 ? 1024 : d.in;
  d.out = d.out > 64 ? 64 : d.out;
  return d;
}

/// The choices of one op. run(ctx, variant, problem) makes a variant compute something.
template <class Op, class Problem>
void check_choices(
    const Op& op, const std::vector<Layer<Problem>>& layers,
    const std::function<void(Context&, const typename Op::Variant&, const Problem&)>& run) {
  Context ctx(kernels::sim::table(), kernels::sim::device_info());
  std::map<std::string, Layer<Problem>> chosen;  // by name, with the first layer of each
  for (const Layer<Problem>& layer : layers) {
    const std::string variant = op.select(ctx, layer.problem).name;
    std::printf("%-32s %-12s %s\n", op.name(), layer.name.c_str(), variant.c_str());
    INFO(op.name() << " of " << layer.name << " " << layer.problem.key() << ": " << variant);
    CHECK(variant.find("mma") != std::string::npos);
    chosen.emplace(variant, layer);
  }
  for (const auto& [name, layer] : chosen) {
    const Problem small = shrunk(layer.problem);
    INFO(op.name() << " [" << name << "] " << small.key() << ", as in " << layer.name);
    for (const auto& variant : op.variants()) {
      if (name != variant.name) continue;
      REQUIRE((!variant.supports || variant.supports(small, ctx.device())));
      ctx.table().memory.synchronize(ctx);
      sim::reset_stats();
      run(ctx, variant, small);
      ctx.table().memory.synchronize(ctx);
      const sim::Stats stats = sim::stats();
      CHECK(stats.mma + stats.wgmma > 0);
    }
  }
}

using Zeros = DeviceArray<bf16>;
using Floats = DeviceArray<float>;
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

}  // namespace

TEST_CASE("every convolution of SRGAN and VGG19 runs on tensor cores in bf16", "[sim]") {
  const auto& ops = kernels::sim::table().bf16_ops;
  check_choices<kernels::Conv2dForward<bf16>, Conv2dProblem>(
      ops.conv2d_forward, convolutions(),
      [](Context& ctx, const auto& variant, const Conv2dProblem& d) {
        const Zeros x(ctx, at(d.x_count())), w(ctx, at(d.w_count())), y(ctx, at(d.y_count()));
        const bf16* filter = w;
        variant.run(ctx, d, x, filter, nullptr, y);
      });
  check_choices<kernels::Conv2dBackwardData<bf16>, Conv2dProblem>(
      ops.conv2d_backward_data, convolutions(),
      [](Context& ctx, const auto& variant, const Conv2dProblem& d) {
        const Zeros dy(ctx, at(d.y_count())), w(ctx, at(d.w_count())), dx(ctx, at(d.x_count()));
        const bf16* filter = w;
        variant.run(ctx, d, dy, filter, dx);
      });
  check_choices<kernels::Conv2dBackwardFilter<bf16>, Conv2dProblem>(
      ops.conv2d_backward_filter, convolutions(),
      [](Context& ctx, const auto& variant, const Conv2dProblem& d) {
        const Zeros x(ctx, at(d.x_count())), dy(ctx, at(d.y_count()));
        const Floats dw(ctx, at(d.w_count())), db(ctx, at(d.k));
        variant.run(ctx, d, x, dy, dw, db);
      });
}

TEST_CASE("every dense layer of the discriminator runs on tensor cores in bf16", "[sim]") {
  const auto& ops = kernels::sim::table().bf16_ops;
  check_choices<kernels::DenseForward<bf16>, DenseProblem>(
      ops.dense_forward, products(), [](Context& ctx, const auto& variant, const DenseProblem& d) {
        const Zeros x(ctx, at(d.n * d.in)), w(ctx, at(d.out * d.in)), y(ctx, at(d.n * d.out));
        const bf16* filter = w;
        variant.run(ctx, d, x, filter, nullptr, y);
      });
  check_choices<kernels::DenseBackwardData<bf16>, DenseProblem>(
      ops.dense_backward_data, products(),
      [](Context& ctx, const auto& variant, const DenseProblem& d) {
        const Zeros dy(ctx, at(d.n * d.out)), w(ctx, at(d.out * d.in)), dx(ctx, at(d.n * d.in));
        const bf16* filter = w;
        variant.run(ctx, d, dy, filter, dx);
      });
  check_choices<kernels::DenseBackwardFilter<bf16>, DenseProblem>(
      ops.dense_backward_filter, products(),
      [](Context& ctx, const auto& variant, const DenseProblem& d) {
        const Zeros x(ctx, at(d.n * d.in)), dy(ctx, at(d.n * d.out));
        const Floats dw(ctx, at(d.out * d.in)), db(ctx, at(d.out));
        variant.run(ctx, d, x, dy, dw, db);
      });
}

}  // namespace subpix::tests
