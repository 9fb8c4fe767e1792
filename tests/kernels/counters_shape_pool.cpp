// The shuffle and pooling kernels: what the simulator counts, and views that are not 16-byte
// aligned.

#include "kernels/reference/shape_pool.h"
#include "tests/kernels/counters.h"
#include "tests/support/problems.h"

namespace subpix::tests {
namespace {

using sim::AccessKind;

template <class T>
void check_shuffle(std::uint64_t accesses) {
  const ShuffleProblem p{1, 4, 8, 64, 2};
  const auto& ops = kernels::sim::table().typed<T>();
  for (const auto* op : {&ops.pixel_shuffle_forward, &ops.pixel_shuffle_backward}) {
    const sim::Stats stats = counted([&](auto& ctx, Buffers& buffers, auto&& run) {
      const T* x = buffers.in<T>("x", Values(static_cast<std::size_t>(p.count()), 1.0));
      T* y = buffers.out<T>("y", p.count());
      run([&] { (*op)(ctx, p, x, y); });
    });
    CHECK(stats.launches == 1);
    // A warp moves 512 bytes, 16 sectors, at a time.
    CHECK(traffic(stats, AccessKind::GlobalLoad) == whole(accesses, accesses * 16));
    CHECK(traffic(stats, AccessKind::GlobalStore) == whole(accesses, accesses * 16));
  }
}

Values pattern(Index count, int period) {
  Values values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<double>(static_cast<int>(i) * 7 % period);
  return values;
}

/// Forward and backward with every buffer one element off its alignment.
template <class T>
void check_pool_views() {
  const PoolProblem p{1, 5, 4, 16};
  const auto xs = static_cast<std::size_t>(p.x_count()), ys = static_cast<std::size_t>(p.y_count());
  const Values x = pattern(p.x_count() + 1, 97), dy = pattern(p.y_count() + 1, 89);
  kernels::Context ctx(kernels::sim::table(), kernels::sim::device_info());
  Buffers buffers(ctx);
  T* y = buffers.out<T>("y", p.y_count() + 1);
  T* dx = buffers.out<T>("dx", p.x_count() + 1);
  auto* which = buffers.out<std::uint8_t>("which", p.y_count() + 1);
  const auto& ops = ctx.table().typed<T>();
  ops.max_pool_forward(ctx, p, buffers.in<T>("x", x) + 1, y + 1, which + 1);
  ops.max_pool_backward(ctx, p, buffers.in<T>("dy", dy) + 1, which + 1, dx + 1);
  Values want_y(ys), want_dx(xs);
  std::vector<std::uint8_t> places(ys);
  kernels::reference::max_pool_forward<double>(p, x.data() + 1, want_y.data(), places.data());
  kernels::reference::max_pool_backward<double>(p, dy.data() + 1, places.data(), want_dx.data());
  const Values got_y = buffers.read(y), got_dx = buffers.read(dx);
  CHECK(Values(got_y.begin() + 1, got_y.end()) == want_y);
  CHECK(Values(got_dx.begin() + 1, got_dx.end()) == want_dx);
}

template <class T>
void check_shuffle_views() {
  const ShuffleProblem p{1, 3, 4, 8, 2};
  const Values x = pattern(p.count() + 1, 97);
  kernels::Context ctx(kernels::sim::table(), kernels::sim::device_info());
  Buffers buffers(ctx);
  T* y = buffers.out<T>("y", p.count() + 1);
  T* back = buffers.out<T>("dx", p.count() + 1);
  const auto& ops = ctx.table().typed<T>();
  ops.pixel_shuffle_forward(ctx, p, buffers.in<T>("x", x) + 1, y + 1);
  ops.pixel_shuffle_backward(ctx, p, y + 1, back + 1);
  Values want(static_cast<std::size_t>(p.count()));
  kernels::reference::pixel_shuffle_forward<double>(p, x.data() + 1, want.data());
  const Values got = buffers.read(y), round = buffers.read(back);
  CHECK(Values(got.begin() + 1, got.end()) == want);
  CHECK(Values(round.begin() + 1, round.end()) == Values(x.begin() + 1, x.end()));
}

}  // namespace

TEST_CASE("pixel shuffle moves whole sectors", "[kernels][counters]") {
  check_shuffle<float>(2048 / 32);  // 8192 elements in packs of four
  check_shuffle<bf16>(1024 / 32);
}

TEST_CASE("pooling moves whole sectors", "[kernels][counters]") {
  const PoolProblem p{1, 8, 8, 64};  // 1024 outputs: 128 packs of bf16, four warps
  const auto& ops = kernels::sim::table().typed<bf16>();
  const sim::Stats forward = counted([&](auto& ctx, Buffers& buffers, auto&& run) {
    const bf16* x = buffers.in<bf16>("x", pattern(p.x_count(), 97));
    bf16* y = buffers.out<bf16>("y", p.y_count());
    auto* which = buffers.out<std::uint8_t>("which", p.y_count());
    run([&] { ops.max_pool_forward(ctx, p, x, y, which); });
  });
  CHECK(forward.launches == 1);
  CHECK(traffic(forward, AccessKind::GlobalLoad) == whole(4 * 4, 4 * 4 * 16));
  CHECK(traffic(forward, AccessKind::GlobalStore) == whole(4 + 4, 4 * 16 + 4 * 8));
  const sim::Stats backward = counted([&](auto& ctx, Buffers& buffers, auto&& run) {
    const bf16* dy = buffers.in<bf16>("dy", pattern(p.y_count(), 97));
    const auto* which = buffers.in<std::uint8_t>("which", pattern(p.y_count(), 4));
    bf16* dx = buffers.out<bf16>("dx", p.x_count());
    run([&] { ops.max_pool_backward(ctx, p, dy, which, dx); });
  });
  CHECK(backward.launches == 1);
  CHECK(traffic(backward, AccessKind::GlobalLoad) == whole(4 + 4, 4 * 16 + 4 * 8));
  CHECK(traffic(backward, AccessKind::GlobalStore) == whole(4 * 4, 4 * 4 * 16));
}

TEST_CASE("shuffle and pooling take views that are not aligned", "[kernels][counters]") {
  check_shuffle_views<float>();
  check_shuffle_views<bf16>();
  check_pool_views<float>();
  check_pool_views<bf16>();
}

}  // namespace subpix::tests
