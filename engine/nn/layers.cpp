#include "engine/nn/layers.h"

namespace subpix::engine::nn {

using Kind = FileLayout::Kind;

Conv2d::Conv2d(Device& device, const Options& options, Philox& random) : options_(options) {
  const Options& o = options_;
  SUBPIX_REQUIRE(o.kernel >= 1 && o.kernel % 2 == 1, "Conv2d: the kernel must be odd, not ",
                 o.kernel);
  const Shape shape{o.out, o.kernel, o.kernel, o.in};
  const bool shuffle = o.shuffle > 1;
  weight = add_parameter(
      "weight",
      Tensor::from_host(device, shape, init_filter(shape, o.init, o.init_slope, o.shuffle, random)),
      {shuffle ? Kind::ShuffleFilter : Kind::Filter, o.shuffle});
  if (o.bias)
    bias = add_parameter("bias", Tensor::zeros(device, {o.out}),
                         {shuffle ? Kind::ShuffleVector : Kind::AsIs, o.shuffle});
}

Tensor Conv2d::operator()(const Tensor& x) const {
  return ops::conv2d(x, weight, bias, options_.stride, (options_.kernel - 1) / 2);
}

Tensor Conv2d::forward_activation(const Tensor& x, ops::Activation activation, float slope) const {
  return ops::conv2d_activation(x, weight, bias, options_.stride, (options_.kernel - 1) / 2,
                                activation, slope);
}

Tensor Conv2d::forward_wide(const Tensor& x) const {
  return ops::conv2d_wide(x, weight, bias, options_.stride, (options_.kernel - 1) / 2);
}

BatchNorm2d::BatchNorm2d(Device& device, Index channels, float eps, float momentum)
    : eps_(eps), momentum_(momentum) {
  weight = add_parameter("weight", Tensor::full(device, {channels}, 1.0f));
  bias = add_parameter("bias", Tensor::zeros(device, {channels}));
  running_mean = add_buffer("running_mean", Tensor::zeros(device, {channels}));
  running_var = add_buffer("running_var", Tensor::full(device, {channels}, 1.0f));
}

Tensor BatchNorm2d::operator()(const Tensor& x) const {
  if (training())
    return ops::batch_norm(x, weight, bias, running_mean, running_var, momentum_, eps_);
  return ops::batch_norm_inference(x, weight, bias, running_mean, running_var, eps_);
}

ops::BatchNormParameters BatchNorm2d::parts() const {
  return {weight, bias, running_mean, running_var, momentum_, eps_};
}

PRelu::PRelu(Device& device, Index channels, bool shared, float start) {
  weight = add_parameter("weight", Tensor::full(device, {shared ? 1 : channels}, start));
}

Tensor PRelu::operator()(const Tensor& x) const { return ops::prelu(x, weight); }

Dense::Dense(Device& device, Index in, Index out, Philox& random, Chw chw, float init_slope) {
  const Shape shape{out, in};
  FileLayout layout;
  if (chw.c > 0) layout = {Kind::DenseChw, 1, chw.c, chw.h, chw.w};
  const std::vector<float> values = from_file(init_dense(shape, init_slope, random), shape, layout);
  weight = add_parameter("weight", Tensor::from_host(device, shape, values), layout);
  bias = add_parameter("bias", Tensor::zeros(device, {out}));
}

Tensor Dense::operator()(const Tensor& x) const { return ops::dense(x, weight, bias); }

}  // namespace subpix::engine::nn
