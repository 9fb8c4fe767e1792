#pragma once

#include <span>

#include "engine/autograd/node.h"
#include "engine/core/tensor.h"

/// Every differentiable function. Activations are NHWC, F32 or BF16; filters have the activations'
/// type; biases, slopes, statistics and losses are F32. Wrong shapes or types throw Error with both
/// shapes. Gradients flow to every Tensor argument that requires one unless a line says otherwise.
namespace subpix::engine::ops {

using kernels::Activation;

/// x [N,H,W,C], w [K,R,S,C], bias [K] or undefined -> [N,P,Q,K], P = (H + 2*pad - R)/stride + 1.
Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& bias, Index stride, Index pad);
/// conv2d and an activation in one pass; slope is LeakyReLU's.
Tensor conv2d_activation(const Tensor& x, const Tensor& w, const Tensor& bias, Index stride,
                         Index pad, Activation activation, float slope = 0.0f);

/// Training: batch statistics over N,H,W; running_mean and running_var [C] are updated (either both
/// or none defined). x [N,H,W,C], gamma, beta [C].
Tensor batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                  const Tensor& running_mean, const Tensor& running_var, float momentum, float eps);
/// Inference: the running statistics. A gradient flows to x only (gamma and beta frozen).
Tensor batch_norm_inference(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                            const Tensor& running_mean, const Tensor& running_var, float eps);

/// slope [C] or [1].
Tensor prelu(const Tensor& x, const Tensor& slope);
Tensor leaky_relu(const Tensor& x, float slope);
Tensor relu(const Tensor& x);

/// [N,H,W,scale*scale*C] -> [N,H*scale,W*scale,C]; channel order (i, j, c), see ShuffleProblem.
Tensor pixel_shuffle(const Tensor& x, Index scale);
/// 2x2, stride 2.
Tensor max_pool2(const Tensor& x);
Tensor add(const Tensor& a, const Tensor& b);
/// x [n,in], w [out,in], bias [out] or undefined -> [n,out].
Tensor dense(const Tensor& x, const Tensor& w, const Tensor& bias);
/// y[...,c] = x[...,c] * scale[c] + shift[c]; scale, shift [C] get no gradient; shift may be
/// undefined.
Tensor channel_affine(const Tensor& x, const Tensor& scale, const Tensor& shift);
Tensor reshape(const Tensor& x, const Shape& shape);
Tensor scale(const Tensor& x, float factor);
/// F32 <-> BF16.
Tensor cast(const Tensor& x, DType dtype);

// --- losses: scalars of shape [1]; scale holds weight and reduction (1/count for a mean). The
// target gets no gradient. ---
Tensor mse_loss(const Tensor& x, const Tensor& target, float scale);
Tensor l1_loss(const Tensor& x, const Tensor& target, float scale);
/// target: the label for all elements, 0 to 1.
Tensor bce_with_logits(const Tensor& logits, float target, float scale);
Tensor total_variation(const Tensor& x, float scale, bool squared);
/// sum_i weights[i] * terms[i] of scalars.
Tensor weighted_sum(std::span<const Tensor> terms, std::span<const float> weights);

// --- not differentiable ---
/// y = alpha * x + beta from U8.
Tensor from_bytes(const Tensor& x, float alpha, float beta, DType dtype = DType::F32);
/// clamp(floor(alpha * x + beta + 0.5), 0, 255).
Tensor to_bytes(const Tensor& x, float alpha, float beta);
/// Rows top..top+height and columns left..left+width of x [N,H,W,C], copied.
Tensor crop(const Tensor& x, Index top, Index left, Index height, Index width);
Tensor reduce(const Tensor& x, kernels::Reduction reduction);  ///< [1]
void fill(const Tensor& x, float value);
/// y = alpha * x + beta * y, in place on y.
void axpby(float alpha, const Tensor& x, float beta, const Tensor& y);

}  // namespace subpix::engine::ops
