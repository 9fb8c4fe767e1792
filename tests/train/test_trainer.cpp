#include "train/trainer.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/core/safetensors.h"
#include "engine/ops/ops.h"
#include "tests/support/catch.h"
#include "tests/support/message.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/run_folder.h"
#include "train/resume.h"

namespace subpix::train {
namespace {

using Catch::Matchers::Contains;
using subpix::tests::input_error;
using subpix::tests::TemporaryFolder;
using tests::check_same_runs;
using tests::content;
using tests::small_run;
namespace fs = std::filesystem;

/// Photos and runs of one test case.
struct Place {
  TemporaryFolder folder;
  Console silent{nullptr};
  Place() { tests::write_photos(folder / "photos", 3, 24, 20); }
  RunConfig config() const { return small_run(folder / "photos"); }
  fs::path run(const std::string& name) const { return folder / name; }

  int start(const RunConfig& config, const std::string& name, Trainer::Signal signal = {}) {
    return Trainer::start(config, run(name), silent, std::move(signal)).run();
  }
  int resume(const std::string& name, Trainer::Signal signal = {},
             const Trainer::Adjust& adjust = {}) {
    return Trainer::resume(run(name), adjust, silent, std::move(signal)).run();
  }
  std::string start_error(const RunConfig& config, const std::string& name) {
    return input_error([&] { start(config, name); });
  }
  std::string resume_error(const std::string& name, const Trainer::Adjust& adjust = {}) {
    return input_error([&] { resume(name, {}, adjust); });
  }
};

/// Answers with SIGTERM from the n-th question on. The trainer asks once per validation picture and
/// once per step.
Trainer::Signal after(int questions) {
  return [left = questions]() mutable { return left-- > 0 ? 0 : 15; };
}

std::vector<fs::path> checkpoints_of(const fs::path& run) {
  std::vector<fs::path> all;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints")) all.push_back(entry.path());
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace

TEST_CASE("a run leaves everything that docs/formats.md promises", "[trainer]") {
  Place place;
  const RunConfig config = place.config();
  REQUIRE(place.start(config, "run") == 0);
  const fs::path run = place.run("run");
  for (const char* name :
       {"generator.safetensors", "generator_pixel.safetensors", "generator_adversarial.safetensors",
        "discriminator.safetensors", "config.json", "log.jsonl", "checkpoints", "samples"}) {
    CAPTURE(name);
    CHECK(fs::exists(run / name));
  }
  CHECK(load_config(run / "config.json", {}) == config);
  CHECK(content(run / "generator.safetensors") ==
        content(run / "generator_adversarial.safetensors"));
  CHECK(content(run / "generator.safetensors") != content(run / "generator_pixel.safetensors"));
  const auto device = engine::Device::open("auto", 1);
  CHECK(models::load_generator(*device, (run / "generator.safetensors").string())
            ->config()
            .channels == 4);

  // Steps 0, 2, 4, 5 (end of phase), 6, 8, 10, 11: the newest three stay.
  const auto kept = checkpoints_of(run);
  REQUIRE(kept.size() == 3);
  CHECK(kept[0].filename() == "step_000000008");
  CHECK(kept[2].filename() == "step_000000011");

  const auto log = tests::timeless_log(run);
  std::vector<std::string> events;
  for (const std::string& text : log) {
    const auto line = nlohmann::json::parse(text);
    events.push_back(line.at("type").get<std::string>()[0] +
                     std::to_string(line.at("step").get<int>()));
  }
  CHECK(events == std::vector<std::string>{"r0", "t1", "t2", "v3", "t4", "t5", "v5", "t6", "v6",
                                           "t8", "v9", "t10", "t11", "v11"});
  const auto last = nlohmann::json::parse(log[12]);
  CHECK(last.at("phase") == "adversarial");
  CHECK(last.at("phase_step") == 6);
  for (const char* key : {"lr", "loss_pixel", "grad_pixel", "loss_adversarial", "grad_adversarial",
                          "loss_d", "d_real", "d_fake"}) {
    CAPTURE(key);
    CHECK(last.at(key).is_number());
  }
  CHECK(last.at("grad_adversarial").get<double>() > 0.0);
  CHECK(nlohmann::json::parse(log[13]).at("psnr_y").get<double>() > 3.0);

  // Every field of the log and of state.json has its place in the documentation.
  const std::string page = content(std::string(SUBPIX_SOURCE_DIR) + "/docs/formats.md");
  const auto documented = [&](const nlohmann::json& object) {
    for (const auto& [key, value] : object.items()) {
      CAPTURE(key);
      CHECK(page.find("`" + key + "`") != std::string::npos);
    }
  };
  std::istringstream lines(content(run / "log.jsonl"));
  for (std::string line; std::getline(lines, line);) documented(nlohmann::json::parse(line));
  const auto state = nlohmann::json::parse(content(kept[2] / "state.json"));
  documented(state);
  documented(state.at("files"));

  // LR, SR and HR side by side.
  const Image sample = load_image(run / "samples/step_000000011_photo_0.png");
  CHECK(sample.width == 3 * 24);
  CHECK(sample.height == 20);
  CHECK(crop(sample, 48, 0, 24, 20) == load_image(place.folder / "photos/photo_0.png"));
}

TEST_CASE("the same seed gives the same bits, another seed others", "[trainer]") {
  Place place;
  RunConfig config = place.config();
  place.start(config, "a");
  config.loader_threads = 4;
  config.data.memory_mib = 1;
  place.start(config, "b");
  const auto weights = [&](const char* run) {
    return content(place.run(run) / "generator.safetensors") +
           content(place.run(run) / "discriminator.safetensors");
  };
  CHECK(weights("a") == weights("b"));
  CHECK(tests::timeless_log(place.run("a")) == tests::timeless_log(place.run("b")));
  config.seed = 2;
  place.start(config, "c");
  CHECK(weights("a") != weights("c"));
}

TEST_CASE("stopped anywhere and resumed, a run is as if never stopped", "[trainer][resume]") {
  Place place;
  const RunConfig config = place.config();
  place.start(config, "whole");
  // Every question is a moment: after each of 11 steps, and within each of 5 validations.
  for (int questions = 0; questions < 27; ++questions) {
    CAPTURE(questions);
    const std::string name = "stopped" + std::to_string(questions);
    int code = place.start(config, name, after(questions));
    // And a second time on the way. Before the first checkpoint there is nothing to resume.
    if (code != 0 && fs::exists(place.run(name) / "checkpoints"))
      code = place.resume(name, after(questions / 2 + 3));
    else if (code != 0)
      code = place.start(config, name);
    if (code != 0) code = place.resume(name);
    REQUIRE(code == 0);
    check_same_runs(place.run("whole"), place.run(name));
    fs::remove_all(place.run(name));
  }
}

TEST_CASE("killed between a late validation and its checkpoint, the log holds it once",
          "[trainer][resume]") {
  Place place;
  const RunConfig config = place.config();
  place.start(config, "whole");
  // Stopped in the first validation, at step 3: its three pictures are preceded by three questions
  // after steps and some while decoding.
  for (int questions = 3; questions < 12; ++questions) {
    if (place.start(config, "run", after(questions)) == 0) break;
    const fs::path newest = checkpoints_of(place.run("run")).back();
    if (content(newest / "state.json").find("\"validation_due\": true") == std::string::npos) {
      fs::remove_all(place.run("run"));
      continue;
    }
    const auto state = nlohmann::json::parse(content(newest / "state.json"));
    std::ofstream(place.run("run") / "log.jsonl", std::ios::app)
        << "{\"type\":\"val\",\"step\":" << state.at("step").get<int>() << "}\n";
    REQUIRE(place.resume("run") == 0);
    check_same_runs(place.run("whole"), place.run("run"));
    return;
  }
  FAIL("no run was stopped during a validation");
}

TEST_CASE("a stop before the first step leaves a folder that can be started again", "[trainer]") {
  Place place;
  RunConfig config = place.config();
  // Decoding takes a moment, after which the signal is asked for.
  const int code = place.start(config, "run", [] { return 2; });
  CHECK(code == 2);
  if (!fs::exists(place.run("run") / "checkpoints"))
    CHECK(place.start(config, "run") == 0);
  else
    CHECK(place.resume("run") == 0);
  place.start(config, "whole");
  check_same_runs(place.run("whole"), place.run("run"));
}

TEST_CASE("a damaged newest checkpoint falls back to the one before", "[trainer][checkpoint]") {
  Place place;
  const RunConfig config = place.config();
  place.start(config, "whole");
  struct Damage {
    const char* what;
    std::function<void(const fs::path&)> done;
  };
  const std::vector<Damage> damages = {
      {"cut short",
       [](const fs::path& c) { fs::resize_file(c / "discriminator_adam.safetensors", 100); }},
      {"a bit flipped",
       [](const fs::path& c) {
         std::fstream file(c / "generator.safetensors",
                           std::ios::in | std::ios::out | std::ios::binary);
         file.seekp(-5, std::ios::end);
         const char old = static_cast<char>(file.peek());
         file.put(static_cast<char>(old ^ 1));
       }},
      {"a file gone", [](const fs::path& c) { fs::remove(c / "generator_adam.safetensors"); }},
      {"state cut short",
       [](const fs::path& c) {
         fs::resize_file(c / "state.json", fs::file_size(c / "state.json") / 2);
       }},
      {"state empty", [](const fs::path& c) { fs::resize_file(c / "state.json", 0); }},
      {"state changed",
       [](const fs::path& c) {
         std::string text = content(c / "state.json");
         const std::size_t at = text.find("\"phase_step\": ") + 14;
         text[at] = text[at] == '1' ? '2' : '1';
         std::ofstream(c / "state.json") << text;
       }},
      {"no state", [](const fs::path& c) { fs::remove(c / "state.json"); }},
  };
  for (const Damage& damage : damages) {
    CAPTURE(damage.what);
    const int questions = 14;  // into the second phase
    REQUIRE(place.start(config, "run", after(questions)) == 15);
    const auto kept = checkpoints_of(place.run("run"));
    REQUIRE(kept.size() >= 2);
    damage.done(kept.back());
    REQUIRE(place.resume("run") == 0);
    check_same_runs(place.run("whole"), place.run("run"));
    fs::remove_all(place.run("run"));
  }
  // All of them damaged: one sentence, nothing changed.
  place.start(config, "run", after(14));
  for (const fs::path& c : checkpoints_of(place.run("run")))
    fs::resize_file(c / "generator.safetensors", 10);
  CHECK_THAT(place.resume_error("run"), Contains("none of the 3 checkpoints") && Contains("step_"));
}

TEST_CASE("leftovers of a killed write are removed", "[trainer][checkpoint]") {
  Place place;
  const RunConfig config = place.config();
  place.start(config, "whole");
  REQUIRE(place.start(config, "run", after(9)) == 15);
  const fs::path folder = place.run("run") / "checkpoints";
  fs::create_directory(folder / ".step_000000099");
  std::ofstream(folder / ".step_000000099/generator.safetensors") << "half";
  fs::create_directory(folder / "step_000000098");  // no state.json: half removed
  REQUIRE(place.resume("run") == 0);
  check_same_runs(place.run("whole"), place.run("run"));
}

TEST_CASE("resuming with nothing to resume, starting over a run", "[trainer][resume]") {
  Place place;
  CHECK_THAT(place.resume_error("none"), Contains("nothing to resume") && Contains("--resume"));
  CHECK_FALSE(fs::exists(place.run("none")));
  fs::create_directory(place.run("empty"));
  CHECK_THAT(place.resume_error("empty"), Contains("nothing to resume"));
  const RunConfig config = place.config();
  CHECK(place.start(config, "empty") == 0);
  CHECK_THAT(place.start_error(config, "empty"),
             Contains("already holds a run") && Contains("--resume") && Contains("--out"));
  // Weights alone count as a run, too.
  fs::remove_all(place.run("empty") / "checkpoints");
  CHECK_THAT(place.start_error(config, "empty"), Contains("already holds a run"));
  // A finished run resumed has nothing to do and changes nothing.
  place.start(config, "done");
  const auto before = tests::files_of(place.run("done"));
  const auto log = tests::timeless_log(place.run("done"));
  CHECK(place.resume("done") == 0);
  CHECK(tests::files_of(place.run("done")) == before);
  CHECK(tests::timeless_log(place.run("done")) == log);
}

TEST_CASE("a finished run goes on with more steps or another phase", "[trainer][resume]") {
  Place place;
  RunConfig config = place.config();
  place.start(config, "long");
  RunConfig shorter = config;
  shorter.phases.pop_back();
  shorter.phases[0].steps = 3;
  place.start(shorter, "run");
  const auto adjust = [&](const RunConfig&) { return config; };
  CHECK(place.resume("run", {}, adjust) == 0);
  CHECK(content(place.run("run") / "generator.safetensors") ==
        content(place.run("long") / "generator.safetensors"));
  CHECK(load_config(place.run("run") / "config.json", {}) == config);
}

TEST_CASE("other photographs or another crop cannot go on with a run", "[trainer][resume]") {
  Place place;
  const RunConfig config = place.config();
  place.start(config, "run", after(5));
  RunConfig other = config;
  other.data.crop = 20;
  CHECK_THAT(place.resume_error("run", [&](const RunConfig&) { return other; }),
             Contains("data.crop = 20") && Contains("16"));
  tests::write_photos(place.folder / "photos", 1, 28, 28, 7);  // replaces photo_0.png
  CHECK_THAT(place.resume_error("run"), Contains("data.train"));
  // Moved, however, they are the same.
  tests::write_photos(place.folder / "moved", 3, 24, 20);
  other = config;
  other.data.train = other.data.val = {(place.folder / "moved").string()};
  CHECK(place.resume("run", {}, [&](const RunConfig&) { return other; }) == 0);
}

TEST_CASE("a loss that is not finite stops the run and keeps what was saved", "[trainer]") {
  Place place;
  RunConfig config = place.config();
  // Adam divides infinity by infinity.
  config.phases[1].loss.pixel->weight = 3e38;
  config.data.val.clear();
  const bool logged = GENERATE(true, false);
  if (!logged) config.log.every = 1000;  // then the step before the next checkpoint is measured
  const std::string text = place.start_error(config, "run");
  CAPTURE(text);
  CHECK_THAT(text, Contains("training diverged at step 6 (phase adversarial)") &&
                       Contains("grad_pixel is not a finite number") && Contains("loss_pixel=") &&
                       Contains("step_000000005") && Contains("phases[1].lr"));
  CHECK(checkpoints_of(place.run("run")).back().filename() == "step_000000005");
  for (const fs::path& c : checkpoints_of(place.run("run"))) {
    const auto file = engine::SafetensorsFile::open(c / "generator.safetensors");
    for (const auto& info : file.tensors())
      for (const float v : file.read_f32(info.name)) REQUIRE(std::isfinite(v));
  }
  // Mended, the phase starts from what the one before it left.
  const auto mended = [&](RunConfig stored) {
    stored.phases[1].loss.pixel->weight = 1.0;
    return stored;
  };
  CHECK(place.resume("run", {}, mended) == 0);
}

TEST_CASE("weights that are not finite never reach a checkpoint", "[trainer]") {
  Place place;
  RunConfig config = place.config();
  const auto device = engine::Device::open("auto", 1);
  {
    models::Generator g(*device, config.generator_config(), 1);
    const auto state = g.state();
    std::vector<float> values = state[3].tensor.to_host();
    values[1] = std::numeric_limits<float>::quiet_NaN();
    state[3].tensor.upload(values);
    engine::nn::save_module(g, (place.folder / "nan.safetensors").string());
    config.init = (place.folder / "nan.safetensors").string();
    CHECK_THAT(place.start_error(config, "run"),
               Contains(state[3].name) && Contains("nan.safetensors"));
    CHECK_FALSE(fs::exists(place.run("run") / "checkpoints"));
  }
}

TEST_CASE("an update that breaks the weights is found before they are saved", "[trainer]") {
  Place place;
  RunConfig config = place.config();
  config.data.val.clear();
  config.phases.pop_back();
  // Losses and image gradients stay finite while the square of a bias's gradient overflows.
  config.adam.beta2 = 0.0;
  config.phases[0].loss.pixel->weight = 3e20;
  const std::string text = place.start_error(config, "run");
  CAPTURE(text);
  CHECK_THAT(text, Contains("at step 2 ") && Contains("generator ") &&
                       Contains("holds a NaN or an infinity") && Contains("loss_pixel=") &&
                       Contains("step_000000000"));
  const auto kept = checkpoints_of(place.run("run"));
  REQUIRE(kept.size() == 1);
  CHECK(kept[0].filename() == "step_000000000");
}

TEST_CASE("weights of another architecture are refused as a start", "[trainer]") {
  Place place;
  RunConfig config = place.config();
  const auto device = engine::Device::open("auto", 1);
  models::GeneratorConfig other = config.generator_config();
  other.channels = 8;
  engine::nn::save_module(models::Generator(*device, other, 1),
                          (place.folder / "other.safetensors").string());
  config.init = (place.folder / "other.safetensors").string();
  CHECK_THAT(place.start_error(config, "run"),
             Contains("other.safetensors") && Contains("8 channels") && Contains("4 channels"));
  // The right ones are taken.
  other.channels = 4;
  models::Generator right(*device, other, 77);
  engine::nn::save_module(right, (place.folder / "right.safetensors").string());
  config.init = (place.folder / "right.safetensors").string();
  const Networks made = make_networks(*device, config);
  CHECK(made.generator->state()[0].tensor.to_host() == right.state()[0].tensor.to_host());
  CHECK(made.average->state()[0].tensor.to_host() == right.state()[0].tensor.to_host());
  // They are needed at the start only.
  REQUIRE(place.start(config, "run", after(6)) == 15);
  fs::remove(place.folder / "right.safetensors");
  CHECK(place.resume("run") == 0);
}

TEST_CASE("bad pictures and folders are refused before anything is written", "[trainer]") {
  Place place;
  const auto expect = [&](const RunConfig& config, const std::vector<std::string>& words) {
    const std::string text = place.start_error(config, "run");
    CAPTURE(text);
    for (const std::string& word : words) CHECK_THAT(text, Contains(word));
    CHECK_FALSE(fs::exists(place.run("run")));
  };
  RunConfig config = place.config();
  config.data.train = {(place.folder / "none").string()};
  expect(config, {"none"});
  fs::create_directory(place.folder / "empty");
  config.data.train = {(place.folder / "empty").string()};
  expect(config, {"empty"});
  config = place.config();
  config.data.crop = 32;
  expect(config, {"photo_0.png is 24x20", "32x32"});
  config = place.config();
  config.data.val = {(place.folder / "nowhere").string()};
  expect(config, {"nowhere"});
  tests::write_photos(place.folder / "tiny", 1, 9, 8);
  config.data.val = {(place.folder / "tiny").string()};
  expect(config, {"photo_0.png is 9x8", "data.val"});
  config = place.config();
  config.backend = "abacus";
  expect(config, {"abacus"});
  config = place.config();
  config.phases[1].loss.vgg = VggLoss{};
  config.vgg.weights = (place.folder / "vgg.safetensors").string();
  expect(config, {"vgg.safetensors"});
}

TEST_CASE("a folder that cannot be written is refused before training", "[trainer]") {
  Place place;
  std::ofstream(place.folder / "file") << "x";
  CHECK_THAT(place.start_error(place.config(), "file/run"), Contains("file/run"));
  CHECK_THAT(place.start_error(place.config(), "file"), Contains("file"));
  CHECK_THAT(
      input_error([&] { Trainer::start(place.config(), "/proc/none/run", place.silent, {}); }),
      Contains("/proc/none"));
}

TEST_CASE("two processes cannot train in one folder", "[trainer]") {
  Place place;
  fs::create_directory(place.run("run"));
  const FolderLock lock(place.run("run"));
  CHECK_THAT(place.start_error(place.config(), "run"), Contains("another process"));
  CHECK_THAT(place.resume_error("run"), Contains("another process"));
}

TEST_CASE("a phase of no steps is skipped", "[trainer]") {
  Place place;
  RunConfig config = place.config();
  config.phases[0].steps = 0;
  CHECK(place.start(config, "run") == 0);
  CHECK(fs::exists(place.run("run") / "generator_pixel.safetensors"));
  const auto log = tests::timeless_log(place.run("run"));
  CHECK_THAT(log[1], Contains("\"phase\":\"adversarial\"") && Contains("\"step\":1"));
}

TEST_CASE("log.jsonl is cut back to the step that a run goes on from", "[trainer][log]") {
  const TemporaryFolder folder;
  const fs::path path = folder / "log.jsonl";
  const auto reopened = [&](const std::string& before, Index step, bool without_validation) {
    std::ofstream(path) << before;
    LogFile::reopen(path, step, without_validation);
    return content(path);
  };
  const std::string one = "{\"type\":\"train\",\"step\":1}\n",
                    two = "{\"type\":\"train\",\"step\":2}\n",
                    val = "{\"type\":\"val\",\"step\":2}\n",
                    three = "{\"type\":\"train\",\"step\":3}\n";
  CHECK(reopened(one + two + val + three, 2, false) == one + two + val);
  CHECK(reopened(one + two + val + three, 2, true) == one + two);
  CHECK(reopened(one + two + val + three, 9, false) == one + two + val + three);
  CHECK(reopened(one + two + "{\"type\":\"train\",\"st", 9, false) == one + two);
  CHECK(reopened(one + "not json\n" + two, 9, false) == one);
  CHECK(reopened("", 9, false).empty());
  fs::remove(path);
  LogFile::reopen(path, 1, false);
  CHECK(content(path).empty());
  CHECK_THAT(input_error([&] { LogFile::create(folder / "no/log.jsonl"); }),
             Contains("no/log.jsonl"));
  CHECK_THAT(input_error([&] {
               LogFile::create("/dev/full").append({{"step", Index{1}}});
             }),
             Contains("/dev/full"));
}

}  // namespace subpix::train
