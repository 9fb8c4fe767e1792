#include <array>

#include "kernels/api/kernels.h"
#include "kernels/cpu/channel_sums.h"
#include "kernels/cpu/variants.h"

/// PReLU and LeakyReLU. A comparison with NaN is false, so NaN takes the branch that keeps it.
namespace subpix::kernels::cpu {

namespace {

/// The slope of each channel: given per channel, or one for all spread out in the workspace.
const float* slopes(Workspace& ws, const ChannelProblem& d, const float* slope) {
  if (!d.shared) return slope;
  float* spread = ws.take<float>(static_cast<std::size_t>(d.c));
  std::fill_n(spread, d.c, *slope);
  return spread;
}

template <class T>
void prelu_forward(Context& ctx, const ChannelProblem& d, const T* x, const float* slope, T* y) {
  Workspace ws(ctx);
  const float* own = slopes(ws, d, slope);
  for_each_channel(d.rows, d.c, [=](Index i, Index j, Index lanes) {
    const Vec v = load(x + i, lanes);
    save(y + i, v < 0.0f ? v * load(own + j, lanes) : v, lanes);
  });
}

/// dx and the terms of dslope in one pass over x and dy.
template <class T>
void prelu_backward(Context& ctx, const ChannelProblem& d, const T* x, const T* dy,
                    const float* slope, T* dx, float* dslope) {
  Workspace ws(ctx);
  const float* own = slopes(ws, d, slope);
  if (!dslope) {
    if (!dx) return;
    for_each_channel(d.rows, d.c, [=](Index i, Index j, Index lanes) {
      const Vec gradient = load(dy + i, lanes);
      save(dx + i, load(x + i, lanes) > 0.0f ? gradient : gradient * load(own + j, lanes), lanes);
    });
    return;
  }
  double* total = ws.take<double>(static_cast<std::size_t>(d.c));
  channel_sums<1>(ws, d.rows, d.c, total, [=](Index i, Index j, Index lanes) {
    const Vec v = load(x + i, lanes), gradient = load(dy + i, lanes);
    if (dx) save(dx + i, v > 0.0f ? gradient : gradient * load(own + j, lanes), lanes);
    return std::array{v > 0.0f ? Vec{} : gradient * v};
  });
  if (!d.shared) {
    for (Index j = 0; j < d.c; ++j) dslope[j] = static_cast<float>(total[j]);
    return;
  }
  double sum = 0.0;
  for (Index j = 0; j < d.c; ++j) sum += total[j];
  *dslope = static_cast<float>(sum);
}

template <class T>
void leaky_relu_forward(Context&, const ElementProblem& d, const T* x, T* y) {
  const float alpha = d.alpha;
  for_each_register(d.count, [=](Index i, Index lanes) {
    const Vec v = load(x + i, lanes);
    save(y + i, v < 0.0f ? v * alpha : v, lanes);
  });
}

template <class T>
void leaky_relu_backward(Context&, const ElementProblem& d, const T* y, const T* dy, T* dx) {
  const float alpha = d.alpha;
  for_each_register(d.count, [=](Index i, Index lanes) {
    const Vec gradient = load(dy + i, lanes);
    save(dx + i, load(y + i, lanes) > 0.0f ? gradient : gradient * alpha, lanes);
  });
}

template <class T>
void add_typed(TypedOps<T>& ops) {
  ops.prelu_forward.prepend({"simd", nullptr, prelu_forward<T>});
  ops.prelu_backward.prepend({"simd", nullptr, prelu_backward<T>});
  ops.leaky_relu_forward.prepend({"simd", nullptr, leaky_relu_forward<T>});
  ops.leaky_relu_backward.prepend({"simd", nullptr, leaky_relu_backward<T>});
}

}  // namespace

void add_activation(KernelTable& table) {
  add_typed(table.f32);
  add_typed(table.bf16_ops);
}

}  // namespace subpix::kernels::cpu
