#include "kernels/cuda/conv2d.cuh"
#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {

template <class T>
void conv2d_forward_variants(Conv2dForward<T>&) {}
template void conv2d_forward_variants(Conv2dForward<float>&);
template void conv2d_forward_variants(Conv2dForward<bf16>&);
template <class T>
void conv2d_backward_data_variants(Conv2dBackwardData<T>&) {}
template void conv2d_backward_data_variants(Conv2dBackwardData<float>&);
template void conv2d_backward_data_variants(Conv2dBackwardData<bf16>&);
template <class T>
void conv2d_backward_filter_variants(Conv2dBackwardFilter<T>& op) {
  if constexpr (std::is_same_v<T, bf16>) {
    op.append({"few_channels_mma", supports_backward_filter_few_channels_mma,
               conv2d_backward_filter_few_channels_mma<T>});
    op.append({"few_filters_mma", supports_backward_filter_few_filters_mma,
               conv2d_backward_filter_few_filters_mma<T>});
    op.append({"split_pixels_mma", supports_backward_filter_split_pixels_mma,
               conv2d_backward_filter_split_pixels_mma<T>});
  } else
    op.append({"split_pixels_mma_tf32", supports_backward_filter_split_pixels_mma_tf32,
               conv2d_backward_filter_split_pixels_mma<T>});
}
template void conv2d_backward_filter_variants(Conv2dBackwardFilter<float>&);
template void conv2d_backward_filter_variants(Conv2dBackwardFilter<bf16>&);
template <class T>
void conv2d_activation_forward_variants(Conv2dActivationForward<T>&) {}
template void conv2d_activation_forward_variants(Conv2dActivationForward<float>&);
template void conv2d_activation_forward_variants(Conv2dActivationForward<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
