// Finds the quickest variant of every call and writes a plan file, which training, upscaling and
// kernel_bench read.

#include <cstdio>
#include <set>

#include "engine/core/plan.h"
#include "tools/bench/options.h"
#include "tools/bench/runner.h"
#include "tools/main_helper.h"
#include "tools/origin.h"

namespace subpix::tools::bench {
namespace {

using engine::Device;

// Plain loops and sequences of other ops are fallbacks: on problems of some size they only take
// time.
constexpr double kTriedFlops = 1e8;

struct Options {
  Selection selection;
  std::string backend = "auto", out, command;
  int threads = 0;
  double seconds = 0.5, spread = 1.0;
};

struct Choice {
  std::string variant;
  double us = 0;
  bool moved = false;  ///< not the default
};

/// The variant that is quicker than every other one beyond the noise; among those that cannot be
/// told apart the first of the list, so that the same times give the same plan.
Choice quickest(Runner& runner, const Bench& bench, const BenchCase& c) {
  const std::vector<std::string> variants = c.variants(bench.ctx);
  Choice best{variants.front()};
  for (const std::string& variant : variants) {
    const bool fallback = variant == "reference" || variant == "composed";
    if (variant == variants.front() || (fallback && c.flops > kTriedFlops)) continue;
    const Result r = runner.run(c, variant, &bench, best.variant);
    if (r.status == Status::Wrong)
      complain("kernel_tune",
               concat(c.op, " ", c.key, " ", variant, " is WRONG and left out: ", r.note));
    if (!r.times || r.rivals.empty() || !r.rivals.front().times) continue;
    best.us = r.rivals.front().times->cold.spread.median;
    const Ratio& ratio = r.rivals.front().cold;
    if (ratio.claim && ratio.value < 1.0) best = {variant, r.times->cold.spread.median, true};
  }
  return best;
}

int run(const Options& o) {
  const auto device = Device::open(o.backend, o.threads);
  if (device->backend() == "sim")
    throw InputError("the simulator has no times; tune on cuda or cpu");
  const auto reference = Device::open("reference");
  const Bench bench{device->backend(), device->context()};
  RunOptions options;
  options.rule = {.spread = o.spread / 100.0, .seconds = o.seconds};
  options.cache_bytes = host_cache_bytes();
  Runner runner(bench, {reference->backend(), reference->context()}, options);

  engine::Plan plan{device->description(),
                    engine::code_version(bench.ctx.table()),
                    concat(utc_now(), ", commit ", source_commit(), ", ", o.command),
                    {}};
  std::set<std::pair<std::string, std::string>> done;  // layers may share a problem
  int moved = 0;
  std::printf("%s\n", device->description().c_str());
  for (const Selected& s : select_cases(o.selection)) {
    const BenchCase& c = s.bench_case;
    if (!done.insert({c.op, c.key}).second || c.variants(bench.ctx).size() < 2) continue;
    const Choice choice = quickest(runner, bench, c);
    if (choice.us <= 0) continue;
    plan.entries.push_back({c.op, c.key, choice.variant, choice.us});
    moved += choice.moved;
    std::printf("%-34s %-40s %-18s %10.2f us%s\n", c.op.c_str(), c.key.c_str(),
                choice.variant.c_str(), choice.us,
                choice.moved ? concat(", instead of ", c.variants(bench.ctx).front()).c_str() : "");
    std::fflush(stdout);
  }
  engine::write_plan(o.out, plan);
  std::printf("%zu problems, %d of them not by their default variant; written to %s\n",
              plan.entries.size(), moved, o.out.c_str());
  return kSuccess;
}

}  // namespace
}  // namespace subpix::tools::bench

int main(int argc, char** argv) {
  using namespace subpix::tools;
  bench::Options o;
  CLI::App app("Finds the quickest variant of every call and writes a plan file.", "kernel_tune");
  bench::add_selection_options(app, o.selection);
  app.add_option("--backend", o.backend, "auto, cpu, cuda, ...")->capture_default_str();
  app.add_option("--threads", o.threads, "compute threads, 0: all; a plan belongs to their number")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--seconds", o.seconds, "at most, for each of cold and warm of a pair")
      ->check(CLI::Range(0.01, 3600.0))
      ->capture_default_str();
  app.add_option("--spread", o.spread, "percent to which the medians shall be known")
      ->check(CLI::Range(0.01, 100.0))
      ->capture_default_str();
  app.add_option("--out", o.out, "plan file to write")->required();
  return run_main(argc, argv, app, [&] {
    o.command = command_of(argc, argv);
    return bench::run(o);
  });
}
