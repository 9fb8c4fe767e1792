// Times one training step and its phases on synthetic crops, or upscaling one picture: the same ops
// in the same order as the trainer, without reading pictures. docs/benchmarking.md says how the
// numbers are to be read.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/core/file.h"
#include "tools/main_helper.h"
#include "tools/origin.h"
#include "tools/sim_counts.h"
#include "tools/statistics.h"
#include "tools/step_floor.h"
#include "tools/step_ledger.h"
#include "tools/step_workload.h"

namespace subpix::tools {
namespace {

using engine::Device;
using nlohmann::ordered_json;

struct Options {
  StepOptions step;
  std::string name;                  // of the reference step, or empty
  std::vector<std::string> altered;  // options that differ from it
  std::string backend = "auto", json, save_start, ceilings, command;
  int threads = 0, steps = 20, warmup = 5, group = 0, losses = 0;
  bool list = false, count = false;
};

/// What precision "auto" means, and what a backend needs for the others.
DType apply_precision(Device& device, Options& o) {
  std::string& p = o.step.precision;
  const bool gpu = device.backend() == "cuda" || device.backend() == "sim";
  if (o.step.mode == "infer") {
    if (p == "bf16") throw InputError("--precision: upscaling computes in fp32 or tf32, not bf16");
    if (p == "auto") p = "fp32";
  }
  if (p == "auto") p = gpu ? "bf16" : "fp32";
  if (p == "tf32" && !device.allow_tf32())
    throw InputError(
        concat("--precision: the backend ", device.backend(), " has no tf32; use fp32 or bf16"));
  return p == "bf16" ? DType::BF16 : DType::F32;
}

/// A folder that lives as long as the process needs what lies in it.
class Folder {
 public:
  explicit Folder(const std::string& wanted) : temporary_(wanted.empty()), path_(wanted) {
    std::error_code error;
    if (temporary_) {
      std::string pattern = (std::filesystem::temp_directory_path() / "step_bench-XXXXXX").string();
      if (!mkdtemp(pattern.data()))
        throw InputError(concat("no folder can be made in ", pattern, "; set TMPDIR to one"));
      path_ = pattern;
    } else if (std::filesystem::create_directories(path_, error); error) {
      throw InputError(concat("--save-start: the folder '", wanted, "' cannot be made"));
    }
  }
  ~Folder() {
    std::error_code ignored;
    if (temporary_) std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  bool temporary_;
  std::filesystem::path path_;
};

/// Ceilings as kernel_bench measured them on this device; what was not measured stays 0.
Ceilings read_ceilings(const std::string& path, const std::string& precision) {
  std::ifstream file(path);
  if (!file) throw InputError(concat("--ceilings: there is no file '", path, "'"));
  const ordered_json all = ordered_json::parse(file, nullptr, false);
  if (!all.is_object() || !all.contains("ceilings") || !all["ceilings"].is_object())
    throw InputError(
        concat("--ceilings: '", path, "' is no result of kernel_bench with the key 'ceilings'"));
  const auto value = [&](const std::string& key, double unit) {
    const ordered_json& entry = all["ceilings"].value(key, ordered_json::object());
    const bool measured = entry.is_object() && entry.value("status", "") == "measured" &&
                          entry.contains("value") && entry["value"].is_number();
    return measured ? entry["value"].get<double>() * unit : 0.0;
  };
  const std::string compute =
      precision == "fp32" ? "fp32_tflops" : "tensor_" + precision + "_tflops";
  return {value(compute, 1e12), value("copy_gbps", 1e9), value("grid_barrier_us", 1e-6)};
}

double rounded(double ms) { return std::round(ms * 1e4) / 1e4; }

ordered_json to_json(const std::vector<double>& values) {
  const Spread s = spread_of(values);
  return {{"median_ms", rounded(s.median)},
          {"min_ms", rounded(s.min)},
          {"p5_ms", rounded(s.p5)},
          {"p95_ms", rounded(s.p95)}};
}

ordered_json to_json(const std::vector<NamedLoss>& losses) {
  ordered_json all = ordered_json::object();
  for (const NamedLoss& loss : losses) all[loss.name] = loss.value;
  return all;
}

ordered_json describe(const Options& o, Device& device) {
  const StepOptions& s = o.step;
  ordered_json out{{"tool", "step_bench"},
                   {"step", o.name.empty() ? ordered_json() : ordered_json(o.name)},
                   {"altered", o.altered},
                   {"backend", device.backend()},
                   {"device", device.description()},
                   {"processor", processor_name()},
                   {"date", utc_now()},
                   {"commit", source_commit()},
                   {"command", o.command},
                   {"mode", s.mode},
                   {"precision", s.precision},
                   {"threads", o.threads},
                   {"batch", s.batch},
                   {"blocks", s.blocks},
                   {"channels", s.channels},
                   {"crop", s.crop},
                   {"scale", s.scale},
                   {"vgg_layer", s.vgg_layer.empty() ? ordered_json() : ordered_json(s.vgg_layer)}};
  if (s.mode == "infer") out.update({{"width", s.width}, {"height", s.height}, {"tile", s.tile}});
  return out;
}

/// Ops, bytes and launches of one step, the second one: the first makes copies of the weights.
ordered_json count_step(Device& device, Workload& workload, bool execute) {
  workload.step();
  device.synchronize();
  reset_sim_counts();
  const Ledger ledger(device.context());
  workload.step();
  device.synchronize();
  ordered_json ops = ordered_json::object();
  for (const auto& [op, entry] : ledger.ops())
    ops[op] = {{"calls", entry.calls()}, {"bytes", entry.bytes}, {"variants", entry.variants}};
  ordered_json simulator;
  if (device.backend() == "sim") {
    simulator = ordered_json::object();
    for (const auto& [name, value] : sim_counts()) simulator[name] = value;
  }
  return {{"op_calls", ledger.calls()},
          {"least_bytes", ledger.bytes()},
          // A device's own launches are not counted: the simulator runs the same host code.
          {"launches", simulator.is_null() ? ordered_json() : simulator["launches"]},
          {"executed", execute},
          {"simulator", simulator},
          {"ops", ops}};
}

ordered_json floor_json(const Options& o, const std::vector<Index>& vgg_widths) {
  const StepWork work = work_of(o.step, o.step.precision == "bf16" ? 2 : 4, vgg_widths);
  ordered_json out{{"kind", "floor, computed"},
                   {"flops", work.flops()},
                   {"least_bytes", work.bytes()},
                   {"phases", work.phases},
                   {"ceilings", nullptr}};
  Floor floor;
  if (!o.ceilings.empty()) {
    const Ceilings c = read_ceilings(o.ceilings, o.step.precision);
    floor = floor_of(work, c);
    out["ceilings"] = {{"file", o.ceilings},
                       {"tflops", c.flops / 1e12},
                       {"gbps", c.bytes / 1e9},
                       {"barrier_us", c.barrier * 1e6}};
  }
  const auto ms = [](double seconds) {
    return seconds > 0.0 ? ordered_json(rounded(seconds * 1e3)) : ordered_json();
  };
  out["overlapped_ms"] = ms(floor.overlapped);
  out["layered_ms"] = ms(floor.layered);
  out["waiting_ms"] = ms(floor.waiting);
  return out;
}

/// Times of undivided steps, each sample the mean of a group between two waits.
std::vector<double> time_undivided(Device& device, Workload& workload, const Options& o,
                                   int group) {
  for (int i = 0; i < o.warmup; ++i) workload.step();
  std::vector<double> samples;
  for (int i = 0; i < o.steps; ++i) {
    device.synchronize();
    const double begin = clock_ms();
    for (int j = 0; j < group; ++j) workload.step();
    device.synchronize();
    samples.push_back((clock_ms() - begin) / group);
  }
  return samples;
}

void time_into(ordered_json& out, Device& device, Workload& workload, const Options& o) {
  const int group = o.group > 0 ? o.group : device.backend() == "cuda" ? 10 : 1;
  // On the host a divided step is an undivided one, and one series tells both.
  const bool host = !engine::Graph::supported(device);
  std::vector<double> samples;
  if (!host) samples = time_undivided(device, workload, o, group);
  PhaseClock clock(device);
  for (int i = 0; i < o.warmup + o.steps; ++i) {
    workload.step(clock);
    clock.finish(i >= o.warmup);
  }
  if (host) samples = clock.steps();
  out.update({{"warmup", o.warmup},
              {"steps", o.steps},
              {"steps_per_sample", host ? 1 : group},
              {"graph", !host && o.step.mode != "infer"}});
  out.update(to_json(samples));
  out["images_per_second"] =
      static_cast<double>(workload.images()) * 1000.0 / quantile(samples, 0.5);
  ordered_json phases = ordered_json::object();
  for (const std::string& name : clock.order()) phases[name] = to_json(clock.phase(name));
  out["phases"] = phases;
  ordered_json series = ordered_json::array();
  for (double ms : samples) series.push_back(rounded(ms));
  out["step_ms"] = series;
}

void print(const ordered_json& r) {
  const auto mib = [&](const char* key) {
    return r.at("memory").at(key).get<double>() / 1048576.0;
  };
  std::printf("%s, %s, batch %lld, %lld blocks, crop %lld\n",
              r.at("device").get<std::string>().c_str(), r.at("mode").get<std::string>().c_str(),
              r.at("batch").get<long long>(), r.at("blocks").get<long long>(),
              r.at("crop").get<long long>());
  if (r.contains("median_ms")) {
    std::printf("%-24s %10s %10s %10s %10s\n", "ms", "median", "min", "p5", "p95");
    const auto line = [](const std::string& name, const ordered_json& v) {
      std::printf("%-24s %10.3f %10.3f %10.3f %10.3f\n", name.c_str(),
                  v.at("median_ms").get<double>(), v.at("min_ms").get<double>(),
                  v.at("p5_ms").get<double>(), v.at("p95_ms").get<double>());
    };
    for (const auto& [name, value] : r.at("phases").items()) line(name, value);
    line("step", r);
    std::printf("%.2f images/s; ", r.at("images_per_second").get<double>());
  }
  std::printf("peak memory: tensors %.0f MiB, workspace %.0f MiB, process %.0f MiB\n",
              mib("tensor_peak_bytes"), mib("workspace_bytes"), mib("process_peak_bytes"));
  const ordered_json &counts = r.at("counts"), &floor = r.at("floor");
  std::printf("one step: %lld op calls, at least %.1f MB moved",
              counts.at("op_calls").get<long long>(), counts.at("least_bytes").get<double>() / 1e6);
  if (!counts.at("launches").is_null())
    std::printf(", %lld launches", counts.at("launches").get<long long>());
  std::printf("\nfloor, computed: %.1f GFLOP, %.1f MB, %lld dependent phases",
              floor.at("flops").get<double>() / 1e9, floor.at("least_bytes").get<double>() / 1e6,
              floor.at("phases").get<long long>());
  for (const char* key : {"overlapped_ms", "layered_ms", "waiting_ms"})
    if (!floor.at(key).is_null())
      std::printf("; %s %.3f ms", std::string(key, std::string_view(key).size() - 3).c_str(),
                  floor.at(key).get<double>());
  std::printf("\n");
}

void check_finite(const ordered_json& losses) {
  for (const auto& [name, value] : losses.items())
    if (!std::isfinite(value.get<double>()))
      throw Error(
          concat("the ", name, " loss became ", value.get<double>(), "; the timing is void"));
}

int run(Options& o) {
  if (o.list) {
    for (const ReferenceStep& s : reference_steps()) std::printf("%-18s %s\n", s.name, s.text);
    return kSuccess;
  }
  const auto device = Device::open(o.backend, o.threads);
  const bool execute = !(o.count && device->backend() == "sim");
  set_sim_execution(execute);
  const DType type = apply_precision(*device, o);
  if (!o.ceilings.empty()) read_ceilings(o.ceilings, o.step.precision);
  std::optional<Folder> folder(std::in_place, o.save_start);

  std::unique_ptr<Workload> workload;
  TrainingWorkload* training = nullptr;
  if (o.step.mode == "infer") {
    auto inference = std::make_unique<InferenceWorkload>(*device, o.step);
    if (!o.save_start.empty()) inference->save(folder->path());
    workload = std::move(inference);
  } else {
    auto made = std::make_unique<TrainingWorkload>(*device, o.step, type, folder->path());
    training = made.get();
    workload = std::move(made);
    if (!o.save_start.empty()) {
      training->save(folder->path());
      if (training->vgg() && training->vgg()->drawn.empty())
        std::filesystem::copy_file(training->vgg()->path, folder->path() / "vgg.safetensors",
                                   std::filesystem::copy_options::overwrite_existing);
    }
  }

  if (o.save_start.empty()) folder.reset();  // everything drawn was loaded

  ordered_json out = describe(o, *device);
  out["generator_parameters"] = workload->generator_parameters();
  std::vector<Index> vgg_widths;
  if (training && training->vgg()) {
    vgg_widths = training->vgg()->widths;
    out["vgg"] = {{"file", o.step.vgg}, {"drawn", training->vgg()->drawn}, {"seed", kVggSeed}};
  }
  ordered_json series = ordered_json::array();
  for (int i = 0; training && i < o.losses; ++i)
    series.push_back(to_json(training->step_with_losses()));
  const ordered_json counts = count_step(*device, *workload, execute);
  if (!o.count) time_into(out, *device, *workload, o);
  out["memory"] = {{"tensor_peak_bytes", device->memory().peak},
                   {"tensor_reserved_bytes", device->memory().reserved},
                   {"workspace_bytes", device->context().workspace_bytes()},
                   {"process_peak_bytes", peak_resident_bytes()}};
  if (training && execute) {
    out["losses"] = to_json(training->losses());
    check_finite(out["losses"]);
  }
  if (!series.empty()) out["loss_series"] = series;
  out["counts"] = counts;
  out["floor"] = floor_json(o, vgg_widths);
  print(out);
  if (!o.json.empty()) engine::atomic_write(o.json, out.dump(2) + "\n");
  return kSuccess;
}

}  // namespace
}  // namespace subpix::tools

int main(int argc, char** argv) {
  using namespace subpix::tools;
  Options o;
  StepOptions given;
  std::string vgg_layer = "VGG22";
  CLI::App app("Times a training step and its phases, or upscaling one picture.", "step_bench");
  app.add_option("--step", o.name, "a reference step; options given besides change it");
  app.add_flag("--list", o.list, "names the reference steps");
  app.add_option("--backend", o.backend, "auto, cpu, cuda, reference, sim")->capture_default_str();
  app.add_option("--precision", given.precision, "auto: bf16 on cuda and sim, else fp32")
      ->check(CLI::IsMember({"auto", "fp32", "tf32", "bf16"}))
      ->capture_default_str();
  auto* mode = app.add_option("--mode", given.mode,
                              "srresnet: pixel loss only; srgan: with discriminator; infer")
                   ->check(CLI::IsMember({"srresnet", "srgan", "infer"}))
                   ->capture_default_str();
  auto* batch = app.add_option("--batch", given.batch)->check(CLI::Range(1, 4096));
  batch->capture_default_str();
  auto* blocks = app.add_option("--blocks", given.blocks)->check(CLI::Range(1, 256));
  blocks->capture_default_str();
  auto* channels = app.add_option("--channels", given.channels)->check(CLI::Range(1, 1024));
  channels->capture_default_str();
  auto* crop = app.add_option("--crop", given.crop, "HR pixels")->check(CLI::Range(4, 4096));
  crop->capture_default_str();
  auto* scale = app.add_option("--scale", given.scale)->check(CLI::IsMember({2, 4}));
  scale->capture_default_str();
  auto* width = app.add_option("--width", given.width, "LR pixels, mode infer");
  width->check(CLI::Range(1, 100000));
  auto* height = app.add_option("--height", given.height, "LR pixels, mode infer");
  height->check(CLI::Range(1, 100000));
  auto* tile = app.add_option("--tile", given.tile, "mode infer: LR pixels; 0: whole, -1: auto")
                   ->check(CLI::Range(-1, 100000));
  tile->capture_default_str();
  app.add_option("--threads", o.threads, "compute threads, 0: all")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--steps", o.steps, "timed samples")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  app.add_option("--group", o.group, "steps a sample; 0: 10 on cuda, else 1")
      ->check(CLI::Range(0, 100000))
      ->capture_default_str();
  app.add_option("--warmup", o.warmup, "steps before")
      ->check(CLI::Range(0, 1000000))
      ->capture_default_str();
  app.add_option("--vgg", given.vgg, "VGG19 weights: the content loss is taken on its features");
  auto* layer = app.add_option("--vgg-layer", vgg_layer)->capture_default_str();
  app.add_option("--losses", o.losses, "first so many steps whose losses go into the JSON")
      ->check(CLI::Range(0, 100000));
  app.add_option("--save-start", o.save_start,
                 "folder to write the starting weights and the data to");
  app.add_option("--ceilings", o.ceilings, "JSON of kernel_bench, for the floors");
  app.add_flag("--count", o.count,
               "only ops, launches and bytes, without times; on sim nothing is executed");
  app.add_option("--json", o.json, "file to write");
  return run_main(argc, argv, app, [&] {
    o.command = command_of(argc, argv);
    o.step = given;
    const bool named = !o.name.empty();
    if (named) o.step = options_of(reference_step(o.name));
    const auto take = [&](const CLI::Option* option, auto& to, const auto& value) {
      if (option->count() == 0) return;
      if (named) o.altered.push_back(option->get_name().substr(2));
      to = value;
    };
    take(mode, o.step.mode, given.mode);
    take(batch, o.step.batch, given.batch);
    take(blocks, o.step.blocks, given.blocks);
    take(channels, o.step.channels, given.channels);
    take(crop, o.step.crop, given.crop);
    take(scale, o.step.scale, given.scale);
    take(width, o.step.width, given.width);
    take(height, o.step.height, given.height);
    take(tile, o.step.tile, given.tile);
    o.step.precision = given.precision;
    o.step.vgg = given.vgg;
    if (!named && !given.vgg.empty()) o.step.vgg_layer = vgg_layer;
    if (!o.step.vgg_layer.empty()) take(layer, o.step.vgg_layer, vgg_layer);
    if (o.step.mode == "infer") o.step.batch = 1;
    if (o.step.mode == "infer" && (o.step.width == 0 || o.step.height == 0))
      throw subpix::InputError("--mode infer needs --width and --height of the LR picture");
    return run(o);
  });
}
