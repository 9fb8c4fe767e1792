// The last part of tools/quickstart.sh: reads what training and evaluation left in the run's
// folder, prints the table, checks the goals one by one, and cuts side-by-side pictures.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/core/file.h"
#include "tools/main_helper.h"
#include "tools/spectrum.h"
#include "train/evaluate.h"
#include "train/image.h"
#include "train/metrics.h"

namespace subpix::tools {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;
using train::Image;

struct Options {
  std::string run = "runs/quickstart", pixel_phase = "pixel", adversarial_phase = "adversarial";
  double gain = 0.3;
  std::int64_t crop = 160;
  bool no_goals = false;
};

constexpr std::uint64_t kMaxTextBytes = std::uint64_t{1} << 28;
constexpr double kMaxJudgementGap = 0.95;  // above: the discriminator has won, its gradient dies
constexpr std::int64_t kGap = 4;           // white pixels between crops

/// One row of the table.
struct Method {
  std::string folder, label;
  double psnr_y = 0, ssim_gauss = 0, ssim_daala = 0;
  double detail_db = 0;    ///< mean over photos of spectral_bias_db against the original
  double distance_db = 0;  ///< likewise spectral_distance_db
};

struct Check {
  std::string text;
  bool pass;
};

ordered_json parse(const fs::path& path, const std::string& text) {
  try {
    return ordered_json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    throw InputError(concat("'", path.string(), "' is no valid JSON: ", error.what()));
  }
}

double number(const ordered_json& object, const char* key, const fs::path& path) {
  if (!object.is_object() || !object.contains(key) || !object.at(key).is_number())
    throw InputError(concat("'", path.string(), "' lacks the number '", key, "'"));
  return object.at(key).get<double>();
}

/// The names of the pictures, and the method's means.
std::vector<std::string> read_scores(const fs::path& path, Method& method) {
  const ordered_json file = parse(path, engine::read_text(path, kMaxTextBytes));
  if (!file.contains("mean") || !file.contains("images") || file.at("images").empty())
    throw InputError(concat("'", path.string(), "' holds no evaluation; run srgan_eval again"));
  method.psnr_y = number(file.at("mean"), "psnr_y", path);
  method.ssim_gauss = number(file.at("mean"), "ssim_gauss", path);
  method.ssim_daala = number(file.at("mean"), "ssim_daala", path);
  std::vector<std::string> names;
  for (const auto& image : file.at("images")) names.push_back(image.at("name").get<std::string>());
  return names;
}

RadialSpectrum spectrum_of(const Image& image, const train::EvaluationProtocol& protocol,
                           const std::string& name) {
  const train::Plane y = train::without_border(train::luma(image), protocol.border);
  const std::int64_t tile = largest_tile(y.width, y.height);
  if (tile == 0)
    throw InputError(concat("'", name, "' is too small to have its spectrum taken: ", image.width,
                            "x", image.height));
  return radial_spectrum(y.values, y.width, y.height, tile);
}

/// Upper left corner of the window with the steepest luma on average: where detail matters most.
std::pair<std::int64_t, std::int64_t> busiest_window(const Image& image, std::int64_t width,
                                                     std::int64_t height) {
  const train::Plane y = train::luma(image);
  // Sums over rectangles from the corner, so that each window costs four look-ups.
  std::vector<double> sums(static_cast<std::size_t>((y.width + 1) * (y.height + 1)), 0.0);
  const auto sum = [&](std::int64_t row, std::int64_t column) -> double& {
    return sums[static_cast<std::size_t>(row * (y.width + 1) + column)];
  };
  for (std::int64_t r = 0; r < y.height; ++r)
    for (std::int64_t c = 0; c < y.width; ++c) {
      const double here = y.row(r)[c];
      const double across = c + 1 < y.width ? y.row(r)[c + 1] - here : 0.0;
      const double down = r + 1 < y.height ? y.row(r + 1)[c] - here : 0.0;
      sum(r + 1, c + 1) = std::hypot(across, down) + sum(r, c + 1) + sum(r + 1, c) - sum(r, c);
    }
  double best = -1.0;
  std::pair<std::int64_t, std::int64_t> corner{0, 0};
  for (std::int64_t r = 0; r + height <= y.height; r += 4)
    for (std::int64_t c = 0; c + width <= y.width; c += 4) {
      const double steepness =
          sum(r + height, c + width) - sum(r, c + width) - sum(r + height, c) + sum(r, c);
      if (steepness > best) {
        best = steepness;
        corner = {c, r};
      }
    }
  return corner;
}

Image side_by_side(const std::vector<Image>& parts) {
  const std::int64_t width = parts[0].width, height = parts[0].height;
  const auto count = static_cast<std::int64_t>(parts.size());
  Image out(count * width + (count - 1) * kGap, height, 3);
  std::fill(out.pixels.begin(), out.pixels.end(), std::uint8_t{255});
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t y = 0; y < height; ++y)
      std::copy_n(parts[static_cast<std::size_t>(i)].row(y), width * 3,
                  out.row(y) + i * (width + kGap) * 3);
  return out;
}

std::string text_of(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

/// What the trainer logged about one phase.
struct PhaseLog {
  std::size_t lines = 0;
  std::map<std::string, double> smallest_gradient;  ///< by loss term; NaN once one was not finite
  double real = 0, fake = 0;                        ///< sums over `judgements` lines
  std::size_t judgements = 0;
};

std::map<std::string, PhaseLog> read_log(const fs::path& path) {
  const std::string text = engine::read_text(path, kMaxTextBytes);
  constexpr std::string_view kGradient = "grad_";
  std::map<std::string, PhaseLog> phases;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const ordered_json line = parse(path, text.substr(begin, end - begin));
    begin = end + 1;
    if (line.value("type", "") != "train") continue;
    PhaseLog& phase = phases[line.at("phase").get<std::string>()];
    ++phase.lines;
    for (const auto& [key, value] : line.items()) {
      if (key.rfind(kGradient, 0) != 0) continue;
      const double norm =
          value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
      const auto [at, first] =
          phase.smallest_gradient.try_emplace(key.substr(kGradient.size()), norm);
      // A NaN stays, whatever follows.
      if (!first && !std::isnan(at->second) && !(at->second <= norm)) at->second = norm;
    }
    if (line.contains("d_real")) {
      phase.real += number(line, "d_real", path);
      phase.fake += number(line, "d_fake", path);
      ++phase.judgements;
    }
  }
  return phases;
}

std::vector<Check> check_goals(const Options& o, const std::vector<Method>& methods,
                               const std::map<std::string, PhaseLog>& log) {
  const auto method = [&](const std::string& folder) -> const Method& {
    return *std::find_if(methods.begin(), methods.end(),
                         [&](const Method& m) { return m.folder == folder; });
  };
  std::vector<Check> checks;
  const double gain = method("pixel").psnr_y - method("bicubic").psnr_y;
  checks.push_back({concat("after the pixel phase at least ", o.gain,
                           " dB above bicubic: ", text_of("%+.2f dB", gain)),
                    gain >= o.gain});
  const double before = method("pixel").distance_db, after = method("adversarial").distance_db;
  checks.push_back(
      {concat("the adversarial phase brings the spectrum of fine detail closer to the ",
              "originals': ", text_of("%.2f dB", before), " to ", text_of("%.2f dB", after)),
       after < before});

  const auto adversarial = log.find(o.adversarial_phase);
  if (adversarial == log.end() || adversarial->second.judgements == 0) {
    checks.push_back(
        {concat("the log tells D(real) and D(fake) of phase ", o.adversarial_phase), false});
  } else {
    const PhaseLog& p = adversarial->second;
    const double gap = (p.real - p.fake) / static_cast<double>(p.judgements);
    checks.push_back({concat("mean D(real) - D(fake) lies between 0 and ", kMaxJudgementGap, ": ",
                             text_of("%.3f", gap), " over ", p.judgements, " logged steps"),
                      gap > 0.0 && gap < kMaxJudgementGap});
  }
  for (const std::string& name : {o.pixel_phase, o.adversarial_phase}) {
    const auto phase = log.find(name);
    if (phase == log.end() || phase->second.smallest_gradient.empty()) {
      checks.push_back({concat("the log tells the gradients of phase ", name), false});
      continue;
    }
    for (const auto& [term, norm] : phase->second.smallest_gradient)
      checks.push_back(
          {concat("phase ", name, ": the gradient of the ", term, " loss is never zero: at least ",
                  text_of("%.3g", norm), " over ", phase->second.lines, " logged steps"),
           norm > 0.0 && std::isfinite(norm)});
  }
  return checks;
}

void print_table(const std::vector<Method>& methods, std::size_t photos) {
  std::printf("\n%zu photographs that no training step has seen, x4\n\n", photos);
  std::printf("%-26s %8s %8s %8s %13s %15s\n", "", "PSNR", "SSIM", "SSIM", "fine detail",
              "spectrum");
  std::printf("%-26s %8s %8s %8s %13s %15s\n", "", "dB", "11x11", "daala", "dB", "distance dB");
  for (const Method& m : methods)
    std::printf("%-26s %8.2f %8.4f %8.4f %+13.2f %15.2f\n", m.label.c_str(), m.psnr_y, m.ssim_gauss,
                m.ssim_daala, m.detail_db, m.distance_db);
  std::printf(
      "\nPSNR and SSIM on luma, 4 pixels of border left out. Fine detail: power above the finest\n"
      "frequency of the small picture, in decibels against the original (0: as much as there).\n"
      "Spectrum distance: root mean square of the same over the frequencies (0: the same).\n");
}

int report(const Options& o) {
  const fs::path run = o.run;
  std::vector<Method> methods = {{"nearest", "nearest"},
                                 {"bicubic", "bicubic"},
                                 {"pixel", "after pixel phase"},
                                 {"adversarial", "after adversarial phase"}};
  std::vector<std::string> names;
  for (Method& method : methods) {
    const fs::path path = run / "eval" / (method.folder + ".json");
    const std::vector<std::string> found = read_scores(path, method);
    if (names.empty()) names = found;
    if (found != names)
      throw InputError(concat("'", path.string(), "' was measured on other pictures than nearest"));
  }

  const train::EvaluationProtocol protocol;
  const double lost = lost_frequency(protocol.scale);
  engine::create_folder(run / "crops");
  for (const std::string& name : names) {
    const Image hr = train::load_image(run / "eval" / "nearest" / "HR" / (name + ".png"));
    const RadialSpectrum original = spectrum_of(hr, protocol, name);
    const std::int64_t width = std::min(o.crop, hr.width), height = std::min(o.crop, hr.height);
    const auto [x, y] = busiest_window(hr, width, height);
    std::vector<Image> parts;
    for (Method& method : methods) {
      const fs::path path = run / "eval" / method.folder / "SR" / (name + ".png");
      const Image sr = train::load_image(path);
      if (sr.width != hr.width || sr.height != hr.height)
        throw InputError(concat("'", path.string(), "' has another size than the original"));
      const RadialSpectrum spectrum = spectrum_of(sr, protocol, name);
      const auto share = 1.0 / static_cast<double>(names.size());
      method.detail_db += share * spectral_bias_db(spectrum, original, lost);
      method.distance_db += share * spectral_distance_db(spectrum, original, lost);
      if (method.folder != "nearest")
        parts.push_back(train::crop(train::to_rgb(sr, name), x, y, width, height));
    }
    parts.push_back(train::crop(train::to_rgb(hr, name), x, y, width, height));
    std::string flat = name;  // a picture of a subfolder
    std::replace(flat.begin(), flat.end(), '/', '-');
    train::save_png(run / "crops" / (flat + "_bicubic_pixel_adversarial_original.png"),
                    side_by_side(parts));
  }

  print_table(methods, names.size());
  const std::vector<Check> checks = check_goals(o, methods, read_log(run / "log.jsonl"));
  std::printf("\n");
  bool all = true;
  ordered_json result{
      {"photographs", names}, {"methods", ordered_json::array()}, {"goals", ordered_json::array()}};
  for (const Method& m : methods)
    result["methods"].push_back({{"name", m.label},
                                 {"psnr_y", m.psnr_y},
                                 {"ssim_gauss", m.ssim_gauss},
                                 {"ssim_daala", m.ssim_daala},
                                 {"fine_detail_db", m.detail_db},
                                 {"spectrum_distance_db", m.distance_db}});
  for (const Check& check : checks) {
    std::printf("[%s] %s\n", check.pass ? "pass" : "FAIL", check.text.c_str());
    all = all && check.pass;
    result["goals"].push_back({{"goal", check.text}, {"pass", check.pass}});
  }
  engine::atomic_write(run / "report.json", result.dump(2) + "\n");
  if (o.no_goals) {
    std::printf("goals are not demanded of this run\n");
    return kSuccess;
  }
  return all ? kSuccess : kInternalError;
}

}  // namespace
}  // namespace subpix::tools

int main(int argc, char** argv) {
  using namespace subpix::tools;
  Options o;
  CLI::App app("Table, goals and side-by-side pictures of a quickstart run.", "quickstart_report");
  app.add_option("--run", o.run, "folder of the run")->capture_default_str();
  app.add_option("--gain", o.gain, "dB that the pixel phase must gain over bicubic")
      ->capture_default_str();
  app.add_option("--crop", o.crop, "side of the cut pictures, pixels")
      ->check(CLI::Range(8, 4096))
      ->capture_default_str();
  app.add_flag("--no-goals", o.no_goals, "print the goals, but succeed whatever they say");
  return run_main(argc, argv, app, [&] { return report(o); });
}
