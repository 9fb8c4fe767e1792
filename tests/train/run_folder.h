#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/train/pictures.h"
#include "train/config.h"

namespace subpix::train::tests {

namespace fs = std::filesystem;

std::string content(const fs::path& path);

/// The lines of a log without what a clock wrote.
std::vector<std::string> timeless_log(const fs::path& run);

/// All files of a run but log.jsonl, by relative path.
std::map<std::string, std::string> files_of(const fs::path& run);

/// Every file of both runs, every line of both logs, to the bit; clocks aside. A signal adds a
/// checkpoint, so of older ones only those that both have are compared; the newest both must have.
void check_same_runs(const fs::path& a, const fs::path& b);

/// A run of two phases that takes a fraction of a second: pixel, then adversarial, with an average,
/// validation and frequent checkpoints.
RunConfig small_run(const fs::path& photos);

}  // namespace subpix::train::tests
