#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {

template <class T>
void prelu_forward_variants(PReluForward<T>&) {}
template void prelu_forward_variants(PReluForward<float>&);
template void prelu_forward_variants(PReluForward<bf16>&);
template <class T>
void prelu_backward_variants(PReluBackward<T>&) {}
template void prelu_backward_variants(PReluBackward<float>&);
template void prelu_backward_variants(PReluBackward<bf16>&);
template <class T>
void leaky_relu_forward_variants(LeakyReluForward<T>&) {}
template void leaky_relu_forward_variants(LeakyReluForward<float>&);
template void leaky_relu_forward_variants(LeakyReluForward<bf16>&);
template <class T>
void leaky_relu_backward_variants(LeakyReluBackward<T>&) {}
template void leaky_relu_backward_variants(LeakyReluBackward<float>&);
template void leaky_relu_backward_variants(LeakyReluBackward<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
