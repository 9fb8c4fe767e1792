#include "kernels/api/problem_fused.h"

#include <cmath>

namespace subpix::kernels {

namespace {

template <class Problem>
[[noreturn]] void fail(const char* op, const Problem& problem, const std::string& sentence) {
  throw InputError(concat(op, " ", problem.key(), ": ", sentence));
}

/// A slope that is not negative keeps signs, which is what the way back relies on.
template <class Problem>
void require_slope(const char* op, const Problem& p) {
  if (p.form == InputForm::NormLeakyRelu && !(p.slope >= 0.0f && std::isfinite(p.slope)))
    fail(op, p, concat("the slope is ", p.slope, ", it must not be negative"));
}

std::string form_key(InputForm form, float slope) {
  switch (form) {
    case InputForm::Plain:
      return "";
    case InputForm::Norm:
      return "norm";
    case InputForm::NormPRelu:
      return "normprelu";
    case InputForm::NormPReluShared:
      return "normpreluone";
    case InputForm::NormLeakyRelu:
      return concat("normleaky", slope);
  }
  return "?";
}

/// Statistics or sums, and the input's form.
double extra_flops(double outputs, double inputs, InputForm form) {
  return 4.0 * outputs + (form == InputForm::Plain ? 0.0 : 3.0 * inputs);
}

}  // namespace

void Conv2dNormProblem::validate() const {
  conv.validate();
  require_slope("conv2d_norm", *this);
  if (!(eps >= 0.0f) || !std::isfinite(eps))
    fail("conv2d_norm", *this, concat("eps is ", eps, ", it must not be negative"));
  if (!(momentum >= 0.0f && momentum <= 1.0f))
    fail("conv2d_norm", *this, concat("momentum is ", momentum, ", it must be 0 to 1"));
}

double Conv2dNormProblem::flops() const {
  return conv.flops() + extra_flops(static_cast<double>(conv.y_count()),
                                    static_cast<double>(conv.x_count()), form);
}

std::string Conv2dNormProblem::key() const { return conv.key() + form_key(form, slope); }

void Conv2dGroupProblem::validate() const {
  conv.validate();
  if (filters < 1 || filters > 0x7fffffff)
    fail("conv2d_backward_filter_group", *this, concat("a group of ", filters, " filters"));
}

std::string Conv2dGroupProblem::key() const { return concat(conv.key(), "filters", filters); }

void Conv2dNormBackwardProblem::validate() const {
  conv.validate();
  require_slope("conv2d_norm_backward_data", *this);
}

double Conv2dNormBackwardProblem::flops() const {
  return conv.flops() + extra_flops(static_cast<double>(conv.x_count()), 0.0, form);
}

double Conv2dNormBackwardProblem::bytes(std::size_t element) const {
  const int more = (skip ? 1 : 0) + (form == InputForm::Plain ? 0 : 1);
  return conv.bytes(element) +
         static_cast<double>(more * conv.x_count()) * static_cast<double>(element);
}

std::string Conv2dNormBackwardProblem::key() const {
  return conv.key() + form_key(form, slope) + (skip ? "skip" : "");
}

void NormActivationProblem::validate() const {
  ChannelProblem{rows, c}.validate();
  require_slope("norm_activation", *this);
}

std::string NormActivationProblem::key() const {
  return concat("rows", rows, "c", c, form_key(form, slope));
}

void Conv2dShuffleProblem::validate() const {
  conv.validate();
  if (scale < 1 || conv.k % (scale * scale) != 0)
    fail("conv2d_shuffle", *this,
         concat(conv.k, " output channels are no multiple of ", scale, " x ", scale));
}

double Conv2dShuffleProblem::bytes(std::size_t element) const {
  const double second = prelu ? static_cast<double>(conv.y_count()) : 0.0;
  return conv.bytes(element) + second * static_cast<double>(element);
}

std::string Conv2dShuffleProblem::key() const {
  return concat(conv.key(), "shuffle", scale, !prelu ? "" : shared ? "preluone" : "prelu");
}

void Conv2dPoolProblem::validate() const {
  conv.validate();
  pool().validate();
}

double Conv2dPoolProblem::bytes(std::size_t element) const {
  return static_cast<double>(element) *
             static_cast<double>(conv.x_count() + conv.w_count() + pool().y_count()) +
         static_cast<double>(pool().y_count());
}

}  // namespace subpix::kernels
