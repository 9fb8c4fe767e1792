#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

#include "kernels/cudnn/library.h"

/// For programs that test cuDNN without a device.
namespace subpix::tests {

/// Where the library is not on this machine (it may have been there when the program was built)
/// this says so and ends the program, which CTest then counts as skipped.
inline void need_cudnn() {
  const std::string obstacle = kernels::cudnn::library_obstacle();
  if (obstacle.empty()) return;
  std::printf("no cuDNN: %s\n", obstacle.c_str());
  std::fflush(stdout);
  std::_Exit(77);
}

}  // namespace subpix::tests
