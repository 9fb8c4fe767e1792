#include <limits>

#include "kernels/reference/elementwise.h"
#include "tests/support/catch.h"
#include "tests/support/fill.h"

namespace subpix::tests {

namespace {

namespace reference = kernels::reference;
using kernels::ReduceProblem;
using kernels::Reduction;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

double reduced(Reduction reduction, const Values& x) {
  double y = kNan;
  reference::reduce<double>({static_cast<Index>(x.size()), reduction}, x.data(), &y);
  return y;
}

}  // namespace

TEST_CASE("elementwise ops by hand", "[kernels][elementwise]") {
  const Values a = {1, -2, 3}, b = {10, 20, 30};
  Values y(3);
  reference::add<double>({.count = 3}, a.data(), b.data(), y.data());
  CHECK(y == Values{11, 18, 33});
  reference::axpby<double>({.count = 3, .alpha = 2, .beta = -1}, a.data(), y.data());
  CHECK(y == Values{-9, -22, -27});
  y = {kNan, kNan, kNan};  // not read where beta is 0
  reference::axpby<double>({.count = 3, .alpha = 2, .beta = 0}, a.data(), y.data());
  CHECK(y == Values{2, -4, 6});
  const double s = 0.5;
  reference::scale<double>({.count = 3, .alpha = 4}, a.data(), &s, y.data());
  CHECK(y == Values{2, -4, 6});
  reference::scale<double>({.count = 3, .alpha = 4}, a.data(), nullptr, y.data());
  CHECK(y == Values{4, -8, 12});
  reference::fill<double>({.count = 3, .alpha = -1.5f}, y.data());
  CHECK(y == Values{-1.5, -1.5, -1.5});
}

TEST_CASE("channel_affine scales and shifts each channel", "[kernels][elementwise]") {
  const Values x = {1, 2, 3, 4}, factor = {2, 10}, shift = {1, -1};
  Values y(4);
  reference::channel_affine<double>({2, 2}, x.data(), factor.data(), shift.data(), y.data());
  CHECK(y == Values{3, 19, 7, 39});
  reference::channel_affine<double>({2, 2}, x.data(), factor.data(), nullptr, y.data());
  CHECK(y == Values{2, 20, 6, 40});
}

TEST_CASE("bytes survive the way to values and back", "[kernels][elementwise]") {
  std::vector<std::uint8_t> bytes(256), back(256);
  for (std::size_t i = 0; i < 256; ++i) bytes[i] = static_cast<std::uint8_t>(i);
  std::vector<float> values(256);
  reference::from_bytes<float>({.count = 256, .alpha = 2.0f / 255, .beta = -1}, bytes.data(),
                               values.data());
  CHECK(values[0] == -1.0f);
  CHECK(values[255] == Approx(1.0).epsilon(1e-6));
  reference::to_bytes<float>({.count = 256, .alpha = 127.5f, .beta = 127.5f}, values.data(),
                             back.data());
  CHECK(back == bytes);
}

TEST_CASE("to_bytes rounds halves up and clamps", "[kernels][elementwise]") {
  const Values x = {-kInf, -0.6, -0.5, 0.49, 0.5, 1.5, 2.5, 254.49, 254.5, 300, kInf, kNan};
  std::vector<std::uint8_t> y(x.size());
  reference::to_bytes<double>({.count = 12}, x.data(), y.data());
  CHECK(y == std::vector<std::uint8_t>{0, 0, 0, 0, 1, 2, 3, 254, 255, 255, 255, 0});
}

TEST_CASE("reduce by hand", "[kernels][reduce]") {
  const Values x = {3, -4, 1};
  CHECK(reduced(Reduction::Sum, x) == 0);
  CHECK(reduced(Reduction::SumSquares, x) == 26);
  CHECK(reduced(Reduction::MaxAbs, x) == 4);
  CHECK(reduced(Reduction::CountNonFinite, x) == 0);
  CHECK(reduced(Reduction::CountNonFinite, {kNan, 1, kInf, -kInf}) == 3);
  CHECK(reduced(Reduction::MaxAbs, {1, -kInf, 2}) == kInf);
  for (const Reduction reduction : {Reduction::Sum, Reduction::SumSquares, Reduction::MaxAbs})
    for (const Values& with_nan : {Values{kNan, 1, 5}, Values{1, kNan, 5}, Values{1, 5, kNan}})
      CHECK(std::isnan(reduced(reduction, with_nan)));
}

TEST_CASE("to_bf16 rounds to nearest, ties to even", "[kernels][cast]") {
  // Every finite bf16 and the one above it: at, just beside and exactly between them.
  for (std::uint32_t bits = 0; bits < 0x7f80; ++bits) {
    const bf16 low{static_cast<std::uint16_t>(bits)}, high{static_cast<std::uint16_t>(bits + 1)};
    const std::uint32_t middle = (bits << 16) | 0x8000u;
    const bf16 even = bits % 2 == 0 ? low : high;
    REQUIRE(to_bf16(to_float(low)).bits == low.bits);
    REQUIRE(to_bf16(std::bit_cast<float>(middle)).bits == even.bits);
    REQUIRE(to_bf16(std::bit_cast<float>(middle - 1)).bits == low.bits);
    REQUIRE(to_bf16(std::bit_cast<float>(middle + 1)).bits == high.bits);
    REQUIRE(to_bf16(-std::bit_cast<float>(middle)).bits == (even.bits | 0x8000u));
  }
  CHECK(to_bf16(std::numeric_limits<float>::infinity()).bits == 0x7f80);
  CHECK(std::isnan(to_float(to_bf16(std::numeric_limits<float>::quiet_NaN()))));
  // A NaN whose payload sits in the lower half must not turn into an infinity.
  CHECK(std::isnan(to_float(to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

}  // namespace subpix::tests
