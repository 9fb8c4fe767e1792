#pragma once

#include <memory>
#include <vector>

#include "engine/nn/layers.h"

namespace subpix::models {

/// The paper's discriminator (section 2.1.1 and figure 4, bottom).
struct DiscriminatorConfig {
  engine::Index crop =
      96;  ///< height and width of its input, >= 16; four stride-2 convs: ceil(crop/16) at the end
  engine::Index channels = 64;  ///< maps of the first conv; 2x, 4x, 8x follow
  engine::Index dense = 1024;
  float slope = 0.2f;
  float bn_eps = 1e-5f, bn_momentum = 0.1f;
  bool operator==(const DiscriminatorConfig&) const = default;
};

/// Eight 3x3 convs (64 s1, 64 s2, 128 s1, 128 s2, 256 s1, 256 s2, 512 s1, 512 s2), BN on all but
/// the first, LeakyReLU 0.2; dense, LeakyReLU, dense to one. Input [N,crop,crop,3] in [-1,1];
/// output: logits [N,1] (sigmoid is part of the loss).
class Discriminator : public engine::nn::Module {
 public:
  Discriminator(engine::Device& device, const DiscriminatorConfig& config, std::uint64_t seed);
  ~Discriminator() override;
  engine::Tensor operator()(const engine::Tensor& image) const;
  const DiscriminatorConfig& config() const { return config_; }
  /// Type of the maps in between, F32 at first. BF16: mixed precision; weights, statistics, the
  /// last dense layer and the logits stay F32.
  void set_compute_type(DType type) { compute_type_ = type; }

 private:
  struct Block;
  engine::Tensor convolve(const engine::Tensor& image) const;
  DiscriminatorConfig config_;
  DType compute_type_ = DType::F32;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::unique_ptr<engine::nn::Dense> fc1_, fc2_;
};

}  // namespace subpix::models
