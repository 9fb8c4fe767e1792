#pragma once

#include "kernels/api/problem.h"
#include "kernels/reference/number.h"

/// Batch normalisation per channel of x [rows,c]: y = gamma * (x - mean) / sqrt(var + eps) + beta.
namespace subpix::kernels::reference {

/// mean, inv_std [c] are saved for backward; running_mean, running_var [c] may both be null. The
/// batch is normalised by the biased variance, the running variance takes the unbiased one (that of
/// a single row counts as the biased one, zero). Statistics in two passes, so that nothing cancels.
template <class T>
void batchnorm_forward(const NormProblem& d, const T* x, const Param<T>* gamma,
                       const Param<T>* beta, T* y, Param<T>* mean, Param<T>* inv_std,
                       Param<T>* running_mean, Param<T>* running_var) {
  const double rows = static_cast<double>(d.rows);
  const double momentum = load(d.momentum);
  for (Index c = 0; c < d.c; ++c) {
    double sum = 0.0;
    for (Index i = 0; i < d.rows; ++i) sum += load(x[i * d.c + c]);
    const double mu = sum / rows;
    double squares = 0.0;
    for (Index i = 0; i < d.rows; ++i) {
      const double centred = load(x[i * d.c + c]) - mu;
      squares += centred * centred;
    }
    const double var = squares / rows;
    const double scale = 1.0 / std::sqrt(var + load(d.eps));
    for (Index i = 0; i < d.rows; ++i)
      y[i * d.c + c] =
          store<T>(load(gamma[c]) * (load(x[i * d.c + c]) - mu) * scale + load(beta[c]));
    mean[c] = static_cast<Param<T>>(mu);
    inv_std[c] = static_cast<Param<T>>(scale);
    if (!running_mean) continue;
    const double unbiased = d.rows > 1 ? squares / (rows - 1.0) : var;
    running_mean[c] =
        static_cast<Param<T>>((1.0 - momentum) * load(running_mean[c]) + momentum * mu);
    running_var[c] =
        static_cast<Param<T>>((1.0 - momentum) * load(running_var[c]) + momentum * unbiased);
  }
}

/// With xhat = (x - mean) * inv_std: dbeta = sum dy, dgamma = sum dy * xhat and, since mean and
/// variance depend on x too, dx = gamma * inv_std * (dy - dbeta / rows - xhat * dgamma / rows).
template <class T>
void batchnorm_backward(const NormProblem& d, const T* x, const T* dy, const Param<T>* gamma,
                        const Param<T>* mean, const Param<T>* inv_std, T* dx, Param<T>* dgamma,
                        Param<T>* dbeta) {
  const double rows = static_cast<double>(d.rows);
  for (Index c = 0; c < d.c; ++c) {
    const double mu = load(mean[c]), scale = load(inv_std[c]);
    double sum = 0.0, dot = 0.0;
    for (Index i = 0; i < d.rows; ++i) {
      const double g = load(dy[i * d.c + c]);
      sum += g;
      dot += g * (load(x[i * d.c + c]) - mu) * scale;
    }
    for (Index i = 0; i < d.rows; ++i) {
      const double xhat = (load(x[i * d.c + c]) - mu) * scale;
      dx[i * d.c + c] = store<T>(load(gamma[c]) * scale *
                                 (load(dy[i * d.c + c]) - sum / rows - xhat * dot / rows));
    }
    dgamma[c] = static_cast<Param<T>>(dot);
    dbeta[c] = static_cast<Param<T>>(sum);
  }
}

/// y = gamma * (x - running_mean) / sqrt(running_var + eps) + beta.
template <class T>
void batchnorm_inference(const NormProblem& d, const T* x, const Param<T>* gamma,
                         const Param<T>* beta, const Param<T>* running_mean,
                         const Param<T>* running_var, T* y) {
  for (Index c = 0; c < d.c; ++c) {
    const double scale = load(gamma[c]) / std::sqrt(load(running_var[c]) + load(d.eps));
    for (Index i = 0; i < d.rows; ++i)
      y[i * d.c + c] =
          store<T>(scale * (load(x[i * d.c + c]) - load(running_mean[c])) + load(beta[c]));
  }
}

}  // namespace subpix::kernels::reference
