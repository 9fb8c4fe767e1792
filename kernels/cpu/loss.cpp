#include <array>
#include <cmath>

#include "kernels/api/kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/variants.h"

/// Losses with their gradients in one pass; the sums are double, one for each part.
namespace subpix::kernels::cpu {

namespace {

float sign(float v) { return v > 0.0f ? 1.0f : v < 0.0f ? -1.0f : v; }  // NaN stays NaN

/// *loss = scale * the sum of each(range) over the parts, in their order.
template <class Each>
void sum_loss(Context& ctx, Index count, Index weight, float scale, float* loss, Each&& each) {
  const int parts = part_count(count, weight);
  Workspace ws(ctx);
  double* sums = ws.take<double>(static_cast<std::size_t>(parts));
  parallel_parts(parts, [&](int part) { sums[part] = each(part_range(count, part, parts)); });
  double sum = 0.0;
  for (int part = 0; part < parts; ++part) sum += sums[part];
  *loss = static_cast<float>(static_cast<double>(scale) * sum);
}

/// term(e) and slope(e) of the difference e = x - t, which is exact in double.
template <class T, class Term, class Slope>
void difference_loss(Context& ctx, const LossProblem& d, const T* x, const T* t, float* loss, T* dx,
                     Term term, Slope slope) {
  sum_loss(ctx, d.count, 1, d.scale, loss, [=](Range own) {
    double sum = 0.0;
    if (dx) {
#pragma omp simd reduction(+ : sum)
      for (Index i = own.begin; i < own.end; ++i) {
        const double e = static_cast<double>(to_float(x[i])) - static_cast<double>(to_float(t[i]));
        sum += term(e);
        dx[i] = store<T>(slope(static_cast<float>(e)));
      }
    } else {
#pragma omp simd reduction(+ : sum)
      for (Index i = own.begin; i < own.end; ++i)
        sum += term(static_cast<double>(to_float(x[i])) - static_cast<double>(to_float(t[i])));
    }
    return sum;
  });
}

template <class T>
void mse_loss(Context& ctx, const LossProblem& d, const T* x, const T* t, float* loss, T* dx) {
  const float twice = 2.0f * d.scale;
  difference_loss(
      ctx, d, x, t, loss, dx, [](double e) { return e * e; },
      [twice](float e) { return twice * e; });
}

template <class T>
void l1_loss(Context& ctx, const LossProblem& d, const T* x, const T* t, float* loss, T* dx) {
  const float scale = d.scale;
  difference_loss(
      ctx, d, x, t, loss, dx, [](double e) { return std::fabs(e); },
      [scale](float e) { return scale * sign(e); });
}

/// Rows of all images are the units; a row reads its neighbours, so parts only share inputs.
template <class T>
void total_variation(Context& ctx, const VariationProblem& d, const T* x, float* loss, T* dx) {
  const Index row = d.w * d.c;
  const auto slope = [squared = d.squared](float e) { return squared ? 2.0f * e : sign(e); };
  sum_loss(ctx, d.n * d.h, row, d.scale, loss, [=](Range own) {
    double sum = 0.0;
    for (Index line = own.begin; line < own.end; ++line) {
      const Index h = line % d.h;
      const bool above = h > 0, below = h + 1 < d.h;
      const T* here = x + line * row;
#pragma omp simd reduction(+ : sum)
      for (Index i = 0; i < row; ++i) {
        const float v = to_float(here[i]);
        const float down = below ? to_float(here[i + row]) - v : 0.0f;
        const float right = i + d.c < row ? to_float(here[i + d.c]) - v : 0.0f;
        const auto wide_down = static_cast<double>(down), wide_right = static_cast<double>(right);
        sum += d.squared ? wide_down * wide_down + wide_right * wide_right
                         : std::fabs(wide_down) + std::fabs(wide_right);
        if (!dx) continue;
        const float up = above ? v - to_float(here[i - row]) : 0.0f;
        const float left = i >= d.c ? v - to_float(here[i - d.c]) : 0.0f;
        const float gradient = slope(up) - slope(down) + slope(left) - slope(right);
        dx[line * row + i] = store<T>(d.scale * gradient);
      }
    }
    return sum;
  });
}

template <class T>
void add_typed(TypedOps<T>& ops) {
  ops.mse_loss.prepend({"openmp", nullptr, mse_loss<T>});
  ops.l1_loss.prepend({"openmp", nullptr, l1_loss<T>});
  ops.total_variation.prepend({"openmp", nullptr, total_variation<T>});
}

}  // namespace

void add_loss(KernelTable& table) {
  // bce_with_logits sees one number per image: the reference's loop serves it.
  add_typed(table.f32);
  add_typed(table.bf16_ops);
}

}  // namespace subpix::kernels::cpu
