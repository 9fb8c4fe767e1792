#pragma once

#include "kernels/api/kernels.h"
#include "kernels/reference/number.h"

namespace subpix::kernels::reference {

/// One step of Adam (arXiv 1412.6980, algorithm 1) over a list of tensors; the formula stands at
/// AdamProblem. Tensor is AdamTensor, or a struct of the same members over double for the oracle.
/// scalars [2] = {step_size, inv_sqrt_bias2}.
template <class Tensor, class Real>
void adam(const AdamProblem& d, const Tensor* tensors, int tensor_count, const Real* scalars) {
  const double beta1 = load(d.beta1), beta2 = load(d.beta2), eps = load(d.eps);
  const double step_size = load(scalars[0]), inv_sqrt_bias2 = load(scalars[1]);
  for (int t = 0; t < tensor_count; ++t) {
    const Tensor& tensor = tensors[t];
    for (Index i = 0; i < tensor.count; ++i) {
      const double g = load(tensor.g[i]);
      const double m = beta1 * load(tensor.m[i]) + (1.0 - beta1) * g;
      const double v = beta2 * load(tensor.v[i]) + (1.0 - beta2) * g * g;
      const double w = load(tensor.w[i]) - step_size * m / (std::sqrt(v) * inv_sqrt_bias2 + eps);
      tensor.m[i] = static_cast<Real>(m);
      tensor.v[i] = static_cast<Real>(v);
      tensor.w[i] = static_cast<Real>(w);
      if (tensor.w_bf16) tensor.w_bf16[i] = store<bf16>(static_cast<float>(tensor.w[i]));
    }
  }
}

}  // namespace subpix::kernels::reference
