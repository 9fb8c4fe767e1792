// Trains a generator, or a generator against a discriminator, as a JSON config says
// (docs/config.md), and leaves weights, log, samples and checkpoints in a folder (docs/formats.md).

#include <csignal>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "tools/main_helper.h"
#include "train/interrupt.h"
#include "train/trainer.h"

namespace {

using namespace subpix;

struct Options {
  std::string config, out, backend;
  std::vector<std::string> set;
  int threads = -1;
  bool resume = false, list_keys = false, quiet = false;
};

/// --backend and --threads are short for --set.
std::vector<std::string> overrides(const Options& options) {
  std::vector<std::string> all = options.set;
  if (!options.backend.empty()) all.push_back("backend=" + options.backend);
  if (options.threads >= 0) all.push_back(concat("threads=", options.threads));
  return all;
}

int list_keys() {
  for (const train::ConfigKey& key : train::config_keys())
    std::cout << key.path << " = " << key.default_value << "  (" << key.allowed << ")\n";
  return tools::kSuccess;
}

int run(const Options& options) {
  if (options.list_keys) return list_keys();
  if (options.config.empty() && !options.resume)
    throw InputError(
        "what shall be trained? name a config with --config FILE, for instance one of "
        "train/configs, or continue a run with --resume");
  if (options.out.empty())
    throw InputError("where shall the run go? name a folder with --out FOLDER");
  // A size limit on files shall become a sentence like any other full disk.
  std::signal(SIGXFSZ, SIG_IGN);
  const train::InterruptGuard guard;
  train::Console console(options.quiet ? nullptr : stdout);
  const std::vector<std::string> set = overrides(options);
  const auto wanted = [&](const train::RunConfig& stored) {
    return options.config.empty()
               ? train::parse_config(train::to_json(stored), options.out + "/config.json", set)
               : train::load_config(options.config, set);
  };
  train::Trainer trainer = options.resume ? train::Trainer::resume(options.out, wanted, console,
                                                                   train::InterruptGuard::received)
                                          : train::Trainer::start(wanted({}), options.out, console,
                                                                  train::InterruptGuard::received);
  const int signal = trainer.run();
  // As a shell reports a process that a signal ended.
  constexpr int kSignalBase = 128;
  return signal == 0 ? tools::kSuccess : kSignalBase + signal;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Trains SRGAN or SRResNet. Stops cleanly on Ctrl-C (exit code 130) and SIGTERM (143) after "
      "writing a checkpoint.",
      "srgan_train");
  Options options;
  app.add_option("--config", options.config, "JSON file; presets lie in train/configs");
  app.add_option("--set", options.set, "key=value, changes one key of the config; may be repeated");
  app.add_option("--out", options.out, "folder of the run");
  app.add_flag("--resume", options.resume,
               "continue the run in the folder from its newest checkpoint, with its own config "
               "unless --config names one");
  app.add_option("--backend", options.backend, "auto, cpu, reference, ...; same as --set backend=");
  app.add_option("--threads", options.threads, "compute threads, 0: all; same as --set threads=")
      ->check(CLI::Range(0, 4096));
  app.add_flag("--quiet", options.quiet, "print nothing but errors");
  app.add_flag("--list-keys", options.list_keys,
               "print every config key with its default and what is allowed");
  return tools::run_main(argc, argv, app, [&] { return run(options); });
}
