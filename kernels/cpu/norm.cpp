#include <array>
#include <cmath>

#include "kernels/api/kernels.h"
#include "kernels/cpu/channel_sums.h"
#include "kernels/cpu/variants.h"

/// Batch normalisation of [rows, c]: two sums over the rows, then one pass that writes. The
/// variance is the mean of centred squares, so that nothing cancels where the mean is large. Within
/// a training step the tensors of the trunk stay in the cache between the passes.
namespace subpix::kernels::cpu {

namespace {

template <class T>
void forward(Context& ctx, const NormProblem& d, const T* x, const float* gamma, const float* beta,
             T* y, float* mean, float* inv_std, float* running_mean, float* running_var) {
  Workspace ws(ctx);
  const auto c = static_cast<std::size_t>(d.c);
  double* total = ws.take<double>(c);
  float* scale = ws.take<float>(c);
  const double rows = static_cast<double>(d.rows);
  channel_sums<1>(ws, d.rows, d.c, total,
                  [x](Index i, Index, Index lanes) { return std::array{load(x + i, lanes)}; });
  // The mean is rounded to float for the centring; what that shifts is taken back out of the
  // squares below, since sum (x - m)^2 = sum (x - mean)^2 + rows * (mean - m)^2.
  double* exact_mean = ws.take<double>(c);
  for (Index j = 0; j < d.c; ++j) {
    exact_mean[j] = total[j] / rows;
    mean[j] = static_cast<float>(exact_mean[j]);
  }
  channel_sums<1>(ws, d.rows, d.c, total, [x, mean](Index i, Index j, Index lanes) {
    const Vec centred = load(x + i, lanes) - load(mean + j, lanes);
    return std::array{centred * centred};
  });
  for (Index j = 0; j < d.c; ++j) {
    const double rounding = exact_mean[j] - static_cast<double>(mean[j]);
    const double squares = std::max(0.0, total[j] - rows * rounding * rounding);
    const double var = squares / rows;
    const double inverse = 1.0 / std::sqrt(var + static_cast<double>(d.eps));
    inv_std[j] = static_cast<float>(inverse);
    scale[j] = static_cast<float>(static_cast<double>(gamma[j]) * inverse);
    if (!running_mean) continue;
    const double momentum = d.momentum;
    const double unbiased = d.rows > 1 ? squares / (rows - 1.0) : var;
    running_mean[j] = static_cast<float>((1.0 - momentum) * static_cast<double>(running_mean[j]) +
                                         momentum * exact_mean[j]);
    running_var[j] = static_cast<float>((1.0 - momentum) * static_cast<double>(running_var[j]) +
                                        momentum * unbiased);
  }
  for_each_channel(d.rows, d.c, [=](Index i, Index j, Index lanes) {
    const Vec centred = load(x + i, lanes) - load(mean + j, lanes);
    save(y + i, centred * load(scale + j, lanes) + load(beta + j, lanes), lanes);
  });
}

template <class T>
void backward(Context& ctx, const NormProblem& d, const T* x, const T* dy, const float* gamma,
              const float* mean, const float* inv_std, T* dx, float* dgamma, float* dbeta) {
  Workspace ws(ctx);
  const auto c = static_cast<std::size_t>(d.c);
  double* total = ws.take<double>(2 * c);
  channel_sums<2>(ws, d.rows, d.c, total, [=](Index i, Index j, Index lanes) {
    const Vec gradient = load(dy + i, lanes);
    const Vec centred = load(x + i, lanes) - load(mean + j, lanes);
    return std::array{gradient, gradient * centred};
  });
  // dx = factor * (dy - shift - (x - mean) * slope), see the reference for the derivation.
  float* factor = ws.take<float>(c);
  float* shift = ws.take<float>(c);
  float* slope = ws.take<float>(c);
  const double rows = static_cast<double>(d.rows);
  for (Index j = 0; j < d.c; ++j) {
    const double sum = total[j], inverse = inv_std[j], dot = total[d.c + j] * inverse;
    dbeta[j] = static_cast<float>(sum);
    dgamma[j] = static_cast<float>(dot);
    factor[j] = static_cast<float>(static_cast<double>(gamma[j]) * inverse);
    shift[j] = static_cast<float>(sum / rows);
    slope[j] = static_cast<float>(inverse * dot / rows);
  }
  for_each_channel(d.rows, d.c, [=](Index i, Index j, Index lanes) {
    const Vec centred = load(x + i, lanes) - load(mean + j, lanes);
    const Vec rest =
        load(dy + i, lanes) - load(shift + j, lanes) - centred * load(slope + j, lanes);
    save(dx + i, load(factor + j, lanes) * rest, lanes);
  });
}

template <class T>
void inference(Context& ctx, const NormProblem& d, const T* x, const float* gamma,
               const float* beta, const float* running_mean, const float* running_var, T* y) {
  Workspace ws(ctx);
  float* scale = ws.take<float>(static_cast<std::size_t>(d.c));
  for (Index j = 0; j < d.c; ++j)
    scale[j] = static_cast<float>(
        static_cast<double>(gamma[j]) /
        std::sqrt(static_cast<double>(running_var[j]) + static_cast<double>(d.eps)));
  for_each_channel(d.rows, d.c, [=](Index i, Index j, Index lanes) {
    const Vec centred = load(x + i, lanes) - load(running_mean + j, lanes);
    save(y + i, centred * load(scale + j, lanes) + load(beta + j, lanes), lanes);
  });
}

template <class T>
void add_typed(TypedOps<T>& ops) {
  ops.batchnorm_forward.prepend({"simd", nullptr, forward<T>});
  ops.batchnorm_backward.prepend({"simd", nullptr, backward<T>});
  ops.batchnorm_inference.prepend({"simd", nullptr, inference<T>});
}

}  // namespace

void add_norm(KernelTable& table) {
  add_typed(table.f32);
  add_typed(table.bf16_ops);
}

}  // namespace subpix::kernels::cpu
