// What the kernels of batch norm and PReLU do to memory, as exact numbers: whole 16-byte accesses,
// full sectors, no bank conflicts, and each tensor moved as often as their files say.

#include <algorithm>
#include <cmath>

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

namespace {

/// Forward and backward (dy = x) of `variant` on rows of four channels; row i holds i % 8, so that
/// sums are exact in fp32.
void check_tall(const char* variant, kernels::Index rows) {
  constexpr kernels::Index kFour = 4;
  const auto count = static_cast<std::size_t>(rows * kFour);
  const kernels::NormProblem p{.rows = rows, .c = kFour};
  std::vector<float> values(count), got(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i / 4 % 8);
  const std::vector<float> ones(4, 1.0f);
  const std::vector<double> wide(values.begin(), values.end()), unit(4, 1.0), zero(4, 0.0);
  std::vector<double> y(count), dx(count), mean(4), inv_std(4), dgamma(4), dbeta(4);
  kernels::reference::batchnorm_forward<double>(p, wide.data(), unit.data(), zero.data(), y.data(),
                                                mean.data(), inv_std.data(), nullptr, nullptr);
  kernels::reference::batchnorm_backward<double>(p, wide.data(), wide.data(), unit.data(),
                                                 mean.data(), inv_std.data(), dx.data(),
                                                 dgamma.data(), dbeta.data());

  Device d;
  const auto& memory = d.ctx.table().memory;
  Device::Array<float> x(d, rows * kFour), out(d, rows * kFour), gamma(d, 4), beta(d, 4),
      got_mean(d, 4), got_inv_std(d, 4), got_dgamma(d, 4), got_dbeta(d, 4);
  memory.copy_to_device(d.ctx, x.data, values.data(), count * sizeof(float));
  memory.copy_to_device(d.ctx, gamma.data, ones.data(), 16);
  const auto check = [&](const float* data, const std::vector<double>& want, double tolerance) {
    memory.copy_to_host(d.ctx, got.data(), data, want.size() * sizeof(float));
    double worst = 0.0;
    for (std::size_t i = 0; i < want.size(); ++i)
      worst = std::max(worst, std::fabs(static_cast<double>(got[i]) - want[i]));
    CHECK(worst <= tolerance);
  };
  d.ctx.override_variant("batchnorm_forward/f32", variant);
  d.ctx.override_variant("batchnorm_backward/f32", variant);
  INFO(variant);
  ops<float>(d).batchnorm_forward(d.ctx, p, x.data, gamma.data, beta.data, out.data, got_mean.data,
                                  got_inv_std.data, nullptr, nullptr);
  check(out.data, y, 2e-6);
  check(got_mean.data, mean, 1e-6);
  check(got_inv_std.data, inv_std, 1e-6);
  ops<float>(d).batchnorm_backward(d.ctx, p, x.data, x.data, gamma.data, got_mean.data,
                                   got_inv_std.data, out.data, got_dgamma.data, got_dbeta.data);
  check(got_dbeta.data, dbeta, 0.0);
  check(got_dgamma.data, dgamma, 1e-6 * dgamma[0]);
  check(out.data, dx, 1e-5);
}

}  // namespace

// The tables' problems are small: there a thread never loads twice what it has in flight, nor holds
// more than two rows. (A grid has at most about 528 blocks, a cluster eight.)
TEST_CASE("batch norm of tall tensors") {
  const sim::Scope scope({.races = false});
  check_tall("packs", 528 * 192 - 61);
  check_tall("resident", 12288 - 61);
}

}  // namespace subpix::tests
