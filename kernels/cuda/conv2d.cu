// The lists of convolution's variants, preferred first. Each technique is a source of its own; a
// fused activation is an argument of its epilogue.

#include "kernels/cuda/conv2d.cuh"

#include <type_traits>

#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

template <class T>
using ForwardRun = void (*)(Context&, const Conv2dProblem&, const T*, const T*, Conv2dEpilogue, T*);

template <class T, ForwardRun<T> kRun>
void forward(Context& ctx, const Conv2dProblem& d, const T* x, Filter<T> w, const float* bias,
             T* y) {
  kRun(ctx, d, x, w.data, {.bias = bias}, y);
}
template <class T, ForwardRun<T> kRun>
void activation_forward(Context& ctx, const Conv2dActivationProblem& d, const T* x, Filter<T> w,
                        const float* bias, T* y) {
  const float slope = d.activation == Activation::None   ? 1.0f
                      : d.activation == Activation::Relu ? 0.0f
                                                         : d.slope;
  kRun(ctx, d.conv, x, w.data, {.bias = bias, .slope = slope}, y);
}

template <class T>
using BackwardDataRun = void (*)(Context&, const Conv2dProblem&, const T*, const T*, T*);

template <class T, BackwardDataRun<T> kRun>
void backward_data(Context& ctx, const Conv2dProblem& d, const T* dy, Filter<T> w, T* dx) {
  kRun(ctx, d, dy, w.data, dx);
}

using ConvSupports = bool (*)(const Conv2dProblem&, const DeviceInfo&);
template <ConvSupports kSupports>
bool activation_supports(const Conv2dActivationProblem& d, const DeviceInfo& device) {
  return kSupports(d.conv, device);
}

}  // namespace

template <class T>
void conv2d_forward_variants(Conv2dForward<T>& op) {
  if constexpr (std::is_same_v<T, bf16>)
    op.append({"implicit_gemm_mma", supports_forward_implicit_gemm_mma,
               forward<T, conv2d_forward_implicit_gemm_mma<T>>});
  else
    op.append({"implicit_gemm_mma_tf32", supports_forward_implicit_gemm_mma_tf32,
               forward<T, conv2d_forward_implicit_gemm_mma<T>>});
}
template void conv2d_forward_variants(Conv2dForward<float>&);
template void conv2d_forward_variants(Conv2dForward<bf16>&);
template <class T>
void conv2d_backward_data_variants(Conv2dBackwardData<T>& op) {
  if constexpr (std::is_same_v<T, bf16>)
    op.append({"implicit_gemm_mma", supports_backward_data_implicit_gemm_mma,
               backward_data<T, conv2d_backward_data_implicit_gemm_mma<T>>});
  else
    op.append({"implicit_gemm_mma_tf32", supports_backward_data_implicit_gemm_mma_tf32,
               backward_data<T, conv2d_backward_data_implicit_gemm_mma<T>>});
}
template void conv2d_backward_data_variants(Conv2dBackwardData<float>&);
template void conv2d_backward_data_variants(Conv2dBackwardData<bf16>&);
template <class T>
void conv2d_backward_filter_variants(Conv2dBackwardFilter<T>&) {}
template void conv2d_backward_filter_variants(Conv2dBackwardFilter<float>&);
template void conv2d_backward_filter_variants(Conv2dBackwardFilter<bf16>&);
template <class T>
void conv2d_activation_forward_variants(Conv2dActivationForward<T>& op) {
  if constexpr (std::is_same_v<T, bf16>)
    op.append({"implicit_gemm_mma", activation_supports<supports_forward_implicit_gemm_mma>,
               activation_forward<T, conv2d_forward_implicit_gemm_mma<T>>});
  else
    op.append({"implicit_gemm_mma_tf32",
               activation_supports<supports_forward_implicit_gemm_mma_tf32>,
               activation_forward<T, conv2d_forward_implicit_gemm_mma<T>>});
}
template void conv2d_activation_forward_variants(Conv2dActivationForward<float>&);
template void conv2d_activation_forward_variants(Conv2dActivationForward<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
