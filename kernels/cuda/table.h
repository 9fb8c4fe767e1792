#pragma once

#include "kernels/api/kernels.h"

namespace subpix::kernels::cuda {

/// The hand-written kernels on device memory.
const KernelTable& table();

/// What device_info() describes is usable: a driver and a device answer.
bool available();
DeviceInfo device_info();

}  // namespace subpix::kernels::cuda
