#include "engine/optim/adam.h"

#include <array>
#include <cmath>

namespace subpix::engine {

Adam::Adam(std::vector<nn::NamedTensor> parameters, Options options) {
  problem_.beta1 = options.beta1;
  problem_.beta2 = options.beta2;
  problem_.eps = options.eps;
  for (nn::NamedTensor& parameter : parameters) {
    if (!parameter.trainable) continue;
    const Tensor& w = parameter.tensor;
    SUBPIX_REQUIRE(w.dtype() == DType::F32, "Adam: '", parameter.name, "' must be F32, not ",
                   name(w.dtype()));
    SUBPIX_REQUIRE(parameters_.empty() || &w.device() == &parameters_[0].tensor.device(), "Adam: '",
                   parameter.name, "' lies on another device than the first parameter");
    m_.push_back(Tensor::zeros(w.device(), w.shape()));
    v_.push_back(Tensor::zeros(w.device(), w.shape()));
    problem_.count += w.count();
    parameters_.push_back(std::move(parameter));
  }
  SUBPIX_REQUIRE(!parameters_.empty(), "Adam: there is no parameter to train");
  problem_.validate();
  scalars_ = Tensor::empty(parameters_[0].tensor.device(), {2});
  list_.resize(parameters_.size());
}

void Adam::set_rate(double lr) {
  SUBPIX_REQUIRE(std::isfinite(lr) && lr >= 0.0, "Adam: the learning rate is ", lr);
  ++steps_;
  // In double: 1 - beta^t loses its digits in float at the first steps.
  const double t = static_cast<double>(steps_);
  const double step_size = lr / (1.0 - std::pow(static_cast<double>(problem_.beta1), t));
  const double bias2 = 1.0 - std::pow(static_cast<double>(problem_.beta2), t);
  const std::array<float, 2> scalars{static_cast<float>(step_size),
                                     static_cast<float>(1.0 / std::sqrt(bias2))};
  scalars_.upload(scalars);
}

void Adam::update() {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Tensor& w = parameters_[i].tensor;
    const Tensor grad = w.grad();
    if (!grad.defined()) --steps_;
    SUBPIX_REQUIRE(grad.defined(), "Adam: parameter '", parameters_[i].name,
                   "' has no gradient; it took no part in the loss, or backward was not called");
    const Tensor copy = w.existing_bf16_copy();
    list_[i] = {w.data<float>(),
                grad.data<float>(),
                m_[i].data<float>(),
                v_[i].data<float>(),
                copy.defined() ? copy.data<bf16>() : nullptr,
                w.count()};
  }
  Device& device = scalars_.device();
  device.table().adam(device.context(), problem_, list_.data(), static_cast<int>(list_.size()),
                      scalars_.data<float>());
  note_update();
}

void Adam::note_update() {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Tensor& w = parameters_[i].tensor;
    w.bump_version();
    if (list_[i].w_bf16) w.bf16_copy_written();
    m_[i].bump_version();
    v_[i].bump_version();
  }
}

void Adam::clear_grad() {
  for (const nn::NamedTensor& parameter : parameters_) parameter.tensor.clear_grad();
}

std::vector<nn::NamedTensor> Adam::state() const {
  std::vector<nn::NamedTensor> all;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    all.push_back({parameters_[i].name + ".m", m_[i], {}, false});
    all.push_back({parameters_[i].name + ".v", v_[i], {}, false});
  }
  return all;
}

void Adam::set_steps(std::int64_t steps) {
  SUBPIX_REQUIRE(steps >= 0, "Adam: the number of steps is ", steps);
  steps_ = steps;
}

}  // namespace subpix::engine
