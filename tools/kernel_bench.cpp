// Times the kernels at the problems that SRGAN and VGG19 really have, beside a rival, after
// checking what they compute. docs/benchmarking.md says how and what the columns mean.

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/core/file.h"
#include "engine/core/plan.h"
#include "tools/bench/options.h"
#include "tools/bench/report.h"
#include "tools/bench/selection.h"
#include "tools/main_helper.h"
#include "tools/origin.h"

namespace subpix::tools::bench {
namespace {

using engine::Device;
using nlohmann::ordered_json;

// The simulator computes about as many operations in half a minute.
constexpr double kSimulatedFlops = 1e9;

struct Options {
  Selection selection;
  std::vector<std::string> backends = {"auto"};
  std::string variant, against, plan, json, command;
  int threads = 0;
  double seconds = 1.0, spread = 1.0;
  bool list = false, ceilings_only = false, resume = false;
};

ordered_json describe(Device& device, int threads) {
  const kernels::DeviceInfo& d = device.context().device();
  const bool gpu = d.compute_major > 0;
  const char* kind = device.backend() == "sim" ? "simulator" : gpu ? "gpu" : "cpu";
  return {{"name", device.description()},
          {"kind", kind},
          {"backend", device.backend()},
          {"compute_capability",
           gpu ? ordered_json(concat(d.compute_major, ".", d.compute_minor)) : ordered_json()},
          {"sms", gpu ? ordered_json(d.multiprocessors) : ordered_json()},
          {"memory_bytes", d.memory_bytes},
          {"threads", threads},
          {"processor", processor_name()}};
}

std::vector<std::string> variants_of(const Options& o, const BenchCase& c,
                                     const kernels::Context& ctx, std::string* missing) {
  std::vector<std::string> all = c.variants(ctx);
  if (o.variant == "all") return all;
  if (o.variant.empty()) return all.empty() ? all : std::vector<std::string>{c.chosen(ctx)};
  for (const std::string& v : all)
    if (v == o.variant) return {v};
  for (const std::string& v : c.unsupported(ctx))
    if (v == o.variant) *missing = "does not take this problem";
  return {};
}

/// A variant that no op of the selection has is a mistake of the command line.
void check_variant_name(const Options& o, const std::vector<Selected>& cases,
                        const kernels::Context& ctx) {
  if (o.variant.empty() || o.variant == "all") return;
  std::vector<std::string> known = {"all"};
  for (const Selected& s : cases)
    for (const auto& names : {s.bench_case.variants(ctx), s.bench_case.unsupported(ctx)})
      for (const std::string& v : names) {
        if (v == o.variant) return;
        if (std::find(known.begin(), known.end(), v) == known.end()) known.push_back(v);
      }
  throw InputError(unknown_name("variant of these ops", o.variant, known));
}

/// The rival, or a sentence on stderr and null: the bench goes on without it.
std::shared_ptr<Device> open_rival(const std::string& backend, int threads) try {
  return Device::open(backend, threads);
} catch (const InputError& error) {
  complain("kernel_bench", concat("without the rival '", backend, "': ", error.what()));
  return nullptr;
}

void list_cases(const std::vector<Selected>& cases, const kernels::Context& ctx) {
  std::printf("%-6s %-14s %-36s %-40s %s\n", "set", "layer", "op", "problem", "variants");
  for (const Selected& s : cases) {
    const BenchCase& c = s.bench_case;
    std::string variants;
    for (const std::string& v : c.variants(ctx)) variants += (variants.empty() ? "" : ", ") + v;
    std::printf("%-6s %-14s %-36s %-40s %s\n", s.set.c_str(),
                (c.layer + (c.times > 1 ? concat(" x", c.times) : std::string())).c_str(),
                c.op.c_str(), c.key.c_str(), variants.c_str());
  }
}

/// Results that a run before this one left in its file: of the same commit and device.
ordered_json earlier_results(const Options& o, const ordered_json& out) {
  if (!o.resume || !std::filesystem::exists(o.json)) return ordered_json::array();
  constexpr std::uint64_t kLargestFile = std::uint64_t{1} << 28;
  ordered_json all = ordered_json::parse(engine::read_text(o.json, kLargestFile), nullptr, false);
  if (all.is_object()) all = ordered_json::array({all});
  if (!all.is_array())
    throw InputError(concat("--resume: '", o.json, "' is no result of kernel_bench; remove it"));
  for (const ordered_json& one : all)
    if (one.is_object() && one.value("schema", "") == out["schema"] &&
        one.value("commit", "") == out["commit"] && one.contains("device") &&
        one["device"] == out["device"] && one.contains("results") && one["results"].is_array())
      return one["results"];
  return ordered_json::array();
}

bool holds_result(const ordered_json& earlier, const ordered_json& wanted) {
  for (const ordered_json& one : earlier) {
    bool same = one.is_object();
    for (const char* key : {"op", "dtype", "set", "layer", "batch", "problem", "variant"})
      same = same && one.contains(key) && one[key] == wanted[key];
    if (same) return true;
  }
  return false;
}

/// Times the cases on one backend into `out`; save() after each result.
void bench_backend(const Options& o, const std::vector<Selected>& cases, const std::string& backend,
                   ordered_json& out, const std::function<void()>& save) {
  const auto device = Device::open(backend, o.threads);
  kernels::Context& ctx = device->context();
  if (!o.plan.empty()) engine::apply_plan(*device, o.plan);
  check_variant_name(o, cases, ctx);
  const bool simulated = device->backend() == "sim";
  const RivalName rival_name = parse_rival(o.against);
  const auto rival =
      o.against.empty() || simulated ? nullptr : open_rival(rival_name.backend, o.threads);

  RunOptions run;
  run.rule = {.spread = o.spread / 100.0, .seconds = o.seconds};
  // Of a GPU: more than the L2 of those that there are.
  constexpr std::size_t kGpuCache = std::size_t{128} << 20;
  run.cache_bytes = ctx.device().compute_major > 0 ? kGpuCache : host_cache_bytes();
  std::printf("%s\n", device->description().c_str());
  const Ceilings ceilings =
      simulated ? Ceilings::data_sheet() : Ceilings::measure(*device, run.cache_bytes, run.rule);
  print_ceilings(ceilings, simulated);
  out["device"] = describe(*device, o.threads);
  out["ceilings"] = to_json(ceilings);
  if (o.ceilings_only) return;
  const ordered_json earlier = earlier_results(o, out);
  out["results"] = earlier;

  const auto reference = Device::open("reference");
  Runner runner({device->backend(), ctx}, {reference->backend(), reference->context()}, run);
  std::optional<Bench> other;
  if (rival) other.emplace(Bench{rival->backend(), rival->context()});
  std::string heading;
  for (const Selected& s : cases) {
    const BenchCase& c = s.bench_case;
    if (c.op != heading) print_heading(heading = c.op, simulated);
    std::string missing;
    const std::vector<std::string> variants = variants_of(o, c, ctx, &missing);
    if (variants.empty()) {
      if (missing.empty()) continue;  // another op's variant
      Result r{.backend = device->backend(), .variant = o.variant};
      r.status = Status::Unsupported;
      r.note = missing;
      print_result(c, r, false, ceilings);
      out["results"].push_back(to_json(c, s.set, o.selection.sizes.batch, r, false, ceilings));
      continue;
    }
    for (const std::string& variant : variants) {
      Result r{.backend = device->backend(), .variant = variant};
      const Index batch = o.selection.sizes.batch;
      if (holds_result(earlier, to_json(c, s.set, batch, r, false, ceilings))) continue;
      if (simulated && c.flops > kSimulatedFlops) {
        r.status = Status::Unavailable;
        r.note = "too large for the simulator; try a smaller --batch, --crop or --problem";
      } else if (simulated) {
        r = runner.simulate(c, variant);
      } else {
        r = runner.run(c, variant, other ? &*other : nullptr, rival_name.variant);
      }
      const bool is_default = variant == c.chosen(ctx);
      print_result(c, r, is_default, ceilings);
      std::fflush(stdout);
      out["results"].push_back(to_json(c, s.set, batch, r, is_default, ceilings));
      save();
    }
  }
  if (!earlier.empty())
    std::printf("\n%zu results kept from the last run in %s\n", earlier.size(), o.json.c_str());
}

int run(const Options& o) {
  const std::vector<Selected> cases = select_cases(o.selection);
  if (o.list) {
    list_cases(cases, Device::open(o.backends.front(), o.threads)->context());
    return kSuccess;
  }
  int wrong = 0;
  ordered_json all = ordered_json::array();
  for (const std::string& backend : o.backends) {
    ordered_json out = {
        {"schema", "subpix-kernel-bench-1"}, {"device", nullptr},    {"date", utc_now()},
        {"commit", source_commit()},         {"command", o.command}, {"ceilings", nullptr},
        {"results", ordered_json::array()}};
    // After each result, so that an interrupted run leaves what it has. One backend is one object;
    // several are a list of them.
    const auto save = [&] {
      if (o.json.empty()) return;
      ordered_json file = all;
      file.push_back(out);
      engine::atomic_write(o.json, (file.size() == 1 ? file.front() : file).dump(1) + "\n");
    };
    bench_backend(o, cases, backend, out, save);
    save();
    for (const auto& r : out["results"]) wrong += r["status"] == "wrong";
    all.push_back(std::move(out));
  }
  std::printf("\n* the variant that is chosen for its problem\n");
  if (wrong > 0) complain("kernel_bench", concat(wrong, " results are wrong; see the table"));
  return wrong > 0 ? kInternalError : kSuccess;
}

}  // namespace
}  // namespace subpix::tools::bench

int main(int argc, char** argv) {
  using namespace subpix::tools;
  bench::Options o;
  CLI::App app("Checks and times kernels at the problems of SRGAN and VGG19, beside a rival.",
               "kernel_bench");
  app.add_flag("--list", o.list, "names the calls and their variants, runs nothing");
  bench::add_selection_options(app, o.selection);
  app.add_option("--variant", o.variant, "a variant by name, or all; default: the chosen one");
  app.add_option("--backend", o.backends, "auto, cpu, cuda, cudnn, sim, ...")->delimiter(',');
  app.add_option("--plan", o.plan, "plan file of kernel_tune: which variants are chosen");
  app.add_option("--against", o.against, "rival: BACKEND or BACKEND:VARIANT");
  app.add_option("--threads", o.threads, "compute threads, 0: all")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--seconds", o.seconds, "at most, for each of cold and warm")
      ->check(CLI::Range(0.01, 3600.0))
      ->capture_default_str();
  app.add_option("--spread", o.spread, "percent to which the median shall be known")
      ->check(CLI::Range(0.01, 100.0))
      ->capture_default_str();
  app.add_flag("--ceilings", o.ceilings_only, "measures the device's ceilings alone");
  auto* json = app.add_option("--json", o.json, "file to write, after each result");
  app.add_flag("--resume", o.resume,
               "keeps what the file of --json holds of this commit and device")
      ->needs(json);
  return run_main(argc, argv, app, [&] {
    o.command = command_of(argc, argv);
    return bench::run(o);
  });
}
