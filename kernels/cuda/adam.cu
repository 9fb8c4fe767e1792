#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {

void adam_variants(Adam&) {}

}  // namespace subpix::kernels::KERNEL_TARGET
