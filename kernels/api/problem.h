#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/api/error.h"

/// Problem structs: the sizes of one call of an op, and the arithmetic everybody otherwise
/// re-derives. Each has
///   validate()     throws subpix::InputError that names the offending size: sizes below 1, tensors
///   of
///                  more than 2^40 elements, an empty output, scalars out of range;
///   flops()        floating-point operations, a multiply-add counted as two;
///   bytes(e)       the least memory traffic: each operand once, each result once, e bytes an
///   element
///                  of activations and filters;
///   key()          a short text that names the problem in tests, benchmarks, plan files and
///   errors. It
///                  holds sizes and modes (and eps or a slope, which library objects are built
///                  with), not alpha, beta, scale, target, momentum, seeds, which change between
///                  calls.
namespace subpix::kernels {

using Index = std::int64_t;

/// y[n,p,q,k] = bias[k] + sum_{r,s,c} x[n, p*stride + r - pad, q*stride + s - pad, c] * w[k,r,s,c],
/// zero outside the image. x NHWC, w KRSC, y NPQK. R and S odd, at most 9; stride 1 or 2.
struct Conv2dProblem {
  Index n, h, w, c, k;
  Index r, s;
  Index stride = 1;
  Index pad = 0;

  Index p() const { return (h + 2 * pad - r) / stride + 1; }
  Index q() const { return (w + 2 * pad - s) / stride + 1; }
  Index x_count() const { return n * h * w * c; }
  Index w_count() const { return k * r * s * c; }
  Index y_count() const { return n * p() * q() * k; }
  void validate() const;
  double flops() const;
  double bytes(std::size_t element) const;
  std::string key() const;
};

enum class Activation : std::uint8_t { None, Relu, LeakyRelu };

/// A convolution with an activation applied to its output; slope is LeakyReLU's for negative
/// inputs.
struct Conv2dActivationProblem {
  Conv2dProblem conv;
  Activation activation = Activation::None;
  float slope = 0.0f;

  void validate() const;
  double flops() const { return conv.flops() + static_cast<double>(conv.y_count()); }
  double bytes(std::size_t element) const { return conv.bytes(element); }
  std::string key() const;
};

/// A [rows, c] matrix worked on per channel (rows = N*H*W): PReLU, per-channel affine.
/// shared: PReLU has one slope instead of c.
struct ChannelProblem {
  Index rows, c;
  bool shared = false;

  Index count() const { return rows * c; }
  void validate() const;
  double flops() const { return 2.0 * static_cast<double>(count()); }
  double bytes(std::size_t element) const;
  std::string key() const;
};

/// Batch normalisation over rows = N*H*W for each of c channels (biased variance; the running
/// variance takes the unbiased one, as PyTorch does). running = (1 - momentum) * running + momentum
/// * batch.
struct NormProblem {
  Index rows, c;
  float eps = 1e-5f;
  float momentum = 0.1f;

  Index count() const { return rows * c; }
  void validate() const;
  double flops() const { return 8.0 * static_cast<double>(count()); }
  double bytes(std::size_t element) const;
  std::string key() const;
};

/// `count` elements, each worked on alone; alpha and beta are the op's scalars (see kernels.h).
struct ElementProblem {
  Index count;
  float alpha = 1.0f;
  float beta = 0.0f;

  void validate() const;
  double flops() const { return 2.0 * static_cast<double>(count); }
  double bytes(std::size_t element) const { return 3.0 * static_cast<double>(count * element); }
  std::string key() const;
};

/// Sub-pixel shuffle (Shi et al., arXiv 1609.05158, eq. 4):
/// x [N, H, W, scale*scale*C] to y [N, H*scale, W*scale, C] with
/// y[n, h*scale + i, w*scale + j, c] = x[n, h, w, (i*scale + j)*C + c].
/// The channel order (i, j, c) keeps each output pixel's C channels contiguous in x; weight files
/// hold PyTorch's order (c, i, j), and the module converts (docs/decisions).
struct ShuffleProblem {
  Index n, h, w, c;
  Index scale = 2;

  Index count() const { return n * h * w * c * scale * scale; }
  void validate() const;
  double flops() const { return 0.0; }
  double bytes(std::size_t element) const { return 2.0 * static_cast<double>(count() * element); }
  std::string key() const;
};

/// 2x2 max pooling, stride 2, NHWC; an odd last row or column is dropped (P = H/2, Q = W/2).
struct PoolProblem {
  Index n, h, w, c;

  Index p() const { return h / 2; }
  Index q() const { return w / 2; }
  Index x_count() const { return n * h * w * c; }
  Index y_count() const { return n * p() * q() * c; }
  void validate() const;
  double flops() const { return 3.0 * static_cast<double>(y_count()); }
  double bytes(std::size_t element) const;
  std::string key() const;
};

/// y[n,o] = bias[o] + sum_i x[n,i] * w[o,i].
struct DenseProblem {
  Index n, in, out;

  void validate() const;
  double flops() const { return 2.0 * static_cast<double>(n) * static_cast<double>(in * out); }
  double bytes(std::size_t element) const;
  std::string key() const;
};

/// A loss over `count` elements: loss = scale * sum_i f(x_i, ...); scale holds weight and reduction
/// (1/count for a mean). target is bce_with_logits' label, 0 to 1.
struct LossProblem {
  Index count;
  float scale;
  float target = 0.0f;

  void validate() const;
  double flops() const { return 4.0 * static_cast<double>(count); }
  double bytes(std::size_t element) const { return 3.0 * static_cast<double>(count * element); }
  std::string key() const;
};

/// Total variation of x [N,H,W,C]: scale * sum over vertical and horizontal neighbour differences d
/// of |d|, or of d*d where `squared`.
struct VariationProblem {
  Index n, h, w, c;
  float scale;
  bool squared = false;

  Index count() const { return n * h * w * c; }
  void validate() const;
  double flops() const { return 6.0 * static_cast<double>(count()); }
  double bytes(std::size_t element) const { return 2.0 * static_cast<double>(count() * element); }
  std::string key() const;
};

enum class Reduction : std::uint8_t { Sum, SumSquares, MaxAbs, CountNonFinite };

struct ReduceProblem {
  Index count;
  Reduction reduction = Reduction::Sum;

  void validate() const;
  double flops() const { return 2.0 * static_cast<double>(count); }
  double bytes(std::size_t element) const { return static_cast<double>(count * element); }
  std::string key() const;
};

/// Philox4x32-10 (Salmon et al., SC'11): element i comes from word i%4 of the block with
/// counter = offset + i/4 (64 bits, low words first; the upper two words hold `stream`), key =
/// seed. Uniform: low + (high - low) * ((w >> 8) * 2^-24), each operation rounded to float on its
/// own, in [low, high) but for that rounding: equal bits on every backend. Normal: mean low,
/// standard deviation high; of words (a,b) = (0,1) and (2,3) come radius * cos(angle) and radius *
/// sin(angle) with radius = sqrt(-2 ln(((a >> 8) + 1) * 2^-24)) and angle = 2 pi (b >> 8) * 2^-24
/// (Box-Muller).
struct RandomProblem {
  Index count;
  std::uint64_t seed;
  std::uint64_t stream = 0;
  std::uint64_t offset = 0;
  float low = 0.0f;
  float high = 1.0f;

  void validate() const;
  double flops() const { return 60.0 * static_cast<double>(count); }
  double bytes(std::size_t) const { return 4.0 * static_cast<double>(count); }
  std::string key() const;
};

/// Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1) over a list of tensors, PyTorch's form:
/// m = b1*m + (1-b1)*g; v = b2*v + (1-b2)*g*g; w -= step_size * m / (sqrt(v) * inv_sqrt_bias2 +
/// eps) with step_size = lr / (1 - b1^t) and inv_sqrt_bias2 = 1 / sqrt(1 - b2^t) read from device
/// memory, so that a captured step can be replayed with new values.
struct AdamProblem {
  Index count;  ///< elements of all tensors together
  float beta1 = 0.9f;
  float beta2 = 0.999f;
  float eps = 1e-8f;

  void validate() const;
  double flops() const { return 12.0 * static_cast<double>(count); }
  double bytes(std::size_t) const { return 28.0 * static_cast<double>(count); }
  std::string key() const;
};

}  // namespace subpix::kernels
