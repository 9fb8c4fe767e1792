#pragma once

#include "kernels/api/problem.h"
#include "kernels/reference/number.h"

/// PReLU (He et al., arXiv 1502.01852, eq. 1), LeakyReLU and ReLU. At 0 the derivative is that of
/// the negative side.
namespace subpix::kernels::reference {

/// x, y [rows,c]; slope [c], or [1] where d.shared.
template <class T>
void prelu_forward(const ChannelProblem& d, const T* x, const Param<T>* slope, T* y) {
  for (Index i = 0; i < d.rows; ++i)
    for (Index c = 0; c < d.c; ++c) {
      const double v = load(x[i * d.c + c]);
      y[i * d.c + c] = store<T>(v < 0.0 ? load(slope[d.shared ? 0 : c]) * v : v);
    }
}

/// dx = dy where x > 0, else slope * dy; dslope = sum over x <= 0 of dy * x. Each may be null.
template <class T>
void prelu_backward(const ChannelProblem& d, const T* x, const T* dy, const Param<T>* slope, T* dx,
                    Param<T>* dslope) {
  double total = 0.0;
  for (Index c = 0; c < d.c; ++c) {
    double sum = 0.0;
    for (Index i = 0; i < d.rows; ++i) {
      const double v = load(x[i * d.c + c]), g = load(dy[i * d.c + c]);
      if (dx) dx[i * d.c + c] = store<T>(v > 0.0 ? g : load(slope[d.shared ? 0 : c]) * g);
      if (!(v > 0.0)) sum += g * v;
    }
    total += sum;
    if (dslope && !d.shared) dslope[c] = static_cast<Param<T>>(sum);
  }
  if (dslope && d.shared) dslope[0] = static_cast<Param<T>>(total);
}

/// y = x, times alpha where x < 0; y may be x.
template <class T>
void leaky_relu_forward(const ElementProblem& d, const T* x, T* y) {
  for (Index i = 0; i < d.count; ++i) {
    const double v = load(x[i]);
    y[i] = store<T>(v < 0.0 ? load(d.alpha) * v : v);
  }
}

/// From the output y, whose sign is that of x for alpha >= 0.
template <class T>
void leaky_relu_backward(const ElementProblem& d, const T* y, const T* dy, T* dx) {
  for (Index i = 0; i < d.count; ++i)
    dx[i] = store<T>(load(y[i]) > 0.0 ? load(dy[i]) : load(d.alpha) * load(dy[i]));
}

}  // namespace subpix::kernels::reference
