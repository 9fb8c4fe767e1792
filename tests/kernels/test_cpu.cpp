#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "kernels/api/context_objects.h"
#include "kernels/cpu/table.h"
#include "kernels/reference/table.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/fill.h"
#include "tests/support/message.h"

// What the generic table tests cannot ask of the cpu backend: which variant serves the real layers,
// that packed filters are kept and dropped when they should be, that bits do not depend on chance,
// and real sizes (checked at sampled places, since the oracle takes minutes for all of them).
namespace subpix::tests {

namespace {

using kernels::Activation;
using kernels::ChannelProblem;
using kernels::Context;
using kernels::Conv2dActivationProblem;
using kernels::Conv2dProblem;
using kernels::DenseProblem;
using kernels::DeviceInfo;
using kernels::ElementProblem;
using kernels::Filter;
using kernels::NormProblem;
using kernels::TypedOps;
namespace cpu = kernels::cpu;

/// A context of its own with this many threads in force; two again afterwards, for other tests.
struct Machine {
  explicit Machine(int threads = 2) : ctx(cpu::table(), device(threads)) {}
  ~Machine() { cpu::set_threads(2); }
  static DeviceInfo device(int threads) {
    DeviceInfo info;
    info.threads = cpu::set_threads(threads);
    return info;
  }
  Context ctx;
  const TypedOps<float>& f32 = cpu::table().f32;
};

struct Layer {
  const char* name;
  Conv2dProblem d;
};

/// The layers of a training step on 96x96 crops.
std::vector<Layer> real_layers(Index n) {
  return {
      {"generator head", {n, 24, 24, 3, 64, 9, 9, 1, 4}},
      {"trunk", {n, 24, 24, 64, 64, 3, 3, 1, 1}},
      {"first upsampling", {n, 24, 24, 64, 256, 3, 3, 1, 1}},
      {"second upsampling", {n, 48, 48, 64, 256, 3, 3, 1, 1}},
      {"generator tail", {n, 96, 96, 64, 3, 9, 9, 1, 4}},
      {"first of discriminator and VGG", {n, 96, 96, 3, 64, 3, 3, 1, 1}},
      {"discriminator 2", {n, 96, 96, 64, 64, 3, 3, 2, 1}},
      {"discriminator 3", {n, 48, 48, 64, 128, 3, 3, 1, 1}},
      {"discriminator 4", {n, 48, 48, 128, 128, 3, 3, 2, 1}},
      {"discriminator 5", {n, 24, 24, 128, 256, 3, 3, 1, 1}},
      {"discriminator 6", {n, 24, 24, 256, 256, 3, 3, 2, 1}},
      {"discriminator 7", {n, 12, 12, 256, 512, 3, 3, 1, 1}},
      {"discriminator 8", {n, 12, 12, 512, 512, 3, 3, 2, 1}},
      {"VGG conv1_2", {n, 96, 96, 64, 64, 3, 3, 1, 1}},
      {"VGG conv2_2", {n, 48, 48, 128, 128, 3, 3, 1, 1}},
      {"VGG conv5_4", {n, 6, 6, 512, 512, 3, 3, 1, 1}},
  };
}

std::vector<float> numbers(Index count, const std::string& name, float scale = 1.0f) {
  Generator generator(seed_of(name));
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& v : values) v = scale * static_cast<float>(generator.uniform(-1.0, 1.0));
  return values;
}

std::vector<float> poisoned(Index count) {
  return std::vector<float>(static_cast<std::size_t>(count),
                            std::numeric_limits<float>::quiet_NaN());
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// A sum of products with its error bound, at one place.
struct Sum {
  double value = 0.0, magnitude = 0.0;
  Index terms = 0;
  void add(float a, float b) {
    const double product = static_cast<double>(a) * static_cast<double>(b);
    value += product;
    magnitude += std::fabs(product);
    ++terms;
  }
  bool takes(float got) const {
    const double bound = allowed<float>(value, growth(static_cast<double>(terms)), magnitude);
    return std::fabs(static_cast<double>(got) - value) <= bound;  // false for NaN
  }
};

Sum forward_at(const Conv2dProblem& d, const float* x, const float* w, Index n, Index p, Index q,
               Index k) {
  Sum sum;
  for (Index r = 0; r < d.r; ++r)
    for (Index s = 0; s < d.s; ++s) {
      const Index h = p * d.stride + r - d.pad, v = q * d.stride + s - d.pad;
      if (h < 0 || h >= d.h || v < 0 || v >= d.w) continue;
      for (Index c = 0; c < d.c; ++c)
        sum.add(x[((n * d.h + h) * d.w + v) * d.c + c], w[((k * d.r + r) * d.s + s) * d.c + c]);
    }
  return sum;
}

Sum backward_data_at(const Conv2dProblem& d, const float* dy, const float* w, Index n, Index h,
                     Index v, Index c) {
  Sum sum;
  for (Index r = 0; r < d.r; ++r)
    for (Index s = 0; s < d.s; ++s) {
      const Index top = h + d.pad - r, left = v + d.pad - s;
      if (top < 0 || left < 0 || top % d.stride != 0 || left % d.stride != 0) continue;
      const Index p = top / d.stride, q = left / d.stride;
      if (p >= d.p() || q >= d.q()) continue;
      for (Index k = 0; k < d.k; ++k)
        sum.add(dy[((n * d.p() + p) * d.q() + q) * d.k + k],
                w[((k * d.r + r) * d.s + s) * d.c + c]);
    }
  return sum;
}

Sum backward_filter_at(const Conv2dProblem& d, const float* x, const float* dy, Index k, Index r,
                       Index s, Index c) {
  Sum sum;
  for (Index n = 0; n < d.n; ++n)
    for (Index p = 0; p < d.p(); ++p)
      for (Index q = 0; q < d.q(); ++q) {
        const Index h = p * d.stride + r - d.pad, v = q * d.stride + s - d.pad;
        if (h < 0 || h >= d.h || v < 0 || v >= d.w) continue;
        sum.add(x[((n * d.h + h) * d.w + v) * d.c + c],
                dy[((n * d.p() + p) * d.q() + q) * d.k + k]);
      }
  return sum;
}

/// Indices of [0, count): every second the first or the last, so that borders are well covered.
Index pick(Generator& generator, Index count) {
  const int kind = generator.integer(0, 3);
  if (kind == 0) return 0;
  if (kind == 1) return count - 1;
  return static_cast<Index>(generator.next() % static_cast<std::uint64_t>(count));
}

}  // namespace

TEST_CASE("real layers are served by the cpu backend's own convolutions", "[cpu][selection]") {
  Machine machine;
  const auto& ops = cpu::table().bf16_ops;
  std::map<std::string, std::string> forward, backward_data, backward_filter;
  for (const Index n : {Index{4}, Index{16}, Index{32}})
    for (const auto& [name, d] : real_layers(n)) {
      INFO(name << " " << d.key());
      d.validate();
      forward[name] = machine.f32.conv2d_forward.select(machine.ctx, d).name;
      backward_data[name] = machine.f32.conv2d_backward_data.select(machine.ctx, d).name;
      backward_filter[name] = machine.f32.conv2d_backward_filter.select(machine.ctx, d).name;
      CHECK(forward[name] != "reference");
      CHECK(backward_data[name] != "reference");
      CHECK(backward_filter[name] != "reference");
      CHECK(ops.conv2d_forward.select(machine.ctx, d).name != std::string("reference"));
      CHECK(ops.conv2d_backward_data.select(machine.ctx, d).name != std::string("reference"));
      CHECK(ops.conv2d_backward_filter.select(machine.ctx, d).name != std::string("reference"));
    }
  CHECK(forward["trunk"] == "winograd");
  CHECK(backward_data["trunk"] == "winograd");
  CHECK(backward_filter["trunk"] == "winograd");
  CHECK(forward["generator tail"] == "column_sum");
  // Without AVX-512 its border is too wide for oneDNN's direct kernels.
  const std::set<std::string> tail_gradient = {"onednn", "bordered"};
  CHECK(tail_gradient.count(backward_data["generator tail"]) == 1);
  CHECK(backward_data["first of discriminator and VGG"] == "column_sum");
  CHECK(backward_filter["generator head"] == "onednn");
}

TEST_CASE("no op of the cpu table is left to the reference but small ones", "[cpu][selection]") {
  const std::set<std::string> small = {"bce_with_logits/f32", "bce_with_logits/bf16"};
  kernels::for_each_op(cpu::table(), [&](const auto& op) {
    INFO(op.name() << ": " << op.variant_names());
    REQUIRE(!op.variants().empty());
    CHECK((op.variants().front().name == std::string("reference")) ==
          (small.count(op.name()) == 1));
  });
}

TEST_CASE("a convolution with an activation runs no reference loop", "[cpu][selection]") {
  Machine machine;
  for (const Activation activation : {Activation::None, Activation::Relu, Activation::LeakyRelu}) {
    const Conv2dActivationProblem d{{1, 6, 6, 16, 16, 3, 3, 1, 1}, activation, 0.2f};
    std::vector<std::string> ran;
    kernels::set_trace(machine.ctx, [&](const char* op, const char* variant, const std::string&) {
      ran.push_back(std::string(op) + " " + variant);
    });
    const auto x = numbers(d.conv.x_count(), "x"), w = numbers(d.conv.w_count(), "w");
    auto y = poisoned(d.conv.y_count());
    machine.f32.conv2d_activation_forward(machine.ctx, d, x.data(), w.data(), nullptr, y.data());
    INFO(d.key());
    CHECK(!ran.empty());
    for (const std::string& call : ran) CHECK(call.find("reference") == std::string::npos);
    if (activation == Activation::LeakyRelu)
      CHECK(ran == std::vector<std::string>{"conv2d_activation_forward/f32 onednn"});
  }
}

TEST_CASE("a NaN passes convolution and activation", "[cpu][activation]") {
  Machine machine;
  for (const Activation activation : {Activation::None, Activation::Relu, Activation::LeakyRelu}) {
    const Conv2dActivationProblem d{{1, 4, 4, 16, 16, 3, 3, 1, 1}, activation, 0.2f};
    INFO(d.key());
    auto x = numbers(d.conv.x_count(), "x");
    const auto w = numbers(d.conv.w_count(), "w");
    x[0] = std::numeric_limits<float>::quiet_NaN();  // pixel (0,0): seen by outputs (0..1, 0..1)
    std::vector<float> y(static_cast<std::size_t>(d.conv.y_count()));
    machine.f32.conv2d_activation_forward(machine.ctx, d, x.data(), w.data(), nullptr, y.data());
    for (Index p = 0; p < 4; ++p)
      for (Index q = 0; q < 4; ++q)
        CHECK(std::isnan(y[static_cast<std::size_t>((p * 4 + q) * 16 + 5)]) == (p < 2 && q < 2));
  }
}

TEST_CASE("a packed filter is kept until its version changes or it is forgotten", "[cpu][filter]") {
  Machine machine;
  const std::uint64_t id = 77;
  // Column form, plain form, and a backward pass with the turned one.
  for (const Conv2dProblem& d :
       {Conv2dProblem{1, 12, 12, 64, 3, 9, 9, 1, 4}, Conv2dProblem{1, 6, 6, 32, 32, 3, 3, 1, 1}}) {
    INFO(d.key());
    const auto x = numbers(d.x_count(), "x"), dy = numbers(d.y_count(), "dy");
    auto w = numbers(d.w_count(), "w");
    const auto forward = [&](std::uint64_t version) {
      auto y = poisoned(d.y_count());
      machine.f32.conv2d_forward(machine.ctx, d, x.data(), {w.data(), id, version}, nullptr,
                                 y.data());
      return y;
    };
    const auto backward = [&](std::uint64_t version) {
      auto dx = poisoned(d.x_count());
      machine.f32.conv2d_backward_data(machine.ctx, d, dy.data(), {w.data(), id, version},
                                       dx.data());
      return dx;
    };
    const auto y = forward(1), dx = backward(1);
    for (float& v : w) v += 1.0f;
    // Nothing was announced, so the packed copies still serve: that is what the version is for.
    CHECK(same_bits(forward(1), y));
    CHECK(same_bits(backward(1), dx));
    const auto new_y = forward(2), new_dx = backward(2);
    CHECK(!same_bits(new_y, y));
    CHECK(!same_bits(new_dx, dx));
    // Both directions were refreshed each on its own, and agree with an uncached filter.
    auto plain_y = poisoned(d.y_count()), plain_dx = poisoned(d.x_count());
    machine.f32.conv2d_forward(machine.ctx, d, x.data(), w.data(), nullptr, plain_y.data());
    machine.f32.conv2d_backward_data(machine.ctx, d, dy.data(), w.data(), plain_dx.data());
    CHECK(same_bits(new_y, plain_y));
    CHECK(same_bits(new_dx, plain_dx));
    // A storage of the same id and version that is another one.
    machine.ctx.forget(id);
    for (float& v : w) v -= 2.0f;
    CHECK(!same_bits(forward(2), new_y));
    CHECK(!same_bits(backward(2), new_dx));
    machine.ctx.forget(id);
  }
}

TEST_CASE("equal thread counts give equal bits, and every thread count the right ones",
          "[cpu][threads]") {
  const Conv2dProblem trunk{3, 11, 13, 64, 64, 3, 3, 1, 1}, tail{2, 21, 19, 64, 3, 9, 9, 1, 4};
  const NormProblem norm{.rows = 3 * 11 * 13, .c = 64};
  const ChannelProblem prelu{5 * 1000, 48};
  const DenseProblem dense{5, 3000, 70};
  using Results = std::vector<std::vector<float>>;
  const auto run_all = [&](int threads, const kernels::KernelTable& table) {
    DeviceInfo info;
    info.threads = cpu::set_threads(threads);
    Context ctx(table, info);
    const TypedOps<float>& ops = table.f32;
    Results all;
    const auto out = [&](Index count) {
      all.push_back(poisoned(count));
      return all.back().data();
    };
    for (const Conv2dProblem& d : {trunk, tail}) {
      const auto x = numbers(d.x_count(), "x"), w = numbers(d.w_count(), "w", 0.1f),
                 dy = numbers(d.y_count(), "dy"), bias = numbers(d.k, "bias");
      ops.conv2d_forward(ctx, d, x.data(), w.data(), bias.data(), out(d.y_count()));
      ops.conv2d_backward_data(ctx, d, dy.data(), w.data(), out(d.x_count()));
      std::vector<float> db = poisoned(d.k);
      ops.conv2d_backward_filter(ctx, d, x.data(), dy.data(), out(d.w_count()), db.data());
      all.push_back(db);
    }
    {
      const auto x = numbers(norm.count(), "x"), dy = numbers(norm.count(), "dy"),
                 gamma = numbers(norm.c, "gamma"), beta = numbers(norm.c, "beta");
      std::vector<float> mean = poisoned(norm.c), inv_std = mean, dgamma = mean, dbeta = mean;
      ops.batchnorm_forward(ctx, norm, x.data(), gamma.data(), beta.data(), out(norm.count()),
                            mean.data(), inv_std.data(), nullptr, nullptr);
      ops.batchnorm_backward(ctx, norm, x.data(), dy.data(), gamma.data(), mean.data(),
                             inv_std.data(), out(norm.count()), dgamma.data(), dbeta.data());
      for (const auto& v : {mean, inv_std, dgamma, dbeta}) all.push_back(v);
    }
    {
      const auto x = numbers(prelu.count(), "x"), dy = numbers(prelu.count(), "dy"),
                 slope = numbers(prelu.c, "slope");
      std::vector<float> dslope = poisoned(prelu.c);
      ops.prelu_backward(ctx, prelu, x.data(), dy.data(), slope.data(), out(prelu.count()),
                         dslope.data());
      all.push_back(dslope);
    }
    {
      const auto x = numbers(dense.n * dense.in, "x"), w = numbers(dense.out * dense.in, "w"),
                 dy = numbers(dense.n * dense.out, "dy");
      ops.dense_forward(ctx, dense, x.data(), w.data(), nullptr, out(dense.n * dense.out));
      ops.dense_backward_data(ctx, dense, dy.data(), w.data(), out(dense.n * dense.in));
      ops.dense_backward_filter(ctx, dense, x.data(), dy.data(), out(dense.out * dense.in),
                                nullptr);
    }
    {
      const auto x = numbers(100000, "x"), t = numbers(100000, "t");
      ops.mse_loss(ctx, {.count = 100000, .scale = 1e-5f}, x.data(), t.data(), out(1), nullptr);
      ops.reduce(ctx, {.count = 100000, .reduction = kernels::Reduction::SumSquares}, x.data(),
                 out(1));
    }
    cpu::set_threads(2);
    return all;
  };
  const Results oracle = run_all(1, kernels::reference::table());
  for (const int threads : {1, 2, 3, 5}) {
    const Results first = run_all(threads, cpu::table()), second = run_all(threads, cpu::table());
    REQUIRE(first.size() == oracle.size());
    for (std::size_t i = 0; i < first.size(); ++i) {
      INFO("output " << i << " with " << threads << " threads");
      CHECK(same_bits(first[i], second[i]));
      double largest = 0.0, error = 0.0;
      for (std::size_t j = 0; j < first[i].size(); ++j) {
        const double a = first[i][j], b = oracle[i][j];
        largest = std::max(largest, std::fabs(b));
        if (!(std::fabs(a - b) <= error)) error = std::fabs(a - b);  // a NaN stays
      }
      CHECK(error <= 1e-5 * largest);
    }
  }
}

TEST_CASE("set_threads counts processors for 0 and refuses less", "[cpu][threads]") {
  CHECK(cpu::set_threads(3) == 3);
  CHECK(cpu::set_threads(0) >= 1);
  CHECK_THROWS_AS(cpu::set_threads(-1), Error);
  CHECK(cpu::set_threads(2) == 2);
}

TEST_CASE("convolutions of real layers are right at sampled places", "[cpu][conv2d]") {
  Machine machine;
  constexpr int kSamples = 150;
  for (const auto& [name, d] : real_layers(2)) {
    INFO(name << " " << d.key());
    Generator generator(seed_of(d.key()));
    const auto x = numbers(d.x_count(), "x"), w = numbers(d.w_count(), "w", 0.1f),
               dy = numbers(d.y_count(), "dy");
    auto y = poisoned(d.y_count()), dx = poisoned(d.x_count()), dw = poisoned(d.w_count()),
         db = poisoned(d.k);
    machine.f32.conv2d_forward(machine.ctx, d, x.data(), w.data(), nullptr, y.data());
    machine.f32.conv2d_backward_data(machine.ctx, d, dy.data(), w.data(), dx.data());
    machine.f32.conv2d_backward_filter(machine.ctx, d, x.data(), dy.data(), dw.data(), db.data());
    int wrong = 0;
    for (int i = 0; i < kSamples; ++i) {
      const Index n = pick(generator, d.n), p = pick(generator, d.p()), q = pick(generator, d.q()),
                  k = pick(generator, d.k);
      wrong += !forward_at(d, x.data(), w.data(), n, p, q, k)
                    .takes(y[static_cast<std::size_t>(((n * d.p() + p) * d.q() + q) * d.k + k)]);
      const Index h = pick(generator, d.h), v = pick(generator, d.w), c = pick(generator, d.c);
      wrong += !backward_data_at(d, dy.data(), w.data(), n, h, v, c)
                    .takes(dx[static_cast<std::size_t>(((n * d.h + h) * d.w + v) * d.c + c)]);
      if (i % 5 != 0) continue;  // these sums are long
      const Index r = pick(generator, d.r), s = pick(generator, d.s);
      wrong += !backward_filter_at(d, x.data(), dy.data(), k, r, s, c)
                    .takes(dw[static_cast<std::size_t>(((k * d.r + r) * d.s + s) * d.c + c)]);
      Sum bias;
      for (Index j = 0; j < d.n * d.p() * d.q(); ++j)
        bias.add(dy[static_cast<std::size_t>(j * d.k + k)], 1.0f);
      wrong += !bias.takes(db[static_cast<std::size_t>(k)]);
    }
    CHECK(wrong == 0);
    const auto whole = [](const std::vector<float>& values) {
      return std::all_of(values.begin(), values.end(),
                         [](float value) { return std::isfinite(value); });
    };
    CHECK((whole(y) && whole(dx) && whole(dw) && whole(db)));
  }
}

TEST_CASE("winograd handles odd sizes, every padding and partial blocks of channels exactly",
          "[cpu][conv2d][winograd]") {
  // By name, since not every one of these would choose it. Small integers: no rounding anywhere.
  Machine machine;
  const auto variant_of = [](const auto& op) {
    for (const auto& variant : op.variants())
      if (variant.name == std::string("winograd")) return variant;
    throw Error("no variant winograd");
  };
  const auto forward = variant_of(machine.f32.conv2d_forward);
  const auto backward_data = variant_of(machine.f32.conv2d_backward_data);
  const auto backward_filter = variant_of(machine.f32.conv2d_backward_filter);
  const auto& oracle = kernels::reference::table().f32;
  Context plain(kernels::reference::table(), {});
  const auto integers = [](Index count, const std::string& name) {
    const Values values = fill_values<float>(Fill::Integers, count, "winograd", name);
    return std::vector<float>(values.begin(), values.end());
  };
  int cases = 0;
  for (const Conv2dProblem& d :
       {Conv2dProblem{1, 1, 1, 16, 16, 3, 3, 1, 1}, Conv2dProblem{2, 3, 4, 16, 32, 3, 3, 1, 0},
        Conv2dProblem{1, 5, 5, 32, 16, 3, 3, 1, 2}, Conv2dProblem{3, 7, 9, 48, 80, 3, 3, 1, 1},
        Conv2dProblem{1, 1, 13, 80, 144, 3, 3, 1, 2}, Conv2dProblem{2, 21, 17, 64, 16, 3, 3, 1, 1},
        Conv2dProblem{1, 2, 1, 16, 16, 3, 3, 1, 1}}) {
    // Where registers are too short for the tiles no problem fits.
    if (!backward_data.supports(d, machine.ctx.device())) continue;
    INFO(d.key());
    ++cases;
    const auto x = integers(d.x_count(), "x"), w = integers(d.w_count(), "w"),
               dy = integers(d.y_count(), "dy"), bias = integers(d.k, "bias");
    auto y = poisoned(d.y_count()), dx = poisoned(d.x_count()), dw = poisoned(d.w_count()),
         db = poisoned(d.k);
    auto want_y = y, want_dx = dx, want_dw = dw, want_db = db;
    forward.run(machine.ctx, d, x.data(), w.data(), bias.data(), y.data());
    backward_data.run(machine.ctx, d, dy.data(), w.data(), dx.data());
    backward_filter.run(machine.ctx, d, x.data(), dy.data(), dw.data(), db.data());
    oracle.conv2d_forward(plain, d, x.data(), w.data(), bias.data(), want_y.data());
    oracle.conv2d_backward_data(plain, d, dy.data(), w.data(), want_dx.data());
    oracle.conv2d_backward_filter(plain, d, x.data(), dy.data(), want_dw.data(), want_db.data());
    CHECK(y == want_y);
    CHECK(dx == want_dx);
    CHECK(dw == want_dw);
    CHECK(db == want_db);
  }
  if (cases == 0) WARN("this build's registers are too short for winograd: nothing was tested");
}

TEST_CASE("an output pixel has the same bits wherever its window lies", "[cpu][conv2d][tiles]") {
  // Tiled upscaling relies on it: a tile with enough context equals the whole picture.
  Machine machine;
  for (const Conv2dProblem& whole :
       {Conv2dProblem{1, 41, 150, 3, 64, 9, 9, 1, 4}, Conv2dProblem{1, 41, 150, 64, 64, 3, 3, 1, 1},
        Conv2dProblem{1, 41, 150, 64, 256, 3, 3, 1, 1},
        Conv2dProblem{1, 41, 350, 64, 3, 9, 9, 1, 4}}) {
    const auto x = numbers(whole.x_count(), "x"), w = numbers(whole.w_count(), "w", 0.1f),
               bias = numbers(whole.k, "bias");
    auto y = poisoned(whole.y_count());
    machine.f32.conv2d_forward(machine.ctx, whole, x.data(), w.data(), bias.data(), y.data());
    struct Tile {
      Index h, w, height, width;
    };
    for (const Tile& at : {Tile{0, 0, 20, 31}, Tile{7, 13, 23, 17}, Tile{18, 1, 23, 64},
                           Tile{11, 50, 30, 100}, Tile{3, 22, 33, 97}}) {
      Conv2dProblem part = whole;
      part.h = at.height;
      part.w = at.width;
      INFO(whole.key() << " from row " << at.h << ", column " << at.w << ": " << part.key());
      std::vector<float> tile(static_cast<std::size_t>(part.x_count()));
      for (Index h = 0; h < at.height; ++h)
        std::copy_n(x.data() + ((at.h + h) * whole.w + at.w) * whole.c, at.width * whole.c,
                    tile.data() + h * at.width * whole.c);
      auto got = poisoned(part.y_count());
      machine.f32.conv2d_forward(machine.ctx, part, tile.data(), w.data(), bias.data(), got.data());
      // Rows and columns whose window does not leave the tile, or leaves the picture too.
      const Index radius = whole.r / 2;
      int different = 0;
      for (Index h = 0; h < at.height; ++h)
        for (Index v = 0; v < at.width; ++v) {
          const bool inside = (h >= radius || at.h == 0) && (v >= radius || at.w == 0) &&
                              (h + radius < at.height || at.h + at.height == whole.h) &&
                              (v + radius < at.width || at.w + at.width == whole.w);
          if (!inside) continue;
          different += std::memcmp(got.data() + (h * at.width + v) * whole.k,
                                   y.data() + ((at.h + h) * whole.w + at.w + v) * whole.k,
                                   static_cast<std::size_t>(whole.k) * sizeof(float)) != 0;
        }
      CHECK(different == 0);
    }
  }
}

TEST_CASE("a step allocates workspace once", "[cpu][workspace]") {
  Machine machine;
  const auto run = [&] {
    for (const auto& [name, d] : real_layers(1)) {
      const auto x = numbers(d.x_count(), "x"), dy = numbers(d.y_count(), "dy"),
                 w = numbers(d.w_count(), "w");
      auto y = poisoned(d.y_count()), dx = poisoned(d.x_count()), dw = poisoned(d.w_count());
      machine.f32.conv2d_forward(machine.ctx, d, x.data(), {w.data(), 5, 1}, nullptr, y.data());
      machine.f32.conv2d_backward_data(machine.ctx, d, dy.data(), {w.data(), 5, 1}, dx.data());
      machine.f32.conv2d_backward_filter(machine.ctx, d, x.data(), dy.data(), dw.data(), nullptr);
      machine.ctx.forget(5);
    }
  };
  run();
  run();  // chunks are merged into one at the second pass
  const std::size_t after = machine.ctx.workspace_bytes();
  run();
  CHECK(machine.ctx.workspace_bytes() == after);
}

}  // namespace subpix::tests
