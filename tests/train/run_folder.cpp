#include "tests/train/run_folder.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/catch.h"

namespace subpix::train::tests {

std::string content(const fs::path& path) {
  std::ostringstream all;
  all << std::ifstream(path, std::ios::binary).rdbuf();
  return all.str();
}

std::vector<std::string> timeless_log(const fs::path& run) {
  std::vector<std::string> lines;
  std::istringstream log(content(run / "log.jsonl"));
  for (std::string text; std::getline(log, text);) {
    auto line = nlohmann::ordered_json::parse(text);
    line.erase("seconds");
    line.erase("images_per_s");
    lines.push_back(line.dump());
  }
  return lines;
}

std::map<std::string, std::string> files_of(const fs::path& run) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(run))
    if (entry.is_regular_file() && entry.path().filename() != "log.jsonl")
      files[fs::relative(entry.path(), run).string()] = content(entry.path());
  return files;
}

void check_same_runs(const fs::path& a, const fs::path& b) {
  const auto first = files_of(a), second = files_of(b);
  std::string newest;
  for (const auto& [name, bytes] : first)
    if (name.starts_with("checkpoints/") && name.ends_with("/state.json")) newest = name;
  CHECK(second.contains(newest));
  std::size_t outside = 0;
  for (const auto& [name, bytes] : first) {
    CAPTURE(name);
    const auto other = second.find(name);
    if (!name.starts_with("checkpoints/")) {
      ++outside;
      REQUIRE(other != second.end());
    }
    if (other != second.end()) CHECK((other->second == bytes));
  }
  for (const auto& [name, bytes] : second) outside -= !name.starts_with("checkpoints/");
  CHECK(outside == 0);
  CHECK(timeless_log(a) == timeless_log(b));
}

RunConfig small_run(const fs::path& photos) {
  RunConfig c;
  c.threads = 1;
  c.data.train = {photos.string()};
  c.data.val = {(photos / "photo_0.png").parent_path().string()};
  c.data.crop = 16;
  c.data.batch = 2;
  c.model.blocks = 1;
  c.model.channels = 4;
  c.discriminator = {2, 4, 0.2};
  c.ema = 0.9;
  c.log.every = 2;
  c.val.every = 3;
  c.checkpoint = {2, 3};
  c.phases.resize(2);
  c.phases[0].steps = 5;
  c.phases[0].lr = 1e-3;
  c.phases[1] = c.phases[0];
  c.phases[1].name = "adversarial";
  c.phases[1].steps = 6;
  c.phases[1].loss.adversarial = AdversarialLoss{};
  c.phases[1].schedule.kind = engine::Schedule::Kind::Cosine;
  return c;
}

}  // namespace subpix::train::tests
