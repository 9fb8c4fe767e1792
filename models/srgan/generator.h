#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/nn/layers.h"

namespace subpix::models {

/// The paper's generator (section 2.1.1 and figure 4, top) with its free choices.
struct GeneratorConfig {
  engine::Index blocks = 16;    ///< B residual blocks, >= 1
  engine::Index channels = 64;  ///< maps of every hidden layer, >= 1
  engine::Index scale = 4;      ///< 2 or 4
  bool prelu_shared = false;    ///< one slope per layer instead of one per channel
  engine::nn::InitKind init = engine::nn::InitKind::KaimingNormal;  ///< Icnr: for the up convs only
  float bn_eps = 1e-5f, bn_momentum = 0.1f;
  bool operator==(const GeneratorConfig&) const = default;

  /// LR pixels of context that head, blocks and trunk conv look at: 4 + 2*blocks + 1.
  double trunk_radius() const;
  /// The same for up stages and tail: 1 + 1/2 + 4/4 = 2.5 at x4, 1 + 4/2 = 3 at x2.
  double up_radius() const;
};

/// head 9x9 + PReLU; B blocks (3x3, BN, PReLU, 3x3, BN, add); trunk 3x3 + BN + add of the head's
/// output; log2(scale) stages (3x3 to 4C, shuffle x2, PReLU); tail 9x9 to 3. No output activation.
/// Input [N,H,W,3] in [0,1], output [N,scale*H,scale*W,3], trained to lie in [-1,1].
class Generator : public engine::nn::Module {
 public:
  Generator(engine::Device& device, const GeneratorConfig& config, std::uint64_t seed);
  ~Generator() override;
  engine::Tensor operator()(const engine::Tensor& lr) const;
  const GeneratorConfig& config() const { return config_; }
  /// Type of the maps in between, F32 at first. BF16: mixed precision; weights, statistics and the
  /// output stay F32.
  void set_compute_type(DType type) { compute_type_ = type; }
  /// Context in LR pixels beyond which input cannot change an output: trunk_radius() + up_radius(),
  /// 39.5 for 16 blocks at x4.
  double receptive_radius() const;

 private:
  struct Block;
  struct Up;
  GeneratorConfig config_;
  DType compute_type_ = DType::F32;
  std::unique_ptr<engine::nn::Conv2d> head_;
  std::unique_ptr<engine::nn::PRelu> head_prelu_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::unique_ptr<engine::nn::Conv2d> trunk_conv_;
  std::unique_ptr<engine::nn::BatchNorm2d> trunk_bn_;
  std::vector<std::unique_ptr<Up>> up_;
  std::unique_ptr<engine::nn::Conv2d> tail_;
};

/// Reads blocks, channels, scale and slope sharing from the shapes of a weight file (no metadata
/// needed; bn_eps is taken from there if stated). InputError naming file and tensor if it is no
/// generator of ours. PyTorch's *.num_batches_tracked may be there.
GeneratorConfig read_generator_config(const std::string& path);
/// The generator of a weight file in inference mode.
std::unique_ptr<Generator> load_generator(engine::Device& device, const std::string& path);
/// What save_generator states about the network, for save_module calls that add more.
std::vector<std::pair<std::string, std::string>> generator_metadata(const GeneratorConfig& config);
void save_generator(const Generator& generator, const std::string& path);

}  // namespace subpix::models
