// Two-stage reductions: each element is read once, in 16-byte accesses, and the rest of the work is
// one number a warp and a block.

#include "tests/kernels/counters.h"

namespace subpix::tests {

namespace {

/// Launches, barriers and shared memory of two stages with `blocks` blocks in the first.
void check_stages(const sim::Stats& s, std::uint64_t blocks) {
  INFO(sim::report(s));
  CHECK(s.launches == 2);
  CHECK(s.blocks == blocks + 1);
  CHECK(s.block_barriers == blocks + 1);
  CHECK(s.warp_collectives == (blocks + 1) * (8 + 1) * 5);  // 8 warps, then the first again
  CHECK(s.atomics == 0);
  const sim::AccessCounter loads = s.total(sim::AccessKind::SharedLoad);
  const sim::AccessCounter stores = s.total(sim::AccessKind::SharedStore);
  CHECK(loads.requests == blocks + 1);
  CHECK(loads.units == loads.ideal);
  CHECK(stores.requests == (blocks + 1) * 8);
  CHECK(stores.units == stores.ideal);
}

}  // namespace

TEST_CASE("counters: reduce reads 16 bytes an access", "[sim][counters]") {
  kernels::Context ctx(kernels::sim::table(), kernels::sim::device_info());
  constexpr kernels::Index n = 4 * 4096;  // four chunks of floats, two of bf16
  const DeviceArray<float> x(ctx, n), y(ctx, 1);
  sim::Stats s = counted(ctx, [&] { ctx.table().f32.reduce(ctx, {n}, x, y); });
  // One partial a block, then one load of them (the other warps of that block have none).
  check_global(s, n / 128 + 1, n / 8 + 1, 4 + 1, 4 + 1);
  check_stages(s, 4);
  const DeviceArray<bf16> h(ctx, n);
  s = counted(ctx, [&] { ctx.table().bf16_ops.reduce(ctx, {n}, h, y); });
  check_global(s, n / 256 + 1, n / 16 + 1, 2 + 1, 2 + 1);
  check_stages(s, 2);
  s = counted(ctx, [&] { ctx.table().f32.reduce(ctx, {4096}, x, y); });
  CHECK(s.launches == 1);  // one block is enough
}

TEST_CASE("counters: a loss reads and writes each element once", "[sim][counters]") {
  kernels::Context ctx(kernels::sim::table(), kernels::sim::device_info());
  constexpr kernels::Index n = 3 * 4096;
  const DeviceArray<float> x(ctx, n), t(ctx, n), dx(ctx, n), loss(ctx, 1);
  const kernels::LossProblem p{.count = n, .scale = 1};
  sim::Stats s = counted(ctx, [&] { ctx.table().f32.mse_loss(ctx, p, x, t, loss, dx); });
  check_global(s, 2 * (n / 128) + 1, 2 * (n / 8) + 1, n / 128 + 3 + 1, n / 8 + 3 + 1);
  check_stages(s, 3);
  s = counted(ctx, [&] { ctx.table().f32.bce_with_logits(ctx, p, x, loss, nullptr); });
  check_global(s, n / 128 + 1, n / 8 + 1, 3 + 1, 3 + 1);
  check_stages(s, 3);
}

TEST_CASE("counters: total variation", "[sim][counters]") {
  kernels::Context ctx(kernels::sim::table(), kernels::sim::device_info());
  // 32 rows of 128 floats: a warp is a strip of four rows.
  constexpr kernels::Index n = 32 * 128;
  const DeviceArray<float> x(ctx, n), dx(ctx, n), loss(ctx, 1);
  const kernels::VariationProblem p{.n = 1, .h = 32, .w = 128, .c = 1, .scale = 1};
  const sim::Stats s = counted(ctx, [&] { ctx.table().f32.total_variation(ctx, p, x, loss, dx); });
  INFO(sim::report(s));
  CHECK(s.launches == 1);
  CHECK(s.blocks == 1);
  const sim::AccessCounter loads = s.total(sim::AccessKind::GlobalLoad);
  // Of each strip six rows, but for the two at the image's edges, and both neighbours of four.
  CHECK(loads.requests == 8 * 6 - 2 + 8 * 4 * 2);
  CHECK(loads.bytes == (8 * 6 - 2) * 512 + 8 * 4 * 2 * 31 * 16);
  CHECK(loads.units == (8 * 6 - 2) * 16 + 8 * 4 * 2 * 16);
  const sim::AccessCounter stores = s.total(sim::AccessKind::GlobalStore);
  CHECK(stores.requests == 32 + 1);
  CHECK(stores.units == n / 8 + 1);
}

}  // namespace subpix::tests
