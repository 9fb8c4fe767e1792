#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "train/image.h"
#include "train/resample.h"

namespace subpix::train {

/// How an upscaler is measured. The defaults are those of the published x4 tables.
struct EvaluationProtocol {
  std::int64_t scale = 4;
  std::int64_t border = 4;  ///< samples dropped on every side before measuring
  Edge edge = Edge::Clamp;  ///< of the bicubic that makes the LR picture

  /// One paragraph that says all of it, for tables and files.
  std::string describe() const;
};

struct Scores {
  double psnr_y = 0.0;  ///< dB; infinite for a perfect answer
  double ssim_gauss = 0.0;
  double ssim_daala = 0.0;
};

/// LR in, SR out: scale times as wide and high, 1 or 3 channels. A grey LR may be answered in RGB.
using Upscaler = std::function<Image(const Image& lr)>;

/// What was compared: HR cropped to a multiple of the scale, its LR, and the answer.
struct ComparedPictures {
  Image hr, lr, sr;
};

/// Makes the LR picture of `hr` and asks the upscaler. `name` stands for the picture in the
/// InputErrors about transparency and about pictures too small to be measured.
ComparedPictures upscale_reduced(Image hr, const std::string& name, const Upscaler& upscaler,
                                 const EvaluationProtocol& protocol);

/// Measures an answer against the truth of equal size. A grey truth is its own Y; an RGB answer to
/// it counts as full-range grey.
Scores measure(const Image& hr, const Image& sr, const EvaluationProtocol& protocol);

struct ImageScore {
  std::string
      name;  ///< path within its folder without extension (with it where needed to be unique)
  Scores scores;
};

struct SetScore {
  std::string name;  ///< of the folder (made unique by a number)
  std::filesystem::path folder;
  std::vector<ImageScore> images;
  Scores mean;
};

struct Evaluation {
  std::string method;   ///< "bicubic", "nearest" or "network"
  std::string weights;  ///< file of the network, else empty
  EvaluationProtocol protocol;
  std::vector<SetScore> sets;
  Scores mean;  ///< over all images of all sets
};

struct EvaluationRequest {
  std::vector<std::filesystem::path> folders;  ///< one set each; subfolders belong to it
  EvaluationProtocol protocol;
  std::string method;
  std::string weights;
  /// If not empty: FOLDER/{LR,SR,HR}/NAME.png of all that was compared, below FOLDER/SET if there
  /// is more than one set.
  std::filesystem::path save;
  /// Called before each picture with the number done, the number of all and its name; may be empty.
  std::function<void(std::size_t, std::size_t, const std::string&)> on_progress;
};

/// Runs the upscaler over all pictures of all folders, one at a time, in list_images' order.
Evaluation evaluate(const EvaluationRequest& request, const Upscaler& upscaler);

/// JSON with `method`, `weights` (only for a network), `scale`, `border`, `protocol`,
/// `images[]{name,set,psnr_y,ssim_gauss,ssim_daala}`, `mean{psnr_y,ssim_gauss,ssim_daala}` over all
/// images, and `sets[]{name,folder,images,mean{...}}` (`images` counts them). JSON has no infinity:
/// the PSNR of a perfect answer, and a mean that contains one, is null, with `"psnr_y_text": "inf"`
/// beside.
std::string to_json(const Evaluation& evaluation);

/// A table per set for people, with its mean, and the mean of all where there is more than one set.
std::string to_table(const Evaluation& evaluation);

}  // namespace subpix::train
