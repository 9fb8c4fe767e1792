// The lists of variants of convolution, preferred first. The kernels are in conv2d_<technique>.cu.

#include "kernels/cuda/conv2d.cuh"

#include <type_traits>

#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

using Supports = bool (*)(const Conv2dProblem&, const DeviceInfo&);

bool takes_all(const Conv2dProblem&, const DeviceInfo&) { return true; }

float slope_of(const Conv2dActivationProblem& d) {
  switch (d.activation) {
    case Activation::None:
      return 1.0f;
    case Activation::Relu:
      return 0.0f;
    case Activation::LeakyRelu:
      return d.slope;
  }
  return 1.0f;
}

// Each turns a technique into a row. A forward technique is one kernel for two ops, which differ in
// the epilogue alone.
template <auto Technique, Supports supports = takes_all, class T>
void append_forward(Conv2dForward<T>& op, const char* name) {
  op.append({name, supports,
             [](Context& ctx, const Conv2dProblem& d, const T* x, Filter<T> w, const float* bias,
                T* y) { Technique(ctx, d, x, w.data, {.bias = bias}, y); }});
}
template <auto Technique, Supports supports = takes_all, class T>
void append_forward(Conv2dActivationForward<T>& op, const char* name) {
  op.append({name,
             [](const Conv2dActivationProblem& d, const DeviceInfo& device) {
               return supports(d.conv, device);
             },
             [](Context& ctx, const Conv2dActivationProblem& d, const T* x, Filter<T> w,
                const float* bias, T* y) {
               Technique(ctx, d.conv, x, w.data, {.bias = bias, .slope = slope_of(d)}, y);
             }});
}
template <auto Technique, Supports supports = takes_all, class T>
void append_backward_data(Conv2dBackwardData<T>& op, const char* name) {
  op.append(
      {name, supports, [](Context& ctx, const Conv2dProblem& d, const T* dy, Filter<T> w, T* dx) {
         Technique(ctx, d, dy, w.data, dx);
       }});
}
template <auto Technique, Supports supports = takes_all, class T>
void append_backward_filter(Conv2dBackwardFilter<T>& op, const char* name) {
  op.append({name, supports,
             [](Context& ctx, const Conv2dProblem& d, const T* x, const T* dy, float* dw,
                float* db) { Technique(ctx, d, x, dy, dw, db); }});
}

/// Op: Conv2dForward<T> or Conv2dActivationForward<T>.
template <class T, class Op>
void append_forward_techniques(Op& op) {
  if constexpr (std::is_same_v<T, bf16>) {
    append_forward<conv2d_forward_few_channels_mma<T>, supports_forward_few_channels_mma>(
        op, "few_channels_mma");
    append_forward<conv2d_forward_column_sum_mma<T>, supports_forward_column_sum_mma>(
        op, "column_sum_mma");
    append_forward<conv2d_forward_halo_mma<T>, supports_forward_halo_mma>(op, "halo_mma");
    append_forward<conv2d_forward_implicit_gemm_mma<T>, supports_forward_implicit_gemm_mma>(
        op, "implicit_gemm_mma");
    // Behind the others until it has been measured: a plan file or an override chooses it.
    append_forward<conv2d_forward_halo_wgmma<T>, supports_forward_halo_wgmma>(op, "halo_wgmma");
  } else {
    append_forward<conv2d_forward_implicit_gemm_mma<T>, supports_forward_implicit_gemm_mma_tf32>(
        op, "implicit_gemm_mma_tf32");
  }
  append_forward<conv2d_forward_tiled_shared<T>, supports_forward_tiled_shared>(op, "tiled_shared");
  append_forward<conv2d_forward_direct<T>>(op, "direct");
}

}  // namespace

template <class T>
void conv2d_forward_variants(Conv2dForward<T>& op) {
  append_forward_techniques<T>(op);
}
template void conv2d_forward_variants(Conv2dForward<float>&);
template void conv2d_forward_variants(Conv2dForward<bf16>&);

template <class T>
void conv2d_activation_forward_variants(Conv2dActivationForward<T>& op) {
  append_forward_techniques<T>(op);
}
template void conv2d_activation_forward_variants(Conv2dActivationForward<float>&);
template void conv2d_activation_forward_variants(Conv2dActivationForward<bf16>&);

template <class T>
void conv2d_backward_data_variants(Conv2dBackwardData<T>& op) {
  if constexpr (std::is_same_v<T, bf16>) {
    append_backward_data<conv2d_backward_data_few_channels_mma<T>,
                         supports_backward_data_few_channels_mma>(op, "few_channels_mma");
    append_backward_data<conv2d_backward_data_column_sum_mma<T>,
                         supports_backward_data_column_sum_mma>(op, "column_sum_mma");
    append_backward_data<conv2d_backward_data_halo_mma<T>, supports_backward_data_halo_mma>(
        op, "halo_mma");
    append_backward_data<conv2d_backward_data_implicit_gemm_mma<T>,
                         supports_backward_data_implicit_gemm_mma>(op, "implicit_gemm_mma");
    append_backward_data<conv2d_backward_data_halo_wgmma<T>, supports_backward_data_halo_wgmma>(
        op, "halo_wgmma");  // last for the same reason
  } else {
    append_backward_data<conv2d_backward_data_implicit_gemm_mma<T>,
                         supports_backward_data_implicit_gemm_mma_tf32>(op,
                                                                        "implicit_gemm_mma_tf32");
  }
  append_backward_data<conv2d_backward_data_tiled_shared<T>, supports_backward_data_tiled_shared>(
      op, "tiled_shared");
  append_backward_data<conv2d_backward_data_direct<T>>(op, "direct");
}
template void conv2d_backward_data_variants(Conv2dBackwardData<float>&);
template void conv2d_backward_data_variants(Conv2dBackwardData<bf16>&);

template <class T>
void conv2d_backward_filter_variants(Conv2dBackwardFilter<T>& op) {
  if constexpr (std::is_same_v<T, bf16>) {
    append_backward_filter<conv2d_backward_filter_few_channels_mma<T>,
                           supports_backward_filter_few_channels_mma>(op, "few_channels_mma");
    append_backward_filter<conv2d_backward_filter_few_filters_mma<T>,
                           supports_backward_filter_few_filters_mma>(op, "few_filters_mma");
    append_backward_filter<conv2d_backward_filter_split_pixels_mma<T>,
                           supports_backward_filter_split_pixels_mma>(op, "split_pixels_mma");
  } else {
    append_backward_filter<conv2d_backward_filter_split_pixels_mma<T>,
                           supports_backward_filter_split_pixels_mma_tf32>(op,
                                                                           "split_pixels_mma_tf32");
  }
  append_backward_filter<conv2d_backward_filter_tiled_shared<T>,
                         supports_backward_filter_tiled_shared>(op, "tiled_shared");
  append_backward_filter<conv2d_backward_filter_direct<T>>(op, "direct");
}
template void conv2d_backward_filter_variants(Conv2dBackwardFilter<float>&);
template void conv2d_backward_filter_variants(Conv2dBackwardFilter<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
