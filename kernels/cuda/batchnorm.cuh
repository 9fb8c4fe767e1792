#pragma once

// What the kernels of batch norm share: batchnorm.cu explains them, batchnorm_resident.cu holds the
// variant of one launch, norm_fused.cu the parts that the fused ops need alone.

#include "kernels/api/kernels.h"
#include "kernels/cuda/gpu/gpu.cuh"

namespace subpix::kernels::KERNEL_TARGET {

/// y = (x - mean) * scale + shift: x and mean are subtracted first, so that data far from zero
/// lose nothing.
struct Normalization {
  float mean, scale, shift;
  GPU_DEV float operator()(float x) const { return (x - mean) * scale + shift; }
};

/// dx = scale * (dy - dbeta / rows - xhat * dgamma / rows) with all that belongs to the channel
/// multiplied out: scale * dy - offset - (x - mean) * slope.
struct NormGradient {
  float mean, scale, offset, slope;
  NormGradient() = default;
  GPU_DEV NormGradient(float mean_, float inv_std, float gamma, float dgamma, float dbeta,
                       float inv_rows)
      : mean(mean_),
        scale(gamma * inv_std),
        offset(scale * dbeta * inv_rows),
        slope(scale * inv_std * dgamma * inv_rows) {}
  GPU_DEV float operator()(float x, float dy) const {
    return scale * dy - offset - (x - mean) * slope;
  }
};

/// The map (channel_map.cuh) from x and dy to dx when the sums are known.
struct NormBackwardMap {
  static constexpr int kInputs = 2;
  const float *mean, *inv_std, *gamma, *dgamma, *dbeta;
  float inv_rows;
  using Channel = NormGradient;
  GPU_DEV Channel channel(Index c) const {
    return {mean[c], inv_std[c], gamma[c], dgamma[c], dbeta[c], inv_rows};
  }
  GPU_DEV static float apply(const Channel& k, float x, float dy) { return k(x, dy); }
};
inline float inverse_rows(const NormProblem& p) {
  return static_cast<float>(1.0 / static_cast<double>(p.rows));
}

/// Where the statistics of a batch go, all [c]; the running ones may be null.
struct NormStatistics {
  float *mean, *inv_std, *running_mean, *running_var;
  float eps, keep, momentum;  ///< keep = 1 - momentum

  static NormStatistics of(const NormProblem& p, float* mean, float* inv_std, float* running_mean,
                           float* running_var) {
    return {mean,        inv_std, running_mean,
            running_var, p.eps,   static_cast<float>(1.0 - static_cast<double>(p.momentum)),
            p.momentum};
  }
  GPU_DEV float inverse_deviation(float squares, Index rows) const {
    return 1.0f / sqrtf(squares / static_cast<float>(rows) + eps);
  }
  /// squares: the sum of (x - mean)^2 over the rows of the channel.
  GPU_DEV void store(Index channel, float mean_of_batch, float squares, Index rows) const {
    mean[channel] = mean_of_batch;
    inv_std[channel] = inverse_deviation(squares, rows);
    if (!running_mean) return;
    // Of a single row the squares are zero, and so is what this makes of them.
    const float unbiased = squares / static_cast<float>(rows > 1 ? rows - 1 : 1);
    running_mean[channel] = keep * running_mean[channel] + momentum * mean_of_batch;
    running_var[channel] = keep * running_var[channel] + momentum * unbiased;
  }
};

/// The variant "resident" (batchnorm_resident.cu).
bool batchnorm_resident_supports(const NormProblem& p, const DeviceInfo& device, int pack);
template <class T>
void batchnorm_forward_resident(Context& ctx, const NormProblem& p, const T* x, const float* gamma,
                                const float* beta, T* y, NormStatistics statistics);
template <class T>
void batchnorm_backward_resident(Context& ctx, const NormProblem& p, const T* x, const T* dy,
                                 const float* gamma, const float* mean, const float* inv_std, T* dx,
                                 float* dgamma, float* dbeta);

}  // namespace subpix::kernels::KERNEL_TARGET
