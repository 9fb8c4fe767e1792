// Elementwise ops on 8192 elements: every access is as wide as its type allows, and no sector is
// touched twice.

#include "tests/kernels/counters.h"

namespace subpix::tests {

namespace {
constexpr kernels::Index kCount = 8192;
constexpr std::uint64_t kWarps32 = kCount / 32 / 4;  // requests of 4 elements a lane
constexpr std::uint64_t kWarps16 = kCount / 32 / 8;  // of 8
// Sectors of 32 bytes.
constexpr std::uint64_t kF32 = kCount * 4 / 32, kBf16 = kCount * 2 / 32, kBytes = kCount / 32;
}  // namespace

TEST_CASE("counters: scale, fill, bytes and casts", "[sim][counters]") {
  kernels::Context ctx(kernels::sim::table(), kernels::sim::device_info());
  const DeviceArray<float> f(ctx, kCount), g(ctx, kCount);
  const DeviceArray<bf16> h(ctx, kCount), k(ctx, kCount);
  const DeviceArray<std::uint8_t> b(ctx, kCount);
  const kernels::KernelTable& t = ctx.table();
  const kernels::ElementProblem p{.count = kCount};
  check_global(counted(ctx, [&] { t.f32.scale(ctx, p, f, nullptr, g); }), kWarps32, kF32, kWarps32,
               kF32);
  check_global(counted(ctx, [&] { t.bf16_ops.scale(ctx, p, h, nullptr, k); }), kWarps16, kBf16,
               kWarps16, kBf16);
  check_global(counted(ctx, [&] { t.bf16_ops.fill(ctx, p, k); }), 0, 0, kWarps16, kBf16);
  check_global(counted(ctx, [&] { t.f32.from_bytes(ctx, p, b, g); }), kWarps32, kBytes, kWarps32,
               kF32);
  check_global(counted(ctx, [&] { t.bf16_ops.from_bytes(ctx, p, b, k); }), kWarps16, kBytes,
               kWarps16, kBf16);
  check_global(counted(ctx, [&] { t.f32.to_bytes(ctx, p, f, b); }), kWarps32, kF32, kWarps32,
               kBytes);
  check_global(counted(ctx, [&] { t.cast_to_bf16(ctx, p, f, k); }), kWarps32, kF32, kWarps32,
               kBf16);
  check_global(counted(ctx, [&] { t.cast_to_float(ctx, p, h, g); }), kWarps32, kBf16, kWarps32,
               kF32);
}

TEST_CASE("counters: channel_affine reads its scales once a thread", "[sim][counters]") {
  kernels::Context ctx(kernels::sim::table(), kernels::sim::device_info());
  const DeviceArray<float> x(ctx, kCount), y(ctx, kCount), scale(ctx, 64), shift(ctx, 64);
  const sim::Stats s = counted(ctx, [&] {
    ctx.table().f32.channel_affine(ctx, {kCount / 64, 64}, x, scale, shift, y);
  });
  // 2 blocks of 8 warps read 16 packs of 16 bytes, each by two lanes: 8 sectors; scale and shift.
  check_global(s, kWarps32 + 2 * 8 * 2, kF32 + 2 * 8 * 2 * 8, kWarps32, kF32);
}

TEST_CASE("counters: Philox stores whole packs and loads nothing", "[sim][counters]") {
  kernels::Context ctx(kernels::sim::table(), kernels::sim::device_info());
  const DeviceArray<float> y(ctx, kCount);
  check_global(
      counted(ctx, [&] { ctx.table().philox_uniform(ctx, {.count = kCount, .seed = 1}, y); }), 0, 0,
      kWarps32, kF32);
}

}  // namespace subpix::tests
