#pragma once

#include "kernels/api/kernels.h"

namespace subpix::kernels::sim {

/// The same kernels, run on the CPU by the simulator (docs/simulator.md).
const KernelTable& table();

/// The GPU that the simulator plays: its compute capability decides which variants are supported.
DeviceInfo device_info();

}  // namespace subpix::kernels::sim
