#include <algorithm>
#include <cstring>

#include "kernels/api/kernels.h"
#include "kernels/cpu/filter.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/variants.h"

/// Convolutions padded by more than 3, which the generator's 9x9 layers are: the choice without
/// AVX-512.
///
/// oneDNN's direct kernels for AVX2 and older take no more padding than the few outputs they keep
/// in registers. It then unfolds the image and multiplies matrices, which is several times slower,
/// and sums an output's terms in an order that depends on where in the matrix the output lies, so
/// that a part of a picture has other bits than the whole. Here the image is copied into one with a
/// border of zeros and convolved without padding, which the direct kernels take.
namespace subpix::kernels::cpu {

namespace {

using onednn::ConvForm;
using onednn::ConvolutionForward;
using onednn::ConvShape;

/// x [n,h,w,c] amid zeros: to [n, top+h+bottom, left+w+right, c].
void copy_with_border(const ConvShape& d, const float* x, float* to) {
  const Index high = d.top + d.h + d.bottom, row = (d.left + d.w + d.right) * d.c;
  parallel_ranges(d.n * high, row, [&](Range own) {
    for (Index i = own.begin; i < own.end; ++i) {
      const Index y = i % high - d.top;
      float* out = to + i * row;
      if (y < 0 || y >= d.h) {
        std::fill_n(out, row, 0.0f);
        continue;
      }
      const float* in = x + (i / high * d.h + y) * d.w * d.c;
      std::fill_n(out, d.left * d.c, 0.0f);
      std::memcpy(out + d.left * d.c, in, static_cast<std::size_t>(d.w * d.c) * sizeof(float));
      std::fill_n(out + (d.left + d.w) * d.c, d.right * d.c, 0.0f);
    }
  });
}

/// y = the convolution of x by `shape`, with the filter of `d` in this form.
void run(Context& ctx, const Conv2dProblem& d, const ConvShape& shape, FilterForm form,
         const float* x, const Filter<float>& w, const float* bias, float* y) {
  const ConvForm what{.x = DType::F32, .w = DType::F32, .y = DType::F32, .bias = bias != nullptr};
  ConvShape inner = shape;
  inner.h += shape.top + shape.bottom;
  inner.w += shape.left + shape.right;
  inner.top = inner.left = inner.bottom = inner.right = 0;
  const std::string key =
      "onednn/bordered/" + shape.key() + what.key() + std::to_string(static_cast<int>(form));
  using Kept = Prepared<ConvolutionForward>;
  Kept& prepared = cached<Kept>(ctx, key, [&] {
    return std::make_shared<Kept>(ConvolutionForward(inner, what), formed(form, d, DType::F32));
  });
  Workspace ws(ctx);
  std::byte* scratch = ws.take<std::byte>(prepared.scratch_bytes());
  const onednn::memory& filter = packed_filter(ctx, ws, d, form, w, prepared, scratch);
  float* bordered = ws.take<float>(static_cast<std::size_t>(inner.n * inner.h * inner.w * inner.c));
  copy_with_border(shape, x, bordered);
  prepared.convolution(bordered, filter, bias, y, scratch);
}

void forward(Context& ctx, const Conv2dProblem& d, const float* x, Filter<float> w,
             const float* bias, float* y) {
  run(ctx, d, onednn::shape_of(d), FilterForm::Plain, x, w, bias, y);
}

void backward_data(Context& ctx, const Conv2dProblem& d, const float* dy, Filter<float> w,
                   float* dx) {
  run(ctx, d, onednn::transposed(d), FilterForm::Turned, dy, w, nullptr, dx);
}

constexpr Index kMostPadding = 3;  // that the direct kernels take everywhere

bool needs_border(const ConvShape& d) {
  return d.stride == 1 && std::max({d.top, d.left, d.bottom, d.right}) > kMostPadding;
}

bool supports_forward(const Conv2dProblem& d, const DeviceInfo&) {
  return needs_border(onednn::shape_of(d));
}
bool supports_backward_data(const Conv2dProblem& d, const DeviceInfo&) {
  return d.stride == 1 && d.pad < d.r && d.pad < d.s && needs_border(onednn::transposed(d));
}

}  // namespace

void add_conv2d_bordered(KernelTable& table) {
  const auto add = [](auto& op, auto supports, auto run_op) {
    // has_bf16() is AVX-512, where it is last: there to be tested, and for overrides.
    if (onednn::has_bf16())
      op.append({"bordered", supports, run_op});
    else
      op.prepend({"bordered", supports, run_op});
  };
  add(table.f32.conv2d_forward, supports_forward, forward);
  add(table.f32.conv2d_backward_data, supports_backward_data, backward_data);
}

}  // namespace subpix::kernels::cpu
