// What the kernels of batch norm and PReLU do to memory, as exact numbers: whole 16-byte accesses,
// full sectors, no bank conflicts, and each tensor moved as often as their files say.

#include "kernels/reference/norm.h"
#include "kernels/sim/sim.h"
#include "kernels/sim/table.h"
#include "tests/support/catch.h"
#include "tests/support/fill.h"

namespace subpix::tests {
namespace {

using sim::AccessCounter;
using sim::AccessKind;
using sim::Stats;

/// Device memory of the simulator's table.
struct Device {
  kernels::Context ctx{kernels::sim::table(), kernels::sim::device_info()};

  template <class T>
  struct Array {
    Device& device;
    std::size_t count;
    T* data;
    Array(Device& d, kernels::Index n)
        : device(d),
          count(static_cast<std::size_t>(n)),
          data(static_cast<T*>(d.ctx.table().memory.allocate(d.ctx, count * sizeof(T)))) {
      const std::vector<T> zeros(count);
      d.ctx.table().memory.copy_to_device(d.ctx, data, zeros.data(), count * sizeof(T));
    }
    ~Array() { device.ctx.table().memory.release(device.ctx, data, count * sizeof(T)); }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;
  };

  /// The statistics of one call.
  template <class Call>
  Stats count(Call&& call) {
    const sim::Scope scope({.count = true});
    ctx.table().memory.synchronize(ctx);
    sim::reset_stats();
    call();
    ctx.table().memory.synchronize(ctx);
    return sim::stats();
  }
};

template <class T>
const kernels::TypedOps<T>& ops(Device& d) {
  return d.ctx.table().typed<T>();
}

/// Every access of global memory moves no more sectors than its bytes fill, every one of shared
/// memory as few wavefronts as possible.
void check_ideal(const Stats& s, AccessKind kind) {
  const AccessCounter c = s.total(kind);
  INFO(sim::name(kind) << "\n" << sim::report(s));
  CHECK(c.units == c.ideal);
}

constexpr kernels::Index kRows = 640, kC = 64;
constexpr std::uint64_t kBytes = kRows * kC * sizeof(bf16);  // of one tensor

}  // namespace

TEST_CASE("PReLU moves two tensors forward and three backward") {
  Device d;
  Device::Array<bf16> x(d, kRows * kC), dy(d, kRows * kC), out(d, kRows * kC);
  Device::Array<float> slope(d, kC), dslope(d, kC);
  const kernels::ChannelProblem p{kRows, kC, false};
  const std::uint64_t blocks = kRows / 64, threads = blocks * 256;

  const Stats forward =
      d.count([&] { ops<bf16>(d).prelu_forward(d.ctx, p, x.data, slope.data, out.data); });
  CHECK(forward.launches == 1);
  CHECK(forward.threads == threads);
  // The tensor, and the slopes of each thread's eight channels.
  CHECK(forward.total(AccessKind::GlobalLoad).bytes == kBytes + threads * 8 * 4);
  CHECK(forward.total(AccessKind::GlobalStore).bytes == kBytes);
  CHECK(forward.total(AccessKind::GlobalStore).requests == kBytes / 512);
  check_ideal(forward, AccessKind::GlobalStore);

  const Stats backward = d.count([&] {
    ops<bf16>(d).prelu_backward(d.ctx, p, x.data, dy.data, slope.data, out.data, dslope.data);
  });
  CHECK(backward.launches == 2);
  CHECK(backward.blocks == blocks + 8);
  const std::uint64_t partial = blocks * kC * 4;
  CHECK(backward.total(AccessKind::GlobalLoad).bytes == 2 * kBytes + threads * 8 * 4 + partial);
  CHECK(backward.total(AccessKind::GlobalStore).bytes == kBytes + partial + kC * 4);
  CHECK(backward.atomics == 0);
  check_ideal(backward, AccessKind::GlobalStore);
  check_ideal(backward, AccessKind::SharedLoad);
  check_ideal(backward, AccessKind::SharedStore);
}

TEST_CASE("batch norm in one launch reads its inputs once") {
  Device d;
  Device::Array<bf16> x(d, kRows * kC), dy(d, kRows * kC), out(d, kRows * kC);
  Device::Array<float> gamma(d, kC), beta(d, kC), mean(d, kC), inv_std(d, kC), dgamma(d, kC),
      dbeta(d, kC);
  const kernels::NormProblem p{.rows = kRows, .c = kC};
  // Four slabs of 16 channels, each a cluster of two blocks.
  const Stats forward = d.count([&] {
    ops<bf16>(d).batchnorm_forward(d.ctx, p, x.data, gamma.data, beta.data, out.data, mean.data,
                                   inv_std.data, nullptr, nullptr);
  });
  CHECK(forward.launches == 1);
  CHECK(forward.blocks == 8);
  CHECK(forward.total(AccessKind::GlobalLoad).bytes == kBytes + 8 * 512 * 2 * 8 * 4);
  CHECK(forward.total(AccessKind::GlobalStore).bytes == kBytes + 2 * kC * 4);
  // Rows in full sectors. Each warp reads 16 coefficients of its 2 lanes, 2 sectors a request; the
  // statistics leave the same way.
  CHECK(forward.total(AccessKind::GlobalLoad).units == kBytes / 32 + 8 * 16 * 16 * 2);
  CHECK(forward.total(AccessKind::GlobalStore).units == kBytes / 32 + 4 * 16 * 2);
  check_ideal(forward, AccessKind::SharedLoad);
  check_ideal(forward, AccessKind::SharedStore);

  const Stats backward = d.count([&] {
    ops<bf16>(d).batchnorm_backward(d.ctx, p, x.data, dy.data, gamma.data, mean.data, inv_std.data,
                                    out.data, dgamma.data, dbeta.data);
  });
  CHECK(backward.launches == 1);
  CHECK(backward.blocks == 8);
  CHECK(backward.total(AccessKind::GlobalStore).bytes == kBytes + 2 * kC * 4);
  CHECK(backward.total(AccessKind::GlobalStore).units == kBytes / 32 + 4 * 16 * 2);
  check_ideal(backward, AccessKind::SharedLoad);
  check_ideal(backward, AccessKind::SharedStore);
}

TEST_CASE("batch norm of slabs takes three launches and reads its inputs twice") {
  Device d;
  Device::Array<bf16> x(d, kRows * kC), dy(d, kRows * kC), out(d, kRows * kC);
  Device::Array<float> gamma(d, kC), beta(d, kC), mean(d, kC), inv_std(d, kC), dgamma(d, kC),
      dbeta(d, kC);
  const kernels::NormProblem p{.rows = kRows, .c = kC};
  const std::uint64_t blocks = kRows / 64, threads = blocks * 256, partial = blocks * 2 * kC * 4;
  d.ctx.override_variant("batchnorm_forward/bf16", "packs");
  d.ctx.override_variant("batchnorm_backward/bf16", "packs");

  const Stats forward = d.count([&] {
    ops<bf16>(d).batchnorm_forward(d.ctx, p, x.data, gamma.data, beta.data, out.data, mean.data,
                                   inv_std.data, nullptr, nullptr);
  });
  CHECK(forward.launches == 3);
  CHECK(forward.blocks == 2 * blocks + 8);
  // Partial means are read twice, partial squares once; four coefficients a channel and thread.
  CHECK(forward.total(AccessKind::GlobalLoad).bytes ==
        2 * kBytes + partial / 2 * 3 + threads * 8 * 4 * 4);
  CHECK(forward.total(AccessKind::GlobalStore).bytes == kBytes + partial + 2 * kC * 4);
  check_ideal(forward, AccessKind::GlobalStore);
  check_ideal(forward, AccessKind::SharedLoad);
  check_ideal(forward, AccessKind::SharedStore);

  const Stats backward = d.count([&] {
    ops<bf16>(d).batchnorm_backward(d.ctx, p, x.data, dy.data, gamma.data, mean.data, inv_std.data,
                                    out.data, dgamma.data, dbeta.data);
  });
  CHECK(backward.launches == 3);
  CHECK(backward.total(AccessKind::GlobalLoad).bytes ==
        4 * kBytes + partial + threads * 8 * (2 + 5) * 4);
  CHECK(backward.total(AccessKind::GlobalStore).bytes == kBytes + partial + 2 * kC * 4);
  check_ideal(backward, AccessKind::GlobalStore);
  check_ideal(backward, AccessKind::SharedLoad);
}

// The grid never has more than about 528 blocks, so only a tall tensor gives a thread more rows
// than it loads at once. Row i of 4 channels holds i % 8: sums are exact in fp32.
TEST_CASE("a tall tensor takes several turns of the loads in flight") {
  constexpr kernels::Index kTall = 528 * 192 - 61;
  Device d;
  Device::Array<float> x(d, kTall * 4), gamma(d, 4), mean(d, 4), inv_std(d, 4), dgamma(d, 4),
      dbeta(d, 4), out(d, kTall * 4);
  std::vector<float> values(static_cast<std::size_t>(kTall) * 4);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i / 4 % 8);
  const auto& memory = d.ctx.table().memory;
  memory.copy_to_device(d.ctx, x.data, values.data(), values.size() * 4);
  std::vector<double> wide(values.begin(), values.end()), y(wide.size());
  const double zeros[4] = {};
  double want_mean[4], want_inv_std[4];
  const kernels::NormProblem p{.rows = kTall, .c = 4};
  kernels::reference::batchnorm_forward<double>(p, wide.data(), zeros, zeros, y.data(), want_mean,
                                                want_inv_std, nullptr, nullptr);
  double sum = 0;
  for (std::size_t i = 0; i < wide.size(); i += 4) sum += wide[i];

  d.ctx.override_variant("batchnorm_forward/f32", "packs");
  const sim::Scope scope({.races = false});
  ops<float>(d).batchnorm_forward(d.ctx, p, x.data, gamma.data, gamma.data, out.data, mean.data,
                                  inv_std.data, nullptr, nullptr);
  // dy = x: dbeta is the sum.
  ops<float>(d).batchnorm_backward(d.ctx, p, x.data, x.data, gamma.data, mean.data, inv_std.data,
                                   out.data, dgamma.data, dbeta.data);
  float got[3][4];
  memory.copy_to_host(d.ctx, got[0], mean.data, 16);
  memory.copy_to_host(d.ctx, got[1], inv_std.data, 16);
  memory.copy_to_host(d.ctx, got[2], dbeta.data, 16);
  for (int c = 0; c < 4; ++c) {
    CHECK(got[0][c] == Approx(want_mean[c]).epsilon(1e-6));
    CHECK(got[1][c] == Approx(want_inv_std[c]).epsilon(1e-6));
    CHECK(static_cast<double>(got[2][c]) == sum);
  }
}

}  // namespace subpix::tests
