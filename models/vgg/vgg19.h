#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "engine/nn/module.h"
#include "engine/ops/ops.h"

namespace subpix::models {

/// A VGG19 feature map: "conv2_2" is a convolution's output, "relu2_2" the same after its ReLU (the
/// paper's VGG22 is relu2_2, VGG54 relu5_4; section 2.2.1).
struct VggLayer {
  int block, conv;  ///< 1..5, 1..2 or 1..4
  bool after_relu;
  /// Parses "conv2_2", "relu5_4", "VGG22", "VGG54"; InputError lists what is valid.
  static VggLayer parse(const std::string& text);
  std::string str() const;
  int features_index() const;  ///< N of torchvision's features.N.weight of that convolution
};

/// What a VGG file declares about its input (safetensors metadata): channel_order ("RGB" or "BGR"),
/// input_range ("0..1" or "0..255"), input_mean and input_std (three numbers with commas, in
/// channel_order). family is optional ("torchvision" or "caffe"): the other four say all that
/// matters.
struct VggInput {
  std::string family;                  ///< empty if the file does not state one
  std::string channel_order;           ///< "RGB" or "BGR"
  float range = 1.0f;                  ///< pixel value of white: 1 or 255
  std::array<float, 3> mean{}, std{};  ///< in channel_order, in units of range
};

/// Frozen VGG19 features. Input [N,H,W,3], RGB in [-1,1] (the generator's output range): converted
/// to what the file declares before the first padding.
class Vgg19 {
 public:
  /// Loads the convolutions up to `last`. InputError if the file does not state its input, lacks a
  /// layer, or has wrong shapes.
  Vgg19(engine::Device& device, const std::string& path, const VggLayer& last);
  /// Feature map of `layer`, which must not lie beyond `last`. Gradients flow to the image only.
  engine::Tensor features(const engine::Tensor& image, const VggLayer& layer) const;
  const VggInput& input() const { return input_; }
  /// Type of the feature maps, F32 at first; weights are kept in F32.
  void set_compute_type(DType type) { compute_type_ = type; }

 private:
  struct Conv {
    engine::Tensor weight, bias;
    int block, conv;
  };
  VggInput input_;
  VggLayer last_;
  DType compute_type_ = DType::F32;
  engine::Tensor scale_, shift_;
  std::vector<Conv> convs_;
};

}  // namespace subpix::models
