#pragma once

#include <type_traits>

#include "kernels/api/error.h"
#include "tests/sim/kernels/kernels.h"

namespace subpix::kernels::KERNEL_TARGET {

/// run(std::integral_constant<Bug, bug>), built for the planted bugs listed and for the correct
/// kernel. GPUs get the correct one only: ptxas would stumble over some of the defects.
template <Bug... Planted, class Run>
void with_bug(Bug bug, Run&& run) {
  if (bug == Bug::None) return run(std::integral_constant<Bug, Bug::None>{});
  [[maybe_unused]] bool found = false;
#ifdef SUBPIX_TEST_BUGS
  ((bug == Planted ? (found = true, run(std::integral_constant<Bug, Planted>{})) : void()), ...);
#endif
  SUBPIX_REQUIRE(found, "this bug is not planted here");
}

}  // namespace subpix::kernels::KERNEL_TARGET
