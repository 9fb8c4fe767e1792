// The kernels of the dense layer: what the simulator counts, and views that are not 16-byte
// aligned.

#include "kernels/reference/dense.h"
#include "tests/kernels/counters.h"
#include "tests/support/problems.h"

namespace subpix::tests {
namespace {

using kernels::Context;
using sim::AccessKind;

Values pattern(Index count, int period) {
  Values values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<double>(static_cast<int>(i) * 7 % period - period / 2);
  return values;
}

template <class T>
sim::Stats forward(const DenseProblem& p) {
  return counted([&](Context& ctx, Buffers& buffers, auto&& run) {
    const T* x = buffers.in<T>("x", pattern(p.n * p.in, 5));
    const T* w = buffers.in<T>("w", pattern(p.out * p.in, 7));
    T* y = buffers.out<T>("y", p.n * p.out);
    run([&] { ctx.table().typed<T>().dense_forward(ctx, p, x, w, nullptr, y); });
  });
}
template <class T>
sim::Stats backward_data(const DenseProblem& p) {
  return counted([&](Context& ctx, Buffers& buffers, auto&& run) {
    const T* dy = buffers.in<T>("dy", pattern(p.n * p.out, 5));
    const T* w = buffers.in<T>("w", pattern(p.out * p.in, 7));
    T* dx = buffers.out<T>("dx", p.n * p.in);
    run([&] { ctx.table().typed<T>().dense_backward_data(ctx, p, dy, w, dx); });
  });
}
template <class T>
sim::Stats backward_filter(const DenseProblem& p) {
  return counted([&](Context& ctx, Buffers& buffers, auto&& run) {
    const T* x = buffers.in<T>("x", pattern(p.n * p.in, 5));
    const T* dy = buffers.in<T>("dy", pattern(p.n * p.out, 7));
    float* dw = buffers.out<float>("dw", p.out * p.in);
    run([&] { ctx.table().typed<T>().dense_backward_filter(ctx, p, x, dy, dw, nullptr); });
  });
}

/// All three ops, each buffer one element off its alignment, against the reference. The data are
/// small integers, so results are exact.
template <class T>
void check_views() {
  const DenseProblem p{5, 32, 12};
  const Values x = pattern(p.n * p.in + 1, 5), w = pattern(p.out * p.in + 1, 7);
  const Values dy = pattern(p.n * p.out + 1, 3);
  Context ctx(kernels::sim::table(), kernels::sim::device_info());
  Buffers buffers(ctx);
  T* y = buffers.out<T>("y", p.n * p.out + 1);
  T* dx = buffers.out<T>("dx", p.n * p.in + 1);
  float* dw = buffers.out<float>("dw", p.out * p.in + 1);
  float* db = buffers.out<float>("db", p.out);
  const T *dev_x = buffers.in<T>("x", x) + 1, *dev_w = buffers.in<T>("w", w) + 1;
  const T* dev_dy = buffers.in<T>("dy", dy) + 1;
  const auto& ops = ctx.table().typed<T>();
  ops.dense_forward(ctx, p, dev_x, dev_w, nullptr, y + 1);
  ops.dense_backward_data(ctx, p, dev_dy, dev_w, dx + 1);
  ops.dense_backward_filter(ctx, p, dev_x, dev_dy, dw + 1, db);

  const auto sized = [](Index n) { return Values(static_cast<std::size_t>(n)); };
  Values want_y = sized(p.n * p.out), want_dx = sized(p.n * p.in), want_dw = sized(p.out * p.in),
         want_db = sized(p.out);
  namespace reference = kernels::reference;
  const double* no_bias = nullptr;
  reference::dense_forward<double>(p, x.data() + 1, w.data() + 1, no_bias, want_y.data());
  reference::dense_backward_data<double>(p, dy.data() + 1, w.data() + 1, want_dx.data());
  reference::dense_backward_filter<double>(p, x.data() + 1, dy.data() + 1, want_dw.data(),
                                           want_db.data());
  const auto view = [](const Values& v) { return Values(v.begin() + 1, v.end()); };
  CHECK(view(buffers.read(y)) == want_y);
  CHECK(view(buffers.read(dx)) == want_dx);
  CHECK(view(buffers.read(dw)) == want_dw);
  CHECK(buffers.read(db) == want_db);
}

}  // namespace

TEST_CASE("dense forward on tensor cores reads each weight once, in whole sectors",
          "[kernels][counters]") {
  // 64 outputs: one block wide. 1024 terms: four blocks of four warps along them, each one step.
  const sim::Stats stats = forward<bf16>({16, 1024, 64});
  CHECK(stats.launches == 2);
  // A warp: 8 loads of weights, 4 of x, 16 sectors each. Then 1024 sums of four splits.
  const std::uint64_t warps = 4 * 8, sums = 1024 / 32 * 4;
  CHECK(traffic(stats, AccessKind::GlobalLoad) ==
        whole(warps * 12 + sums, warps * 12 * 16 + sums * 4));
  CHECK(traffic(stats, AccessKind::GlobalStore) == whole(sums + 32, sums * 4 + 32 * 2));
  CHECK(stats.mma == warps * 2 * 2 * (2 * 2));
  CHECK(traffic(stats, AccessKind::SharedStore) == whole(4 * 6 * 16, 4 * 6 * 16));
  CHECK(traffic(stats, AccessKind::SharedLoad) == whole(4 * 6 * 16, 4 * 6 * 16));
}

TEST_CASE("dense backward data on tensor cores reads and writes whole sectors",
          "[kernels][counters]") {
  // 128 columns: two blocks; 128 outputs: one step of each of four warps, no split.
  const sim::Stats stats = backward_data<bf16>({16, 128, 128});
  CHECK(stats.launches == 1);
  // A warp: 8 loads of weights of 16 sectors, 4 of dy of 8.
  CHECK(traffic(stats, AccessKind::GlobalLoad) == whole(8 * 12, 8 * (8 * 16 + 4 * 8)));
  CHECK(traffic(stats, AccessKind::GlobalStore) == whole(2 * 4, 2 * 4 * 16));
  CHECK(stats.mma == 8 * 2 * (4 * 2));
  CHECK(traffic(stats, AccessKind::SharedStore) == whole(2 * 3 * 32, 2 * 3 * 32));
  CHECK(traffic(stats, AccessKind::SharedLoad) == whole(2 * 3 * 32, 2 * 3 * 32));
}

TEST_CASE("dense backward filter on tensor cores reads and writes whole sectors",
          "[kernels][counters]") {
  const sim::Stats stats = backward_filter<bf16>({16, 128, 128});  // one block, one step
  CHECK(stats.launches == 1);
  CHECK(traffic(stats, AccessKind::GlobalLoad) == whole(8 * 12, 8 * 12 * 8));
  CHECK(traffic(stats, AccessKind::GlobalStore) == whole(8 * 16, 128 * 128 * 4 / 32));
  CHECK(stats.mma == 8 * (4 * 4));
}

TEST_CASE("dense in fp32: loads of whole sectors, shared memory without conflicts",
          "[kernels][counters]") {
  const sim::Stats f = forward<float>({16, 512, 32});  // four splits of one step of eight warps
  CHECK(f.launches == 2);
  CHECK(traffic(f, AccessKind::GlobalLoad) ==
        whole(4 * 8 * 20 + 16 * 4, 4 * 8 * 20 * 16 + 16 * 4 * 4));

  const sim::Stats d = backward_data<float>({16, 128, 256});  // one block, one tile a warp
  CHECK(d.launches == 1);
  // A warp: 32 loads of weights, 16 of dy of 4 sectors.
  CHECK(traffic(d, AccessKind::GlobalLoad) == whole(8 * 48, 8 * (32 * 16 + 16 * 4)));
  // 16-byte accesses: four wavefronts. The tile of dy, then four passes of sums.
  CHECK(traffic(d, AccessKind::SharedStore) == whole(8 * 4 + 4 * 4 * 8, 8 * 4 * 4 + 4 * 4 * 8 * 4));
  CHECK(traffic(d, AccessKind::SharedLoad) ==
        whole(8 * 32 * 4 + 4 * 4 * 8, 8 * 32 * 4 * 4 + 4 * 4 * 8 * 4));

  const sim::Stats w = backward_filter<float>({32, 128, 64});  // one block, one tile
  CHECK(w.launches == 1);
  CHECK(traffic(w, AccessKind::GlobalLoad) == whole(32 * 8 + 64, 32 * 8 * 16 + 64 * 4));
  CHECK(traffic(w, AccessKind::GlobalStore) == whole(8 * 8, 128 * 64 * 4 / 32));
  CHECK(traffic(w, AccessKind::SharedStore) == whole(64, 64));
  CHECK(traffic(w, AccessKind::SharedLoad) == whole(32 * 2 * 8, 32 * 2 * 8 * 4));
}

TEST_CASE("dense takes views that are not aligned", "[kernels][counters]") {
  check_views<float>();
  check_views<bf16>();
}

}  // namespace subpix::tests
