#pragma once

// The techniques of convolution, one source each (conv2d_<technique>.cu). conv2d.cu holds the lists
// of variants that name them; a new technique is one file, its declarations here and its rows
// there. A technique that takes every problem has no supports function.

#include "kernels/api/kernels.h"
#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"

namespace subpix::kernels::KERNEL_TARGET {

/// What every forward kernel does with a sum: add bias[k] (null: none), then multiply negative
/// values by `slope` (1: no activation, 0: ReLU), then round once to T.
struct Conv2dEpilogue {
  const float* bias = nullptr;
  float slope = 1.0f;

  GPU_DEV float shift(Index k) const { return bias ? bias[k] : 0.0f; }
  GPU_DEV float activate(float v) const { return v < 0.0f ? slope * v : v; }
  /// add: shift(k), loaded once for all pixels of a thread.
  GPU_DEV float operator()(float sum, float add) const { return activate(sum + add); }
};

/// p, or a copy of it in scratch memory where p is a view that does not start at 16 bytes.
template <class T>
const T* aligned_operand(Context& ctx, Workspace& ws, const T* p, Index count) {
  if (packable(p)) return p;
  T* copy = ws.take<T>(static_cast<std::size_t>(count));
  ctx.table().memory.copy(ctx, copy, p, static_cast<std::size_t>(count) * sizeof(T));
  return copy;
}

// direct: one thread an output. Takes everything.
template <class T>
void conv2d_forward_direct(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                           Conv2dEpilogue epilogue, T* y);
template <class T>
void conv2d_backward_data_direct(Context& ctx, const Conv2dProblem& d, const T* dy, const T* w,
                                 T* dx);
template <class T>
void conv2d_backward_filter_direct(Context& ctx, const Conv2dProblem& d, const T* x, const T* dy,
                                   float* dw, float* db);

// tiled_shared: implicit GEMM with register tiles, exact fp32 arithmetic.
bool supports_forward_tiled_shared(const Conv2dProblem& d, const DeviceInfo& device);
bool supports_backward_data_tiled_shared(const Conv2dProblem& d, const DeviceInfo& device);
bool supports_backward_filter_tiled_shared(const Conv2dProblem& d, const DeviceInfo& device);
template <class T>
void conv2d_forward_tiled_shared(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                                 Conv2dEpilogue epilogue, T* y);
template <class T>
void conv2d_backward_data_tiled_shared(Context& ctx, const Conv2dProblem& d, const T* dy,
                                       const T* w, T* dx);
template <class T>
void conv2d_backward_filter_tiled_shared(Context& ctx, const Conv2dProblem& d, const T* x,
                                         const T* dy, float* dw, float* db);

// halo_mma (bf16): stride 1, tensor cores, each activation loaded once a tile.
bool supports_forward_halo_mma(const Conv2dProblem& d, const DeviceInfo&);
template <class T>
void conv2d_forward_halo_mma(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                             Conv2dEpilogue epilogue, T* y);
bool supports_backward_data_halo_mma(const Conv2dProblem& d, const DeviceInfo&);
template <class T>
void conv2d_backward_data_halo_mma(Context& ctx, const Conv2dProblem& d, const T* dy, const T* w,
                                   T* dx);

// column_sum_mma (bf16): stride 1, few output channels, the taps of a row as columns.
bool supports_forward_column_sum_mma(const Conv2dProblem& d, const DeviceInfo&);
template <class T>
void conv2d_forward_column_sum_mma(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                                   Conv2dEpilogue epilogue, T* y);
bool supports_backward_data_column_sum_mma(const Conv2dProblem& d, const DeviceInfo&);
template <class T>
void conv2d_backward_data_column_sum_mma(Context& ctx, const Conv2dProblem& d, const T* dy,
                                         const T* w, T* dx);

// few_channels_mma (bf16): at most four input channels, the rows of taps as reduction.
bool supports_forward_few_channels_mma(const Conv2dProblem& d, const DeviceInfo&);
template <class T>
void conv2d_forward_few_channels_mma(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                                     Conv2dEpilogue epilogue, T* y);
bool supports_backward_data_few_channels_mma(const Conv2dProblem& d, const DeviceInfo&);
template <class T>
void conv2d_backward_data_few_channels_mma(Context& ctx, const Conv2dProblem& d, const T* dy,
                                           const T* w, T* dx);

// implicit_gemm_mma: tensor cores by mma.sync; bf16, and fp32 with operands rounded to TF32.
template <class T>
void conv2d_forward_implicit_gemm_mma(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                                      Conv2dEpilogue epilogue, T* y);
template <class T>
void conv2d_backward_data_implicit_gemm_mma(Context& ctx, const Conv2dProblem& d, const T* dy,
                                            const T* w, T* dx);
bool supports_forward_implicit_gemm_mma(const Conv2dProblem& d, const DeviceInfo& device);
bool supports_forward_implicit_gemm_mma_tf32(const Conv2dProblem& d, const DeviceInfo& device);
bool supports_backward_data_implicit_gemm_mma(const Conv2dProblem& d, const DeviceInfo& device);
bool supports_backward_data_implicit_gemm_mma_tf32(const Conv2dProblem& d,
                                                   const DeviceInfo& device);

// halo_wgmma (bf16, sm_90a): 3x3, stride 1, channels in 64s, wgmma on planes of 8 channels.
bool supports_forward_halo_wgmma(const Conv2dProblem& d, const DeviceInfo& device);
template <class T>
void conv2d_forward_halo_wgmma(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                               Conv2dEpilogue epilogue, T* y);
bool supports_backward_data_halo_wgmma(const Conv2dProblem& d, const DeviceInfo& device);
template <class T>
void conv2d_backward_data_halo_wgmma(Context& ctx, const Conv2dProblem& d, const T* dy, const T* w,
                                     T* dx);

// split_pixels_mma: weight gradients on tensor cores, the pixels split between blocks. float rounds
// its operands to TF32.
bool supports_backward_filter_split_pixels_mma(const Conv2dProblem& d, const DeviceInfo& device);
bool supports_backward_filter_split_pixels_mma_tf32(const Conv2dProblem& d,
                                                    const DeviceInfo& device);
template <class T>
void conv2d_backward_filter_split_pixels_mma(Context& ctx, const Conv2dProblem& d, const T* x,
                                             const T* dy, float* dw, float* db);

// few_channels_mma, few_filters_mma: weight gradients on tensor cores where C <= 4 or K <= 4. bf16.
bool supports_backward_filter_few_channels_mma(const Conv2dProblem& d, const DeviceInfo& device);
template <class T>
void conv2d_backward_filter_few_channels_mma(Context& ctx, const Conv2dProblem& d, const T* x,
                                             const T* dy, float* dw, float* db);
bool supports_backward_filter_few_filters_mma(const Conv2dProblem& d, const DeviceInfo& device);
template <class T>
void conv2d_backward_filter_few_filters_mma(Context& ctx, const Conv2dProblem& d, const T* x,
                                            const T* dy, float* dw, float* db);

}  // namespace subpix::kernels::KERNEL_TARGET
