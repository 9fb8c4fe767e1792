// What the register-tiled convolutions read and write, as exact numbers: no bank conflicts, whole
// sectors, no products with the zeros between the pixels of a stride.

#include <string>

#include "kernels/sim/sim.h"
#include "kernels/sim/table.h"
#include "tests/kernels/source_lines.h"
#include "tests/support/catch.h"
#include "tests/support/fill.h"
#include "tests/support/guarded.h"

namespace subpix::tests {
namespace {

using kernels::Conv2dProblem;
using kernels::Filter;
using sim::AccessKind;

/// That many requests and bytes, and not one unit more than the bytes need.
void check_line(const sim::Stats& s, AccessKind kind, const std::string& file,
                const std::string& marker, std::uint64_t requests, std::uint64_t bytes,
                std::uint64_t units) {
  const int line = line_after(file, marker);
  sim::AccessCounter c = s.at(kind, file, line);
  // A line of a header counts by the kernel's line that calls it.
  for (const sim::AccessCounter& part : s.accesses) {
    if (part.kind != kind || !part.file.starts_with(concat(file, ":", line, " called from")))
      continue;
    c.requests += part.requests;
    c.bytes += part.bytes;
    c.units += part.units;
    c.ideal += part.ideal;
  }
  INFO(sim::name(kind) << " " << marker << "\n" << sim::report(s));
  if (requests > 0) CHECK(c.requests == requests);
  CHECK(c.bytes == bytes);
  CHECK(c.units == units);
  CHECK(c.ideal == units);
}

enum class Pass : std::uint8_t { Forward, BackwardData, BackwardFilter };

sim::Stats count(Pass pass, const Conv2dProblem& d) {
  GuardedBytes::guard_bytes = 0;
  const sim::Scope scope({.count = true});
  kernels::Context ctx(kernels::sim::table(), kernels::sim::device_info());
  const kernels::TypedOps<float>& ops = ctx.table().typed<float>();
  for (const char* op : {ops.conv2d_forward.name(), ops.conv2d_backward_data.name(),
                         ops.conv2d_backward_filter.name()})
    ctx.override_variant(op, "tiled_shared");
  Buffers buffers(ctx);
  const auto in = [&](const char* name, Index n) {
    return buffers.in<float>(name, fill_values<float>(Fill::Integers, n, d.key(), name));
  };
  const float* x = in("x", d.x_count());
  const float* w = in("w", d.w_count());
  const float* dy = in("dy", d.y_count());
  float* y = buffers.out<float>("y", d.y_count());
  float* dx = buffers.out<float>("dx", d.x_count());
  float* dw = buffers.out<float>("dw", d.w_count());
  float* db = buffers.out<float>("db", d.k);
  ctx.table().memory.synchronize(ctx);
  sim::reset_stats();
  if (pass == Pass::Forward) ops.conv2d_forward(ctx, d, x, Filter<float>(w), nullptr, y);
  if (pass == Pass::BackwardData) ops.conv2d_backward_data(ctx, d, dy, Filter<float>(w), dx);
  if (pass == Pass::BackwardFilter) ops.conv2d_backward_filter(ctx, d, x, dy, dw, db);
  ctx.table().memory.synchronize(ctx);
  return sim::stats();
}

constexpr const char* kTile = "register_tile.cuh";

}  // namespace

TEST_CASE("[check] tiled_shared forward: whole sectors, no bank conflicts") {
  // 256 pixels, 64 channels: 4 blocks of 64 x 64, four warps; reduction 576 in 36 slices of 16.
  const sim::Stats s = count(Pass::Forward, {1, 16, 16, 64, 64, 3, 3, 1, 1});
  CHECK(s.launches == 1);
  CHECK(s.blocks == 4);
  CHECK(s.block_barriers == 4 * (36 + 2));
  const std::uint64_t slices = 4 * 4 * 36;        // of a warp
  const std::uint64_t reads = slices * 16 * 3;    // 8 x 4 sums: three 16-byte reads
  const std::uint64_t stores = slices * (8 + 8);  // 2 x 4 values of each operand
  check_line(s, AccessKind::SharedLoad, kTile, "tile read", reads, reads * 512, reads * 4);
  check_line(s, AccessKind::SharedStore, kTile, "tile transpose", stores, stores * 128, stores);
  // Taps inside the image: (3 * 16 - 2)^2, 64 channels each; every block reads the filter.
  const std::uint64_t loaded = 46 * 46 * 64 * 4 + 4 * 64 * 576 * 4, stored = 256 * 64 * 4;
  check_line(s, AccessKind::GlobalLoad, kTile, "load elements", 0, loaded, loaded / 32);
  check_line(s, AccessKind::GlobalStore, kTile, "store elements", stored / 512, stored,
             stored / 32);
}

TEST_CASE("[check] tiled_shared backward data, stride 2: each parity class has its own taps") {
  // 64 pixels of dx in each of four classes with 1, 2, 2 and 4 taps: 36 slices together.
  const sim::Stats s = count(Pass::BackwardData, {1, 16, 16, 64, 64, 3, 3, 2, 1});
  CHECK(s.launches == 1);
  CHECK(s.blocks == 4);
  const std::uint64_t slices = 4 * 36, reads = slices * 16 * 3;
  check_line(s, AccessKind::SharedLoad, kTile, "tile read", reads, reads * 512, reads * 4);
  check_line(s, AccessKind::SharedStore, kTile, "tile transpose", slices * 8, slices * 8 * 128,
             slices * 8);
  check_line(s, AccessKind::SharedStore, kTile, "store elements", slices * 2, slices * 2 * 512,
             slices * 2 * 4);
}

TEST_CASE("[check] tiled_shared backward filter: splits of the pixels, no bank conflicts") {
  // 9 tiles of 64 x 64 and two splits of 128 pixels, 8 slices each; two warps of 8 x 8 sums.
  const sim::Stats s = count(Pass::BackwardFilter, {1, 16, 16, 64, 64, 3, 3, 1, 1});
  CHECK(s.launches == 2);
  CHECK(s.blocks == 9 * 2 + (64 * 576 + 64) / 32);
  const std::uint64_t slices = 9 * 2 * 2 * 8, reads = slices * 16 * 4, stores = slices * (4 + 4);
  check_line(s, AccessKind::SharedLoad, kTile, "tile read", reads, reads * 512, reads * 4);
  check_line(s, AccessKind::SharedStore, kTile, "store elements", stores, stores * 512, stores * 4);
  const std::uint64_t bias = 2 * 2 * 8 * 16;  // the first tile of each split
  check_line(s, AccessKind::SharedLoad, "conv2d_backward_filter_tiled_shared.cu", "sum dy", bias,
             bias * 128, bias);
  const std::uint64_t loaded = 46 * 46 * 64 * 4 + 9 * 256 * 64 * 4, stored = 2 * 64 * 576 * 4;
  check_line(s, AccessKind::GlobalLoad, kTile, "load elements", 0, loaded, loaded / 32);
  check_line(s, AccessKind::GlobalStore, kTile, "store elements", stored / 512, stored,
             stored / 32);
}

}  // namespace subpix::tests
