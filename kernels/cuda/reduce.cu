#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {

template <class T>
void reduce_variants(Reduce<T>&) {}
template void reduce_variants(Reduce<float>&);
template void reduce_variants(Reduce<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
