#pragma once

#include "kernels/api/kernels.h"

namespace subpix::kernels::cuda {

/// The hand-written kernels on device memory.
const KernelTable& table();

/// Why the backend cannot run on this machine, with the remedy: no driver, one that is too old, no
/// device, one of too low a compute capability. Empty where it can.
std::string obstacle();
/// Of the device the backend runs on (CUDA_VISIBLE_DEVICES chooses).
DeviceInfo device_info();

}  // namespace subpix::kernels::cuda
