// The convolutions with batch norm around them, on problems larger than one tile: each compiled
// size of tile against the sequence of plain ops, every form, with and without a skip connection,
// under two schedules. Data are small integers and powers of two, so that all but the statistics
// must agree to the bit (table_fused.cpp has the oracle, on small problems).

#include <cmath>
#include <string>
#include <vector>

#include "kernels/sim/sim.h"
#include "kernels/sim/table.h"
#include "tests/support/catch.h"
#include "tests/support/fill.h"
#include "tests/support/guarded.h"

namespace subpix::tests {
namespace {

using kernels::Context;
using kernels::Conv2dNormBackwardProblem;
using kernels::Conv2dNormProblem;
using kernels::Conv2dProblem;
using kernels::Filter;
using kernels::Index;
using kernels::InputForm;
using kernels::NormGradients;
using kernels::NormInput;
using kernels::NormOutput;
using kernels::TypedOps;

constexpr InputForm kForms[] = {InputForm::Plain, InputForm::NormPRelu, InputForm::NormPReluShared,
                                InputForm::Norm, InputForm::NormLeakyRelu};

Values chosen(std::initializer_list<double> choices, Index count, const std::string& key,
              const char* buffer) {
  Generator generator(seed_of(key + "/" + buffer));
  Values values(static_cast<std::size_t>(count));
  for (double& v : values)
    v = choices.begin()[generator.integer(0, static_cast<int>(choices.size()) - 1)];
  return values;
}

Index slopes(InputForm form, Index c) {
  return form == InputForm::NormPRelu ? c : form == InputForm::NormPReluShared ? 1 : 0;
}

NormInput upload_form(Buffers& buffers, InputForm form, Index c, const std::string& key) {
  if (form == InputForm::Plain) return {};
  NormInput in{buffers.in<float>("scale", chosen({0.5, 1.0, 2.0, -1.0}, c, key, "scale")),
               buffers.in<float>("shift", chosen({-2, -1, 0, 1, 2}, c, key, "shift"))};
  if (const Index n = slopes(form, c))
    in.slope = buffers.in<float>("slope", chosen({0.25, 0.5}, n, key, "slope"));
  return in;
}

Context make_context(int multiprocessors) {
  kernels::DeviceInfo device = kernels::sim::device_info();
  device.multiprocessors = multiprocessors;
  return {kernels::sim::table(), device};
}

/// y, then mean, inv_std, scale, shift, running_mean, running_var.
std::vector<Values> forward(Context& ctx, const Conv2dNormProblem& d) {
  Buffers buffers(ctx);
  const Index k = d.conv.k;
  const std::string key = d.key();
  const bf16* x = buffers.in<bf16>("x", chosen({-2, -1, 0, 0, 1, 2}, d.conv.x_count(), key, "x"));
  const bf16* w = buffers.in<bf16>("w", chosen({-1, 0, 0, 0, 1}, d.conv.w_count(), key, "w"));
  const NormInput in = upload_form(buffers, d.form, d.conv.c, key);
  bf16* y = buffers.out<bf16>("y", d.conv.y_count());
  const Values ones(static_cast<std::size_t>(k), 1.0);
  const NormOutput out{buffers.in<float>("gamma", chosen({0.5, 1, -2}, k, key, "gamma")),
                       buffers.in<float>("beta", chosen({-1, 0, 3}, k, key, "beta")),
                       buffers.out<float>("mean", k),
                       buffers.out<float>("inv_std", k),
                       buffers.out<float>("scale", k),
                       buffers.out<float>("shift", k),
                       buffers.inout<float>("running_mean", ones),
                       buffers.inout<float>("running_var", ones)};
  ctx.table().memory.synchronize(ctx);
  sim::reset_stats();
  ctx.table().typed<bf16>().conv2d_norm_forward(ctx, d, x, in, Filter<bf16>(w), y, out);
  ctx.table().memory.synchronize(ctx);
  std::vector<Values> got = {buffers.read(y)};
  for (const float* vector :
       {out.mean, out.inv_std, out.scale, out.shift, out.running_mean, out.running_var})
    got.push_back(buffers.read(vector));
  return got;
}

/// dx, and where there is a norm dgamma, dbeta, dslope.
std::vector<Values> backward(Context& ctx, const Conv2dNormBackwardProblem& d) {
  Buffers buffers(ctx);
  const Index c = d.conv.c;
  const std::string key = d.key();
  const bool plain = d.form == InputForm::Plain;
  const Values range = chosen({-3, -2, -1, 0, 1, 2, 3}, d.conv.x_count(), key, "range");
  const bf16* dy = buffers.in<bf16>("dy", chosen({-1, 0, 0, 0, 1}, d.conv.y_count(), key, "dy"));
  const bf16* w = buffers.in<bf16>("w", chosen({-1, 0, 0, 0, 1}, d.conv.w_count(), key, "w"));
  const bf16* skip = d.skip ? buffers.in<bf16>("skip", range) : nullptr;
  const bf16* x = plain ? nullptr : buffers.in<bf16>("x", range);
  const NormInput in = upload_form(buffers, d.form, c, key);
  const float* mean = buffers.in<float>("mean", chosen({-1, 0, 0.5, 1}, c, key, "mean"));
  const float* inv_std = buffers.in<float>("inv_std", chosen({0.5, 1, 2}, c, key, "inv_std"));
  bf16* dx = buffers.out<bf16>("dx", d.conv.x_count());
  const NormGradients sums{buffers.out<float>("dgamma", plain ? 0 : c),
                           buffers.out<float>("dbeta", plain ? 0 : c),
                           buffers.out<float>("dslope", slopes(d.form, c))};
  ctx.table().memory.synchronize(ctx);
  sim::reset_stats();
  ctx.table().typed<bf16>().conv2d_norm_backward_data(ctx, d, dy, Filter<bf16>(w), skip, x, in,
                                                      mean, inv_std, dx, sums);
  ctx.table().memory.synchronize(ctx);
  std::vector<Values> got = {buffers.read(dx)};
  for (const float* sum : {sums.dgamma, sums.dbeta, sums.dslope})
    if (sum) got.push_back(buffers.read(sum));
  return got;
}

double largest_difference(const Values& a, const Values& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i)
    largest = std::fmax(largest, std::fabs(a[i] - b[i]) / (1.0 + std::fabs(b[i])));
  return largest;
}

/// One problem on a device: how many products (mma) the variant takes, 0 for "not asked".
void check_case(const char* variant, int multiprocessors, const Conv2dProblem& conv,
                std::uint64_t forward_mma, std::uint64_t backward_mma) {
  GuardedBytes::guard_bytes = 0;  // the simulator puts red zones around each allocation
  bool skip = false;
  for (const InputForm form : kForms) {
    skip = !skip;
    const Conv2dNormProblem f{conv, form, 0.25f, 1e-3f, 0.25f};
    const Conv2dNormBackwardProblem b{conv, skip, form, 0.25f};
    std::vector<Values> want_forward, want_backward, first;
    for (const char* name : {"composed", variant, variant}) {
      const bool fused = std::string(name) != "composed";
      const bool again = !first.empty();
      const sim::Scope scope(
          {.schedule = again ? sim::Schedule::Random : sim::Schedule::Fifo, .seed = again});
      Context ctx = make_context(multiprocessors);
      const TypedOps<bf16>& ops = ctx.table().typed<bf16>();
      ctx.override_variant(ops.conv2d_norm_forward.name(), name);
      ctx.override_variant(ops.conv2d_norm_backward_data.name(), name);
      INFO(name << " " << b.key() << " on " << multiprocessors << (again ? ", again" : ""));
      const std::vector<Values> y = forward(ctx, f);
      if (fused) {
        CHECK(sim::stats().launches == 2);
        CHECK(sim::stats().mma == forward_mma);
        CHECK(y[0] == want_forward[0]);
        for (std::size_t i = 1; i < y.size(); ++i) {
          INFO("statistic " << i);
          CHECK(largest_difference(y[i], want_forward[i]) < 1e-5);
          if (again) CHECK(y[i] == first[i]);
        }
        first = y;
      } else {
        want_forward = y;
      }
      const std::vector<Values> dx = backward(ctx, b);
      if (fused) {
        CHECK(sim::stats().launches == (form == InputForm::Plain ? 1 : 2));
        CHECK(sim::stats().mma == backward_mma);
        CHECK(dx == want_backward);
      } else {
        want_backward = dx;
      }
      ctx.table().memory.synchronize(ctx);  // the buffers' release, too, waits in the stream
    }
  }
}

}  // namespace

TEST_CASE("conv2d_norm on halo tiles: every size of tile") {
  // Products of a block: rows/16 by 8 tiles of 64 filters, 4 of 16 channels, for each tap and
  // chunk.
  const auto both = [&](int multiprocessors, const Conv2dProblem& d, std::uint64_t blocks,
                        std::uint64_t rows, std::uint64_t steps) {
    const std::uint64_t mma = blocks * rows / 16 * 8 * 4 * steps;
    check_case("halo_mma", multiprocessors, d, mma, mma);
  };
  // 24x24 and batch 16 on 132 multiprocessors, one image of it on its share: 6 x 12 outputs.
  both(8, {1, 24, 24, 64, 64, 3, 3, 1, 1}, 8, 80, 9);
  // 6x6 images: one a block as long as there are multiprocessors, then four and the last three.
  both(7, {7, 6, 6, 64, 64, 3, 3, 1, 1}, 7, 48, 9);
  both(1, {7, 6, 6, 64, 64, 3, 3, 1, 1}, 2, 144, 9);
  // 12x12, whole, two chunks of channels and two blocks of filters.
  both(4, {2, 12, 12, 72, 72, 3, 3, 1, 1}, 4, 144, 18);
  // 8 x 16 outputs, the last column of tiles cut off.
  both(4, {1, 16, 31, 64, 64, 3, 3, 1, 1}, 4, 128, 9);
  // D's narrow end: many chunks, many blocks of filters.
  both(132, {1, 6, 6, 256, 256, 3, 3, 1, 1}, 4, 48, 36);
}

TEST_CASE("conv2d_norm on the implicit GEMM: every size of tile") {
  // Products of a tile: rows/16 by columns/8, 4 of 16 channels, for each step of eight chunks.
  const auto products = [](std::uint64_t tiles, std::uint64_t rows, std::uint64_t columns,
                           std::uint64_t steps) { return tiles * rows * columns / 32 * steps; };
  // 144 pixels of y, and of each of dx's phases, which have 1, 2, 2 and 4 of the taps: large,
  // medium and small tiles.
  const Conv2dProblem d{1, 24, 24, 64, 64, 3, 3, 2, 1};
  check_case("implicit_gemm_mma", 1, d, products(2, 128, 64, 9), products(2, 128, 64, 9));
  check_case("implicit_gemm_mma", 3, d, products(3, 64, 64, 9), products(2, 128, 64, 9));
  check_case("implicit_gemm_mma", 12, d, products(6, 64, 32, 9), products(3, 64, 64, 9));
  // Odd sizes: phases of 128, 144, 144 and 162 pixels with 4, 2, 2 and 1 of the taps; the first has
  // a tile without pixels. 72 filters are two blocks of 64.
  const Conv2dProblem odd{2, 17, 17, 64, 72, 3, 3, 2, 1};
  check_case("implicit_gemm_mma", 1, odd, products(2 * 2, 128, 64, 9),
             products(1, 128, 64, 5) + products(2, 128, 64, 3 + 3 + 2));
  // 40 and 24 channels: chunks of a step lie in different taps.
  const Conv2dProblem narrow{3, 5, 9, 40, 24, 3, 3, 1, 1};
  check_case("implicit_gemm_mma", 132, narrow, products(3, 64, 32, 6), products(3 * 2, 64, 32, 4));
}

}  // namespace subpix::tests
