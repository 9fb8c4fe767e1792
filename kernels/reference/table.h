#pragma once

#include <memory>

#include "kernels/api/kernels.h"

namespace subpix::kernels::reference {

/// The table of plain loops on host memory: the oracle. Runs anywhere, single-threaded.
const KernelTable& table();

}  // namespace subpix::kernels::reference
