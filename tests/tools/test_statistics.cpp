#include "tools/statistics.h"

#include <limits>
#include <vector>

#include "kernels/api/error.h"
#include "tests/support/catch.h"

using subpix::tools::quantile;
using subpix::tools::spread_of;

TEST_CASE("quantiles are linear between the sorted values", "[tools]") {
  const std::vector<double> values = {40.0, 10.0, 30.0, 20.0};
  CHECK(quantile(values, 0.0) == 10.0);
  CHECK(quantile(values, 0.5) == 25.0);
  CHECK(quantile(values, 1.0) == 40.0);
  CHECK(quantile(values, 0.25) == 17.5);
  CHECK(quantile({7.0}, 0.95) == 7.0);
  CHECK(quantile({3.0, 1.0, 2.0}, 0.5) == 2.0);
}

TEST_CASE("a quantile of nothing, of a NaN or beyond 0..1 is refused", "[tools]") {
  CHECK_THROWS_AS(quantile({}, 0.5), subpix::Error);
  CHECK_THROWS_AS(quantile({1.0, std::numeric_limits<double>::quiet_NaN()}, 0.5), subpix::Error);
  CHECK_THROWS_AS(quantile({1.0}, 1.5), subpix::Error);
  CHECK_THROWS_AS(quantile({1.0}, -0.1), subpix::Error);
}

TEST_CASE("the spread of a series names median, minimum, 5 % and 95 %", "[tools]") {
  std::vector<double> values;
  for (int i = 100; i >= 0; --i) values.push_back(i);
  const auto s = spread_of(values);
  CHECK(s.median == 50.0);
  CHECK(s.min == 0.0);
  CHECK(s.p5 == Approx(5.0));
  CHECK(s.p95 == Approx(95.0));
}

TEST_CASE("the resident set is at least what was just written", "[tools]") {
  const std::vector<char> block(64u << 20, 1);
  CHECK(subpix::tools::peak_resident_bytes() >= block.size());
}
