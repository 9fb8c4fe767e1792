#pragma once

#include "kernels/api/problem.h"

/// Problems of the fused ops: a convolution together with the work around it. What each op computes
/// stands in kernels.h; kernels/api/composed.h spells it out with plain ops.
namespace subpix::kernels {

/// How a kernel takes a map [.., c] that lies in memory as it was before its batch norm:
/// v = act(scale[c] * x + shift[c]), rounded once to the map's type. Padding stays zero: it
/// surrounds the activated map.
enum class InputForm : std::uint8_t {
  Plain,            ///< x itself
  Norm,             ///< no activation
  NormPRelu,        ///< slope [c]
  NormPReluShared,  ///< slope [1]
  NormLeakyRelu,    ///< one constant slope, part of the problem
};

/// The forward convolution (no bias: batch norm subtracts any constant) of a map in `form`, with
/// the batch statistics of its output; also the filter's gradient with x in `form`.
struct Conv2dNormProblem {
  Conv2dProblem conv;
  InputForm form = InputForm::Plain;
  float slope = 0.0f;  ///< of NormLeakyRelu
  float eps = 1e-5f;
  float momentum = 0.1f;

  void validate() const;
  double flops() const;
  double bytes(std::size_t element) const { return conv.bytes(element); }
  std::string key() const;
};

/// The filter gradients of several convolutions of one shape. The forms of their inputs stand in
/// the list (FilterGradient), as the layers of a network mix them.
struct Conv2dGroupProblem {
  Conv2dProblem conv;
  Index filters;  ///< how many

  void validate() const;
  double flops() const { return static_cast<double>(filters) * conv.flops(); }
  double bytes(std::size_t element) const {
    return static_cast<double>(filters) * conv.bytes(element);
  }
  std::string key() const;
};

/// The gradient of a convolution's input, with what follows on the way back: the skip connection's
/// gradient is added, then, where the input was in a form with a norm, the activation's derivative
/// and the channel sums that batch norm's gradient needs.
struct Conv2dNormBackwardProblem {
  Conv2dProblem conv;
  bool skip = false;
  InputForm form = InputForm::Plain;
  float slope = 0.0f;

  void validate() const;
  double flops() const;
  double bytes(std::size_t element) const;
  std::string key() const;
};

/// A map [rows, c] in a form, made explicit.
struct NormActivationProblem {
  Index rows, c;
  InputForm form = InputForm::Norm;
  float slope = 0.0f;

  Index count() const { return rows * c; }
  void validate() const;
  double flops() const { return 3.0 * static_cast<double>(count()); }
  double bytes(std::size_t element) const { return 2.0 * static_cast<double>(count() * element); }
  std::string key() const;
};

/// A convolution whose output is stored shuffled (ShuffleProblem's order), with PReLU where
/// `prelu`.
struct Conv2dShuffleProblem {
  Conv2dProblem conv;
  Index scale = 2;
  bool prelu = true;
  bool shared = false;  ///< one slope instead of one per output channel k / scale^2

  Index channels() const { return conv.k / (scale * scale); }
  void validate() const;
  double flops() const { return conv.flops() + 2.0 * static_cast<double>(conv.y_count()); }
  double bytes(std::size_t element) const;
  std::string key() const;
};

/// The way back through PReLU and shuffle: maps [N, H*scale, W*scale, C].
struct PReluShuffleProblem {
  ShuffleProblem shuffle;
  bool shared = false;

  void validate() const { shuffle.validate(); }
  double flops() const { return 4.0 * static_cast<double>(shuffle.count()); }
  double bytes(std::size_t element) const {
    return 3.0 * static_cast<double>(shuffle.count() * element);
  }
  std::string key() const { return shuffle.key() + (shared ? "shared" : ""); }
};

/// A convolution with bias, ReLU and 2x2 max pooling.
struct Conv2dPoolProblem {
  Conv2dProblem conv;

  PoolProblem pool() const { return {conv.n, conv.p(), conv.q(), conv.k}; }
  void validate() const;
  double flops() const { return conv.flops() + pool().flops(); }
  double bytes(std::size_t element) const;
  std::string key() const { return conv.key() + "pool"; }
};

}  // namespace subpix::kernels
