#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "engine/core/device.h"
#include "engine/core/file.h"
#include "models/srgan/upscaler.h"
#include "tools/main_helper.h"
#include "train/evaluate.h"

namespace {

using namespace subpix;

struct Options {
  std::string method, weights;
  std::string backend = "auto";
  int threads = 0;
  bool scale_given = false;
  std::vector<std::string> data;
  std::string json, save;
  std::string edge = "clamp";
  train::EvaluationProtocol protocol;
};

/// The generator of the weight file, whose scale becomes the protocol's.
train::Upscaler make_network(Options& options) {
  const auto device = engine::Device::open(options.backend, options.threads);
  const auto generator = models::load_generator(*device, options.weights);
  const auto network = std::make_shared<models::Upscaler>(*device, *generator);
  const std::int64_t scale = network->scale();
  if (options.scale_given && options.protocol.scale != scale)
    throw InputError(concat(options.weights, " enlarges by ", scale, ", not by the ",
                            options.protocol.scale, " of --scale; leave --scale out"));
  options.protocol.scale = scale;
  return [device, network, scale](const train::Image& lr) {
    const train::Image rgb = train::to_rgb(lr, "the LR picture");
    train::Image sr(lr.width * scale, lr.height * scale, 3);
    sr.pixels = network->run({rgb.pixels, rgb.height, rgb.width});
    device->trim();  // the next picture has other sizes
    return sr;
  };
}

train::Upscaler make_upscaler(Options& options) {
  if (options.method.empty() == options.weights.empty())
    throw InputError("say what to measure: --weights FILE or --method bicubic or nearest");
  if (!options.weights.empty()) return make_network(options);
  const std::int64_t scale = options.protocol.scale;
  if (options.method == "nearest")
    return [scale](const train::Image& lr) { return train::enlarge_nearest(lr, scale); };
  const train::Edge edge = options.protocol.edge;
  return [scale, edge](const train::Image& lr) { return train::enlarge_bicubic(lr, scale, edge); };
}

int evaluate(Options& options) {
  if (options.edge == "mirror") options.protocol.edge = train::Edge::Mirror;
  // Tried now, so that a result file that cannot be written is known before the work.
  if (!options.json.empty()) engine::AtomicFile trial(options.json);

  const train::Upscaler upscaler = make_upscaler(options);
  train::EvaluationRequest request;
  request.folders.assign(options.data.begin(), options.data.end());
  request.protocol = options.protocol;
  request.method = options.weights.empty() ? options.method : "network";
  request.weights = options.weights;
  request.save = options.save;
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  if (terminal) {
    request.on_progress = [](std::size_t done, std::size_t total, const std::string& name) {
      std::cerr << "\r\x1b[K" << done + 1 << "/" << total << " " << name << std::flush;
    };
  }
  const train::Evaluation result = train::evaluate(request, upscaler);
  if (terminal) std::cerr << "\r\x1b[K" << std::flush;

  std::cout << train::to_table(result) << '\n' << result.protocol.describe() << '\n';
  if (!options.json.empty()) {
    std::cout.flush();  // the file may be standard output itself
    engine::atomic_write(options.json, train::to_json(result));
  }
  return tools::kSuccess;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Measures an upscaler on folders of pictures: PSNR and two kinds of SSIM on luma.",
               "srgan_eval");
  Options options;
  app.add_option("--weights", options.weights, "generator.safetensors of the network to measure");
  app.add_option("--method", options.method, "or an upscaler without weights")
      ->check(CLI::IsMember({"bicubic", "nearest"}));
  app.add_option("--data", options.data,
                 "folder of HR pictures; may be given several times, one set each")
      ->required()
      ->type_size(1)
      ->allow_extra_args(false);
  app.add_option("--json", options.json, "file to write the results to");
  app.add_option("--save", options.save,
                 "folder for the LR, SR and HR pictures that were compared");
  app.add_option("--backend", options.backend, "auto or a backend of this build, for a network")
      ->capture_default_str();
  app.add_option("--threads", options.threads, "compute threads, 0 for all processors")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  const CLI::Option* scale =
      app.add_option("--scale", options.protocol.scale, "factor; a network's own if left out")
          ->check(CLI::Range(1, 16))
          ->capture_default_str();
  app.add_option("--border", options.protocol.border, "pixels left out on every side")
      ->check(CLI::Range(0, 256))
      ->capture_default_str();
  app.add_option("--edge", options.edge,
                 "past the edge when LR is made: clamp (the published sets) or mirror (MATLAB)")
      ->check(CLI::IsMember({"clamp", "mirror"}))
      ->capture_default_str();
  return tools::run_main(argc, argv, app, [&] {
    options.scale_given = scale->count() > 0;
    return evaluate(options);
  });
}
