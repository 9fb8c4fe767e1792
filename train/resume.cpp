#include "train/resume.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "kernels/api/error.h"

namespace subpix::train {
namespace {

constexpr std::array kMayChange = {
    "threads",     "loader_threads",   "backend",        "plan", "cuda_graph", "data.train",
    "data.val",    "data.memory_mib",  "vgg.weights",    "init", "log.every",  "val.every",
    "val.samples", "checkpoint.every", "checkpoint.keep"};
// Of the phase that was under way.
constexpr std::array kMayChangeNow = {"steps", "lr", "lr_discriminator"};
constexpr std::string_view kSchedule = "schedule.";

/// "phases[1].loss.vgg.layer" -> 1 and "loss.vgg.layer".
bool split_phase(const std::string& path, std::size_t& phase, std::string& rest) {
  constexpr std::string_view kStart = "phases[";
  if (!path.starts_with(kStart)) return false;
  const auto [end, error] =
      std::from_chars(path.data() + kStart.size(), path.data() + path.size(), phase);
  if (error != std::errc()) return false;
  rest = path.substr(static_cast<std::size_t>(end - path.data()) + 2);
  return true;
}

}  // namespace

bool may_change(const std::string& path) {
  return std::find(kMayChange.begin(), kMayChange.end(), path) != kMayChange.end();
}

void check_resumable(const RunState& saved, const RunConfig& wanted) {
  if (wanted.phases.size() <= saved.phase)
    throw InputError(concat("the run is in phase ", saved.phase + 1, " (",
                            saved.config.phases[saved.phase].name, ") but the config has only ",
                            wanted.phases.size(), "; put its phases back"));
  const Index steps = wanted.phases[saved.phase].steps;
  if (steps < saved.phase_step)
    throw InputError(concat("phases[", saved.phase, "].steps cannot become ", steps,
                            ": the run has done ", saved.phase_step, " of them already"));
  for (const ConfigChange& change : compare(saved.config, wanted)) {
    if (may_change(change.path)) continue;
    std::size_t phase = 0;
    std::string key;
    std::string reason = "start a new run in another folder for that, or leave the key as it was";
    if (split_phase(change.path, phase, key)) {
      if (phase > saved.phase) continue;
      if (phase == saved.phase &&
          (std::find(kMayChangeNow.begin(), kMayChangeNow.end(), key) != kMayChangeNow.end() ||
           key.starts_with(kSchedule)))
        continue;
      reason = phase < saved.phase ? "that phase is finished; leave the key as it was"
                                   : "of the phase under way only steps, lr, lr_discriminator and "
                                     "schedule may change";
    }
    throw InputError(concat("cannot resume with ", change.path, " = ", change.after,
                            " where the run has ", change.before, ": ", reason));
  }
}

void check_same_inputs(const RunState& saved, const RunState& now) {
  if (saved.data != now.data)
    throw InputError(
        "the pictures of data.train are not those the run was started with (names, sizes or "
        "number differ), so it could not go on as if never stopped; restore them or start a new "
        "run in another folder");
  if (saved.vgg != 0 && now.vgg != 0 && saved.vgg != now.vgg)
    throw InputError(
        "the file vgg.weights is not the one the run was started with; restore it or start a new "
        "run in another folder");
}

}  // namespace subpix::train
