#include <array>
#include <numeric>
#include <set>

#include "tests/sim/support.h"

namespace subpix::sim::test {

TEST_CASE("coordinates and sizes of a launch are CUDA's") {
  Buffer<int> out(12 * 24);
  k::coordinates(out.data());
  const std::vector<int> got = out.read();
  for (int block = 0; block < 12; ++block)
    for (int thread = 0; thread < 24; ++thread) {
      const int want = block % 3 + 10 * (block / 3 % 2) + 100 * (block / 6) + 1000 * (thread % 4) +
                       10000 * (thread / 4 % 3) + 100000 * (thread / 12) + 1000000;
      REQUIRE(got[static_cast<std::size_t>(block * 24 + thread)] == want);
    }
}

TEST_CASE("a block reduction is right under every schedule") {
  const std::vector<float> x = integers(10007, 1);
  Buffer<float> in(x), out(1);
  under_schedules([&] {
    k::device_fill(out.data(), 0, 4);
    k::block_sum(Bug::None, in.data(), 10007, out.data(), 7);
    check_equal(out.read(), {std::accumulate(x.begin(), x.end(), 0.0f)});
  });
}

TEST_CASE("shuffles, votes and sub-warp masks are right under every schedule") {
  const std::vector<float> x = integers(64, 2);
  Buffer<float> in(x), out(7 * 64);
  std::vector<float> want(7 * 64);
  for (std::size_t t = 0; t < 64; ++t) {
    const std::size_t warp = t / 32 * 32, half = t / 16 * 16;
    float scan = 0, group = 0;
    unsigned positive = 0;
    for (std::size_t i = warp; i <= t; ++i) scan += x[i];
    for (std::size_t i = half; i < half + 16; ++i) group += x[i];
    for (std::size_t i = warp; i < warp + 32; ++i) positive |= (x[i] > 0 ? 1u : 0u) << (i - warp);
    want[t] = scan;
    want[64 + t] = group;
    want[128 + t] = group;
    want[192 + t] = static_cast<float>(__builtin_popcount(positive));
    want[256 + t] = t < 32 ? 2.0f : 3.0f;
    want[320 + t] = static_cast<float>(__builtin_ffs(static_cast<int>(positive)));
    want[384 + t] = static_cast<float>(positive ? __builtin_clz(positive) : 32);
  }
  under_schedules([&] {
    k::warp_functions(in.data(), out.data());
    check_equal(out.read(), want);
  });
}

TEST_CASE("atomics are right under every schedule") {
  Buffer<int> out(6);
  under_schedules([&] {
    out.write({0, 0, 1000, 7, 0, 0});
    k::atomics(out.data());
    CHECK(out.read() == std::vector<int>{95 * 96 / 2, 63, 5, 7, 2 * 96, 96});
    CHECK(stats().atomics >= 5 * 96 + 96);
  });
}

TEST_CASE("named barriers hand data between warps under every schedule") {
  Buffer<float> out(5 * 64);
  std::vector<float> want(5 * 64);
  for (std::size_t i = 0; i < want.size(); ++i) want[i] = static_cast<float>(i / 64 * 100 + i % 32);
  under_schedules([&] {
    k::named_barriers(5, out.data());
    check_equal(out.read(), want);
  });
}

TEST_CASE("the last-block pattern is right under every schedule") {
  const std::vector<float> x = integers(9 * 64, 3);
  Buffer<float> in(x), scratch(10), out(1);
  under_schedules([&] {
    k::device_fill(scratch.data(), 0, 40);
    k::device_fill(out.data(), 0, 4);
    k::last_block_sum(Bug::None, in.data(), scratch.data(), out.data(), 9);
    check_equal(out.read(), {std::accumulate(x.begin(), x.end(), 0.0f)});
  });
}

TEST_CASE("neighbouring bytes and halves of a word may be written by different threads") {
  std::vector<std::uint8_t> x(1000);
  std::iota(x.begin(), x.end(), std::uint8_t{0});
  const std::vector<bf16> a = to_bf16(integers(1000, 4));
  Buffer<std::uint8_t> in(x), out(1000);
  Buffer<bf16> in_b(a), out_b(1000);
  under_schedules([&] {
    k::copy_bytes(in.data(), out.data(), in_b.data(), out_b.data(), 1000);
    CHECK(out.read() == x);
    const std::vector<bf16> b = out_b.read();
    CHECK(std::memcmp(b.data(), a.data(), 2000) == 0);
  });
}

TEST_CASE("builtin mathematics") {
  Buffer<float> in(std::vector<float>{4.0f, 0.5f}), out(8);
  k::mathematics(in.data(), out.data());
  const std::vector<float> got = out.read();
  CHECK(got[0] == Approx(0.5 + std::exp(0.5) + std::log(4.0)));
  CHECK(got[1] == 3.0f + 8.0f + 2.0f);
  CHECK(got[2] == 2.0f + 3.5f);
  CHECK(got[3] == 4.5f);
  CHECK(got[4] == 3.0f + 3.0f + 2.0f);
  CHECK(got[5] == 4.0f + 4.0f + 6.0f);
  CHECK(got[6] == 1.0f);
  CHECK(std::abs(got[7]) < 1e-15f);
}

TEST_CASE("cooperative grids and own grid barriers are right under every schedule") {
  std::vector<float> x(1000), want(1000);
  std::iota(x.begin(), x.end(), 0.0f);
  for (std::size_t i = 0; i < 1000; ++i) want[i] = static_cast<float>(1000 - i);
  Buffer<float> in(1000), out(1000);
  Buffer<std::uint32_t> counter(1);
  under_schedules([&] {
    in.write(x);
    k::reverse_cooperative(in.data(), out.data(), 1000);
    check_equal(out.read(), want);
    in.write(x);
    k::device_fill(counter.data(), 0, 4);
    k::reverse_counter(Bug::None, in.data(), out.data(), counter.data(), 1000);
    check_equal(out.read(), want);
  });
}

TEST_CASE("clusters share memory under every schedule") {
  const std::vector<float> x = integers(3 * 256, 5);
  Buffer<float> in(x), out(3);
  std::vector<float> want(3);
  for (std::size_t i = 0; i < x.size(); ++i) want[i / 256] += x[i];
  under_schedules([&] {
    k::cluster_sum(Bug::None, in.data(), out.data(), 3);
    check_equal(out.read(), want);
  });
}

TEST_CASE("tiled fp32 convolution is right under every schedule") {
  const std::array<std::array<int, 3>, 2> shapes{{{1, 5, 7}, {2, 8, 9}}};
  for (const auto& [n, h, wd] : shapes) {
    const auto pixels = static_cast<std::size_t>(n * h * wd);
    const std::vector<float> x = integers(pixels * 16, 6), w = integers(9 * 16 * 64, 7);
    const std::vector<float> want = conv3x3(x, w, n, h, wd, 16, 64);
    Buffer<float> in(x), filter(w), bias(std::vector<float>(64, 0.0f)), out(pixels * 64);
    under_schedules([&, n = n, h = h, wd = wd] {
      k::conv_fp32(Bug::None, in.data(), filter.data(), bias.data(), out.data(), n, h, wd, 16, 64);
      check_equal(out.read(), want);
    });
  }
}

TEST_CASE("random schedules differ, equal seeds do not") {
  // Blocks add their sums in the order they run, and floating-point sums depend on the order.
  std::vector<float> x(64 * 256);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 1.0f / static_cast<float>(i + 3);
  Buffer<float> in(x), out(1);
  const auto sum = [&](std::uint64_t seed) {
    const Scope scope({.schedule = Schedule::Random, .seed = seed});
    reset_stats();
    k::device_fill(out.data(), 0, 4);
    k::block_sum(Bug::None, in.data(), static_cast<int>(x.size()), out.data(), 64);
    return out.read()[0];
  };
  std::set<float> seen;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const float first = sum(seed);
    CHECK(sum(seed) == first);
    seen.insert(first);
  }
  CHECK(seen.size() > 1);
}

}  // namespace subpix::sim::test
