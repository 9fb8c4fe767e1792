// The lists of variants of the fused convolutions, preferred first. table.cu appends "composed" to
// each: the sequence of plain ops, which takes everything.

#include "kernels/cuda/conv2d_fused.cuh"

#include <type_traits>

#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {

template <class T>
void conv2d_norm_forward_variants(Conv2dNormForward<T>& op) {
  if constexpr (std::is_same_v<T, bf16>) {
    op.append({"halo_mma", supports_norm_forward_halo_mma, conv2d_norm_forward_halo_mma<T>});
    op.append({"implicit_gemm_mma", supports_norm_forward_implicit_gemm_mma,
               conv2d_norm_forward_implicit_gemm_mma<T>});
  }
}
template void conv2d_norm_forward_variants(Conv2dNormForward<float>&);
template void conv2d_norm_forward_variants(Conv2dNormForward<bf16>&);
template <class T>
void conv2d_norm_backward_filter_variants(Conv2dNormBackwardFilter<T>& op) {
  if constexpr (std::is_same_v<T, bf16>)
    op.append({"split_pixels_mma", supports_norm_backward_filter_split_pixels_mma,
               conv2d_norm_backward_filter_split_pixels_mma});
}
template void conv2d_norm_backward_filter_variants(Conv2dNormBackwardFilter<float>&);
template void conv2d_norm_backward_filter_variants(Conv2dNormBackwardFilter<bf16>&);
template <class T>
void conv2d_backward_filter_group_variants(Conv2dBackwardFilterGroup<T>& op) {
  if constexpr (std::is_same_v<T, bf16>)
    op.append({"split_pixels_mma", supports_backward_filter_group_split_pixels_mma,
               conv2d_backward_filter_group_split_pixels_mma});
}
template void conv2d_backward_filter_group_variants(Conv2dBackwardFilterGroup<float>&);
template void conv2d_backward_filter_group_variants(Conv2dBackwardFilterGroup<bf16>&);
template <class T>
void conv2d_norm_backward_data_variants(Conv2dNormBackwardData<T>& op) {
  if constexpr (std::is_same_v<T, bf16>) {
    op.append(
        {"halo_mma", supports_norm_backward_data_halo_mma, conv2d_norm_backward_data_halo_mma<T>});
    op.append({"implicit_gemm_mma", supports_norm_backward_data_implicit_gemm_mma,
               conv2d_norm_backward_data_implicit_gemm_mma<T>});
  }
}
template void conv2d_norm_backward_data_variants(Conv2dNormBackwardData<float>&);
template void conv2d_norm_backward_data_variants(Conv2dNormBackwardData<bf16>&);
template <class T>
void conv2d_shuffle_forward_variants(Conv2dShuffleForward<T>& op) {
  if constexpr (std::is_same_v<T, bf16>)
    op.append({"halo_mma", supports_shuffle_forward_halo_mma, conv2d_shuffle_forward_halo_mma});
}
template void conv2d_shuffle_forward_variants(Conv2dShuffleForward<float>&);
template void conv2d_shuffle_forward_variants(Conv2dShuffleForward<bf16>&);
template <class T>
void conv2d_pool_forward_variants(Conv2dPoolForward<T>& op) {
  if constexpr (std::is_same_v<T, bf16>)
    op.append({"halo_mma", supports_pool_forward_halo_mma, conv2d_pool_forward_halo_mma});
}
template void conv2d_pool_forward_variants(Conv2dPoolForward<float>&);
template void conv2d_pool_forward_variants(Conv2dPoolForward<bf16>&);

void conv2d_wide_forward_variants(Conv2dWideForward& op) {
  op.append(
      {"column_sum_mma", supports_forward_column_sum_mma,
       [](Context& ctx, const Conv2dProblem& d, const bf16* x, Filter<bf16> w, const float* bias,
          float* y) { conv2d_wide_forward_column_sum_mma(ctx, d, x, w.data, bias, y); }});
  op.append(
      {"implicit_gemm_mma", supports_forward_implicit_gemm_mma,
       [](Context& ctx, const Conv2dProblem& d, const bf16* x, Filter<bf16> w, const float* bias,
          float* y) { conv2d_wide_forward_implicit_gemm_mma(ctx, d, x, w.data, bias, y); }});
}

}  // namespace subpix::kernels::KERNEL_TARGET
