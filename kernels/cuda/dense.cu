#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {

template <class T>
void dense_forward_variants(DenseForward<T>&) {}
template void dense_forward_variants(DenseForward<float>&);
template void dense_forward_variants(DenseForward<bf16>&);
template <class T>
void dense_backward_data_variants(DenseBackwardData<T>&) {}
template void dense_backward_data_variants(DenseBackwardData<float>&);
template void dense_backward_data_variants(DenseBackwardData<bf16>&);
template <class T>
void dense_backward_filter_variants(DenseBackwardFilter<T>&) {}
template void dense_backward_filter_variants(DenseBackwardFilter<float>&);
template void dense_backward_filter_variants(DenseBackwardFilter<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
