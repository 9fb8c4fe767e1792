#pragma once

#include "kernels/api/problem.h"
#include "kernels/reference/activation.h"
#include "kernels/reference/number.h"

/// Convolution: y[n,p,q,k] = bias[k] + sum_{r,s,c} x[n, p*stride+r-pad, q*stride+s-pad, c] *
/// w[k,r,s,c]. x [N,H,W,C], w [K,R,S,C], y [N,P,Q,K]; pixels outside the image count as zero.
namespace subpix::kernels::reference {

/// bias [K] or null.
template <class T>
void conv2d_forward(const Conv2dProblem& d, const T* x, const T* w, const Param<T>* bias, T* y) {
  for (Index n = 0; n < d.n; ++n)
    for (Index p = 0; p < d.p(); ++p)
      for (Index q = 0; q < d.q(); ++q)
        for (Index k = 0; k < d.k; ++k) {
          double sum = bias ? load(bias[k]) : 0.0;
          for (Index r = 0; r < d.r; ++r) {
            const Index h = p * d.stride + r - d.pad;
            if (h < 0 || h >= d.h) continue;
            for (Index s = 0; s < d.s; ++s) {
              const Index v = q * d.stride + s - d.pad;
              if (v < 0 || v >= d.w) continue;
              const T* pixel = x + ((n * d.h + h) * d.w + v) * d.c;
              const T* taps = w + ((k * d.r + r) * d.s + s) * d.c;
              for (Index c = 0; c < d.c; ++c) sum += load(pixel[c]) * load(taps[c]);
            }
          }
          y[((n * d.p() + p) * d.q() + q) * d.k + k] = store<T>(sum);
        }
}

/// dx[n,h,w,c] sums the outputs that read x[n,h,w,c]: those with p*stride = h + pad - r and
/// likewise q, so with stride 2 only every second tap counts.
template <class T>
void conv2d_backward_data(const Conv2dProblem& d, const T* dy, const T* w, T* dx) {
  const Index P = d.p(), Q = d.q();
  for (Index n = 0; n < d.n; ++n)
    for (Index h = 0; h < d.h; ++h)
      for (Index v = 0; v < d.w; ++v)
        for (Index c = 0; c < d.c; ++c) {
          double sum = 0.0;
          for (Index r = 0; r < d.r; ++r) {
            const Index top = h + d.pad - r;
            if (top < 0 || top % d.stride != 0 || top / d.stride >= P) continue;
            for (Index s = 0; s < d.s; ++s) {
              const Index left = v + d.pad - s;
              if (left < 0 || left % d.stride != 0 || left / d.stride >= Q) continue;
              const T* pixel = dy + ((n * P + top / d.stride) * Q + left / d.stride) * d.k;
              for (Index k = 0; k < d.k; ++k)
                sum += load(pixel[k]) * load(w[((k * d.r + r) * d.s + s) * d.c + c]);
            }
          }
          dx[((n * d.h + h) * d.w + v) * d.c + c] = store<T>(sum);
        }
}

/// dw[k,r,s,c] = sum_{n,p,q} dy[n,p,q,k] * x[n, p*stride+r-pad, q*stride+s-pad, c];
/// db[k] = sum_{n,p,q} dy[n,p,q,k], db may be null.
template <class T>
void conv2d_backward_filter(const Conv2dProblem& d, const T* x, const T* dy, Param<T>* dw,
                            Param<T>* db) {
  const Index P = d.p(), Q = d.q();
  for (Index k = 0; k < d.k; ++k)
    for (Index r = 0; r < d.r; ++r)
      for (Index s = 0; s < d.s; ++s)
        for (Index c = 0; c < d.c; ++c) {
          double sum = 0.0;
          for (Index n = 0; n < d.n; ++n)
            for (Index p = 0; p < P; ++p) {
              const Index h = p * d.stride + r - d.pad;
              if (h < 0 || h >= d.h) continue;
              for (Index q = 0; q < Q; ++q) {
                const Index v = q * d.stride + s - d.pad;
                if (v < 0 || v >= d.w) continue;
                sum += load(dy[((n * P + p) * Q + q) * d.k + k]) *
                       load(x[((n * d.h + h) * d.w + v) * d.c + c]);
              }
            }
          dw[((k * d.r + r) * d.s + s) * d.c + c] = static_cast<Param<T>>(sum);
        }
  if (!db) return;
  for (Index k = 0; k < d.k; ++k) {
    double sum = 0.0;
    for (Index pixel = 0; pixel < d.n * P * Q; ++pixel) sum += load(dy[pixel * d.k + k]);
    db[k] = static_cast<Param<T>>(sum);
  }
}

/// The activation as a slope for negative values: 1 leaves them, 0 is ReLU.
inline float activation_slope(const Conv2dActivationProblem& d) {
  switch (d.activation) {
    case Activation::None:
      return 1.0f;
    case Activation::Relu:
      return 0.0f;
    case Activation::LeakyRelu:
      return d.slope;
  }
  return 1.0f;
}

/// conv2d_forward, then the activation in place. For the oracle; the tables' variant is composed of
/// their own ops.
template <class T>
void conv2d_activation_forward(const Conv2dActivationProblem& d, const T* x, const T* w,
                               const Param<T>* bias, T* y) {
  conv2d_forward<T>(d.conv, x, w, bias, y);
  if (d.activation == Activation::None) return;
  leaky_relu_forward<T>({.count = d.conv.y_count(), .alpha = activation_slope(d)}, y, y);
}

}  // namespace subpix::kernels::reference
