#include <limits>

#include "kernels/reference/table.h"
#include "tests/support/catch.h"
#include "tests/support/compare.h"
#include "tests/support/gradcheck.h"
#include "tests/support/guarded.h"

// The checks that every kernel test rests on must themselves be able to fail.
namespace subpix::tests {

namespace {

using Catch::Matchers::Contains;
using kernels::Context;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

Expected two_by_two() { return {"y", {{"row", 2}, {"c", 2}}, {1, 2, 3, 4}, {0.1, 0.1, 0, kInf}}; }

}  // namespace

TEST_CASE("compare passes what is within its bound and nothing else", "[support]") {
  CHECK(compare({1.05, 1.95, 3, 4}, two_by_two()) == "");
  CHECK_THAT(compare({1, 2.2, 3, 4}, two_by_two()), Contains("1 of 4 elements wrong") &&
                                                        Contains("row0 c1") &&
                                                        Contains("2.2 instead of 2"));
  CHECK_THAT(compare({1, 2, 3.0000001, 4}, two_by_two()), Contains("row1 c0"));
  CHECK_THAT(compare({1, 2, 3}, two_by_two()), Contains("3 elements, expected 4"));
  CHECK(compare({-0.0}, {"y", {{"i", 1}}, {0.0}, {0.0}}) == "");
}

TEST_CASE("compare never passes NaN, infinity or an unusable bound", "[support]") {
  for (const double bad : {kNan, kInf, -kInf}) {
    CHECK_THAT(compare({bad, 2, 3, 4}, two_by_two()), Contains("row0 c0"));
    CHECK_THAT(compare({1, 2, 3, bad}, two_by_two()), Contains("row1 c1"));
  }
  CHECK(compare({1.05}, {"y", {{"i", 1}}, {1.0}, {kNan}}) != "");
  CHECK(compare({1.05}, {"y", {{"i", 1}}, {1.0}, {kInf}}) != "");
  // Where the oracle says NaN, only NaN will do; infinities must have the right sign.
  CHECK(compare({kNan, kInf}, {"y", {{"i", 2}}, {kNan, kInf}, {0, 0}}) == "");
  CHECK(compare({0}, {"y", {{"i", 1}}, {kNan}, {0}}) != "");
  CHECK(compare({-kInf}, {"y", {{"i", 1}}, {kInf}, {0}}) != "");
}

TEST_CASE("coordinates count the last dimension first", "[support]") {
  const Dims dims = {{"n", 2}, {"h", 3}, {"w", 4}, {"c", 5}};
  CHECK(coordinates(dims, 0) == "n0 h0 w0 c0");
  CHECK(coordinates(dims, 119) == "n1 h2 w3 c4");
  CHECK(coordinates(dims, 60 + 20 + 5 + 1) == "n1 h1 w1 c1");
}

TEST_CASE("prove reports a tolerance that sees no fault", "[support]") {
  CHECK(prove<float>(two_by_two(), 0, 1.2) == "");
  CHECK_THAT(prove<float>(two_by_two(), 0, 1.01), Contains("blind at row0 c0"));
  CHECK(prove<float>(two_by_two(), Values{1.01, 2.5, 3, 4}) == "");
  CHECK_THAT(prove<float>(two_by_two(), Values{1, 2, 3, 4}), Contains("blind"));
  // The tested type must be able to pass: 1/3 in bf16 is not within 1e-6.
  CHECK_THAT(prove<bf16>({"y", {{"i", 1}}, {1.0 / 3.0}, {1e-6}}, 0, 9.0),
             Contains("the oracle fails its own check"));
}

TEST_CASE("the tolerance rule admits one rounding of the stored type", "[support]") {
  Generator generator(1);
  for (int i = 0; i < 1000; ++i) {
    const double v = generator.uniform(-4, 4);
    REQUIRE(std::fabs(rounded<float>(v) - v) <= allowed<float>(v, 0, 0));
    REQUIRE(std::fabs(rounded<bf16>(v) - v) <= allowed<bf16>(v, 1, std::fabs(v)));
  }
  // Just above a power of two the half unit is the whole roundoff: the bound cannot be smaller.
  const double tie = 1.0 + 0x1p-8;
  CHECK(std::fabs(rounded<bf16>(tie) - tie) > 0.99 * allowed<bf16>(tie, 0, 0));
}

TEST_CASE("buffers start as poison and notice writes where none belong", "[support]") {
  Context ctx(kernels::reference::table(), {});
  {
    Buffers buffers(ctx);
    float* f = buffers.out<float>("f", 3);
    bf16* b = buffers.out<bf16>("b", 3);
    for (const double v : buffers.read(f)) CHECK(std::isnan(v));
    for (const double v : buffers.read(b)) CHECK(std::isnan(v));
    // What lies beside a buffer is NaN too, for whoever reads it.
    CHECK(std::isnan(f[3]));
    CHECK(std::isnan(f[-1]));
    f[0] = f[1] = f[2] = 1.0f;
    CHECK(buffers.read(f) == Values{1, 1, 1});
    CHECK(buffers.damages().empty());
    CHECK(buffers.out<float>("null", 0) == nullptr);
    CHECK(buffers.in<float>("null", {}) == nullptr);
  }
  {
    Buffers buffers(ctx);
    buffers.out<float>("y", 3)[3] = 0.0f;
    REQUIRE(buffers.damages().size() == 1);
    CHECK_THAT(buffers.damages()[0], Contains("y: byte 0 behind the buffer"));
  }
  {
    Buffers buffers(ctx);
    buffers.out<float>("y", 3)[-1] = 0.0f;
    CHECK_THAT(buffers.damages().at(0), Contains("before the buffer"));
  }
  {
    Buffers buffers(ctx);
    const float* x = buffers.in<float>("x", {1, 2, 3});
    CHECK(buffers.read(x) == Values{1, 2, 3});
    const_cast<float*>(x)[1] = 5.0f;
    CHECK_THAT(buffers.damages().at(0), Contains("x: byte") && Contains("of an input was changed"));
  }
  {
    Buffers buffers(ctx);
    float* both = buffers.inout<float>("both", {1, 2});
    both[0] = 9.0f;
    CHECK(buffers.damages().empty());
    CHECK(buffers.read(both) == Values{9, 2});
  }
}

TEST_CASE("poison_workspace reaches the memory that the next scope gets", "[support]") {
  Context ctx(kernels::reference::table(), {});
  // The second request does not fit behind the first: the arena must grow in between.
  const auto all_poison = [&] {
    kernels::Workspace ws(ctx);
    bool poisoned = true;
    for (const std::size_t count : {std::size_t{1000}, std::size_t{1} << 20}) {
      float* data = ws.take<float>(count);
      poisoned = poisoned && std::isnan(data[0]) && std::isnan(data[count - 1]);
      for (std::size_t i = 0; i < count; ++i) data[i] = 1.0f;
    }
    return poisoned;
  };
  all_poison();
  CHECK_FALSE(all_poison());
  poison_workspace(ctx);
  CHECK(all_poison());
  ctx.trim_workspace();
  all_poison();
  poison_workspace(ctx);
  CHECK(all_poison());
}

TEST_CASE("gradcheck finds a wrong derivative", "[support]") {
  Values x = {0.5, -1.0};
  const auto f = [&] { return x[0] * x[0] * x[0] + 2.0 * x[1]; };
  CHECK(gradcheck("g", x, {0.75, 2.0}, f) == "");
  CHECK_THAT(gradcheck("g", x, {0.75, 2.00001}, f), Contains("g[1]"));
  CHECK(gradcheck("g", x, {kNan, 2.0}, f) != "");
  CHECK(gradcheck("g", x, {0.75}, f) != "");
  CHECK(x == Values{0.5, -1.0});
}

TEST_CASE("fills are exact in their type, repeat, and differ by buffer", "[support]") {
  const Values a = fill_values<bf16>(Fill::Uniform, 100, "key", "x");
  CHECK(a == fill_values<bf16>(Fill::Uniform, 100, "key", "x"));
  CHECK(a != fill_values<bf16>(Fill::Uniform, 100, "key", "w"));
  CHECK(a == rounded_all<bf16>(a));
  bool seen[7] = {};
  for (const double v : fill_values<float>(Fill::Integers, 1000, "key", "x")) {
    REQUIRE((v == std::floor(v) && std::fabs(v) <= 3));
    seen[static_cast<int>(v) + 3] = true;
  }
  for (const bool s : seen) CHECK(s);
}

}  // namespace subpix::tests
