// The only test source that is compiled once for each flavour.

#include "tests/sim/support.h"

namespace subpix::sim::test {

TEST_CASE("the program is of the flavour its name says") {
  CHECK(name(flavour()) == std::string(SUBPIX_FLAVOUR));
}

}  // namespace subpix::sim::test
