#include "train/validation.h"

#include <algorithm>
#include <cmath>

#include "engine/autograd/node.h"
#include "kernels/api/error.h"
#include "models/srgan/upscaler.h"
#include "train/evaluate.h"
#include "train/metrics.h"
#include "train/report.h"

namespace subpix::train {
namespace {

namespace fs = std::filesystem;

constexpr double kPerfect = 100.0;

double psnr_y(const ComparedPictures& p) {
  const bool grey = p.hr.channels == 1;
  const Plane truth = luma(p.hr);
  const Plane answer = grey ? full_range_grey(p.sr) : luma(p.sr);
  return std::min(kPerfect, psnr(without_border(truth, Validator::kBorder),
                                 without_border(answer, Validator::kBorder)));
}

}  // namespace

Validator::Validator(const std::vector<std::string>& folders, Index scale) : scale_(scale) {
  if (folders.empty()) return;
  files_ = list_images({folders.begin(), folders.end()});
  for (const fs::path& file : files_) {
    const ImageInfo info = read_image_info(file);
    const Index smallest = std::min(info.width, info.height) / scale * scale;
    if (smallest <= 2 * kBorder)
      throw InputError(concat(file.string(), " is ", info.width, "x", info.height,
                              ", too small to be measured without a border of ", kBorder,
                              " pixels; remove it from data.val"));
  }
}

std::optional<double> Validator::run(engine::Device& device, const models::Generator& generator,
                                     const Request& request) const {
  const engine::NoGrad no_grad;
  const models::Upscaler network(device, generator);
  const auto upscale = [&](const Image& lr) {
    const Image rgb = to_rgb(lr, "the LR picture");
    Image sr(lr.width * scale_, lr.height * scale_, 3);
    sr.pixels = network.run({rgb.pixels, rgb.height, rgb.width});
    return sr;
  };
  EvaluationProtocol protocol;
  protocol.scale = scale_;
  protocol.border = kBorder;
  double sum = 0.0;
  for (std::size_t i = 0; i < files_.size(); ++i) {
    if (request.stop && request.stop()) return std::nullopt;
    const ComparedPictures pictures =
        upscale_reduced(load_image(files_[i]), files_[i].string(), upscale, protocol);
    sum += psnr_y(pictures);
    if (static_cast<Index>(i) < request.samples)
      save_png(request.samples_to / (request.prefix + "_" + files_[i].stem().string() + ".png"),
               side_by_side(pictures.lr, pictures.sr, pictures.hr));
    if (request.progress) request.progress(i + 1);
  }
  return sum / static_cast<double>(files_.size());
}

}  // namespace subpix::train
