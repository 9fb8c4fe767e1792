#pragma once

#include <string>
#include <vector>

#include "kernels/api/problem.h"

/// The convolutions of the three networks (Ledig et al., arXiv 1609.04802 v5, figure 4; Simonyan
/// and Zisserman, arXiv 1409.1556, column E), as the problems that their kernels meet.
namespace subpix::tools {

using kernels::Index;

/// A convolution; a dense layer is a 1x1 convolution on one pixel.
struct NetworkLayer {
  std::string name;  ///< "G.blocks", "D.conv3", "VGG.conv4_1"
  kernels::Conv2dProblem conv;
  Index times = 1;      ///< equal layers
  bool pooled = false;  ///< 2x2 max pooling follows
};

struct GeneratorSize {
  Index blocks, channels;
  int scale;
};
/// h, w: LR pixels.
std::vector<NetworkLayer> generator_layers(const GeneratorSize& size, Index n, Index h, Index w);
/// crop: HR pixels of a side.
std::vector<NetworkLayer> discriminator_layers(Index n, Index crop);
/// Output channels of VGG19's 16 convolutions.
const std::vector<Index>& vgg19_widths();
/// The convolutions up to the last of `widths`, with these numbers of channels.
std::vector<NetworkLayer> vgg19_layers(Index n, Index crop, const std::vector<Index>& widths);

}  // namespace subpix::tools
