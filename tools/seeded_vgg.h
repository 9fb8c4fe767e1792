#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "models/vgg/vgg19.h"

namespace subpix::tools {

/// The seed of layers that nobody gave weights for.
inline constexpr std::uint64_t kVggSeed = 54;

/// Weights of VGG19 up to a layer, complete: the time of a step does not depend on their values, so
/// that layers which a file lacks may be drawn.
struct CompleteVgg {
  std::string path;                    ///< the given file, or the written one
  std::vector<std::string> drawn;      ///< "conv4_1", ...: layers from the seed
  std::vector<kernels::Index> widths;  ///< output channels of all layers up to the last
};

/// given: a VGG19 file, or empty: none. What it lacks up to `last` is drawn (Kaiming's
/// distribution, biases 0; its input is torchvision's where no file says otherwise) and everything
/// written to `folder`/vgg.safetensors; a complete file is only looked at.
CompleteVgg complete_vgg(const std::string& given, const models::VggLayer& last,
                         const std::filesystem::path& folder);

}  // namespace subpix::tools
