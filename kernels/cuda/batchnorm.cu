#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {

template <class T>
void batchnorm_forward_variants(BatchNormForward<T>&) {}
template void batchnorm_forward_variants(BatchNormForward<float>&);
template void batchnorm_forward_variants(BatchNormForward<bf16>&);
template <class T>
void batchnorm_backward_variants(BatchNormBackward<T>&) {}
template void batchnorm_backward_variants(BatchNormBackward<float>&);
template void batchnorm_backward_variants(BatchNormBackward<bf16>&);
template <class T>
void batchnorm_inference_variants(BatchNormInference<T>&) {}
template void batchnorm_inference_variants(BatchNormInference<float>&);
template void batchnorm_inference_variants(BatchNormInference<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
