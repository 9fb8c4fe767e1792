#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/core/device.h"
#include "models/srgan/generator.h"
#include "train/config.h"

namespace subpix::train {

/// Measures a generator on the pictures of data.val by the protocol of train/evaluate.h: PSNR of
/// unrounded Y over whole pictures without a border of 4 samples.
class Validator {
 public:
  static constexpr Index kBorder = 4;

  /// Lists the folders (none: no pictures) and reads every file's head; InputError for one that is
  /// too small to be measured.
  Validator(const std::vector<std::string>& folders, Index scale);

  std::size_t size() const { return files_.size(); }

  struct Request {
    Index samples = 0;                 ///< side-by-side pictures of the first so many files ...
    std::filesystem::path samples_to;  ///< ... go to this folder ...
    std::string prefix;                ///< ... as PREFIX_NAME.png
    std::function<bool()> stop;        ///< asked between pictures; true gives up
    std::function<void(std::size_t)> progress;  ///< pictures done
  };
  /// Mean PSNR in dB, or nothing when told to stop. A perfect answer counts as 100 dB, so that the
  /// mean stays finite.
  std::optional<double> run(engine::Device& device, const models::Generator& generator,
                            const Request& request) const;

 private:
  std::vector<std::filesystem::path> files_;
  Index scale_;
};

}  // namespace subpix::train
