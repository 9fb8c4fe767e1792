#pragma once

#include <string>

#include "kernels/api/kernels.h"

namespace subpix::kernels::cpu {

/// oneDNN and multi-threaded loops on host memory; starts as a copy of reference::table().
const KernelTable& table();

/// Sets the number of compute threads of this backend (0: all processors); returns the number in
/// force.
int set_threads(int threads);

/// "oneDNN 2.6.3": the library found at run time.
std::string library();

}  // namespace subpix::kernels::cpu
