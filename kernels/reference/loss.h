#pragma once

#include <tuple>

#include "kernels/api/problem.h"
#include "kernels/reference/number.h"

/// Losses: loss [1] and its gradient dx (or null) in one pass.
namespace subpix::kernels::reference {

inline double sign(double v) { return v > 0.0 ? 1.0 : v < 0.0 ? -1.0 : v; }  // NaN stays NaN

/// loss = scale * sum (x - t)^2.
template <class T>
void mse_loss(const LossProblem& d, const T* x, const T* t, Param<T>* loss, T* dx) {
  double sum = 0.0;
  for (Index i = 0; i < d.count; ++i) {
    const double e = load(x[i]) - load(t[i]);
    sum += e * e;
    if (dx) dx[i] = store<T>(2.0 * load(d.scale) * e);
  }
  *loss = static_cast<Param<T>>(load(d.scale) * sum);
}

/// loss = scale * sum |x - t|; the derivative at 0 is 0.
template <class T>
void l1_loss(const LossProblem& d, const T* x, const T* t, Param<T>* loss, T* dx) {
  double sum = 0.0;
  for (Index i = 0; i < d.count; ++i) {
    const double e = load(x[i]) - load(t[i]);
    sum += std::fabs(e);
    if (dx) dx[i] = store<T>(load(d.scale) * sign(e));
  }
  *loss = static_cast<Param<T>>(load(d.scale) * sum);
}

/// loss = -scale * sum (target * log(sigmoid(x)) + (1 - target) * log(1 - sigmoid(x))), written so
/// that no exponential can overflow: max(x,0) - x*target + log1p(exp(-|x|)).
template <class T>
void bce_with_logits(const LossProblem& d, const T* x, Param<T>* loss, T* dx) {
  const double target = load(d.target);
  double sum = 0.0;
  for (Index i = 0; i < d.count; ++i) {
    const double v = load(x[i]), small = std::exp(-std::fabs(v));
    sum += (v > 0.0 ? v : 0.0) - v * target + std::log1p(small);
    const double sigmoid = v > 0.0 ? 1.0 / (1.0 + small) : small / (1.0 + small);
    if (dx) dx[i] = store<T>(load(d.scale) * (sigmoid - target));
  }
  *loss = static_cast<Param<T>>(load(d.scale) * sum);
}

/// Of x [N,H,W,C]: scale * sum of |d| or d*d over the differences d of vertical and horizontal
/// neighbours. dx gathers the up to four differences that a pixel is part of.
template <class T>
void total_variation(const VariationProblem& d, const T* x, Param<T>* loss, T* dx) {
  const auto slope = [&](double e) { return d.squared ? 2.0 * e : sign(e); };
  double sum = 0.0;
  for (Index n = 0; n < d.n; ++n)
    for (Index h = 0; h < d.h; ++h)
      for (Index w = 0; w < d.w; ++w)
        for (Index c = 0; c < d.c; ++c) {
          const Index i = ((n * d.h + h) * d.w + w) * d.c + c;
          const Index down = d.w * d.c, right = d.c;
          const double here = load(x[i]);
          double gradient = 0.0;
          for (const auto& [before, after, step] :
               {std::tuple{h > 0, h + 1 < d.h, down}, std::tuple{w > 0, w + 1 < d.w, right}}) {
            if (before) gradient += slope(here - load(x[i - step]));
            if (!after) continue;
            const double e = load(x[i + step]) - here;
            sum += d.squared ? e * e : std::fabs(e);
            gradient -= slope(e);
          }
          if (dx) dx[i] = store<T>(load(d.scale) * gradient);
        }
  *loss = static_cast<Param<T>>(load(d.scale) * sum);
}

}  // namespace subpix::kernels::reference
