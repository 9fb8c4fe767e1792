#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {

template <class T>
void prelu_shuffle_backward_variants(PReluShuffleBackward<T>&) {}
template void prelu_shuffle_backward_variants(PReluShuffleBackward<float>&);
template void prelu_shuffle_backward_variants(PReluShuffleBackward<bf16>&);
template <class T>
void max_pool_relu_backward_variants(MaxPoolReluBackward<T>&) {}
template void max_pool_relu_backward_variants(MaxPoolReluBackward<float>&);
template void max_pool_relu_backward_variants(MaxPoolReluBackward<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
