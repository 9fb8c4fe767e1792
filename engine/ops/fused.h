#pragma once

#include "engine/ops/ops.h"

/// Ops in which a convolution does the work around it: a batch norm is never written to memory, the
/// next convolution applies it as it loads (kernels/api/kernels.h, "fused"). Networks use them
/// where the backend has kernels for it; prefers_fused() says so. Gradients are those of the plain
/// ops.
namespace subpix::engine::ops {

/// The learned and running vectors of a batch norm, all F32 [C].
struct BatchNormParameters {
  Tensor gamma, beta, running_mean, running_var;
  float momentum, eps;
};

/// A map z [N,H,W,C] together with the batch norm that is to be applied to it (training: batch
/// statistics). Made by conv2d_norm.
struct Normed {
  Tensor z;
  Tensor gamma, beta;
  Tensor mean, inv_std, scale, shift;  ///< [C]; scale = gamma * inv_std, shift = beta - mean*scale
};

/// A map as the next op takes it: plain, or a Normed map with an activation.
struct Formed {
  kernels::InputForm form = kernels::InputForm::Plain;
  Tensor x;            ///< Plain: the map; else undefined
  Normed normed = {};  ///< else
  Tensor prelu = {};   ///< slopes [C] or [1] of NormPRelu, NormPReluShared
  float slope = 0.0f;  ///< of NormLeakyRelu

  const Tensor& map() const { return x.defined() ? x : normed.z; }
};
Formed plain(const Tensor& x);
Formed with_prelu(const Normed& normed, const Tensor& slope);
Formed with_leaky_relu(const Normed& normed, float slope);

/// Whether the backend runs conv2d_norm for this layer by a kernel of its own.
bool prefers_fused_norm(const Formed& in, const Tensor& w, Index stride);
/// conv2d without bias, "same" padding, of the formed map, and the batch statistics of the result;
/// running statistics are updated. defer: where the backend has a kernel for groups of filters, the
/// gradient of w is computed at the end of backward(), in one launch with those of all such layers
/// of this shape. Until then x and the gradient of z stay in memory.
Normed conv2d_norm(const Formed& in, const Tensor& w, const BatchNormParameters& bn, Index stride,
                   bool defer = false);
/// batch norm of z, plus skip.
Tensor norm_add(const Normed& z, const Tensor& skip);
/// The formed map in memory.
Tensor norm_activation(const Formed& in);

bool prefers_fused_shuffle(const Tensor& x, const Tensor& w, const Tensor& slope);
/// prelu(pixel_shuffle(conv2d(x, w, bias), 2)), "same" padding; w [4C,R,S,C'], slope [C] or [1].
Tensor conv2d_shuffle_prelu(const Tensor& x, const Tensor& w, const Tensor& bias,
                            const Tensor& slope);

bool prefers_fused_pool(const Tensor& x, const Tensor& w);
/// max_pool2(relu(conv2d(x, w, bias))), "same" padding.
Tensor conv2d_relu_pool(const Tensor& x, const Tensor& w, const Tensor& bias);

/// conv2d of a BF16 map whose sums are not rounded: the result is F32. Its gradient is rounded to
/// BF16 on the way back, as every map's.
Tensor conv2d_wide(const Tensor& x, const Tensor& w, const Tensor& bias, Index stride, Index pad);

}  // namespace subpix::engine::ops
