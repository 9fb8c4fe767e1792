// What the convolutions with batch norm around them read and write, as exact numbers: beside the
// plain convolution's traffic only the coefficients, x on the way back, and the tiles' sums.

#include "tests/kernels/counters_conv2d.h"
#include "tests/kernels/source_lines.h"
#include "tests/support/catch.h"
#include "tests/support/fill.h"
#include "tests/support/guarded.h"

namespace subpix::tests {
namespace {

using kernels::Conv2dProblem;
using kernels::Filter;
using kernels::InputForm;
using sim::AccessKind;

/// Runs the op on small integers, with PReLU behind the norm, and counts.
sim::Stats count(const char* variant, int multiprocessors, const Conv2dProblem& d, bool backward) {
  CountedDevice device(multiprocessors);
  kernels::Context& ctx = device.ctx;
  const kernels::TypedOps<bf16>& ops = device.ops();
  ctx.override_variant(ops.conv2d_norm_forward.name(), variant);
  ctx.override_variant(ops.conv2d_norm_backward_data.name(), variant);
  Buffers buffers(ctx);
  const auto integers = [](Index n, const char* name) {
    return fill_values<bf16>(Fill::Integers, n, "", name);
  };
  const Index most = d.c > d.k ? d.c : d.k;
  const float* in = buffers.in<float>("vector", integers(most, "vector"));
  const bf16* x = buffers.in<bf16>("x", integers(d.x_count(), "x"));
  const bf16* w = buffers.in<bf16>("w", integers(d.w_count(), "w"));
  float* out[6];
  for (float*& vector : out) vector = buffers.out<float>("sums", most);
  const kernels::NormInput form{in, in, in};
  if (backward) {
    const bf16* dy = buffers.in<bf16>("dy", integers(d.y_count(), "dy"));
    bf16* dx = buffers.out<bf16>("dx", d.x_count());
    ctx.table().memory.synchronize(ctx);
    sim::reset_stats();
    ops.conv2d_norm_backward_data(ctx, {d, false, InputForm::NormPRelu}, dy, Filter<bf16>(w),
                                  nullptr, x, form, in, in, dx, {out[0], out[1], out[2]});
  } else {
    bf16* y = buffers.out<bf16>("y", d.y_count());
    ctx.table().memory.synchronize(ctx);
    sim::reset_stats();
    ops.conv2d_norm_forward(ctx, {d, InputForm::NormPRelu}, x, form, Filter<bf16>(w), y,
                            {in, in, out[0], out[1], out[2], out[3], nullptr, nullptr});
  }
  ctx.table().memory.synchronize(ctx);
  return sim::stats();
}

void check(const sim::AccessCounter& c, std::uint64_t bytes, std::uint64_t units) {
  INFO(sim::name(c.kind) << " " << c.file << ":" << c.line);
  CHECK(c.bytes == bytes);
  CHECK(c.units == units);
  CHECK(c.ideal == units);
}

}  // namespace

TEST_CASE("counters: conv2d_norm on halo tiles, one image of the trunk") {
  // On its share of the multiprocessors: 8 blocks of 6 x 12 outputs, four warps, 9 taps, and a
  // second launch of 8 blocks for 8 channels each.
  const Conv2dProblem d{1, 24, 24, 64, 64, 3, 3, 1, 1};
  const std::uint64_t blocks = 8, merges = 8, warp_steps = blocks * 4 * 9 * 2, map = 24 * 24 * 128;
  for (const bool backward : {false, true}) {
    INFO((backward ? "backward" : "forward"));
    const sim::Stats s = count("halo_mma", 8, d, backward);
    CHECK(s.launches == 2);
    CHECK(s.blocks == blocks + merges);
    CHECK(s.mma == warp_steps * 5 * 4);
    CHECK(s.ldmatrix == warp_steps * (5 + 2));
    CHECK(s.cp_async == (blocks * 8 * 14 + blocks * 9 * 64) * 8);
    // The plain convolution's, and two for each sum over the threads of a block: means and squares,
    // or the three gradients at once.
    CHECK(s.block_barriers == blocks * (9 + 4) + (blocks + merges) * (backward ? 2 : 4));
    if (backward) {
      check(at_line(s, AccessKind::GlobalLoad, "conv2d_norm.cuh", "norm load x"), map, map / 32);
      check(at_line(s, AccessKind::GlobalStore, "conv2d_norm.cuh", "norm store dx"), map, map / 32);
      // dx, three sums a tile and channel, three a channel.
      CHECK(s.total(AccessKind::GlobalStore).bytes == map + (blocks + 1) * 3 * 64 * 4);
    } else {
      // Patches of 8 x 14 pixels without what lies outside: each formed once a tile.
      const std::uint64_t patches = 30 * 26 * 128;
      for (const AccessKind kind : {AccessKind::SharedLoad, AccessKind::SharedStore}) {
        const sim::AccessCounter form =
            at_line(s, kind, "conv2d_halo_mma.cuh",
                    kind == AccessKind::SharedLoad ? "halo form load" : "halo form store");
        CHECK(form.bytes == patches);
        CHECK(form.units == form.ideal);  // no bank conflicts
      }
      check(at_line(s, AccessKind::GlobalStore, "conv2d_norm.cuh", "norm store"), map, map / 32);
      // y, mean, squares and rows of the tiles, four vectors of 64 channels.
      CHECK(s.total(AccessKind::GlobalStore).bytes == map + blocks * (2 * 64 + 1) * 4 + 4 * 64 * 4);
    }
  }
}

TEST_CASE("counters: conv2d_norm on the implicit GEMM forms what it gathers") {
  // D's layer of stride 2 on one tile of 8 x 16 outputs.
  const Conv2dProblem d{1, 16, 32, 64, 64, 3, 3, 2, 1};
  const sim::Stats s = count("implicit_gemm_mma", 1, d, false);
  CHECK(s.launches == 2);
  CHECK(s.blocks == 1 + 8);
  CHECK(s.mma == 128 / 16 * 8 * 4 * 9);
  // Nine taps of 128 outputs, without those in the padding: 8 and 16 in three taps each, the corner
  // in both.
  const std::uint64_t gathered = (9 * 128 - 3 * (8 + 16) + 1) * 128;
  for (const AccessKind kind : {AccessKind::SharedLoad, AccessKind::SharedStore}) {
    const sim::AccessCounter form =
        at_line(s, kind, "conv2d_mma.cuh",
                kind == AccessKind::SharedLoad ? "mma form load" : "mma form store");
    CHECK(form.bytes == gathered);
    CHECK(form.units == form.ideal);
  }
  check(at_line(s, AccessKind::GlobalStore, "conv2d_norm.cuh", "norm store"), 128 * 128, 128 * 4);
}

}  // namespace subpix::tests
