#include "train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <utility>

#include "engine/core/file.h"
#include "kernels/api/error.h"
#include "train/metrics.h"

namespace subpix::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr std::int64_t kSsimWindow = 11;

/// The plain mean, as the published tables take it.
Scores mean_of(const std::vector<Scores>& all) {
  Scores mean;
  for (const Scores& s : all) {
    mean.psnr_y += s.psnr_y;
    mean.ssim_gauss += s.ssim_gauss;
    mean.ssim_daala += s.ssim_daala;
  }
  const auto count = static_cast<double>(all.size());
  return {mean.psnr_y / count, mean.ssim_gauss / count, mean.ssim_daala / count};
}

/// Names of a set's pictures, see ImageScore.
std::vector<std::string> picture_names(const fs::path& folder, const std::vector<fs::path>& paths) {
  const auto stem = [&](const fs::path& path) {
    return path.lexically_relative(folder).replace_extension().generic_string();
  };
  std::map<std::string, int> uses;
  for (const fs::path& path : paths) ++uses[stem(path)];
  std::vector<std::string> names;
  for (const fs::path& path : paths)
    names.push_back(uses[stem(path)] == 1 ? stem(path)
                                          : path.lexically_relative(folder).generic_string());
  return names;
}

std::string set_name(const fs::path& folder, std::set<std::string>& taken) {
  fs::path whole = fs::absolute(folder).lexically_normal();
  if (!whole.has_filename()) whole = whole.parent_path();  // "set5/"
  const std::string name = whole.has_filename() ? whole.filename().string() : "root";
  std::string unique = name;
  for (int number = 2; !taken.insert(unique).second; ++number) unique = concat(name, "-", number);
  return unique;
}

void save_compared(const fs::path& folder, const std::string& name, const ComparedPictures& p) {
  const std::pair<const char*, const Image*> parts[] = {
      {"LR", &p.lr}, {"SR", &p.sr}, {"HR", &p.hr}};
  for (const auto& [part, image] : parts) {
    const fs::path path = folder / part / (name + ".png");
    engine::create_folder(path.parent_path());
    save_png(path, *image);
  }
}

void put_scores(ordered_json& json, const Scores& scores) {
  if (std::isfinite(scores.psnr_y)) {
    json["psnr_y"] = scores.psnr_y;
  } else {
    json["psnr_y"] = nullptr;
    json["psnr_y_text"] = "inf";
  }
  json["ssim_gauss"] = scores.ssim_gauss;
  json["ssim_daala"] = scores.ssim_daala;
}

}  // namespace

std::string EvaluationProtocol::describe() const {
  return concat(
      "HR cropped at the bottom and right to a multiple of ", scale,
      "; LR by bicubic (Keys, a = -0.5) ", "1/", scale,
      " with antialiasing, rows then columns, rounded to 8 bits after each pass, edge samples ",
      edge == Edge::Clamp ? "repeated" : "mirrored",
      "; SR rounded to 8 bits; Y of BT.601 (16..235), not rounded, a grey HR its own Y (0..255); ",
      border,
      " samples dropped on every side; PSNR with peak 255; ssim_gauss: 11x11 Gaussian of 1.5, "
      "positions inside only; ssim_daala: window growing with the height, as in the SRGAN paper; "
      "means are plain means over the images");
}

ComparedPictures upscale_reduced(Image hr, const std::string& name, const Upscaler& upscaler,
                                 const EvaluationProtocol& protocol) {
  const std::int64_t s = protocol.scale;
  hr = without_alpha(std::move(hr), name);
  const std::int64_t width = hr.width / s * s, height = hr.height / s * s;
  const std::int64_t needed = kSsimWindow + 2 * protocol.border;
  if (width < needed || height < needed)
    throw InputError(concat(name, " has ", hr.width, "x", hr.height,
                            " pixels, too few to be measured: at least ", (needed + s - 1) / s * s,
                            "x", (needed + s - 1) / s * s, " are needed; remove it"));
  ComparedPictures pictures;
  pictures.hr =
      width == hr.width && height == hr.height ? std::move(hr) : crop(hr, 0, 0, width, height);
  pictures.lr = shrink_bicubic(pictures.hr, s, protocol.edge);
  pictures.sr = upscaler(pictures.lr);
  return pictures;
}

Scores measure(const Image& hr, const Image& sr, const EvaluationProtocol& protocol) {
  SUBPIX_REQUIRE(sr.width == hr.width && sr.height == hr.height, "the answer has ", sr.width, "x",
                 sr.height, " pixels, the truth ", hr.width, "x", hr.height);
  const bool grey = hr.channels == 1;
  SUBPIX_REQUIRE(sr.channels == hr.channels || (grey && sr.channels == 3), "the answer has ",
                 sr.channels, " channels, the truth ", hr.channels);
  const Plane y_hr = without_border(luma(hr), protocol.border);
  const Plane y_sr = without_border(grey ? full_range_grey(sr) : luma(sr), protocol.border);
  return {psnr(y_hr, y_sr), ssim_gauss(y_hr, y_sr), ssim_daala(y_hr, y_sr)};
}

Evaluation evaluate(const EvaluationRequest& request, const Upscaler& upscaler) {
  Evaluation result;
  result.method = request.method;
  result.weights = request.weights;
  result.protocol = request.protocol;

  // All folders are listed first: a wrong second one should not cost the time of the first.
  std::vector<std::vector<fs::path>> paths;
  std::set<std::string> taken;
  std::size_t total = 0;
  for (const fs::path& folder : request.folders) {
    paths.push_back(list_images({folder}));
    total += paths.back().size();
    result.sets.push_back({set_name(folder, taken), folder, {}, {}});
  }
  SUBPIX_REQUIRE(total > 0, "there is no folder to evaluate");
  if (!request.save.empty()) engine::create_folder(request.save);

  std::vector<Scores> all;
  for (std::size_t s = 0; s < paths.size(); ++s) {
    SetScore& set = result.sets[s];
    const fs::path save = paths.size() == 1 ? request.save : request.save / set.name;
    const std::vector<std::string> names = picture_names(set.folder, paths[s]);
    std::vector<Scores> of_set;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (request.on_progress) request.on_progress(all.size(), total, names[i]);
      const fs::path& path = paths[s][i];
      const ComparedPictures pictures =
          upscale_reduced(load_image(path), path.string(), upscaler, request.protocol);
      of_set.push_back(measure(pictures.hr, pictures.sr, request.protocol));
      all.push_back(of_set.back());
      set.images.push_back({names[i], of_set.back()});
      if (!request.save.empty()) save_compared(save, names[i], pictures);
    }
    set.mean = mean_of(of_set);
  }
  result.mean = mean_of(all);
  return result;
}

std::string to_json(const Evaluation& evaluation) {
  ordered_json json;
  json["method"] = evaluation.method;
  if (!evaluation.weights.empty()) json["weights"] = evaluation.weights;
  json["scale"] = evaluation.protocol.scale;
  json["border"] = evaluation.protocol.border;
  json["protocol"] = evaluation.protocol.describe();
  json["images"] = ordered_json::array();
  json["mean"] = ordered_json::object();
  put_scores(json["mean"], evaluation.mean);
  json["sets"] = ordered_json::array();
  for (const SetScore& set : evaluation.sets) {
    for (const ImageScore& image : set.images) {
      ordered_json entry{{"name", image.name}, {"set", set.name}};
      put_scores(entry, image.scores);
      json["images"].push_back(std::move(entry));
    }
    ordered_json entry{
        {"name", set.name}, {"folder", set.folder.string()}, {"images", set.images.size()}};
    put_scores(entry["mean"], set.mean);
    json["sets"].push_back(std::move(entry));
  }
  // File names need not be UTF-8.
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string to_table(const Evaluation& evaluation) {
  const std::string all = "mean of all";
  std::size_t width = all.size();
  for (const SetScore& set : evaluation.sets) {
    width = std::max(width, set.name.size());
    for (const ImageScore& image : set.images) width = std::max(width, image.name.size());
  }
  std::ostringstream out;
  const auto line = [&](const std::string& name, const Scores& s) {
    out << std::left << std::setw(static_cast<int>(width)) << name << std::right << std::fixed
        << std::setw(11) << std::setprecision(4) << s.psnr_y << std::setw(12) << s.ssim_gauss
        << std::setw(12) << s.ssim_daala << '\n';
  };
  out << evaluation.method << (evaluation.weights.empty() ? "" : " " + evaluation.weights) << ", x"
      << evaluation.protocol.scale << ", border " << evaluation.protocol.border << '\n';
  for (const SetScore& set : evaluation.sets) {
    out << '\n'
        << std::left << std::setw(static_cast<int>(width)) << set.name << std::right
        << std::setw(11) << "PSNR Y dB" << std::setw(12) << "SSIM gauss" << std::setw(12)
        << "SSIM daala" << '\n';
    for (const ImageScore& image : set.images) line(image.name, image.scores);
    line("mean", set.mean);
  }
  if (evaluation.sets.size() > 1) {
    out << '\n';
    line(all, evaluation.mean);
  }
  return out.str();
}

}  // namespace subpix::train
