#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {

template <class T>
void total_variation_variants(TotalVariation<T>&) {}
template void total_variation_variants(TotalVariation<float>&);
template void total_variation_variants(TotalVariation<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
