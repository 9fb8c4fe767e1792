#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {

void philox_uniform_variants(PhiloxUniform&) {}
void philox_normal_variants(PhiloxNormal&) {}

}  // namespace subpix::kernels::KERNEL_TARGET
