#pragma once

#include "kernels/api/problem.h"
#include "kernels/reference/number.h"

/// Ops that work on each element alone, casts, and reductions of a whole tensor.
namespace subpix::kernels::reference {

/// y may be a or b.
template <class T>
void add(const ElementProblem& d, const T* a, const T* b, T* y) {
  for (Index i = 0; i < d.count; ++i) y[i] = store<T>(load(a[i]) + load(b[i]));
}

/// y = alpha * x + beta * y; beta 0 does not read y, which may hold anything then.
template <class T>
void axpby(const ElementProblem& d, const T* x, T* y) {
  for (Index i = 0; i < d.count; ++i) {
    const double before = d.beta == 0.0f ? 0.0 : load(d.beta) * load(y[i]);
    y[i] = store<T>(load(d.alpha) * load(x[i]) + before);
  }
}

/// y = alpha * (*s) * x; s null counts as 1; y may be x.
template <class T>
void scale(const ElementProblem& d, const T* x, const Param<T>* s, T* y) {
  const double factor = load(d.alpha) * (s ? load(*s) : 1.0);
  for (Index i = 0; i < d.count; ++i) y[i] = store<T>(factor * load(x[i]));
}

template <class T>
void fill(const ElementProblem& d, T* y) {
  for (Index i = 0; i < d.count; ++i) y[i] = store<T>(load(d.alpha));
}

/// y[row,c] = x[row,c] * factor[c] + shift[c]; shift may be null.
template <class T>
void channel_affine(const ChannelProblem& d, const T* x, const Param<T>* factor,
                    const Param<T>* shift, T* y) {
  for (Index i = 0; i < d.rows; ++i)
    for (Index c = 0; c < d.c; ++c)
      y[i * d.c + c] =
          store<T>(load(x[i * d.c + c]) * load(factor[c]) + (shift ? load(shift[c]) : 0.0));
}

template <class T>
void from_bytes(const ElementProblem& d, const std::uint8_t* x, T* y) {
  for (Index i = 0; i < d.count; ++i)
    y[i] = store<T>(load(d.alpha) * static_cast<double>(x[i]) + load(d.beta));
}

/// y = floor(alpha * x + beta + 0.5) cut to 0..255; NaN gives 0.
template <class T>
void to_bytes(const ElementProblem& d, const T* x, std::uint8_t* y) {
  for (Index i = 0; i < d.count; ++i) {
    const double v = std::floor(load(d.alpha) * load(x[i]) + load(d.beta) + 0.5);
    y[i] = !(v > 0.0)  ? std::uint8_t{0}
           : v > 255.0 ? std::uint8_t{255}
                       : static_cast<std::uint8_t>(v);
  }
}

/// y [1]. A NaN makes sum, sum of squares and maximum NaN.
template <class T>
void reduce(const ReduceProblem& d, const T* x, Param<T>* y) {
  double result = 0.0;
  for (Index i = 0; i < d.count; ++i) {
    const double v = load(x[i]);
    switch (d.reduction) {
      case Reduction::Sum:
        result += v;
        break;
      case Reduction::SumSquares:
        result += v * v;
        break;
      case Reduction::MaxAbs:
        // No comparison with a NaN result is true, so a NaN stays.
        if (std::fabs(v) > result || std::isnan(v)) result = std::fabs(v);
        break;
      case Reduction::CountNonFinite:
        result += std::isfinite(v) ? 0.0 : 1.0;
        break;
    }
  }
  *y = static_cast<Param<T>>(result);
}

template <class From, class To>
void cast(const ElementProblem& d, const From* x, To* y) {
  for (Index i = 0; i < d.count; ++i) y[i] = store<To>(to_float(x[i]));
}

}  // namespace subpix::kernels::reference
