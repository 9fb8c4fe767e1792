#include "models/srgan/discriminator.h"

#include <array>

namespace subpix::models {

using engine::Device;
using engine::Index;
using engine::Philox;
using engine::Tensor;
namespace nn = engine::nn;
namespace ops = engine::ops;

namespace {

constexpr Index kImageChannels = 3;
constexpr Index kSmallestCrop = 16;
constexpr Index kConvs = 8;

const DiscriminatorConfig& checked(const DiscriminatorConfig& config) {
  if (config.crop < kSmallestCrop)
    throw InputError(concat("the discriminator's crop is at least ", kSmallestCrop, " pixels, not ",
                            config.crop));
  if (config.channels < 1 || config.dense < 1)
    throw InputError(concat("the discriminator needs at least 1 channel and 1 dense unit, not ",
                            config.channels, " and ", config.dense));
  if (!(config.slope >= 0.0f && config.slope <= 1.0f))
    throw InputError(concat("the discriminator's slope is 0 to 1, not ", config.slope));
  return config;
}

/// Maps that conv i puts out: 1, 1, 2, 2, 4, 4, 8, 8 times the first.
Index channels_out(const DiscriminatorConfig& c, Index i) { return c.channels << (i / 2); }
Index channels_in(const DiscriminatorConfig& c, Index i) {
  return i == 0 ? kImageChannels : channels_out(c, i - 1);
}

}  // namespace

struct Discriminator::Block final : nn::Module {
  /// The i-th conv; the first one has a bias and no batch norm.
  Block(Device& device, const DiscriminatorConfig& c, Index i, Philox& random)
      : conv(device, options(c, i), random), slope(c.slope) {
    add_child("conv", conv);
    if (i == 0) return;
    bn = std::make_unique<nn::BatchNorm2d>(device, channels_out(c, i), c.bn_eps, c.bn_momentum);
    add_child("bn", *bn);
  }

  static nn::Conv2d::Options options(const DiscriminatorConfig& c, Index i) {
    nn::Conv2d::Options o{channels_in(c, i), channels_out(c, i), 3};
    o.stride = 1 + i % 2;
    o.bias = i == 0;
    o.init_slope = c.slope;
    return o;
  }

  Tensor operator()(const Tensor& x) const {
    if (!bn) return conv.forward_activation(x, ops::Activation::LeakyRelu, slope);
    return ops::leaky_relu((*bn)(conv(x)), slope);
  }

  nn::Conv2d conv;
  std::unique_ptr<nn::BatchNorm2d> bn;
  float slope;
};

Discriminator::Discriminator(Device& device, const DiscriminatorConfig& config, std::uint64_t seed)
    : config_(checked(config)) {
  Philox random(seed);
  Index size = config_.crop;
  for (Index i = 0; i < kConvs; ++i) {
    blocks_.push_back(std::make_unique<Block>(device, config_, i, random));
    add_child(concat("blocks.", i), *blocks_.back());
    if (i % 2 == 1) size = (size + 1) / 2;
  }
  const Index maps = channels_out(config_, kConvs - 1);
  fc1_ = std::make_unique<nn::Dense>(device, maps * size * size, config_.dense, random,
                                     nn::Dense::Chw{maps, size, size}, config_.slope);
  add_child("fc1", *fc1_);
  fc2_ = std::make_unique<nn::Dense>(device, config_.dense, 1, random, nn::Dense::Chw{},
                                     /*init_slope=*/1.0f);
  add_child("fc2", *fc2_);
}

Discriminator::~Discriminator() = default;

Tensor Discriminator::operator()(const Tensor& image) const {
  SUBPIX_REQUIRE(image.shape().rank() == 4 && image.dim(1) == config_.crop &&
                     image.dim(2) == config_.crop && image.dim(3) == kImageChannels,
                 "the discriminator takes [N,", config_.crop, ",", config_.crop, ",3], not ",
                 image.shape());
  Tensor x = convolve(ops::cast(image, compute_type_));
  x = ops::reshape(x, {x.dim(0), x.dim(1) * x.dim(2) * x.dim(3)});
  x = ops::leaky_relu((*fc1_)(x), config_.slope);
  return (*fc2_)(ops::cast(x, DType::F32));
}

/// Where the backend fuses, no map is written after its batch norm but the last: each convolution
/// normalises what the one before has left.
Tensor Discriminator::convolve(const Tensor& image) const {
  Tensor x = (*blocks_[0])(image);
  if (!training() ||
      !ops::prefers_fused_norm(ops::plain(x), blocks_[1]->conv.weight, blocks_[1]->conv.stride())) {
    for (std::size_t i = 1; i < blocks_.size(); ++i) x = (*blocks_[i])(x);
    return x;
  }
  ops::Formed map = ops::plain(x);
  for (std::size_t i = 1; i < blocks_.size(); ++i) {
    const Block& b = *blocks_[i];
    map = ops::with_leaky_relu(ops::conv2d_norm(map, b.conv.weight, b.bn->parts(), b.conv.stride()),
                               b.slope);
  }
  return ops::norm_activation(map);
}

}  // namespace subpix::models
