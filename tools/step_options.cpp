#include "tools/step_options.h"

#include <algorithm>

#include "kernels/api/error.h"

namespace subpix::tools {

namespace {

/// Letters to change, drop or add until one text is the other.
std::size_t edits(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({change, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

const std::vector<ReferenceStep>& reference_steps() {
  static const std::vector<ReferenceStep> all = {
      {"srresnet-16", "SRResNet on pixels, batch 16", "srresnet", 16, 0, 0},
      {"srresnet-64", "SRResNet on pixels, batch 64", "srresnet", 64, 0, 0},
      {"srgan-vgg54-16", "SRGAN, content loss on VGG54, batch 16", "srgan", 16, 0, 0},
      {"srgan-vgg54-64", "SRGAN, content loss on VGG54, batch 64", "srgan", 64, 0, 0},
      {"infer-480x320", "upscaling a picture of 480x320 by 4", "infer", 1, 480, 320},
      {"infer-1920x1080", "upscaling a picture of 1920x1080 by 4", "infer", 1, 1920, 1080},
  };
  return all;
}

const ReferenceStep& reference_step(const std::string& name) {
  const std::vector<ReferenceStep>& all = reference_steps();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const ReferenceStep& s) { return name == s.name; });
  if (found != all.end()) return *found;
  const auto nearest =
      std::min_element(all.begin(), all.end(), [&](const ReferenceStep& a, const ReferenceStep& b) {
        return edits(name, a.name) < edits(name, b.name);
      });
  throw InputError(concat("--step: there is no step '", name, "', the nearest is '", nearest->name,
                          "'; step_bench --list names all"));
}

StepOptions options_of(const ReferenceStep& step) {
  StepOptions o;
  o.mode = step.mode;
  o.batch = step.batch;
  o.width = step.width;
  o.height = step.height;
  if (o.mode == "srgan") {
    o.vgg_layer = "VGG54";
    o.seeded_vgg = true;
  }
  return o;
}

}  // namespace subpix::tools
