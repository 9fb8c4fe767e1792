#pragma once

#include "kernels/api/problem.h"
#include "kernels/reference/number.h"

/// Dense layer: y[n,o] = bias[o] + sum_i x[n,i] * w[o,i]. x [n,in], w [out,in], y [n,out].
namespace subpix::kernels::reference {

/// bias [out] or null.
template <class T>
void dense_forward(const DenseProblem& d, const T* x, const T* w, const Param<T>* bias, T* y) {
  for (Index n = 0; n < d.n; ++n)
    for (Index o = 0; o < d.out; ++o) {
      double sum = bias ? load(bias[o]) : 0.0;
      for (Index i = 0; i < d.in; ++i) sum += load(x[n * d.in + i]) * load(w[o * d.in + i]);
      y[n * d.out + o] = store<T>(sum);
    }
}

template <class T>
void dense_backward_data(const DenseProblem& d, const T* dy, const T* w, T* dx) {
  for (Index n = 0; n < d.n; ++n)
    for (Index i = 0; i < d.in; ++i) {
      double sum = 0.0;
      for (Index o = 0; o < d.out; ++o) sum += load(dy[n * d.out + o]) * load(w[o * d.in + i]);
      dx[n * d.in + i] = store<T>(sum);
    }
}

/// db [out] or null.
template <class T>
void dense_backward_filter(const DenseProblem& d, const T* x, const T* dy, Param<T>* dw,
                           Param<T>* db) {
  for (Index o = 0; o < d.out; ++o) {
    for (Index i = 0; i < d.in; ++i) {
      double sum = 0.0;
      for (Index n = 0; n < d.n; ++n) sum += load(dy[n * d.out + o]) * load(x[n * d.in + i]);
      dw[o * d.in + i] = static_cast<Param<T>>(sum);
    }
    if (!db) continue;
    double sum = 0.0;
    for (Index n = 0; n < d.n; ++n) sum += load(dy[n * d.out + o]);
    db[o] = static_cast<Param<T>>(sum);
  }
}

}  // namespace subpix::kernels::reference
