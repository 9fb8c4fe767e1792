#pragma once

#include <string>
#include <vector>

#include "kernels/api/problem.h"

namespace subpix::tools {

using kernels::Index;

/// What step_bench times: the sizes of a training step, or of an inference.
struct StepOptions {
  std::string mode = "srresnet";  ///< "srresnet", "srgan" or "infer"
  std::string precision = "auto";
  std::string vgg;          ///< file of weights, or empty
  std::string vgg_layer;    ///< empty: content loss on pixels
  bool seeded_vgg = false;  ///< layers that the file lacks are drawn from a seed
  Index batch = 4, blocks = 16, channels = 64, crop = 96, scale = 4;
  Index width = 0, height = 0;  ///< of the LR picture, mode "infer"
  Index tile = -1;              ///< models::Upscaler::Options::tile
};

/// A step by name, so that everybody means the same by it.
struct ReferenceStep {
  const char* name;
  const char* text;
  const char* mode;
  Index batch;
  Index width, height;
};
const std::vector<ReferenceStep>& reference_steps();
/// InputError with the nearest name if there is none of that name.
const ReferenceStep& reference_step(const std::string& name);
/// The paper's network with the step's mode and sizes.
StepOptions options_of(const ReferenceStep& step);

}  // namespace subpix::tools
