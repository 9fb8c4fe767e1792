#include <cmath>

#include "kernels/api/kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/variants.h"

/// One step of Adam over all tensors in one parallel pass: the parts are equal shares of the
/// concatenated tensors, so many small tensors cost no more than one large.
namespace subpix::kernels::cpu {

namespace {

struct Step {
  float beta1, beta2, rest1, rest2, eps, step_size, inv_sqrt_bias2;
};

/// Elements [begin, end) of one tensor.
void update(const Step& s, const AdamTensor& tensor, Range own) {
  float* __restrict w = tensor.w;
  float* __restrict m = tensor.m;
  float* __restrict v = tensor.v;
  const float* __restrict g = tensor.g;
#pragma omp simd
  for (Index i = own.begin; i < own.end; ++i) {
    const float mean = s.beta1 * m[i] + s.rest1 * g[i];
    const float square = s.beta2 * v[i] + s.rest2 * g[i] * g[i];
    m[i] = mean;
    v[i] = square;
    w[i] -= s.step_size * mean / (std::sqrt(square) * s.inv_sqrt_bias2 + s.eps);
  }
  if (!tensor.w_bf16) return;
  for (Index i = own.begin; i < own.end; ++i) tensor.w_bf16[i] = to_bf16(w[i]);
}

void adam(Context&, const AdamProblem& d, const AdamTensor* tensors, int tensor_count,
          const float* scalars) {
  const auto rest = [](float beta) { return static_cast<float>(1.0 - static_cast<double>(beta)); };
  const Step step{.beta1 = d.beta1,
                  .beta2 = d.beta2,
                  .rest1 = rest(d.beta1),
                  .rest2 = rest(d.beta2),
                  .eps = d.eps,
                  .step_size = scalars[0],
                  .inv_sqrt_bias2 = scalars[1]};
  Index total = 0;
  for (int t = 0; t < tensor_count; ++t) total += tensors[t].count;
  parallel_ranges(total, 1, [&](Range own) {
    Index first = 0;  // of the tensor, among all elements
    for (int t = 0; t < tensor_count && first < own.end; first += tensors[t++].count) {
      const Index begin = std::max(own.begin - first, Index{0});
      const Index end = std::min(own.end - first, tensors[t].count);
      if (begin < end) update(step, tensors[t], {begin, end});
    }
  });
}

}  // namespace

void add_adam(KernelTable& table) { table.adam.prepend({"simd", nullptr, adam}); }

}  // namespace subpix::kernels::cpu
