// Tensor cores and asynchronous copies on small integers, where every sum is exact: results must be
// equal to plain loops to the bit, whatever the order, so layouts are compared without tolerance.

#include <algorithm>
#include <array>

#include "tests/sim/support.h"

namespace subpix::sim::test {
namespace {

/// w [9][cin][cout] to [9][cout][cin].
std::vector<float> swap_channels(const std::vector<float>& w) {
  std::vector<float> out(w.size());
  for (std::size_t i = 0; i < w.size(); ++i)
    out[i / 4096 * 4096 + i % 64 * 64 + i / 64 % 64] = w[i];
  return out;
}

/// a [m][k] * b [n][k]^T.
std::vector<float> product(const std::vector<float>& a, const std::vector<float>& b, std::size_t m,
                           std::size_t n, std::size_t depth) {
  std::vector<float> d(m * n);
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t l = 0; l < depth; ++l) d[i * n + j] += a[i * depth + l] * b[j * depth + l];
  return d;
}

std::vector<float> rounded(const std::vector<float>& v) {
  std::vector<float> out;
  for (const bf16 x : to_bf16(v)) out.push_back(to_float(x));
  return out;
}

struct Conv {
  int n, h, wd;
  std::vector<float> x, w, y;
};
Conv make_conv(int n, int h, int wd) {
  Conv c{n,
         h,
         wd,
         integers(static_cast<std::size_t>(n * h * wd) * 64, 11, 2),
         integers(9 * 64 * 64, 12, 2),
         {}};
  c.y = conv3x3(c.x, c.w, n, h, wd, 64, 64);
  return c;
}

}  // namespace

TEST_CASE("4-, 8- and 16-byte copies, whole and cut off") {
  const std::vector<float> x = integers(128, 10);
  Buffer<float> in(x), out(128);
  for (const int valid : {128, 77, 0})
    under_schedules([&] {
      k::small_copies(in.data(), out.data(), valid);
      std::vector<float> want = x;
      for (std::size_t i = 0; i < 128; ++i) {
        // A copy is valid or not by its first element.
        const std::size_t piece = i / 4 % 3 == 0 ? 4 : i / 4 % 3 == 1 ? 2 : 1;
        if (i / piece * piece >= static_cast<std::size_t>(valid)) want[i] = 0;
      }
      check_equal(out.read(), want);
    });
}

TEST_CASE("mma fragments of bf16 and tf32") {
  const std::vector<float> a = integers(32 * 16, 20), b = integers(16 * 16, 21);
  Buffer<bf16> in_a(to_bf16(a)), in_b(to_bf16(b));
  Buffer<float> out(32 * 16);
  k::product_tiles(in_a.data(), in_b.data(), out.data());
  check_equal(out.read(), product(a, b, 32, 16, 16));

  const std::vector<float> fa = integers(16 * 8, 22), fb = integers(8 * 8, 23);
  std::vector<float> transposed(64);
  for (std::size_t i = 0; i < 64; ++i) transposed[i % 8 * 8 + i / 8] = fb[i];
  Buffer<float> ta(fa), tb(fb), tf(16 * 8);
  k::product_tf32(ta.data(), tb.data(), tf.data());
  check_equal(tf.read(), product(fa, transposed, 16, 8, 8));
}

TEST_CASE("tf32 operands lose their low 13 bits") {
  std::vector<float> a(16 * 8, 0.0f), b(8 * 8, 0.0f), want(16 * 8, 0.0f);
  a[0] = 1.0f + 0x1p-10f + 0x1p-11f;  // the last bit that counts, and one below it
  b[0] = 1.0f;
  want[0] = 1.0f + 0x1p-10f;
  Buffer<float> in_a(a), in_b(b), out(16 * 8);
  k::product_tf32(in_a.data(), in_b.data(), out.data());
  check_equal(out.read(), want);
}

TEST_CASE("convolution with cp.async, ldmatrix and mma under every schedule") {
  for (const auto& [n, h, wd] : {std::array{1, 5, 7}, std::array{2, 9, 8}}) {
    const Conv c = make_conv(n, h, wd);
    Buffer<bf16> x(to_bf16(c.x)), w(to_bf16(swap_channels(c.w))), y(c.y.size());
    under_schedules(
        [&] {
          k::conv_mma(Bug::None, x.data(), w.data(), y.data(), c.n, c.h, c.wd);
          std::vector<float> got;
          for (const bf16 v : y.read()) got.push_back(to_float(v));
          check_equal(got, rounded(c.y));
        },
        4);
  }
}

TEST_CASE("TMA, mbarriers and wgmma in a ring of stages under every schedule") {
  const std::vector<float> a = integers(100 * 576, 30), b = integers(64 * 576, 31);
  Buffer<bf16> in_a(to_bf16(a)), in_b(to_bf16(b));
  Buffer<float> out(100 * 64);
  const std::vector<float> want = product(a, b, 100, 64, 576);
  under_schedules([&] {
    k::gemm_wgmma(Bug::None, in_a.data(), in_b.data(), out.data(), 100, 576);
    check_equal(out.read(), want);
    CHECK(stats().wgmma == 2 * 9 * 4);
    CHECK(stats().bulk_copies == 2 * 9 * 2);
    CHECK(stats().bulk_bytes == 2 * 9 * 2 * 8192);
  });
}

TEST_CASE("convolution through TMA im2col") {
  for (const auto& [n, h, wd] : {std::array{2, 5, 7}, std::array{1, 9, 8}}) {
    const Conv c = make_conv(n, h, wd);
    std::vector<float> w(c.w.size());  // [cout][tap*64 + cin]
    for (std::size_t i = 0; i < w.size(); ++i)
      w[i % 64 * 576 + i / 4096 * 64 + i / 64 % 64] = c.w[i];
    Buffer<bf16> x(to_bf16(c.x)), filter(to_bf16(w));
    Buffer<float> y(c.y.size());
    under_schedules(
        [&] {
          k::conv_im2col(x.data(), filter.data(), y.data(), c.n, c.h, c.wd);
          check_equal(y.read(), c.y);
        },
        3);
  }
}

TEST_CASE("a patch in planes serves all taps, forward and for the weight gradient") {
  const Conv c = make_conv(2, 7, 24);
  std::vector<float> w(c.w.size());  // [tap][cin/8][cout][8]
  for (std::size_t i = 0; i < w.size(); ++i) {
    const std::size_t cin = i / 64 % 64;
    w[i / 4096 * 4096 + cin / 8 * 512 + i % 64 * 8 + cin % 8] = c.w[i];
  }
  Buffer<bf16> x(to_bf16(c.x)), planes(to_bf16(w));
  Buffer<float> y(c.y.size());
  under_schedules(
      [&] {
        k::strip_forward(Bug::None, x.data(), planes.data(), y.data(), 2, 7);
        check_equal(y.read(), c.y);
        CHECK(stats().wgmma == 2 * 3 * 36);
      },
      3);

  const std::vector<float> dy = integers(c.x.size(), 13, 2);
  std::vector<float> dw(2 * 9 * 64 * 64);
  for (int pixel = 0; pixel < 2 * 7 * 24; ++pixel)
    for (int tap = 0; tap < 9; ++tap) {
      const int p = pixel / 24 % 7 + tap / 3 - 1, q = pixel % 24 + tap % 3 - 1;
      if (p < 0 || p >= 7 || q < 0 || q >= 24) continue;
      const float* in =
          &c.x[static_cast<std::size_t>(pixel + (tap / 3 - 1) * 24 + tap % 3 - 1) * 64];
      float* to = &dw[static_cast<std::size_t>(pixel / 168 * 9 + tap) * 4096];
      for (std::size_t o = 0; o < 64; ++o)
        for (std::size_t i = 0; i < 64; ++i)
          to[o * 64 + i] += dy[static_cast<std::size_t>(pixel) * 64 + o] * in[i];
    }
  Buffer<bf16> in_dy(to_bf16(dy));
  Buffer<float> out(dw.size());
  under_schedules(
      [&] {
        k::strip_backward_filter(x.data(), in_dy.data(), out.data(), 2, 7);
        check_equal(out.read(), dw);
      },
      2);
}

TEST_CASE("wgmma in every operand layout") {
  std::vector<k::WgmmaLayout> layouts;
  for (const int swizzle : {0, 32, 64, 128})
    for (const bool mn_a : {false, true})
      for (const bool mn_b : {false, true}) layouts.push_back({64, swizzle, mn_a, mn_b, false});
  for (const int swizzle : {0, 128})
    for (const bool mn_b : {false, true}) layouts.push_back({64, swizzle, false, mn_b, true});
  for (const int n : {8, 16, 24, 32, 48, 64, 72, 80, 96, 128, 144, 168, 192, 256})
    for (const bool registers : {false, true}) layouts.push_back({n, 128, false, false, registers});
  for (const k::WgmmaLayout& l : layouts) {
    INFO("n " << l.n << ", swizzle " << l.swizzle << ", MN-major " << l.mn_major_a << l.mn_major_b
              << ", A in registers " << l.a_registers);
    REQUIRE(k::wgmma_supported(l));
    const auto n = static_cast<std::size_t>(l.n);
    const std::vector<float> a = integers(64 * 64, 40), b = integers(n * 64, 41);
    const std::vector<float> before = integers(64 * n, 42);
    Buffer<bf16> in_a(to_bf16(a)), in_b(to_bf16(b));
    Buffer<float> d(before);
    std::vector<float> want = product(a, b, 64, n, 64);
    k::wgmma_product(l, in_a.data(), in_b.data(), d.data(), false);
    check_equal(d.read(), want);
    d.write(before);
    for (std::size_t i = 0; i < want.size(); ++i) want[i] += before[i];
    k::wgmma_product(l, in_a.data(), in_b.data(), d.data(), true);
    check_equal(d.read(), want);
  }
}

TEST_CASE("wgmma groups may stay pending") {
  const std::vector<float> a = integers(64 * 64, 43), b = integers(64 * 64, 44);
  std::vector<float> want = product(a, b, 64, 64, 64);
  const std::vector<float> second = product(a, a, 64, 64, 64);
  want.insert(want.end(), second.begin(), second.end());
  Buffer<bf16> in_a(to_bf16(a)), in_b(to_bf16(b));
  Buffer<float> d(2 * 64 * 64);
  under_schedules([&] {
    k::wgmma_groups(in_a.data(), in_b.data(), d.data());
    check_equal(d.read(), want);
  });
}

TEST_CASE("TMA stores tiles") {
  Buffer<float> y(32 * 96);
  std::vector<float> want(32 * 96);
  for (std::size_t i = 0; i < want.size(); ++i)
    want[i] = static_cast<float>(i / 96 * 32 + i % 32) + 0.5f;
  under_schedules(
      [&] {
        k::tma_store_tiles(Bug::None, y.data(), 0.5f, 3);
        check_equal(y.read(), want);
        CHECK(stats().bulk_stores == 3);
      },
      3);
}

TEST_CASE("TMA boxes of every rank, swizzle and position") {
  const std::vector<k::TmaBox> boxes{
      {1, {100}, {32}, {8}, 4, 0},
      {1, {96}, {32}, {80}, 4, 0},             // past the end
      {2, {24, 10}, {16, 4}, {8, 8}, 4, 0},    // past both ends
      {2, {24, 10}, {16, 4}, {-8, -1}, 4, 0},  // before both
      {2, {64, 9}, {64, 8}, {0, 1}, 2, 128},
      {2, {64, 9}, {32, 8}, {32, 1}, 2, 64},
      {2, {64, 9}, {16, 8}, {16, 2}, 2, 32},
      {2, {64, 9}, {128, 8}, {-3, 0}, 1, 128},
      {3, {8, 7, 5}, {8, 4, 3}, {0, 5, 3}, 2, 0},
      {4, {8, 6, 5, 3}, {8, 4, 2, 2}, {0, -1, 4, 1}, 2, 0},
      {5, {8, 4, 3, 3, 2}, {8, 2, 2, 2, 2}, {0, 3, -1, 1, 0}, 2, 0},
  };
  for (const k::TmaBox& b : boxes) {
    INFO("rank " << b.rank << ", swizzle " << b.swizzle << ", corner " << b.corner[0] << " "
                 << b.corner[1]);
    std::size_t count = 1, box = 1;
    for (int i = 0; i < b.rank; ++i) {
      count *= static_cast<std::size_t>(b.dims[i]);
      box *= static_cast<std::size_t>(b.box[i]);
    }
    const auto e = static_cast<std::size_t>(b.element);
    std::vector<std::uint8_t> x(count * e), want(box * e), y(count * e, 0);
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = static_cast<std::uint8_t>(i * 37 + i / 256 + 1);
    for (std::size_t i = 0; i < box; ++i) {
      std::size_t rest = i, from = 0, stride = 1;
      bool inside = true;
      for (int d = 0; d < b.rank; ++d) {
        const int at = b.corner[d] + static_cast<int>(rest % static_cast<std::size_t>(b.box[d]));
        rest /= static_cast<std::size_t>(b.box[d]);
        inside = inside && at >= 0 && at < b.dims[d];
        from += static_cast<std::size_t>(at) * stride;
        stride *= static_cast<std::size_t>(b.dims[d]);
      }
      // Chunks of 16 bytes are permuted within each line of 128.
      std::size_t to = i * e;
      if (b.swizzle) to ^= (to >> 7 & static_cast<std::size_t>(b.swizzle / 16 - 1)) << 4;
      if (inside) std::copy_n(&x[from * e], e, &want[to]);
      if (inside) std::copy_n(&x[from * e], e, &y[from * e]);
    }
    Buffer<std::uint8_t> in(x), out(want.size()), back(std::vector<std::uint8_t>(x.size(), 0));
    k::tma_round_trip(b, in.data(), out.data(), back.data());
    CHECK(out.read() == want);
    CHECK(back.read() == y);
  }
}

TEST_CASE("bulk copies") {
  const std::vector<float> x = integers(1000, 50);
  Buffer<float> in(x), out(1000);
  under_schedules([&] {
    k::bulk_copy(in.data(), out.data(), 1000);
    check_equal(out.read(), x);
  });
}

TEST_CASE("tensor maps beyond the documented limits are refused") {
  Buffer<float> x(1024), out(64), y(1024);
  const auto refused = [&](const k::TmaBox& b, const std::string& why) {
    CHECK_THROWS_WITH(k::tma_round_trip(b, x.data(), out.data(), y.data()), Catch::Contains(why));
  };
  refused({2, {10, 4}, {8, 4}, {0, 0}, 4, 0}, "must be a multiple of 16");
  refused({2, {16, 4}, {6, 4}, {0, 0}, 4, 0}, "multiple of 16 bytes");
  refused({2, {64, 4}, {64, 1}, {0, 0}, 4, 128}, "wide");
  refused({2, {16, 400}, {4, 300}, {0, 0}, 4, 0}, "1 to 256");
}

}  // namespace subpix::sim::test
