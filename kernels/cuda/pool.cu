#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {

template <class T>
void max_pool_forward_variants(MaxPoolForward<T>&) {}
template void max_pool_forward_variants(MaxPoolForward<float>&);
template void max_pool_forward_variants(MaxPoolForward<bf16>&);
template <class T>
void max_pool_backward_variants(MaxPoolBackward<T>&) {}
template void max_pool_backward_variants(MaxPoolBackward<float>&);
template void max_pool_backward_variants(MaxPoolBackward<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
