#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/api/types.h"

/// Note [The oracle]
/// Every function of this folder is the plainest loop over the formula in kernels/api, written once
/// for T = float, bf16 and double. Sums and intermediate values are double whatever T is; a result
/// is rounded once, when it is stored. With T = double the functions are checked against finite
/// differences and adjoint identities, and every other table is then compared with them.
namespace subpix::kernels::reference {

/// What the API holds in float whatever T is (biases, slopes, statistics, losses, weight
/// gradients): float, or double when the oracle itself is double.
template <class T>
struct ParamOf {
  using type = float;
};
template <>
struct ParamOf<double> {
  using type = double;
};
template <class T>
using Param = typename ParamOf<T>::type;

template <class T>
double load(T v) {
  return static_cast<double>(to_float(v));
}

}  // namespace subpix::kernels::reference
