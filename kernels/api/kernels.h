#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/api/op.h"
#include "kernels/api/problem.h"
#include "kernels/api/problem_fused.h"

/// The ONE list of ops. Activations are NHWC and of type T (float or bf16); filters KRSC of type T;
/// biases, slopes, statistics, losses and weight gradients are float. All pointers are device
/// pointers of the table's backend. No op allocates; scratch memory comes from Workspace. Outputs
/// never alias inputs unless the comment says so. Reductions run in a fixed order.
namespace subpix::kernels {

// --- convolution -------------------------------------------------------------------------------
template <class T>  // x [N,H,W,C], w [K,R,S,C], bias [K] or null, y [N,P,Q,K]
using Conv2dForward = Op<Conv2dProblem, const T*, Filter<T>, const float*, T*>;
template <class T>  // dy [N,P,Q,K], w [K,R,S,C], dx [N,H,W,C]
using Conv2dBackwardData = Op<Conv2dProblem, const T*, Filter<T>, T*>;
template <class T>  // x [N,H,W,C], dy [N,P,Q,K], dw [K,R,S,C], db [K] or null
using Conv2dBackwardFilter = Op<Conv2dProblem, const T*, const T*, float*, float*>;
template <class T>  // conv2d_forward, then the activation: x, w, bias or null, y
using Conv2dActivationForward = Op<Conv2dActivationProblem, const T*, Filter<T>, const float*, T*>;

// --- batch norm --------------------------------------------------------------------------------
template <class T>  // x [rows,c], gamma [c], beta [c], y [rows,c], mean [c], inv_std [c] (saved for
                    // backward), running_mean [c], running_var [c] (updated; both may be null; a
                    // single row has no unbiased variance and counts as 0)
using BatchNormForward =
    Op<NormProblem, const T*, const float*, const float*, T*, float*, float*, float*, float*>;
template <class T>  // x, dy [rows,c], gamma, mean, inv_std [c], dx [rows,c], dgamma [c], dbeta [c]
using BatchNormBackward = Op<NormProblem, const T*, const T*, const float*, const float*,
                             const float*, T*, float*, float*>;
template <class T>  // x [rows,c], gamma, beta, running_mean, running_var [c], y [rows,c]
using BatchNormInference =
    Op<NormProblem, const T*, const float*, const float*, const float*, const float*, T*>;

// --- activations -------------------------------------------------------------------------------
template <class T>  // x [rows,c], slope [c] or [1] (shared), y [rows,c]
using PReluForward = Op<ChannelProblem, const T*, const float*, T*>;
template <class T>  // x, dy [rows,c], slope, dx [rows,c] or null, dslope [c] or [1], or null;
                    // dx = slope*dy and dslope += x*dy where x <= 0
using PReluBackward = Op<ChannelProblem, const T*, const T*, const float*, T*, float*>;
template <class T>  // alpha = slope for x < 0 (0: ReLU): x, y; y may be x
using LeakyReluForward = Op<ElementProblem, const T*, T*>;
// From the output: the slope is not negative, so signs agree; dx = alpha * dy where y <= 0.
template <class T>  // y, dy, dx
using LeakyReluBackward = Op<ElementProblem, const T*, const T*, T*>;

// --- shape and pooling -------------------------------------------------------------------------
template <class T>  // x [N,H,W,scale*scale*C], y [N,H*scale,W*scale,C]
using PixelShuffleForward = Op<ShuffleProblem, const T*, T*>;
template <class T>  // dy [N,H*scale,W*scale,C], dx [N,H,W,scale*scale*C]
using PixelShuffleBackward = Op<ShuffleProblem, const T*, T*>;
template <class T>  // x [N,H,W,C], y [N,P,Q,C], which [N,P,Q,C] = 2*row + column of the maximum
                    // (the first in that order on ties; a NaN wins), or null
using MaxPoolForward = Op<PoolProblem, const T*, T*, std::uint8_t*>;
template <class T>  // dy [N,P,Q,C], which [N,P,Q,C], dx [N,H,W,C]
using MaxPoolBackward = Op<PoolProblem, const T*, const std::uint8_t*, T*>;

// --- dense -------------------------------------------------------------------------------------
template <class T>  // x [n,in], w [out,in], bias [out] or null, y [n,out]
using DenseForward = Op<DenseProblem, const T*, Filter<T>, const float*, T*>;
template <class T>  // dy [n,out], w [out,in], dx [n,in]
using DenseBackwardData = Op<DenseProblem, const T*, Filter<T>, T*>;
template <class T>  // x [n,in], dy [n,out], dw [out,in], db [out] or null
using DenseBackwardFilter = Op<DenseProblem, const T*, const T*, float*, float*>;

// --- elementwise -------------------------------------------------------------------------------
template <class T>  // y = a + b; y may be a or b
using Add = Op<ElementProblem, const T*, const T*, T*>;
template <class T>  // y = alpha * x + beta * y (beta 0 does not read y)
using Axpby = Op<ElementProblem, const T*, T*>;
template <class T>  // y = alpha * (*s) * x; s is a device scalar, null counts as 1; y may be x
using Scale = Op<ElementProblem, const T*, const float*, T*>;
template <class T>  // y = alpha
using Fill = Op<ElementProblem, T*>;
template <class T>  // y[row,c] = x[row,c] * scale[c] + shift[c]; shift may be null
using ChannelAffine = Op<ChannelProblem, const T*, const float*, const float*, T*>;
template <class T>  // bytes to values, y = alpha * x + beta
using FromBytes = Op<ElementProblem, const std::uint8_t*, T*>;
// Values to bytes: y = clamp(floor(alpha * x + beta + 0.5), 0, 255); NaN gives 0.
template <class T>  // x, y
using ToBytes = Op<ElementProblem, const T*, std::uint8_t*>;
template <class T>  // y [1]; a NaN makes Sum, SumSquares and MaxAbs NaN
using Reduce = Op<ReduceProblem, const T*, float*>;

// --- losses: value and gradient in one pass ------------------------------------------------------
template <class T>  // x, target [count], loss [1] = scale * sum (x-t)^2, dx = 2*scale*(x-t) or null
using MseLoss = Op<LossProblem, const T*, const T*, float*, T*>;
template <class T>  // x, target [count], loss [1] = scale * sum |x-t|, dx = scale*sign(x-t) or null
using L1Loss = Op<LossProblem, const T*, const T*, float*, T*>;
// x [count] logits, loss [1] = scale * sum (max(x,0) - x*target + log1p(exp(-|x|))),
// dx = scale * (sigmoid(x) - target) or null
template <class T>
using BceWithLogits = Op<LossProblem, const T*, float*, T*>;
template <class T>  // x [N,H,W,C], loss [1], dx [N,H,W,C] or null
using TotalVariation = Op<VariationProblem, const T*, float*, T*>;

// --- fused: each equals a sequence of the ops above (kernels/api/composed.h) up to roundings
// --------
/// Of a batch norm with known statistics, and of the activation behind it (see InputForm).
struct NormInput {
  const float* scale = nullptr;  ///< [c] gamma * inv_std; null where the form is Plain
  const float* shift = nullptr;  ///< [c] beta - mean * scale
  const float* slope = nullptr;  ///< [c] or [1] where the form has PReLU
};
/// What a convolution with statistics leaves for the batch norm behind it, all [k].
struct NormOutput {
  const float* gamma;
  const float* beta;
  float* mean;
  float* inv_std;
  float* scale;         ///< gamma * inv_std
  float* shift;         ///< beta - mean * scale
  float* running_mean;  ///< updated as batchnorm_forward does; both may be null
  float* running_var;
};
/// The channel sums of batch norm's and PReLU's gradients.
struct NormGradients {
  float* dgamma;            ///< [c]
  float* dbeta;             ///< [c]
  float* dslope = nullptr;  ///< [c] or [1]; null unless the form has PReLU
};
// y = conv(form(x)), then the statistics of y as it is stored.
template <class T>  // x [N,H,W,C], in, w [K,R,S,C], y [N,P,Q,K], out
using Conv2dNormForward = Op<Conv2dNormProblem, const T*, NormInput, Filter<T>, T*, NormOutput>;
// dw of the same: x is taken in its form again.
template <class T>  // x [N,H,W,C], in, dy [N,P,Q,K], dw [K,R,S,C]
using Conv2dNormBackwardFilter = Op<Conv2dNormProblem, const T*, NormInput, const T*, float*>;
/// One filter of a group, dw as conv2d_norm_backward_filter gives it: device pointers.
template <class T>
struct FilterGradient {
  const T* x;  ///< [N,H,W,C]
  InputForm form;
  float slope;  ///< of NormLeakyRelu
  NormInput in;
  const T* dy;  ///< [N,P,Q,K]
  float* dw;    ///< [K,R,S,C]
};
template <class T>  // the list of all filters, in host memory
using Conv2dBackwardFilterGroup = Op<Conv2dGroupProblem, const FilterGradient<T>*>;
// v = backward_data(dy, w) (+ skip). Plain: dx = v. Else, with b = scale*x + shift:
// dx = v * act'(b), the gradient of b; dbeta = sum dx, dgamma = sum dx*(x-mean)*inv_std,
// dslope = sum of b*v where b <= 0.
template <class T>  // dy [N,P,Q,K], w, skip [N,H,W,C] or null, x [N,H,W,C] before its norm (null:
                    // Plain), in, mean [c], inv_std [c], dx [N,H,W,C], sums
using Conv2dNormBackwardData =
    Op<Conv2dNormBackwardProblem, const T*, Filter<T>, const T*, const T*, NormInput, const float*,
       const float*, T*, NormGradients>;
// batch norm's dx when its two sums are known: gamma*inv_std*(dy - dbeta/rows - xhat*dgamma/rows).
template <class T>  // x, dy [rows,c], gamma, mean, inv_std, dgamma, dbeta [c], dx [rows,c]
using NormBackwardApply = Op<NormProblem, const T*, const T*, const float*, const float*,
                             const float*, const float*, const float*, T*>;
template <class T>  // y = scale[c]*x + shift[c] + skip: x, scale, shift, skip, y [rows,c]
using NormAddForward = Op<ChannelProblem, const T*, const float*, const float*, const T*, T*>;
template <class T>  // y = form(x): x, in, y [rows,c]
using NormActivationForward = Op<NormActivationProblem, const T*, NormInput, T*>;
// z = shuffle(conv(x) + bias), y = prelu(z) where the problem has PReLU.
template <class T>  // x, w, bias [K] or null, slope or null, z and y [N,P*scale,Q*scale,K/scale^2]
using Conv2dShuffleForward =
    Op<Conv2dShuffleProblem, const T*, Filter<T>, const float*, const float*, T*, T*>;
// The way back: dx = unshuffle(prelu'(z)*dy) and dslope.
template <class T>  // z, dy [N,H*scale,W*scale,C], slope, dx [N,H,W,scale*scale*C], dslope
using PReluShuffleBackward = Op<PReluShuffleProblem, const T*, const T*, const float*, T*, float*>;
template <class T>  // x, w, bias [K] or null, y [N,P/2,Q/2,K] = max_pool(relu(conv)), which or null
using Conv2dPoolForward =
    Op<Conv2dPoolProblem, const T*, Filter<T>, const float*, T*, std::uint8_t*>;
// dx = max_pool_backward of dy where y > 0 (ReLU and maximum commute).
template <class T>  // y, dy [N,P,Q,C] pooled, which, dx [N,H,W,C]
using MaxPoolReluBackward = Op<PoolProblem, const T*, const T*, const std::uint8_t*, T*>;
/// conv2d_forward of bf16 operands whose sums are stored unrounded: the output image.
using Conv2dWideForward = Op<Conv2dProblem, const bf16*, Filter<bf16>, const float*, float*>;

// --- not typed -----------------------------------------------------------------------------------
using CastToBf16 = Op<ElementProblem, const float*, bf16*>;
using CastToFloat = Op<ElementProblem, const bf16*, float*>;
using PhiloxUniform = Op<RandomProblem, float*>;
using PhiloxNormal = Op<RandomProblem, float*>;
/// One tensor of Adam's list; all pointers are device pointers, the list itself lies in host
/// memory.
struct AdamTensor {
  float* w;        ///< [count] master weights
  const float* g;  ///< [count] gradient
  float* m;        ///< [count] first moment
  float* v;        ///< [count] second moment
  bf16* w_bf16;    ///< [count] copy refreshed after the update, or null
  Index count;
};
/// tensors (host array), how many, scalars [2] = {step_size, inv_sqrt_bias2} in device memory.
using Adam = Op<AdamProblem, const AdamTensor*, int, const float*>;

// X(member, type template): one line per op. The text name of an entry is "<member>/f32" or
// "/bf16".
#define SUBPIX_TYPED_OPS(X)                                  \
  X(conv2d_forward, Conv2dForward)                           \
  X(conv2d_backward_data, Conv2dBackwardData)                \
  X(conv2d_backward_filter, Conv2dBackwardFilter)            \
  X(conv2d_activation_forward, Conv2dActivationForward)      \
  X(batchnorm_forward, BatchNormForward)                     \
  X(batchnorm_backward, BatchNormBackward)                   \
  X(batchnorm_inference, BatchNormInference)                 \
  X(prelu_forward, PReluForward)                             \
  X(prelu_backward, PReluBackward)                           \
  X(leaky_relu_forward, LeakyReluForward)                    \
  X(leaky_relu_backward, LeakyReluBackward)                  \
  X(pixel_shuffle_forward, PixelShuffleForward)              \
  X(pixel_shuffle_backward, PixelShuffleBackward)            \
  X(max_pool_forward, MaxPoolForward)                        \
  X(max_pool_backward, MaxPoolBackward)                      \
  X(dense_forward, DenseForward)                             \
  X(dense_backward_data, DenseBackwardData)                  \
  X(dense_backward_filter, DenseBackwardFilter)              \
  X(add, Add)                                                \
  X(axpby, Axpby)                                            \
  X(scale, Scale)                                            \
  X(fill, Fill)                                              \
  X(channel_affine, ChannelAffine)                           \
  X(from_bytes, FromBytes)                                   \
  X(to_bytes, ToBytes)                                       \
  X(reduce, Reduce)                                          \
  X(mse_loss, MseLoss)                                       \
  X(l1_loss, L1Loss)                                         \
  X(bce_with_logits, BceWithLogits)                          \
  X(total_variation, TotalVariation)                         \
  X(conv2d_norm_forward, Conv2dNormForward)                  \
  X(conv2d_norm_backward_filter, Conv2dNormBackwardFilter)   \
  X(conv2d_backward_filter_group, Conv2dBackwardFilterGroup) \
  X(conv2d_norm_backward_data, Conv2dNormBackwardData)       \
  X(norm_backward_apply, NormBackwardApply)                  \
  X(norm_add_forward, NormAddForward)                        \
  X(norm_activation_forward, NormActivationForward)          \
  X(conv2d_shuffle_forward, Conv2dShuffleForward)            \
  X(prelu_shuffle_backward, PReluShuffleBackward)            \
  X(conv2d_pool_forward, Conv2dPoolForward)                  \
  X(max_pool_relu_backward, MaxPoolReluBackward)

#define SUBPIX_UNTYPED_OPS(X)      \
  X(cast_to_bf16, CastToBf16)      \
  X(cast_to_float, CastToFloat)    \
  X(philox_uniform, PhiloxUniform) \
  X(philox_normal, PhiloxNormal)   \
  X(adam, Adam)                    \
  X(conv2d_wide_forward, Conv2dWideForward)

/// A backend's memory. Pointers given out are aligned to at least 64 bytes.
struct MemoryOps {
  void* (*allocate)(Context&, std::size_t bytes);  ///< throws InputError when out of memory
  void (*release)(Context&, void* data, std::size_t bytes);  ///< ordered after work already queued
  void (*copy_to_device)(Context&, void* device, const void* host, std::size_t bytes);
  void (*copy_to_host)(Context&, void* host, const void* device,
                       std::size_t bytes);  ///< returns when done
  void (*copy)(Context&, void* to, const void* from, std::size_t bytes);
  void (*synchronize)(Context&);
};

/// Streams and graphs of a device backend, on the stream of the context; all null on the host,
/// where work is done when a call returns.
struct StreamOps {
  void* (*create)(Context&) = nullptr;  ///< for Context::stream
  void (*destroy)(void* stream) = nullptr;
  /// What is queued until end_capture() is recorded and not run. Meanwhile allocation, release and
  /// waiting are refused.
  void (*begin_capture)(Context&) = nullptr;
  void* (*end_capture)(Context&) = nullptr;  ///< the graph
  void (*launch_graph)(Context&, void* graph) = nullptr;
  void (*destroy_graph)(void* graph) = nullptr;
};

template <class T>
struct TypedOps;
template <>
struct TypedOps<float> {
#define SUBPIX_MEMBER(member, Type) Type<float> member{#member "/f32"};
  SUBPIX_TYPED_OPS(SUBPIX_MEMBER)
#undef SUBPIX_MEMBER
};
template <>
struct TypedOps<bf16> {
#define SUBPIX_MEMBER(member, Type) Type<bf16> member{#member "/bf16"};
  SUBPIX_TYPED_OPS(SUBPIX_MEMBER)
#undef SUBPIX_MEMBER
};

struct KernelTable {
  const char* name = "";
  MemoryOps memory{};
  StreamOps streams{};
  TypedOps<float> f32;
  TypedOps<bf16> bf16_ops;
#define SUBPIX_MEMBER(member, Type) Type member{#member};
  SUBPIX_UNTYPED_OPS(SUBPIX_MEMBER)
#undef SUBPIX_MEMBER

  /// table.typed<T>().conv2d_forward(ctx, p, x, w, bias, y)
  template <class T>
  const TypedOps<T>& typed() const;
  template <class T>
  TypedOps<T>& typed() {
    return const_cast<TypedOps<T>&>(static_cast<const KernelTable*>(this)->typed<T>());
  }
};
template <>
inline const TypedOps<float>& KernelTable::typed<float>() const {
  return f32;
}
template <>
inline const TypedOps<bf16>& KernelTable::typed<bf16>() const {
  return bf16_ops;
}

/// Calls visit(op) for every op of the table: for tests, benchmarks, the tuner and --list.
template <class Table, class Visit>
void for_each_op(Table& table, Visit&& visit) {
#define SUBPIX_VISIT(member, Type) visit(table.f32.member);
  SUBPIX_TYPED_OPS(SUBPIX_VISIT)
#undef SUBPIX_VISIT
#define SUBPIX_VISIT(member, Type) visit(table.bf16_ops.member);
  SUBPIX_TYPED_OPS(SUBPIX_VISIT)
#undef SUBPIX_VISIT
#define SUBPIX_VISIT(member, Type) visit(table.member);
  SUBPIX_UNTYPED_OPS(SUBPIX_VISIT)
#undef SUBPIX_VISIT
}

}  // namespace subpix::kernels
