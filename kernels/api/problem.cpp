#include "kernels/api/problem.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <utility>

namespace subpix::kernels {

namespace {

// 2^40 elements are 4 TiB of fp32: nothing real, and every index expression stays far from
// overflow.
constexpr Index kMaxElements = Index{1} << 40;

// The checks run before every kernel call, so they make the key (a string) only when one fails.

template <class Problem>
[[noreturn]] void fail(const char* op, const Problem& problem, const std::string& sentence) {
  throw InputError(concat(op, " ", problem.key(), ": ", sentence));
}

template <class Problem>
void require_positive(const char* op, const Problem& problem,
                      std::initializer_list<std::pair<const char*, Index>> sizes) {
  for (const auto& [what, value] : sizes)
    if (value < 1) fail(op, problem, concat(what, " is ", value, ", it must be at least 1"));
}

/// The product of positive sizes must not pass kMaxElements; it is never formed where it would.
template <class Problem>
void require_product(const char* op, const Problem& problem, const char* what,
                     std::initializer_list<Index> sizes) {
  Index count = 1;
  for (const Index size : sizes) {
    if (size > kMaxElements / count)
      fail(op, problem, concat(what, " has more than 2^40 elements"));
    count *= size;
  }
}

template <class Problem>
void require_count(const char* op, const Problem& problem) {
  require_positive(op, problem, {{"count", problem.count}});
  require_product(op, problem, "the tensor", {problem.count});
}

template <class Problem>
void require_finite(const char* op, const Problem& problem, const char* what, float value) {
  if (!std::isfinite(value)) fail(op, problem, concat(what, " is ", value, ", it must be finite"));
}

std::string nhwc(Index n, Index h, Index w, Index c) {
  return concat("n", n, "h", h, "w", w, "c", c);
}

}  // namespace

// --- convolution -------------------------------------------------------------------------------

void Conv2dProblem::validate() const {
  constexpr const char* op = "conv2d";
  require_positive(op, *this,
                   {{"batch n", n},
                    {"height h", h},
                    {"width w", w},
                    {"input channels c", c},
                    {"output channels k", k}});
  for (const auto& [what, size] : {std::pair{"height r", r}, std::pair{"width s", s}})
    if (size < 1 || size > 9 || size % 2 == 0)
      fail(op, *this, concat("kernel ", what, " is ", size, ", it must be 1, 3, 5, 7 or 9"));
  if (stride != 1 && stride != 2)
    fail(op, *this, concat("stride is ", stride, ", it must be 1 or 2"));
  const Index most = std::min(r, s) - 1;
  if (pad < 0 || pad > most)
    fail(op, *this,
         concat("padding is ", pad, ", it must be 0 to ", most, " for a ", r, "x", s, " kernel"));
  require_product(op, *this, "the input", {n, h, w, c});
  require_product(op, *this, "the filter", {k, r, s, c});
  if (h + 2 * pad < r || w + 2 * pad < s)
    fail(op, *this,
         concat("the output is empty, a ", r, "x", s, " kernel does not fit into ", h, "x", w,
                " padded by ", pad));
  require_product(op, *this, "the output", {n, p(), q(), k});
}

double Conv2dProblem::flops() const {
  return 2.0 * static_cast<double>(y_count()) * static_cast<double>(r * s * c);
}

double Conv2dProblem::bytes(std::size_t element) const {
  return static_cast<double>(element) *
         (static_cast<double>(x_count()) + static_cast<double>(w_count()) +
          static_cast<double>(y_count()));
}

std::string Conv2dProblem::key() const {
  return concat(nhwc(n, h, w, c), "k", k, "r", r, "s", s, "st", stride, "p", pad);
}

void Conv2dActivationProblem::validate() const {
  conv.validate();
  require_finite("conv2d_activation", *this, "slope", slope);
}

std::string Conv2dActivationProblem::key() const {
  switch (activation) {
    case Activation::None:
      return conv.key() + "none";
    case Activation::Relu:
      return conv.key() + "relu";
    case Activation::LeakyRelu:
      return concat(conv.key(), "leaky", slope);
  }
  return conv.key() + "?";
}

// --- per channel -------------------------------------------------------------------------------

void ChannelProblem::validate() const {
  require_positive("channel", *this, {{"rows", rows}, {"channels c", c}});
  require_product("channel", *this, "the tensor", {rows, c});
}

double ChannelProblem::bytes(std::size_t element) const {
  return 2.0 * static_cast<double>(count()) * static_cast<double>(element) +
         4.0 * static_cast<double>(shared ? 1 : c);
}

std::string ChannelProblem::key() const {
  return concat("rows", rows, "c", c, shared ? "shared" : "");
}

void NormProblem::validate() const {
  constexpr const char* op = "batchnorm";
  require_positive(op, *this, {{"rows", rows}, {"channels c", c}});
  require_product(op, *this, "the tensor", {rows, c});
  if (!(eps > 0.0f) || !std::isfinite(eps))
    fail(op, *this, concat("eps is ", eps, ", it must be positive"));
  if (!(momentum >= 0.0f && momentum <= 1.0f))
    fail(op, *this, concat("momentum is ", momentum, ", it must be 0 to 1"));
}

double NormProblem::bytes(std::size_t element) const {
  return 2.0 * static_cast<double>(count()) * static_cast<double>(element) +
         16.0 * static_cast<double>(c);
}

std::string NormProblem::key() const {
  constexpr float kUsualEps = 1e-5f;
  const std::string sizes = concat("rows", rows, "c", c);
  return eps == kUsualEps ? sizes : concat(sizes, "eps", eps);
}

// --- elementwise, shape, pooling, dense ----------------------------------------------------------

void ElementProblem::validate() const { require_count("elementwise", *this); }

std::string ElementProblem::key() const { return concat("count", count); }

void ShuffleProblem::validate() const {
  constexpr const char* op = "pixel_shuffle";
  require_positive(
      op, *this,
      {{"batch n", n}, {"height h", h}, {"width w", w}, {"channels c", c}, {"scale", scale}});
  require_product(op, *this, "the tensor", {n, h, w, c, scale, scale});
}

std::string ShuffleProblem::key() const { return concat(nhwc(n, h, w, c), "x", scale); }

void PoolProblem::validate() const {
  constexpr const char* op = "max_pool";
  require_positive(op, *this, {{"batch n", n}, {"height h", h}, {"width w", w}, {"channels c", c}});
  require_product(op, *this, "the input", {n, h, w, c});
  if (h < 2 || w < 2)
    fail(op, *this, concat("the output is empty, ", h, "x", w, " is smaller than the 2x2 window"));
}

double PoolProblem::bytes(std::size_t element) const {
  return static_cast<double>(element) *
             (static_cast<double>(x_count()) + static_cast<double>(y_count())) +
         static_cast<double>(y_count());
}

std::string PoolProblem::key() const { return nhwc(n, h, w, c); }

void DenseProblem::validate() const {
  constexpr const char* op = "dense";
  require_positive(op, *this, {{"batch n", n}, {"inputs", in}, {"outputs", out}});
  require_product(op, *this, "the input", {n, in});
  require_product(op, *this, "the weight", {out, in});
  require_product(op, *this, "the output", {n, out});
}

double DenseProblem::bytes(std::size_t element) const {
  return static_cast<double>(element) *
         (static_cast<double>(n * in) + static_cast<double>(out * in) +
          static_cast<double>(n * out));
}

std::string DenseProblem::key() const { return concat("n", n, "in", in, "out", out); }

// --- losses and reductions -----------------------------------------------------------------------

void LossProblem::validate() const {
  require_count("loss", *this);
  require_finite("loss", *this, "scale", scale);
  if (!(target >= 0.0f && target <= 1.0f))
    fail("loss", *this, concat("target is ", target, ", it must be 0 to 1"));
}

std::string LossProblem::key() const { return concat("count", count); }

void VariationProblem::validate() const {
  constexpr const char* op = "total_variation";
  require_positive(op, *this, {{"batch n", n}, {"height h", h}, {"width w", w}, {"channels c", c}});
  require_product(op, *this, "the tensor", {n, h, w, c});
  require_finite(op, *this, "scale", scale);
}

std::string VariationProblem::key() const {
  return nhwc(n, h, w, c) + (squared ? "squared" : "absolute");
}

void ReduceProblem::validate() const { require_count("reduce", *this); }

std::string ReduceProblem::key() const {
  const char* kind = "?";
  switch (reduction) {
    case Reduction::Sum:
      kind = "sum";
      break;
    case Reduction::SumSquares:
      kind = "sum_squares";
      break;
    case Reduction::MaxAbs:
      kind = "max_abs";
      break;
    case Reduction::CountNonFinite:
      kind = "count_nonfinite";
      break;
  }
  return concat("count", count, kind);
}

// --- random numbers and optimiser ----------------------------------------------------------------

void RandomProblem::validate() const {
  require_count("random", *this);
  require_finite("random", *this, "low", low);
  require_finite("random", *this, "high", high);
}

std::string RandomProblem::key() const { return concat("count", count); }

void AdamProblem::validate() const {
  require_count("adam", *this);
  for (const auto& [what, beta] : {std::pair{"beta1", beta1}, std::pair{"beta2", beta2}})
    if (!(beta >= 0.0f && beta < 1.0f))
      fail("adam", *this, concat(what, " is ", beta, ", it must be at least 0 and below 1"));
  if (!(eps >= 0.0f) || !std::isfinite(eps))
    fail("adam", *this, concat("eps is ", eps, ", it must not be negative"));
}

std::string AdamProblem::key() const { return concat("count", count); }

}  // namespace subpix::kernels
