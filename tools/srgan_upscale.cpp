#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "engine/core/device.h"
#include "engine/core/file.h"
#include "engine/core/plan.h"
#include "models/srgan/upscaler.h"
#include "tools/main_helper.h"
#include "train/image.h"
#include "train/interrupt.h"
#include "train/png_writer.h"

namespace {

using namespace subpix;
namespace fs = std::filesystem;

struct Options {
  std::string weights, input, output;
  std::string tile = "auto";
  std::string backend = "auto", plan;
  std::string channels = "refuse";
  int threads = 0;
};

/// Thrown by the progress callback after a signal; the destructors on the way remove what was
/// begun.
struct Interrupted {};

engine::Index parse_tile(const std::string& text) {
  if (text == "auto") return models::Upscaler::kAutoTile;
  engine::Index side = -1;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, side);
  if (error != std::errc() || stopped != end || side < 0)
    throw InputError(
        concat("--tile is auto, a number of LR pixels, or 0 for the whole picture at "
               "once, not '",
               text, "'"));
  return side;
}

/// The line that shows how far a picture is, rewritten in place; silent where stderr is no
/// terminal.
class ProgressLine {
 public:
  explicit ProgressLine(std::string label) : label_(std::move(label)) {}
  ~ProgressLine() {
    if (shown_) std::cerr << "\r\x1b[K" << std::flush;
  }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void show(double share) {
    constexpr double kEvery = 0.2;  // seconds
    const double now = seconds();
    if (!terminal_ || (shown_ && now - last_ < kEvery)) return;
    last_ = now;
    shown_ = true;
    std::ostringstream line;
    line << label_ << "  " << static_cast<int>(100.0 * share) << " %";
    if (share > 0.02)
      line << ", " << static_cast<int>(now * (1.0 - share) / share + 0.5) << " s left";
    std::cerr << "\r\x1b[K" << line.str() << std::flush;
  }
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::string label_;
  bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  bool shown_ = false;
  double last_ = 0.0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Three channels, or the sentence that says how to get them.
train::Image to_three_channels(train::Image image, const fs::path& path, bool convert) {
  if (image.channels == 3) return image;
  if (!convert)
    throw InputError(concat(path.string(), " has ", image.channels,
                            image.channels == 1   ? " channel (grey)"
                            : image.channels == 2 ? " channels (grey and alpha)"
                                                  : " channels (RGB and alpha)",
                            " where the network takes RGB; --channels convert repeats grey three "
                            "times and drops alpha"));
  train::Image rgb(image.width, image.height, 3);
  const std::int64_t pixels = image.width * image.height, colours = image.channels >= 3 ? 3 : 1;
  for (std::int64_t i = 0; i < pixels; ++i)
    for (std::int64_t c = 0; c < 3; ++c)
      rgb.pixels[static_cast<std::size_t>(3 * i + c)] =
          image.pixels[static_cast<std::size_t>(i * image.channels + std::min(c, colours - 1))];
  return rgb;
}

void check_memory(engine::Device& device, const models::Upscaler& upscaler,
                  const train::Image& image, const fs::path& path) {
  constexpr double kGiB = 1 << 30;
  const std::size_t there = device.context().device().memory_bytes;
  const std::size_t needed = upscaler.plan(image.height, image.width).bytes;
  if (there == 0 || needed <= there) return;
  std::ostringstream text;
  text << std::fixed << std::setprecision(1) << path.string() << " needs about "
       << static_cast<double>(needed) / kGiB << " GiB with this --tile and the machine has "
       << static_cast<double>(there) / kGiB << "; use --tile auto";
  throw InputError(text.str());
}

void upscale_file(engine::Device& device, const models::Upscaler& upscaler, const Options& options,
                  const fs::path& from, const fs::path& to) {
  train::ImageInfo info;
  const train::Image image =
      to_three_channels(train::load_image(from, {}, &info), from, options.channels == "convert");
  check_memory(device, upscaler, image, from);
  const std::int64_t wide = image.width * upscaler.scale(), high = image.height * upscaler.scale();
  const std::string sizes = concat(image.width, "x", image.height, " -> ", wide, "x", high);
  ProgressLine progress(concat(from.filename().string(), " ", sizes));
  // Opened before the work, so that an output that cannot be written is known at once.
  train::PngWriter png(to, wide, high, 3);
  upscaler.run(
      {image.pixels, image.height, image.width},
      [&](std::span<const std::uint8_t> rows) {
        png.write_rows(rows.data(), static_cast<std::int64_t>(rows.size()) / (wide * 3));
      },
      [&](double share) {
        if (train::InterruptGuard::received() != 0) throw Interrupted();
        progress.show(share);
      });
  png.close();
  std::ostringstream line;
  line << to.string() << ": " << sizes << ", " << std::fixed << std::setprecision(1)
       << progress.seconds() << " s" << (info.bits == 16 ? ", from the upper 8 of 16 bits" : "");
  std::cout << line.str() << std::endl;
}

/// Input and output of every picture. A picture that cannot have an output of its own is listed
/// with the reason.
struct Job {
  fs::path from, to;
  std::string refused;
};

void refuse_input_as_output(std::vector<Job>& jobs) {
  for (Job& job : jobs)
    for (const Job& other : jobs) {
      std::error_code missing;
      if (fs::equivalent(job.to, other.from, missing))
        job.refused = concat(job.to.string(),
                             " is one of the pictures to upscale; choose another "
                             "output so that it is not overwritten");
    }
}

bool is_folder(const fs::path& path) {
  std::error_code unreadable;
  return fs::is_directory(path, unreadable);
}

std::vector<Job> list_jobs(const Options& options) {
  const fs::path input = options.input, output = options.output;
  std::vector<Job> jobs;
  std::error_code unreadable;  // then the answer is no
  if (!fs::exists(input, unreadable))
    throw InputError(concat("there is no file or folder ", input.string()));
  if (!is_folder(input)) {
    const bool into_folder = is_folder(output);
    const fs::path to = into_folder ? output / (input.stem().string() + ".png") : output;
    if (to.extension() != ".png" && to.extension() != ".PNG")
      throw InputError(concat("the result is a PNG, so the name ", to.string(),
                              " must end in .png (or be an existing folder)"));
    jobs.push_back({input, to, {}});
    refuse_input_as_output(jobs);
    if (!jobs[0].refused.empty()) throw InputError(jobs[0].refused);
    return jobs;
  }
  if (fs::exists(output, unreadable) && !is_folder(output))
    throw InputError(concat("the input is a folder, so the output must be one, but ",
                            output.string(), " is a file"));
  std::map<std::string, fs::path> taken;  // output name -> input
  for (const fs::path& from : train::list_images({input}, /*recursive=*/false)) {
    const std::string name = from.stem().string() + ".png";
    const auto [it, free] = taken.emplace(name, from);
    Job job{from, output / name, {}};
    if (!free)
      job.refused = concat(from.string(), " would become ", name, " like ", it->second.string(),
                           "; rename one of them");
    jobs.push_back(std::move(job));
  }
  refuse_input_as_output(jobs);
  return jobs;
}

int upscale(const Options& options) {
  models::Upscaler::Options cut;
  cut.tile = parse_tile(options.tile);
  const std::vector<Job> jobs = list_jobs(options);
  const auto device = engine::Device::open(options.backend, options.threads);
  if (!options.plan.empty()) engine::apply_plan(*device, options.plan);
  const auto generator = models::load_generator(*device, options.weights);
  const models::Upscaler upscaler(*device, *generator, cut);
  const bool folder = is_folder(options.input);
  if (folder) engine::create_folder(options.output);

  const train::InterruptGuard guard;
  std::size_t failed = 0;
  for (const Job& job : jobs) {
    try {
      if (train::InterruptGuard::received() != 0) throw Interrupted();
      if (!job.refused.empty()) throw InputError(job.refused);
      upscale_file(*device, upscaler, options, job.from, job.to);
      device->trim();  // the next picture has other sizes
    } catch (const Interrupted&) {
      tools::complain("srgan_upscale", concat("stopped before ", job.to.string(), " was finished"));
      return 128 + train::InterruptGuard::received();
    } catch (const InputError& error) {
      if (!folder) throw;
      tools::complain("srgan_upscale", error.what());
      ++failed;
    }
  }
  if (failed == 0) return tools::kSuccess;
  throw InputError(concat(failed, " of ", jobs.size(), " pictures were not upscaled, see above"));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Upscales photographs with a trained generator.", "srgan_upscale");
  Options options;
  app.add_option("--weights", options.weights, "generator.safetensors of a training run")
      ->required();
  app.add_option("input", options.input, "JPEG, PNG or BMP file, or a folder of them")->required();
  app.add_option("output", options.output, "PNG file, or a folder that gets one PNG per picture")
      ->required();
  app.add_option("--tile", options.tile,
                 "largest tile side in LR pixels; auto keeps memory near 1 GiB, 0 takes the whole "
                 "picture at once; the result is the same")
      ->capture_default_str();
  app.add_option("--plan", options.plan, "plan file of kernel_tune: which kernels are used");
  app.add_option("--backend", options.backend, "auto or a backend of this build")
      ->capture_default_str();
  app.add_option("--threads", options.threads, "compute threads, 0 for all processors")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--channels", options.channels,
                 "what to do with grey pictures and pictures with alpha: refuse, or convert (grey "
                 "repeated, alpha dropped)")
      ->check(CLI::IsMember({"refuse", "convert"}))
      ->capture_default_str();
  return tools::run_main(argc, argv, app, [&] { return upscale(options); });
}
