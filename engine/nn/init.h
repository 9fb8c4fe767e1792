#pragma once

#include <cstdint>
#include <vector>

#include "engine/core/random.h"
#include "engine/core/shape.h"

namespace subpix::engine::nn {

enum class InitKind : std::uint8_t {
  KaimingNormal,  ///< He et al. 2015 eq. 14: std = sqrt(2 / ((1 + slope^2) * fan_in))
  XavierUniform,  ///< Glorot and Bengio 2010 eq. 16: limit = sqrt(6 / (fan_in + fan_out))
  Icnr,           ///< Aitken et al. 2017: KaimingNormal of K/s^2 filters, each repeated for its s^2
                  ///< sub-pixels
};

/// Values of a filter [K,R,S,C] in memory order, drawn in the order of the file (OIHW; a shuffle's
/// channels as (c, i, j)), so that they do not depend on the memory layout. fan_in = C*R*S, fan_out
/// = K*R*S. shuffle: the sub-pixel scale s whose channels K are, 1 for none; K is a multiple of
/// s^2. slope: negative slope of the activation that follows (KaimingNormal, Icnr).
std::vector<float> init_filter(const Shape& krsc, InitKind kind, float slope, Index shuffle,
                               Philox& random);
/// A matrix [out,in] in file order, KaimingNormal with fan_in = in.
std::vector<float> init_dense(const Shape& shape, float slope, Philox& random);

}  // namespace subpix::engine::nn
