#include "tools/network_layers.h"

#include <array>

#include "kernels/api/error.h"

namespace subpix::tools {

namespace {
constexpr Index kDenseUnits = 1024;  // of the discriminator
constexpr Index kDiscriminatorMaps = 64;
constexpr std::array<std::size_t, 5> kVggStages = {2, 2, 4, 4, 4};  // a pooling ends each
}  // namespace

std::vector<NetworkLayer> generator_layers(const GeneratorSize& size, Index n, Index h, Index w) {
  const Index c = size.channels;
  std::vector<NetworkLayer> all = {{"G.head", {n, h, w, 3, c, 9, 9, 1, 4}},
                                   {"G.blocks", {n, h, w, c, c, 3, 3, 1, 1}, 2 * size.blocks},
                                   {"G.trunk", {n, h, w, c, c, 3, 3, 1, 1}}};
  const int stages = size.scale == 2 ? 1 : 2;
  for (int stage = 0; stage < stages; ++stage) {
    const Index up = Index{1} << stage;
    all.push_back({concat("G.up", stage + 1), {n, up * h, up * w, c, 4 * c, 3, 3, 1, 1}});
  }
  all.push_back({"G.tail", {n, size.scale * h, size.scale * w, c, 3, 9, 9, 1, 4}});
  return all;
}

std::vector<NetworkLayer> discriminator_layers(Index n, Index crop) {
  std::vector<NetworkLayer> all;
  Index side = crop, in = 3;
  for (Index i = 0; i < 8; ++i) {
    const Index out = kDiscriminatorMaps << (i / 2), stride = 1 + i % 2;
    all.push_back({concat("D.conv", i + 1), {n, side, side, in, out, 3, 3, stride, 1}});
    side = all.back().conv.p();
    in = out;
  }
  all.push_back({"D.dense1", {n, 1, 1, in * side * side, kDenseUnits, 1, 1}});
  all.push_back({"D.dense2", {n, 1, 1, kDenseUnits, 1, 1, 1}});
  return all;
}

const std::vector<Index>& vgg19_widths() {
  static const std::vector<Index> widths = {64,  64,  128, 128, 256, 256, 256, 256,
                                            512, 512, 512, 512, 512, 512, 512, 512};
  return widths;
}

std::vector<NetworkLayer> vgg19_layers(Index n, Index crop, const std::vector<Index>& widths) {
  std::vector<NetworkLayer> all;
  Index side = crop, in = 3;
  for (std::size_t stage = 0; stage < kVggStages.size(); ++stage) {
    for (std::size_t i = 0; i < kVggStages[stage]; ++i) {
      if (all.size() == widths.size()) return all;
      const Index out = widths[all.size()];
      all.push_back({.name = concat("VGG.conv", stage + 1, "_", i + 1),
                     .conv = {n, side, side, in, out, 3, 3, 1, 1},
                     .pooled = i + 1 == kVggStages[stage]});
      in = out;
    }
    side /= 2;
  }
  return all;
}

}  // namespace subpix::tools
