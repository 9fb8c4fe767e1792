// The real program: killed, interrupted, on a full disk, with bad input.

#include <fcntl.h>
#include <pty.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "engine/nn/module.h"
#include "models/srgan/discriminator.h"
#include "tests/support/catch.h"
#include "tests/support/message.h"
#include "tests/support/process.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/run_folder.h"
#include "train/report.h"

namespace subpix::train {
namespace {

using Catch::Matchers::Contains;
using subpix::tests::Finished;
using subpix::tests::Process;
using subpix::tests::TemporaryFolder;
using tests::check_same_runs;
using tests::content;
namespace fs = std::filesystem;

/// Photos, a config file and runs.
struct Place {
  TemporaryFolder folder;
  RunConfig config;
  Place() {
    tests::write_photos(folder / "photos", 3, 24, 20);
    config = tests::small_run(folder / "photos");
  }
  fs::path run(const std::string& name) const { return folder / name; }
  std::vector<std::string> command(const std::string& name, bool resume) const {
    engine::atomic_write(folder / "config.json", to_json(config));
    std::vector<std::string> all = {"--out", run(name).string()};
    if (resume)
      all.emplace_back("--resume");
    else
      all.insert(all.end(), {"--config", (folder / "config.json").string()});
    return all;
  }
  Finished train(const std::string& name, bool resume = false) const {
    return subpix::tests::run_tool("srgan_train", command(name, resume), folder.path());
  }
  bool has_checkpoint(const std::string& name) const {
    const fs::path checkpoints = run(name) / "checkpoints";
    if (!fs::exists(checkpoints)) return false;
    for (const auto& entry : fs::directory_iterator(checkpoints))
      if (entry.path().filename().string().starts_with("step_")) return true;
    return false;
  }
};

bool is_one_sentence(const std::string& text) {
  return text.starts_with("srgan_train: ") && text.find('\n') == text.size() - 1 &&
         text.find("internal error") == std::string::npos;
}

double seconds() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

std::size_t lines_of_log(const fs::path& run) {
  const std::string log = content(run / "log.jsonl");
  return static_cast<std::size_t>(std::count(log.begin(), log.end(), '\n'));
}

/// Waits until the run has that many lines of log; the test fails after a minute.
void wait_for_log(const fs::path& run, std::size_t lines) {
  const double start = seconds();
  for (;;) {
    if (lines_of_log(run) >= lines) return;
    REQUIRE(seconds() < start + 60.0);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

/// A limit on the size of files for the processes started while it lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

/// Mounts a small file system on `folder` that only this process and its children see.
bool mount_small(const fs::path& folder, const char* size) {
  if (::unshare(CLONE_NEWNS) != 0) return false;
  ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  return ::mount("tmpfs", folder.c_str(), "tmpfs", 0, size) == 0;
}

}  // namespace

TEST_CASE("killed at any moment and resumed, a run is as if never killed", "[run][kill]") {
  Place place;
  place.config.phases[0].steps = 60;
  place.config.phases[1].steps = 60;
  place.config.val.every = 25;
  REQUIRE(place.train("whole").code == 0);
  const std::size_t all = lines_of_log(place.run("whole"));
  engine::Philox random(20260101);
  int killed = 0, resumed = 0;
  for (int round = 0; round < 3; ++round) {
    const std::string name = "killed" + std::to_string(round);
    for (int attempt = 0;; ++attempt) {
      const bool resume = place.has_checkpoint(name);
      resumed += resume;
      // Some lines further and a moment more: anywhere in a step, a validation or a checkpoint. The
      // first time while it starts.
      const std::size_t target = lines_of_log(place.run(name)) + random.bounded(12) + 1;
      Process process("srgan_train", place.command(name, resume), place.folder.path());
      if (target < all) {
        if (attempt > 0) wait_for_log(place.run(name), target);
        std::this_thread::sleep_for(std::chrono::microseconds(random.bounded(20'000)));
        process.signal(SIGKILL);
      }
      const int code = process.wait();
      CAPTURE(process.err());
      if (code == 0) break;
      REQUIRE(code == -SIGKILL);
      ++killed;
    }
    check_same_runs(place.run("whole"), place.run(name));
    fs::remove_all(place.run(name));
  }
  CHECK(killed >= 9);
  CHECK(resumed >= 9);
}

TEST_CASE("SIGINT and SIGTERM end the step, write a checkpoint and tell", "[run][signal]") {
  Place place;
  REQUIRE(place.train("whole").code == 0);
  const int signal = GENERATE(SIGINT, SIGTERM);
  place.config.phases[0].steps = 100'000'000;
  place.config.checkpoint.every = 0;
  Process process("srgan_train", place.command("run", false), place.folder.path());
  wait_for_log(place.run("run"), 6);
  process.signal(signal);
  CHECK(process.wait() == 128 + signal);
  CHECK(process.err().empty());
  CHECK_THAT(process.out(), Contains("stopped by signal") && Contains("--resume"));
  // The last line of the log is at most log.every - 1 steps before the checkpoint.
  const auto log = tests::timeless_log(place.run("run"));
  const auto logged = nlohmann::json::parse(log.back()).at("step").get<Index>();
  Index saved = 0;
  for (const auto& entry : fs::directory_iterator(place.run("run") / "checkpoints"))
    saved = std::max<Index>(saved, std::stoll(entry.path().filename().string().substr(5)));
  CHECK(saved >= logged);
  CHECK(saved < logged + place.config.log.every);
  CHECK(process.out().find('\r') == std::string::npos);
}

TEST_CASE("a disk that is full during a checkpoint costs nothing that was saved", "[run][disk]") {
  Place place;
  // The discriminator's file is larger than the limit, the generator's is not.
  place.config.discriminator.dense = 8192;
  REQUIRE(place.train("whole").code == 0);
  Finished failed;
  {
    const FileSizeLimit limit(200'000);
    failed = place.train("run");
  }
  CAPTURE(failed.err);
  CHECK(failed.code == 2);
  CHECK(is_one_sentence(failed.err));
  CHECK_THAT(failed.err,
             Contains("safetensors") && Contains("step_000000005") && Contains("--resume"));
  for (const auto& entry : fs::directory_iterator(place.run("run") / "checkpoints"))
    CHECK(entry.path().filename().string().starts_with("step_"));
  REQUIRE(place.train("run", true).code == 0);
  check_same_runs(place.run("whole"), place.run("run"));
}

TEST_CASE("so does a file system without space", "[run][disk]") {
  Place place;
  place.config.discriminator.dense = 8192;
  const fs::path disk = place.folder / "disk";
  fs::create_directory(disk);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    // Catch is not to be used here: the exit code tells what went wrong.
    if (!mount_small(disk, "size=500k")) ::_exit(77);
    const Finished failed = place.train("disk/run");
    if (failed.code != 2 || !is_one_sentence(failed.err)) ::_exit(1);
    if (failed.err.find("No space left") == std::string::npos) ::_exit(2);
    if (failed.err.find("last good checkpoint") == std::string::npos) ::_exit(3);
    if (!place.has_checkpoint("disk/run")) ::_exit(4);
    // Larger, it can go on.
    if (::mount("tmpfs", disk.c_str(), "tmpfs", MS_REMOUNT, "size=20m") != 0) ::_exit(5);
    ::_exit(place.train("disk/run", true).code == 0 ? 0 : 6);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) {
    WARN("left out: this machine lets no test mount a file system");
    return;
  }
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("bad input gives one sentence and exit code 2", "[run][errors]") {
  Place place;
  struct Case {
    std::string what;
    std::vector<std::string> words;
    std::function<void(Place&)> spoil;
  };
  const auto photos = [](Place& p) { return p.folder / "photos"; };
  const std::vector<Case> cases = {
      {"missing folder",
       {"nowhere"},
       [](Place& p) { p.config.data.train = {(p.folder / "nowhere").string()}; }},
      {"empty folder",
       {"empty"},
       [](Place& p) {
         fs::create_directory(p.folder / "empty");
         p.config.data.train = {(p.folder / "empty").string()};
       }},
      {"picture smaller than the crop",
       {"photo_0.png", "24x20", "64x64"},
       [](Place& p) { p.config.data.crop = 64; }},
      {"truncated JPEG",
       {"cut.jpg"},
       [&](Place& p) {
         const std::string bytes = content(tests::fixture("baseline.jpg"));
         std::ofstream(photos(p) / "cut.jpg", std::ios::binary)
             << bytes.substr(0, bytes.size() - 100);
       }},
      {"1-channel picture",
       {"grey.jpg", "1 channel", "data.channels"},
       [&](Place& p) { fs::copy_file(tests::fixture("grey.jpg"), photos(p) / "grey.jpg"); }},
      {"4-channel picture",
       {"alpha.png", "4 channels", "data.channels"},
       [&](Place& p) { save_png(photos(p) / "alpha.png", Image(32, 32, 4)); }},
      {"no picture at all",
       {"noise.png"},
       [&](Place& p) { std::ofstream(photos(p) / "noise.png") << "hello"; }},
      {"weights of another architecture",
       {"other.safetensors"},
       [](Place& p) {
         const auto device = engine::Device::open("auto", 1);
         const models::Discriminator d(*device, p.config.discriminator_config(), 1);
         engine::nn::save_module(d, (p.folder / "other.safetensors").string());
         p.config.init = (p.folder / "other.safetensors").string();
       }},
      {"no VGG file",
       {"vgg.safetensors"},
       [](Place& p) {
         p.config.phases[1].loss.vgg = VggLoss{};
         p.config.vgg.weights = (p.folder / "vgg.safetensors").string();
       }},
      {"loss that is not finite",
       {"diverged at step 1 ", "grad_pixel", "step_000000000"},
       [](Place& p) { p.config.phases[0].loss.pixel->weight = 3e38; }},
  };
  for (const Case& one : cases) {
    CAPTURE(one.what);
    Place spoilt;
    one.spoil(spoilt);
    const Finished done = spoilt.train("run");
    CAPTURE(done.err);
    CHECK(done.code == 2);
    CHECK(is_one_sentence(done.err));
    for (const std::string& word : one.words) CHECK_THAT(done.err, Contains(word));
  }
  const auto expect = [&](const std::vector<std::string>& arguments,
                          const std::vector<std::string>& words) {
    const Finished done = subpix::tests::run_tool("srgan_train", arguments, place.folder.path());
    CAPTURE(done.err);
    CHECK(done.code == 2);
    CHECK(is_one_sentence(done.err));
    for (const std::string& word : words) CHECK_THAT(done.err, Contains(word));
  };
  const std::string config = place.command("run", false)[3], run = place.run("run").string();
  expect({}, {"--config"});
  expect({"--config", config}, {"--out"});
  expect({"--config", config, "--out", run, "--set", "data.batsh=3"}, {"data.batsh", "data.batch"});
  expect({"--config", config, "--out", "/proc/none/run"}, {"/proc/none"});
  expect({"--out", run, "--resume"}, {"nothing to resume"});
  expect({"--config", config, "--out", run, "--threads", "-3"}, {"--threads"});
  CHECK_FALSE(fs::exists(run));
  CHECK(place.train("run").code == 0);
  expect({"--config", config, "--out", run}, {"already holds a run"});
  expect({"--out", run, "--resume", "--set", "seed=9"}, {"seed = 9"});
}

TEST_CASE("options stand for keys, and the keys can be listed", "[run]") {
  Place place;
  auto command = place.command("run", false);
  command.insert(command.end(), {"--backend", "reference", "--threads", "1", "--quiet", "--set",
                                 "phases.1.steps=1", "phases.0.steps=1", "ema=0"});
  const Finished done = subpix::tests::run_tool("srgan_train", command, place.folder.path());
  CHECK(done.code == 0);
  CHECK(done.out.empty());
  CHECK(done.err.empty());
  const RunConfig saved = load_config(place.run("run") / "config.json", {});
  CHECK(saved.backend == "reference");
  CHECK(saved.ema == 0.0);
  CHECK(saved.total_steps() == 2);
  const Finished keys =
      subpix::tests::run_tool("srgan_train", {"--list-keys"}, place.folder.path());
  CHECK(keys.code == 0);
  CHECK(static_cast<std::size_t>(std::count(keys.out.begin(), keys.out.end(), '\n')) ==
        config_keys().size());
}

TEST_CASE("a terminal gets a live line, a file plain ones", "[run][console]") {
  int terminal = -1, end = -1;
  REQUIRE(::openpty(&terminal, &end, nullptr, nullptr, nullptr) == 0);
  std::FILE* out = ::fdopen(end, "w");
  {
    Console console(out);
    CHECK(console.is_terminal());
    console.live("step 1");
    console.live("step 2");  // too soon
    console.line("phase done");
  }
  std::string text;
  for (char c = 0; c != '\n' && ::read(terminal, &c, 1) == 1;) text += c;
  CHECK(text == "\r\x1b[Kstep 1\r\x1b[Kphase done\r\n");
  std::fclose(out);
  ::close(terminal);

  const TemporaryFolder folder;
  std::FILE* file = std::fopen((folder / "out").c_str(), "w");
  {
    Console console(file);
    CHECK_FALSE(console.is_terminal());
    console.live("step 1");
    console.line("step 2");
  }
  std::fclose(file);
  CHECK(content(folder / "out") == "step 2\n");
  CHECK(clock_text(3723.4) == "1:02:03");
  CHECK(clock_text(-1.0) == "?");
}

}  // namespace subpix::train
