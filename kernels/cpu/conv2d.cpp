#include <cstring>
#include <optional>

#include "kernels/api/kernels.h"
#include "kernels/cpu/channel_sums.h"
#include "kernels/cpu/filter.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cpu/variants.h"

/// Convolutions by oneDNN, in both element types.
///
/// forward          one primitive; bias and LeakyReLU in the same pass. A ReLU of oneDNN's turns a
///                  NaN into 0 and would hide a diverged network, so ReLU is composed: this
///                  convolution, then our own pass over the output.
/// backward_data    stride 1: the forward primitive on dy with the filter turned by 180 degrees,
///                  which uses the register tiling of the forward kernels; stride 2: oneDNN's own.
/// backward_filter  oneDNN's own; see conv2d_backward_filter.cpp for what stands before it.
///
/// On machines without AVX-512 oneDNN has no bf16 convolutions: "widened" goes through float there.
namespace subpix::kernels::cpu {

namespace {

using onednn::ConvForm;
using onednn::ConvolutionBackwardData;
using onednn::ConvolutionBackwardFilter;
using onednn::ConvolutionForward;
using onednn::ConvShape;

/// y = the convolution of x by `shape`, with the filter of `d` in this form.
template <class T>
void run_forward(Context& ctx, const Conv2dProblem& d, const ConvShape& shape, FilterForm form,
                 std::optional<float> leaky_slope, const T* x, const Filter<T>& w,
                 const float* bias, T* y) {
  constexpr DType type = DTypeOf<T>::value;
  const ConvForm what{
      .x = type, .w = type, .y = type, .bias = bias != nullptr, .leaky_slope = leaky_slope};
  const std::string key =
      "onednn/forward/" + shape.key() + what.key() + std::to_string(static_cast<int>(form));
  using Kept = Prepared<ConvolutionForward>;
  Kept& prepared = cached<Kept>(ctx, key, [&] {
    return std::make_shared<Kept>(ConvolutionForward(shape, what), formed(form, d, type));
  });
  Workspace ws(ctx);
  std::byte* scratch = ws.take<std::byte>(prepared.scratch_bytes());
  const onednn::memory& filter = packed_filter(ctx, ws, d, form, w, prepared, scratch);
  prepared.convolution(x, filter, bias, y, scratch);
}

template <class T>
void forward(Context& ctx, const Conv2dProblem& d, const T* x, Filter<T> w, const float* bias,
             T* y) {
  run_forward(ctx, d, onednn::shape_of(d), FilterForm::Plain, std::nullopt, x, w, bias, y);
}

template <class T>
void activation_forward(Context& ctx, const Conv2dActivationProblem& d, const T* x, Filter<T> w,
                        const float* bias, T* y) {
  run_forward(ctx, d.conv, onednn::shape_of(d.conv), FilterForm::Plain, d.slope, x, w, bias, y);
}

template <class T>
void backward_data(Context& ctx, const Conv2dProblem& d, const T* dy, Filter<T> w, T* dx) {
  if (d.stride == 1)
    return run_forward(ctx, d, onednn::transposed(d), FilterForm::Turned, std::nullopt, dy, w,
                       nullptr, dx);
  constexpr DType type = DTypeOf<T>::value;
  const ConvShape shape = onednn::shape_of(d);
  using Kept = Prepared<ConvolutionBackwardData>;
  Kept& prepared = cached<Kept>(ctx, "onednn/backward_data/" + shape.key() + name(type), [&] {
    return std::make_shared<Kept>(ConvolutionBackwardData(shape, type),
                                  formed(FilterForm::Plain, d, type));
  });
  Workspace ws(ctx);
  std::byte* scratch = ws.take<std::byte>(prepared.scratch_bytes());
  const onednn::memory& filter = packed_filter(ctx, ws, d, FilterForm::Plain, w, prepared, scratch);
  prepared.convolution(dy, filter, dx, scratch);
}

template <class T>
void backward_filter(Context& ctx, const Conv2dProblem& d, const T* x, const T* dy, float* dw,
                     float* db) {
  constexpr DType type = DTypeOf<T>::value;
  const ConvShape shape = onednn::shape_of(d);
  using Kept = ConvolutionBackwardFilter;
  Kept& gradient = cached<Kept>(ctx, "onednn/backward_filter/" + shape.key() + name(type),
                                [&] { return std::make_shared<Kept>(shape, type); });
  Workspace ws(ctx);
  std::byte* scratch = ws.take<std::byte>(gradient.scratch_bytes());
  // The bf16 kernels multiply padding of their transposed copies, which they leave as it was found
  // in the scratch memory, by zeros: a NaN there would reach the result.
  if (type == DType::BF16) std::memset(scratch, 0, gradient.scratch_bytes());
  gradient(x, dy, ws.take<std::byte>(gradient.packed_bytes()), dw, scratch);
  if (db) channel_sum(ws, d.n * d.p() * d.q(), d.k, dy, db);
}

// --- bf16 through float
// ----------------------------------------------------------------------------

/// A float copy of bf16 values in the workspace.
float* widened(Context& ctx, Workspace& ws, Index count, const bf16* values) {
  float* copy = ws.take<float>(static_cast<std::size_t>(count));
  ctx.table().cast_to_float(ctx, {.count = count}, values, copy);
  return copy;
}

void forward_widened(Context& ctx, const Conv2dProblem& d, const bf16* x, Filter<bf16> w,
                     const float* bias, bf16* y) {
  Workspace ws(ctx);
  const float* wide_x = widened(ctx, ws, d.x_count(), x);
  const float* wide_w = widened(ctx, ws, d.w_count(), w.data);
  float* wide_y = ws.take<float>(static_cast<std::size_t>(d.y_count()));
  ctx.table().f32.conv2d_forward(ctx, d, wide_x, wide_w, bias, wide_y);
  ctx.table().cast_to_bf16(ctx, {.count = d.y_count()}, wide_y, y);
}

void backward_data_widened(Context& ctx, const Conv2dProblem& d, const bf16* dy, Filter<bf16> w,
                           bf16* dx) {
  Workspace ws(ctx);
  const float* wide_dy = widened(ctx, ws, d.y_count(), dy);
  const float* wide_w = widened(ctx, ws, d.w_count(), w.data);
  float* wide_dx = ws.take<float>(static_cast<std::size_t>(d.x_count()));
  ctx.table().f32.conv2d_backward_data(ctx, d, wide_dy, wide_w, wide_dx);
  ctx.table().cast_to_bf16(ctx, {.count = d.x_count()}, wide_dx, dx);
}

void backward_filter_widened(Context& ctx, const Conv2dProblem& d, const bf16* x, const bf16* dy,
                             float* dw, float* db) {
  Workspace ws(ctx);
  const float* wide_x = widened(ctx, ws, d.x_count(), x);
  const float* wide_dy = widened(ctx, ws, d.y_count(), dy);
  ctx.table().f32.conv2d_backward_filter(ctx, d, wide_x, wide_dy, dw, db);
}

// --- what oneDNN takes
// -------------------------------------------------------------------------------

bool supports_activation(const Conv2dActivationProblem& d, const DeviceInfo&) {
  return d.activation == Activation::LeakyRelu && d.slope != 0.0f;
}

template <class T>
void add_typed(TypedOps<T>& ops) {
  ops.conv2d_forward.prepend({"onednn", nullptr, forward<T>});
  ops.conv2d_backward_data.prepend({"onednn", nullptr, backward_data<T>});
  ops.conv2d_backward_filter.prepend({"onednn", nullptr, backward_filter<T>});
  ops.conv2d_activation_forward.prepend({"onednn", supports_activation, activation_forward<T>});
}

}  // namespace

void add_conv2d(KernelTable& table) {
  auto& half = table.bf16_ops;
  half.conv2d_forward.prepend({"widened", nullptr, forward_widened});
  half.conv2d_backward_data.prepend({"widened", nullptr, backward_data_widened});
  half.conv2d_backward_filter.prepend({"widened", nullptr, backward_filter_widened});
  add_typed(table.f32);
  if (onednn::has_bf16()) add_typed(half);
}

}  // namespace subpix::kernels::cpu
