#pragma once

#include "kernels/api/kernels.h"

/// The fused ops as sequences of plain ones, taken from the table that the context runs: the last
/// variant, "composed", of every backend, so a backend fuses only what pays. Results differ from a
/// fused kernel's by the roundings of the maps in between.
namespace subpix::kernels::composed {

inline bool has_prelu(InputForm form) {
  return form == InputForm::NormPRelu || form == InputForm::NormPReluShared;
}

/// y [rows,c] = form(x); not for Plain.
template <class T>
void norm_activation_forward(Context& ctx, const NormActivationProblem& d, const T* x, NormInput in,
                             T* y) {
  const TypedOps<T>& ops = ctx.table().typed<T>();
  const ChannelProblem rows{d.rows, d.c, d.form == InputForm::NormPReluShared};
  if (d.form == InputForm::Norm) return ops.channel_affine(ctx, rows, x, in.scale, in.shift, y);
  Workspace ws(ctx);
  T* normalized = ws.take<T>(static_cast<std::size_t>(d.count()));
  ops.channel_affine(ctx, rows, x, in.scale, in.shift, normalized);
  if (has_prelu(d.form))
    ops.prelu_forward(ctx, rows, normalized, in.slope, y);
  else
    ops.leaky_relu_forward(ctx, {.count = d.count(), .alpha = d.slope}, normalized, y);
}

/// The map as a plain op wants it: x itself, or its form in scratch memory.
template <class T>
const T* formed(Context& ctx, Workspace& ws, const Conv2dNormProblem& d, const T* x, NormInput in) {
  if (d.form == InputForm::Plain) return x;
  T* v = ws.take<T>(static_cast<std::size_t>(d.conv.x_count()));
  const NormActivationProblem p{d.conv.n * d.conv.h * d.conv.w, d.conv.c, d.form, d.slope};
  ctx.table().typed<T>().norm_activation_forward(ctx, p, x, in, v);
  return v;
}

/// scale = gamma * inv_std, shift = beta - mean * scale, all [c].
inline void scale_and_shift(Context& ctx, Index c, const NormOutput& out) {
  const TypedOps<float>& ops = ctx.table().f32;
  const ChannelProblem row{1, c};
  Workspace ws(ctx);
  float* negated = ws.take<float>(static_cast<std::size_t>(c));
  ops.channel_affine(ctx, row, out.inv_std, out.gamma, nullptr, out.scale);
  ops.scale(ctx, {.count = c, .alpha = -1.0f}, out.mean, nullptr, negated);
  ops.channel_affine(ctx, row, negated, out.scale, out.beta, out.shift);
}

template <class T>
void conv2d_norm_forward(Context& ctx, const Conv2dNormProblem& d, const T* x, NormInput in,
                         Filter<T> w, T* y, NormOutput out) {
  const TypedOps<T>& ops = ctx.table().typed<T>();
  Workspace ws(ctx);
  const T* v = formed(ctx, ws, d, x, in);
  T* normalized = ws.take<T>(static_cast<std::size_t>(d.conv.y_count()));
  ops.conv2d_forward(ctx, d.conv, v, w, nullptr, y);
  const NormProblem norm{d.conv.n * d.conv.p() * d.conv.q(), d.conv.k, d.eps, d.momentum};
  ops.batchnorm_forward(ctx, norm, y, out.gamma, out.beta, normalized, out.mean, out.inv_std,
                        out.running_mean, out.running_var);
  scale_and_shift(ctx, d.conv.k, out);
}

template <class T>
void conv2d_norm_backward_filter(Context& ctx, const Conv2dNormProblem& d, const T* x, NormInput in,
                                 const T* dy, float* dw) {
  Workspace ws(ctx);
  const T* v = formed(ctx, ws, d, x, in);
  ctx.table().typed<T>().conv2d_backward_filter(ctx, d.conv, v, dy, dw, nullptr);
}

template <class T>
void conv2d_backward_filter_group(Context& ctx, const Conv2dGroupProblem& d,
                                  const FilterGradient<T>* filters) {
  for (Index i = 0; i < d.filters; ++i) {
    const FilterGradient<T>& f = filters[i];
    ctx.table().typed<T>().conv2d_norm_backward_filter(ctx, {d.conv, f.form, f.slope}, f.x, f.in,
                                                       f.dy, f.dw);
  }
}

template <class T>
void conv2d_norm_backward_data(Context& ctx, const Conv2dNormBackwardProblem& d, const T* dy,
                               Filter<T> w, const T* skip, const T* x, NormInput in,
                               const float* mean, const float* inv_std, T* dx, NormGradients sums) {
  const TypedOps<T>& ops = ctx.table().typed<T>();
  const Index count = d.conv.x_count(), c = d.conv.c;
  const auto size = static_cast<std::size_t>(count);
  const bool plain = d.form == InputForm::Plain;
  const bool activated = !plain && d.form != InputForm::Norm;
  Workspace ws(ctx);
  T* v = activated ? ws.take<T>(size) : dx;
  T* normalized = plain ? nullptr : ws.take<T>(size);
  float* gamma = plain ? nullptr : ws.take<float>(static_cast<std::size_t>(c));
  ops.conv2d_backward_data(ctx, d.conv, dy, w, v);
  if (d.skip) ops.add(ctx, {.count = count}, v, skip, v);
  if (plain) return;
  const ChannelProblem rows{count / c, c, d.form == InputForm::NormPReluShared};
  if (activated) {
    ops.channel_affine(ctx, rows, x, in.scale, in.shift, normalized);
    if (has_prelu(d.form))
      ops.prelu_backward(ctx, rows, normalized, v, in.slope, dx, sums.dslope);
    else  // the sign is the same before and after the activation
      ops.leaky_relu_backward(ctx, {.count = count, .alpha = d.slope}, normalized, v, dx);
  }
  // batchnorm_backward gives the sums; its dx, which needs gamma, is not looked at.
  ctx.table().f32.fill(ctx, {.count = c, .alpha = 1.0f}, gamma);
  ops.batchnorm_backward(ctx, {count / c, c}, x, dx, gamma, mean, inv_std, normalized, sums.dgamma,
                         sums.dbeta);
}

/// A batch norm's own backward op computes sums and dx in one call, so this is the one fused op
/// whose parts are not enough: dx = (dy - dbeta/rows - (x-mean)*inv_std*dgamma/rows) *
/// gamma*inv_std as affine maps of dy and x.
template <class T>
void norm_backward_apply(Context& ctx, const NormProblem& d, const T* x, const T* dy,
                         const float* gamma, const float* mean, const float* inv_std,
                         const float* dgamma, const float* dbeta, T* dx) {
  const TypedOps<T>& ops = ctx.table().typed<T>();
  const TypedOps<float>& f32 = ctx.table().f32;
  const ChannelProblem rows{d.rows, d.c}, row{1, d.c};
  const auto c = static_cast<std::size_t>(d.c);
  const float share = -1.0f / static_cast<float>(d.rows);
  Workspace ws(ctx);
  float* of_dy = ws.take<float>(c);     // gamma * inv_std
  float* of_x = ws.take<float>(c);      // -gamma * inv_std^2 * dgamma / rows
  float* constant = ws.take<float>(c);  // -gamma * inv_std * dbeta / rows - mean * of_x
  float* scratch = ws.take<float>(c);
  T* part = ws.take<T>(static_cast<std::size_t>(d.count()));
  f32.channel_affine(ctx, row, gamma, inv_std, nullptr, of_dy);
  f32.channel_affine(ctx, row, of_dy, inv_std, nullptr, scratch);
  f32.channel_affine(ctx, row, scratch, dgamma, nullptr, of_x);
  f32.scale(ctx, {.count = d.c, .alpha = share}, of_x, nullptr, of_x);
  f32.channel_affine(ctx, row, of_dy, dbeta, nullptr, scratch);
  f32.scale(ctx, {.count = d.c, .alpha = share}, scratch, nullptr, scratch);
  f32.channel_affine(ctx, row, mean, of_x, nullptr, constant);
  f32.axpby(ctx, {.count = d.c, .alpha = 1.0f, .beta = -1.0f}, scratch, constant);
  ops.channel_affine(ctx, rows, x, of_x, constant, part);
  ops.channel_affine(ctx, rows, dy, of_dy, nullptr, dx);
  ops.add(ctx, {.count = d.count()}, dx, part, dx);
}

template <class T>
void norm_add_forward(Context& ctx, const ChannelProblem& d, const T* x, const float* scale,
                      const float* shift, const T* skip, T* y) {
  const TypedOps<T>& ops = ctx.table().typed<T>();
  Workspace ws(ctx);
  T* normalized = ws.take<T>(static_cast<std::size_t>(d.count()));
  ops.channel_affine(ctx, d, x, scale, shift, normalized);
  ops.add(ctx, {.count = d.count()}, normalized, skip, y);
}

template <class T>
void conv2d_shuffle_forward(Context& ctx, const Conv2dShuffleProblem& d, const T* x, Filter<T> w,
                            const float* bias, const float* slope, T* z, T* y) {
  const TypedOps<T>& ops = ctx.table().typed<T>();
  Workspace ws(ctx);
  T* flat = ws.take<T>(static_cast<std::size_t>(d.conv.y_count()));
  ops.conv2d_forward(ctx, d.conv, x, w, bias, flat);
  ops.pixel_shuffle_forward(ctx, {d.conv.n, d.conv.p(), d.conv.q(), d.channels(), d.scale}, flat,
                            z);
  if (!d.prelu) return;
  ops.prelu_forward(ctx, {d.conv.y_count() / d.channels(), d.channels(), d.shared}, z, slope, y);
}

template <class T>
void prelu_shuffle_backward(Context& ctx, const PReluShuffleProblem& d, const T* z, const T* dy,
                            const float* slope, T* dx, float* dslope) {
  const TypedOps<T>& ops = ctx.table().typed<T>();
  const Index count = d.shuffle.count(), c = d.shuffle.c;
  Workspace ws(ctx);
  T* dz = ws.take<T>(static_cast<std::size_t>(count));
  ops.prelu_backward(ctx, {count / c, c, d.shared}, z, dy, slope, dz, dslope);
  ops.pixel_shuffle_backward(ctx, d.shuffle, dz, dx);
}

template <class T>
void conv2d_pool_forward(Context& ctx, const Conv2dPoolProblem& d, const T* x, Filter<T> w,
                         const float* bias, T* y, std::uint8_t* which) {
  const TypedOps<T>& ops = ctx.table().typed<T>();
  Workspace ws(ctx);
  T* map = ws.take<T>(static_cast<std::size_t>(d.conv.y_count()));
  ops.conv2d_activation_forward(ctx, {d.conv, Activation::Relu}, x, w, bias, map);
  ops.max_pool_forward(ctx, d.pool(), map, y, which);
}

template <class T>
void max_pool_relu_backward(Context& ctx, const PoolProblem& d, const T* y, const T* dy,
                            const std::uint8_t* which, T* dx) {
  const TypedOps<T>& ops = ctx.table().typed<T>();
  Workspace ws(ctx);
  T* masked = ws.take<T>(static_cast<std::size_t>(d.y_count()));
  ops.leaky_relu_backward(ctx, {.count = d.y_count(), .alpha = 0.0f}, y, dy, masked);
  ops.max_pool_backward(ctx, d, masked, which, dx);
}

inline void conv2d_wide_forward(Context& ctx, const Conv2dProblem& d, const bf16* x, Filter<bf16> w,
                                const float* bias, float* y) {
  const KernelTable& table = ctx.table();
  Workspace ws(ctx);
  float* wide_x = ws.take<float>(static_cast<std::size_t>(d.x_count()));
  float* wide_w = ws.take<float>(static_cast<std::size_t>(d.w_count()));
  table.cast_to_float(ctx, {.count = d.x_count()}, x, wide_x);
  table.cast_to_float(ctx, {.count = d.w_count()}, w.data, wide_w);
  table.f32.conv2d_forward(ctx, d, wide_x, Filter<float>(wide_w), bias, y);
}

/// Appends "composed" to every fused op of a table.
template <class T>
void append_typed(TypedOps<T>& ops) {
  ops.conv2d_norm_forward.append({"composed", nullptr, conv2d_norm_forward<T>});
  ops.conv2d_norm_backward_filter.append({"composed", nullptr, conv2d_norm_backward_filter<T>});
  ops.conv2d_backward_filter_group.append({"composed", nullptr, conv2d_backward_filter_group<T>});
  ops.conv2d_norm_backward_data.append({"composed", nullptr, conv2d_norm_backward_data<T>});
  ops.norm_backward_apply.append({"composed", nullptr, norm_backward_apply<T>});
  ops.norm_add_forward.append({"composed", nullptr, norm_add_forward<T>});
  ops.norm_activation_forward.append({"composed", nullptr, norm_activation_forward<T>});
  ops.conv2d_shuffle_forward.append({"composed", nullptr, conv2d_shuffle_forward<T>});
  ops.prelu_shuffle_backward.append({"composed", nullptr, prelu_shuffle_backward<T>});
  ops.conv2d_pool_forward.append({"composed", nullptr, conv2d_pool_forward<T>});
  ops.max_pool_relu_backward.append({"composed", nullptr, max_pool_relu_backward<T>});
}
inline void append(KernelTable& table) {
  append_typed(table.f32);
  append_typed(table.bf16_ops);
  table.conv2d_wide_forward.append({"composed", nullptr, conv2d_wide_forward});
}

}  // namespace subpix::kernels::composed
