// Convolutions whose kernels choose their tile by problem and device: each compiled size of tile,
// on problems larger than one tile, against the oracle to the bit, under two schedules. The table
// tests see small problems on a device of many multiprocessors, which all end in the smallest tile.

#include <string>

#include "kernels/reference/conv2d.h"
#include "kernels/sim/sim.h"
#include "kernels/sim/table.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/fill.h"
#include "tests/support/guarded.h"

namespace subpix::tests {
namespace {

using kernels::Conv2dProblem;
using kernels::Filter;
using kernels::Index;

struct TileCase {
  const char* variant;
  int multiprocessors;
  Conv2dProblem d;
  std::uint64_t forward_blocks, backward_blocks;  // 0: not supported
  std::uint64_t forward_mma, backward_mma;
};

kernels::Context make_context(int multiprocessors) {
  kernels::DeviceInfo device = kernels::sim::device_info();
  device.multiprocessors = multiprocessors;
  return {kernels::sim::table(), device};
}

/// Runs one op with integers and compares; the launch must have had that many blocks and products.
template <class Run>
void check(const std::string& what, const Values& expected, std::uint64_t blocks, std::uint64_t mma,
           Run&& run) {
  for (const std::uint64_t seed : {0, 1}) {
    const sim::Scope scope(
        {.schedule = seed == 0 ? sim::Schedule::Fifo : sim::Schedule::Random, .seed = seed});
    sim::reset_stats();
    const Values got = run();
    INFO(what << ", seed " << seed);
    CHECK(sim::stats().blocks == blocks);
    CHECK(sim::stats().mma + sim::stats().wgmma == mma);  // a kernel uses one of them
    CHECK(
        compare(
            got,
            {"out", {{"i", static_cast<Index>(expected.size())}}, expected, exact(expected), {}}) ==
        "");
  }
}

void check_case(const TileCase& t) {
  GuardedBytes::guard_bytes = 0;  // the simulator puts red zones around each allocation
  const Conv2dProblem& d = t.d;
  const Values x = fill_values<bf16>(Fill::Integers, d.x_count(), d.key(), "x");
  const Values w = fill_values<bf16>(Fill::Integers, d.w_count(), d.key(), "w");
  const Values bias = fill_values<float>(Fill::Integers, d.k, d.key(), "bias");
  const Values dy = fill_values<bf16>(Fill::Integers, d.y_count(), d.key(), "dy");
  kernels::Context ctx = make_context(t.multiprocessors);
  const kernels::TypedOps<bf16>& ops = ctx.table().typed<bf16>();
  const std::string what = concat(t.variant, " ", d.key(), " on ", t.multiprocessors);
  if (t.forward_blocks > 0) {
    ctx.override_variant(ops.conv2d_forward.name(), t.variant);
    Values y(static_cast<std::size_t>(d.y_count()));
    kernels::reference::conv2d_forward<double>(d, x.data(), w.data(), bias.data(), y.data());
    check(what + " forward", rounded_all<bf16>(y), t.forward_blocks, t.forward_mma, [&] {
      Buffers buffers(ctx);
      bf16* out = buffers.out<bf16>("y", d.y_count());
      ops.conv2d_forward(ctx, d, buffers.in<bf16>("x", x), Filter<bf16>(buffers.in<bf16>("w", w)),
                         buffers.in<float>("bias", bias), out);
      return buffers.read(out);
    });
  }
  if (t.backward_blocks > 0) {
    ctx.override_variant(ops.conv2d_backward_data.name(), t.variant);
    Values dx(static_cast<std::size_t>(d.x_count()));
    kernels::reference::conv2d_backward_data<double>(d, dy.data(), w.data(), dx.data());
    check(what + " backward", rounded_all<bf16>(dx), t.backward_blocks, t.backward_mma, [&] {
      Buffers buffers(ctx);
      bf16* out = buffers.out<bf16>("dx", d.x_count());
      ops.conv2d_backward_data(ctx, d, buffers.in<bf16>("dy", dy),
                               Filter<bf16>(buffers.in<bf16>("w", w)), out);
      return buffers.read(out);
    });
  }
  ctx.table().memory.synchronize(ctx);  // the buffers' release, too, waits in the stream
}

}  // namespace

TEST_CASE("halo_mma: every size of tile") {
  // Products of a block: rows/16 by 8 tiles of 64 filters, 4 of 16 channels, for each tap and
  // chunk.
  const auto products = [](std::uint64_t blocks, std::uint64_t rows, std::uint64_t steps) {
    return blocks * rows / 16 * 8 * 4 * steps;
  };
  const auto both = [&](int multiprocessors, const Conv2dProblem& d, std::uint64_t blocks,
                        std::uint64_t rows, std::uint64_t steps) {
    check_case({"halo_mma", multiprocessors, d, blocks, blocks, products(blocks, rows, steps),
                products(blocks, rows, steps)});
  };
  // 24x24 and batch 16 on 132 multiprocessors, one image of it on its share: 6 x 12 outputs.
  both(8, {1, 24, 24, 64, 64, 3, 3, 1, 1}, 8, 80, 9);
  // 6x6 images: one a block as long as there are multiprocessors, then four and the last three.
  both(7, {7, 6, 6, 64, 64, 3, 3, 1, 1}, 7, 48, 9);
  both(1, {7, 6, 6, 64, 64, 3, 3, 1, 1}, 2, 144, 9);
  // 12x12, whole, two chunks of channels and two blocks of filters.
  both(4, {2, 12, 12, 72, 72, 3, 3, 1, 1}, 4, 144, 18);
  // 8 x 16 outputs, the last column of tiles cut off.
  both(4, {1, 16, 31, 64, 64, 3, 3, 1, 1}, 4, 128, 9);
}

TEST_CASE("halo_wgmma: every size of tile") {
  // 36 instructions a block and chunk of 64 channels.
  const auto both = [&](int multiprocessors, const Conv2dProblem& d, std::uint64_t blocks,
                        std::uint64_t chunks) {
    check_case({"halo_wgmma", multiprocessors, d, blocks, blocks, blocks * 36 * chunks,
                blocks * 36 * chunks});
  };
  // 24x24 and batch 16 on 132 multiprocessors, one image of it on its share: 3 x 24 outputs.
  both(8, {1, 24, 24, 64, 64, 3, 3, 1, 1}, 8, 1);
  // 6x6 images, one a block.
  both(7, {7, 6, 6, 64, 64, 3, 3, 1, 1}, 7, 1);
  // 12x12, whole, two chunks of channels and two blocks of filters.
  both(4, {2, 12, 12, 128, 128, 3, 3, 1, 1}, 4, 2);
  // 8 x 16 outputs, the last row and the last column of tiles cut off.
  both(4, {1, 15, 31, 64, 64, 3, 3, 1, 1}, 4, 1);
  // Three chunks of channels forward, three blocks of filters backward.
  check_case({"halo_wgmma", 132, {1, 5, 7, 192, 64, 3, 3, 1, 1}, 1, 3, 36 * 3, 3 * 36});
}

TEST_CASE("halo_wgmma runs on Hopper alone, and there when a plan names it") {
  const Conv2dProblem trunk{16, 24, 24, 64, 64, 3, 3, 1, 1};
  for (const int major : {8, 9, 10}) {
    kernels::DeviceInfo device = kernels::sim::device_info();
    device.compute_major = major;
    const kernels::KernelTable& table = kernels::sim::table();
    const auto check_op = [&](const auto& op) {
      INFO(op.name() << " on compute capability " << major);
      kernels::Context ctx(table, device);
      CHECK(op.select(ctx, trunk).name == std::string("halo_mma"));
      ctx.plan_variant(op.name(), trunk.key(), "halo_wgmma");
      CHECK(op.select(ctx, trunk).name == std::string(major == 9 ? "halo_wgmma" : "halo_mma"));
    };
    check_op(table.bf16_ops.conv2d_forward);
    check_op(table.bf16_ops.conv2d_backward_data);
  }
}

TEST_CASE("column_sum_mma and few_channels_mma: several tiles, blocks that walk over tiles") {
  // The tail on 40 columns: 2 x 3 tiles; forward column sums, backward few channels.
  check_case({"column_sum_mma", 132, {1, 16, 40, 64, 3, 9, 9, 1, 4}, 4, 0, 4 * 16 * 4 * 4 * 9, 0});
  check_case({"few_channels_mma", 1, {1, 16, 40, 64, 3, 9, 9, 1, 4}, 0, 3, 0, 5 * 8 * 8 * 16});
  // A first layer: three blocks, ten tiles.
  check_case({"few_channels_mma", 1, {2, 24, 24, 3, 64, 3, 3, 1, 1}, 3, 0, 10 * 8 * 8 * 2, 0});
  check_case({"column_sum_mma", 132, {2, 24, 24, 3, 64, 3, 3, 1, 1}, 0, 6, 0, 6 * 16 * 2 * 4 * 3});
}

TEST_CASE("convolutions on tensor cores take views of any alignment") {
  GuardedBytes::guard_bytes = 0;
  const auto behind_one = [](Values values) {  // the tensor starts 2 bytes into its buffer
    values.insert(values.begin(), 1.0);
    return values;
  };
  const auto check_view = [&](const char* variant, const Conv2dProblem& d) {
    kernels::Context ctx = make_context(132);
    const kernels::TypedOps<bf16>& ops = ctx.table().typed<bf16>();
    const Values x = fill_values<bf16>(Fill::Integers, d.x_count(), d.key(), "x");
    const Values w = fill_values<bf16>(Fill::Integers, d.w_count(), d.key(), "w");
    const Values dy = fill_values<bf16>(Fill::Integers, d.y_count(), d.key(), "dy");
    const auto same = [&](Values got, const Values& want) {
      INFO(variant << " " << d.key());
      got.erase(got.begin());
      CHECK(got == rounded_all<bf16>(want));
    };
    {
      Buffers buffers(ctx);
      ctx.override_variant(ops.conv2d_forward.name(), variant);
      bf16* out = buffers.out<bf16>("y", d.y_count() + 1);
      ops.conv2d_forward(ctx, d, buffers.in<bf16>("x", behind_one(x)) + 1,
                         Filter<bf16>(buffers.in<bf16>("w", behind_one(w)) + 1), nullptr, out + 1);
      Values y(static_cast<std::size_t>(d.y_count()));
      kernels::reference::conv2d_forward<double>(d, x.data(), w.data(), nullptr, y.data());
      same(buffers.read(out), y);
    }
    const auto& back = ops.conv2d_backward_data;
    for (const auto& v : back.variants()) {
      if (v.name != std::string(variant) || !v.supports(d, ctx.device())) continue;
      Buffers buffers(ctx);
      bf16* out = buffers.out<bf16>("dx", d.x_count() + 1);
      v.run(ctx, d, buffers.in<bf16>("dy", behind_one(dy)) + 1,
            Filter<bf16>(buffers.in<bf16>("w", behind_one(w)) + 1), out + 1);
      Values dx(static_cast<std::size_t>(d.x_count()));
      kernels::reference::conv2d_backward_data<double>(d, dy.data(), w.data(), dx.data());
      same(buffers.read(out), dx);
    }
    ctx.table().memory.synchronize(ctx);  // the buffers' release, too, waits in the stream
  };
  check_view("halo_mma", {1, 3, 4, 32, 32, 3, 3, 1, 1});
  check_view("halo_wgmma", {1, 2, 3, 64, 64, 3, 3, 1, 1});
  check_view("column_sum_mma", {1, 3, 4, 8, 8, 3, 3, 1, 1});
  check_view("few_channels_mma", {1, 3, 4, 3, 8, 3, 3, 1, 1});
}

}  // namespace subpix::tests
