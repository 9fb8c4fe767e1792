#include "kernels/reference/dense.h"
#include "tests/support/catch.h"
#include "tests/support/gradcheck.h"
#include "tests/support/problems.h"

namespace subpix::tests {

namespace reference = kernels::reference;

TEST_CASE("dense by hand", "[kernels][dense]") {
  const DenseProblem d{2, 3, 2};
  const Values x = {1, 2, 3, 4, 5, 6}, w = {1, 0, -1, 2, 1, 0}, bias = {10, 20};
  const Values dy = {1, 2, 3, 4};
  Values y(4), dx(6), dw(6), db(2);
  reference::dense_forward<double>(d, x.data(), w.data(), bias.data(), y.data());
  CHECK(y == Values{8, 24, 8, 33});
  reference::dense_forward<double>(d, x.data(), w.data(), nullptr, y.data());
  CHECK(y == Values{-2, 4, -2, 13});
  reference::dense_backward_data<double>(d, dy.data(), w.data(), dx.data());
  CHECK(dx == Values{5, 2, -1, 11, 4, -3});
  reference::dense_backward_filter<double>(d, x.data(), dy.data(), dw.data(), db.data());
  CHECK(dw == Values{13, 17, 21, 18, 24, 30});
  CHECK(db == Values{4, 6});
}

TEST_CASE("dense gradients agree with central differences", "[kernels][dense][gradcheck]") {
  for (const DenseProblem& d : std::vector<DenseProblem>{{1, 1, 1}, {3, 5, 4}, {2, 17, 3}}) {
    INFO(d.key());
    Values x = uniform_values<double>(-1, 1, d.n * d.in, d.key(), "x");
    Values w = uniform_values<double>(-1, 1, d.out * d.in, d.key(), "w");
    Values bias = uniform_values<double>(-1, 1, d.out, d.key(), "bias");
    const Values dy = uniform_values<double>(-1, 1, d.n * d.out, d.key(), "dy");
    Values dx(x.size()), dw(w.size()), db(bias.size());
    reference::dense_backward_data<double>(d, dy.data(), w.data(), dx.data());
    reference::dense_backward_filter<double>(d, x.data(), dy.data(), dw.data(), db.data());
    const auto loss = [&] {
      Values y(dy.size());
      reference::dense_forward<double>(d, x.data(), w.data(), bias.data(), y.data());
      return dot(y, dy);
    };
    CHECK(gradcheck("dx", x, dx, loss) == "");
    CHECK(gradcheck("dw", w, dw, loss) == "");
    CHECK(gradcheck("db", bias, db, loss) == "");
  }
}

}  // namespace subpix::tests
