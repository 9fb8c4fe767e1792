#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {

template <class T>
void norm_backward_apply_variants(NormBackwardApply<T>&) {}
template void norm_backward_apply_variants(NormBackwardApply<float>&);
template void norm_backward_apply_variants(NormBackwardApply<bf16>&);
template <class T>
void norm_add_forward_variants(NormAddForward<T>&) {}
template void norm_add_forward_variants(NormAddForward<float>&);
template void norm_add_forward_variants(NormAddForward<bf16>&);
template <class T>
void norm_activation_forward_variants(NormActivationForward<T>&) {}
template void norm_activation_forward_variants(NormActivationForward<float>&);
template void norm_activation_forward_variants(NormActivationForward<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
