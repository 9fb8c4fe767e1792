// What the fused convolutions read and write beyond the plain ones, as exact numbers.

#include <utility>

#include "kernels/sim/sim.h"
#include "kernels/sim/table.h"
#include "tests/kernels/counters.h"
#include "tests/kernels/source_lines.h"
#include "tests/support/catch.h"

namespace subpix::tests {
namespace {

using kernels::Context;
using kernels::Conv2dNormProblem;
using kernels::Conv2dPoolProblem;
using kernels::Conv2dProblem;
using kernels::Conv2dShuffleProblem;
using kernels::Filter;
using kernels::Index;
using kernels::InputForm;
using sim::AccessKind;
using Zeros = DeviceArray<bf16>;
using Floats = DeviceArray<float>;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// All accesses of a header's lines, wherever they were inlined.
sim::AccessCounter in_file(const sim::Stats& s, AccessKind kind, const char* file) {
  sim::AccessCounter sum{kind, file, 0};
  for (const sim::AccessCounter& c : s.accesses)
    if (c.kind == kind && c.file.starts_with(file)) {
      sum.bytes += c.bytes;
      sum.units += c.units;
      sum.ideal += c.ideal;
    }
  return sum;
}

}  // namespace

TEST_CASE("counters: the output image leaves in whole sectors") {
  // The tail on one tile of 8 x 24 outputs.
  Context ctx(kernels::sim::table(), kernels::sim::device_info());
  const Conv2dProblem d{1, 8, 24, 64, 3, 9, 9, 1, 4};
  const Zeros x(ctx, at(d.x_count())), w(ctx, at(d.w_count()));
  const Floats bias(ctx, 3), y(ctx, at(d.y_count()));
  const bf16* filter = w;
  const sim::Stats s =
      counted(ctx, [&] { ctx.table().conv2d_wide_forward(ctx, d, x, filter, bias, y); });
  CHECK(s.launches == 1);
  CHECK(s.blocks == 1);
  CHECK(s.mma == 4 * 9 * 4 * 4 * 4);
  // 576 floats by warps of 32.
  check_accesses(s, {{AccessKind::GlobalStore, "conv2d_column_sum_mma.cu", "sum store", 576 / 32,
                      576 * 4, 576 / 8, 576 / 8}});
}

TEST_CASE("counters: the filter's gradient forms each value of x once a tile") {
  // One image of the trunk: 24 virtual rows of 26 positions, ten tiles of 64. Three rows of taps,
  // two parts of five tiles.
  Context ctx(kernels::sim::table(), kernels::sim::device_info());
  const Conv2dNormProblem d{{1, 24, 24, 64, 64, 3, 3, 1, 1}, InputForm::NormPRelu};
  const Zeros x(ctx, at(d.conv.x_count())), dy(ctx, at(d.conv.y_count()));
  const Floats scale(ctx, 64), shift(ctx, 64), slope(ctx, 64), dw(ctx, at(d.conv.w_count()));
  const sim::Stats s = counted(ctx, [&] {
    ctx.table().bf16_ops.conv2d_norm_backward_filter(ctx, d, x, {scale, shift, slope}, dy, dw);
  });
  const std::uint64_t tiles = 3 * 10;
  INFO(sim::report(s));
  CHECK(s.launches == 2);
  CHECK(s.mma == tiles * 4 * 4 * 3 * 8);           // steps, warps, taps
  CHECK(s.ldmatrix == tiles * 4 * 4 * (4 + 3));    // as without a form
  CHECK(s.cp_async == tiles * 8 * (64 + 64 + 2));  // dy, x and its border
  // 70 rows of 24 pixels lie within the image for the three rows of taps; 51 of them are copied
  // twice, as the border of a tile and with the next.
  const std::uint64_t formed = (70 * 24 + 51) * 128;
  CHECK(at_line(s, AccessKind::GlobalLoad, "conv2d_backward_filter_mma.cu", "filter x").bytes ==
        formed);
  for (const auto& [kind, marker] : {std::pair{AccessKind::SharedLoad, "form load"},
                                     std::pair{AccessKind::SharedStore, "form store"}}) {
    const sim::AccessCounter c = at_line(s, kind, "conv2d_backward_filter_mma.cu", marker);
    CHECK(c.bytes == formed);
    CHECK(c.units == c.ideal);
  }
  check_accesses(s, {{AccessKind::SharedLoad, "conv2d_backward_filter_mma.cu", "form constants",
                      tiles * 4 * 6, tiles * 4 * 6 * 512, tiles * 4 * 6 * 4, tiles * 4 * 6 * 4}});
}

TEST_CASE("counters: the shuffle stores whole lines, z and y once") {
  // An image of 12x12 as up1 has four of: one tile, four blocks of filters, each one place of the
  // 2x2 that a pixel becomes.
  kernels::DeviceInfo device = kernels::sim::device_info();
  device.multiprocessors = 1;
  Context ctx(kernels::sim::table(), device);
  const Conv2dShuffleProblem d{{1, 12, 12, 64, 256, 3, 3, 1, 1}};
  const auto count = at(d.conv.y_count());
  const Zeros x(ctx, at(d.conv.x_count())), w(ctx, at(d.conv.w_count())), z(ctx, count),
      y(ctx, count);
  const Floats bias(ctx, 256), slope(ctx, 64);
  const bf16* filter = w;
  const sim::Stats s = counted(ctx, [&] {
    ctx.table().bf16_ops.conv2d_shuffle_forward(ctx, d, x, filter, bias, slope, z, y);
  });
  CHECK(s.launches == 1);
  CHECK(s.blocks == 4);
  const std::uint64_t requests = 4 * 144 * 128 / 512;
  const char* file = "conv2d_shuffle_halo_mma.cu";
  check_accesses(s, {{AccessKind::SharedLoad, file, "shuffle read", requests, requests * 512,
                      requests * 4, requests * 4},
                     {AccessKind::GlobalStore, file, "shuffle z", requests, requests * 512,
                      requests * 16, requests * 16},
                     {AccessKind::GlobalStore, file, "shuffle y", requests, requests * 512,
                      requests * 16, requests * 16}});
  CHECK(s.total(AccessKind::GlobalStore).bytes == 2 * count * sizeof(bf16));
}

TEST_CASE("counters: pooling stores a quarter and its places, without bank conflicts") {
  // 8 x 32 pixels of VGG's conv1_2: two tiles of 8 x 16.
  kernels::DeviceInfo device = kernels::sim::device_info();
  device.multiprocessors = 1;
  Context ctx(kernels::sim::table(), device);
  const Conv2dPoolProblem d{{1, 8, 32, 64, 64, 3, 3, 1, 1}};
  const auto count = at(d.pool().y_count());
  const Zeros x(ctx, at(d.conv.x_count())), w(ctx, at(d.conv.w_count())), y(ctx, count);
  const Floats bias(ctx, 64);
  const DeviceArray<std::uint8_t> which(ctx, count);
  const bf16* filter = w;
  const sim::Stats s = counted(
      ctx, [&] { ctx.table().bf16_ops.conv2d_pool_forward(ctx, d, x, filter, bias, y, which); });
  CHECK(s.launches == 1);
  CHECK(s.blocks == 2);
  const std::uint64_t requests = 4 * 16 * 8 / 32;  // windows, eight threads each
  const char* file = "conv2d_pool_halo_mma.cu";
  check_accesses(s, {{AccessKind::SharedLoad, file, "pool read", 4 * requests, 4 * requests * 512,
                      4 * requests * 4, 4 * requests * 4},
                     {AccessKind::GlobalStore, file, "pool which", requests, requests * 256,
                      requests * 8, requests * 8}});
  const sim::AccessCounter stores = in_file(s, AccessKind::GlobalStore, "pack.cuh");
  CHECK(stores.bytes == count * sizeof(bf16));
  CHECK(stores.units == count * sizeof(bf16) / 32);
  CHECK(s.total(AccessKind::GlobalStore).bytes == count * (sizeof(bf16) + 1));
}

}  // namespace subpix::tests
