// What the tensor-core convolutions do, in exact numbers: no bank conflicts, whole sectors, no
// product too many. And tiles that the table tests' small problems do not choose.

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/reference/conv2d.h"
#include "kernels/sim/sim.h"
#include "kernels/sim/table.h"
#include "tests/support/catch.h"
#include "tests/support/fill.h"

namespace subpix::tests {
namespace {

using kernels::Context;
using kernels::Conv2dProblem;
using sim::AccessCounter;
using sim::AccessKind;

/// A device of `multiprocessors`, which decides the tile.
kernels::DeviceInfo device_of(int multiprocessors) {
  kernels::DeviceInfo device = kernels::sim::device_info();
  device.multiprocessors = multiprocessors;
  device.tf32 = true;
  return device;
}

/// Integers on the device for one convolution, whose result is exact in T.
template <class T>
struct Run {
  Context ctx;
  Conv2dProblem d;
  std::vector<double> x, w, dy;
  std::size_t shift;  // elements by which the tensors miss their 16-byte alignment
  T *device_x, *device_w, *device_y;

  Run(int multiprocessors, const Conv2dProblem& problem, std::size_t misaligned_by = 0)
      : ctx(kernels::sim::table(), device_of(multiprocessors)), d(problem), shift(misaligned_by) {
    x = fill_values<T>(Fill::Integers, d.x_count(), d.key(), "x");
    w = fill_values<T>(Fill::Integers, d.w_count(), d.key(), "w");
    dy = fill_values<T>(Fill::Integers, d.y_count(), d.key(), "dy");
    device_x = upload(x);
    device_w = upload(w);
    device_y = upload(dy);
  }
  ~Run() {
    const kernels::MemoryOps& memory = ctx.table().memory;
    memory.release(ctx, device_x - shift, (shift + x.size()) * sizeof(T));
    memory.release(ctx, device_w - shift, (shift + w.size()) * sizeof(T));
    memory.release(ctx, device_y - shift, (shift + dy.size()) * sizeof(T));
    memory.synchronize(ctx);
  }
  T* upload(const std::vector<double>& values) {
    std::vector<T> host;
    for (const double v : values) host.push_back(store<T>(v));
    const std::size_t bytes = host.size() * sizeof(T);
    T* data = static_cast<T*>(ctx.table().memory.allocate(ctx, bytes + shift * sizeof(T))) + shift;
    ctx.table().memory.copy_to_device(ctx, data, host.data(), bytes);
    return data;
  }
  void expect(const T* device, const std::vector<double>& want) {
    std::vector<T> got(want.size());
    ctx.table().memory.copy_to_host(ctx, got.data(), device, got.size() * sizeof(T));
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < got.size(); ++i)
      wrong += to_float(got[i]) != to_float(store<T>(want[i]));
    CHECK(wrong == 0);
  }
  sim::Stats counted(auto&& op) {
    const sim::Scope scope({.races = false, .count = true});
    ctx.table().memory.synchronize(ctx);
    sim::reset_stats();
    op();
    ctx.table().memory.synchronize(ctx);
    return sim::stats();
  }
  sim::Stats forward() {
    std::vector<double> y(dy.size());
    kernels::reference::conv2d_forward<double>(d, x.data(), w.data(), nullptr, y.data());
    const auto& op = ctx.table().typed<T>().conv2d_forward;
    ctx.override_variant(op.name(), variant());
    const sim::Stats s = counted([&] { op(ctx, d, device_x, device_w, nullptr, device_y); });
    expect(device_y, y);
    return s;
  }
  sim::Stats backward_data() {
    std::vector<double> dx(x.size());
    kernels::reference::conv2d_backward_data<double>(d, dy.data(), w.data(), dx.data());
    const auto& op = ctx.table().typed<T>().conv2d_backward_data;
    ctx.override_variant(op.name(), variant());
    const sim::Stats s = counted([&] { op(ctx, d, device_y, device_w, device_x); });
    expect(device_x, dx);
    return s;
  }
  static const char* variant() {
    return sizeof(T) == 4 ? "implicit_gemm_mma_tf32" : "implicit_gemm_mma";
  }
};

/// Every access of shared memory in the fewest wavefronts, every store in the fewest sectors.
void check_ideal(const sim::Stats& s, bool whole_sectors = true) {
  INFO(sim::report(s));
  for (const AccessCounter& c : s.accesses) {
    INFO(c.file << ":" << c.line);
    if (c.kind == AccessKind::GlobalLoad) continue;
    if (c.kind == AccessKind::GlobalStore && !whole_sectors) continue;
    CHECK(c.units == c.ideal);
  }
}

}  // namespace

TEST_CASE("counts of the forward convolution on tensor cores") {
  // 144 pixels: two tiles of 128 x 64, the second one mostly empty; nine steps of 64 channels.
  const sim::Stats s = Run<bf16>(1, {1, 12, 12, 64, 64, 3, 3, 1, 1}).forward();
  CHECK(s.launches == 1);
  CHECK(s.blocks == 2);
  CHECK(s.mma == 2 * 9 * 4 * (8 * 8));           // k-steps of 16, fragments of 16 x 8
  CHECK(s.ldmatrix == 2 * 9 * 4 * 4 * (4 + 2));  // by 4 warps: 64 rows of A, 32 of B
  CHECK(s.cp_async == 2 * 9 * (128 + 64) * 8);
  CHECK(s.block_barriers == 2 * (1 + 9 + 2));
  CHECK(s.total(AccessKind::GlobalStore).requests == (128 + 16) * 8 / 32);
  CHECK(s.total(AccessKind::GlobalStore).units == 144 * 64 * 2 / 32);
  check_ideal(s);
}

TEST_CASE("counts of the input's gradient on tensor cores") {
  // Stride 2: 64 pixels of each parity, in tiles of 128, and 4 + 2 + 2 + 1 taps.
  const sim::Stats s = Run<bf16>(1, {1, 16, 16, 64, 64, 3, 3, 2, 1}).backward_data();
  CHECK(s.launches == 1);
  CHECK(s.blocks == 4);
  CHECK(s.mma == 9 * 4 * (8 * 8));
  CHECK(s.ldmatrix == 9 * 4 * 4 * (4 + 2));
  CHECK(s.cp_async == 9 * (128 + 64) * 8);
  CHECK(s.block_barriers == 4 * (1 + 2) + 9);
  CHECK(s.total(AccessKind::GlobalStore).units == 16 * 16 * 64 * 2 / 32);
  check_ideal(s);
}

TEST_CASE("every tile of every pass is exact and free of bank conflicts") {
  // Multiprocessors 1, 5 and 200 ask for the large, the medium and the small tile; 8 columns for
  // the narrow one.
  for (const int multiprocessors : {1, 5, 200})
    for (const kernels::Index channels : {64, 8}) {
      INFO("multiprocessors " << multiprocessors << ", channels " << channels);
      const Conv2dProblem d{2, 11, 9, channels, channels, 3, 3, 1, 1};
      const Conv2dProblem halved{2, 11, 9, channels, channels, 3, 3, 2, 1};
      check_ideal(Run<bf16>(multiprocessors, d).forward());
      check_ideal(Run<bf16>(multiprocessors, d).backward_data());
      // Every second pixel of 16 bytes is half a sector.
      check_ideal(Run<bf16>(multiprocessors, halved).backward_data(), channels > 8);
      check_ideal(Run<float>(multiprocessors, d).forward());
      check_ideal(Run<float>(multiprocessors, d).backward_data());
    }
}

TEST_CASE("columns beyond the last are neither read nor written") {
  // 72 of 128 columns; 67 stored one by one; an image's three.
  for (const kernels::Index k : {72, 67, 3}) {
    Run<bf16>(1, {1, 7, 9, 16, k, 3, 3, 1, 1}).forward();
    Run<bf16>(1, {1, 7, 9, k, 16, 3, 3, 2, 1}).backward_data();
    Run<float>(1, {1, 7, 9, k, 16, 3, 3, 1, 1}).backward_data();
  }
}

TEST_CASE("views that are not aligned to 16 bytes") {
  const Conv2dProblem d{1, 5, 7, 16, 24, 3, 3, 1, 1};
  Run<bf16>(1, d, 1).forward();
  Run<bf16>(1, d, 1).backward_data();
  Run<float>(1, d, 3).forward();
  Run<float>(1, d, 3).backward_data();
}

}  // namespace subpix::tests
