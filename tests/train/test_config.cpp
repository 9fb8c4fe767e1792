#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

#include "engine/core/file.h"
#include "tests/support/catch.h"
#include "tests/support/message.h"
#include "tests/support/temporary_folder.h"
#include "train/config.h"
#include "train/resume.h"

namespace subpix::train {
namespace {

using tests::input_error;

RunConfig parse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return parse_config(text, "run.json", overrides);
}

std::string parse_error(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return input_error([&] { parse(text, overrides); });
}

bool has_all(const std::string& text, const std::vector<std::string>& words) {
  for (const std::string& word : words)
    if (text.find(word) == std::string::npos) return false;
  return true;
}

/// A config in which no value is its default.
RunConfig unusual() {
  RunConfig c;
  c.seed = 18446744073709551615u;
  c.threads = 3;
  c.loader_threads = 5;
  c.backend = "reference";
  c.plan = "plan.json";
  c.cuda_graph = false;
  c.data = {{"a", "b"}, {"c"}, 48, 4, LrFrom::Crop, false, false, 77, 2.5, ChannelRule::Convert};
  c.model = {4, 32, 2, true, engine::nn::InitKind::Icnr, 0.25, 1e-4};
  c.discriminator = {8, 100, 0.1};
  c.vgg.weights = "v.safetensors";
  c.adam = {0.5, 0.9, 1e-4};
  c.ema = 0.999;
  c.log.every = 7;
  c.val = {11, 2};
  c.checkpoint = {13, 9};
  c.init = "g.safetensors";
  PhaseConfig p;
  p.name = "one";
  p.steps = 5;
  p.lr = 1e-3;
  p.lr_discriminator = 2e-3;
  p.schedule = {engine::Schedule::Kind::Cosine, {1, 2}, 0.5, 1e-6, 3};
  p.loss = {PixelLoss{PixelKind::L1, 2.0, Reduction::Paper},
            VggLoss{"conv2_2", Distance::L1, 0.5, 0.1, Reduction::Paper}, AdversarialLoss{0.2},
            VariationLoss{0.3, false, Reduction::Paper}};
  PhaseConfig q = p;
  q.name = "two";
  q.loss = {std::nullopt, std::nullopt, AdversarialLoss{}, std::nullopt};
  c.phases = {p, q};
  return c;
}

}  // namespace

TEST_CASE("an empty config is the paper's SRResNet", "[config]") {
  const RunConfig c = parse("{}");
  CHECK(c == RunConfig{});
  CHECK(c.model.blocks == 16);
  CHECK(c.data.crop == 96);
  CHECK(c.data.batch == 16);
  REQUIRE(c.phases.size() == 1);
  CHECK(c.phases[0].steps == 1'000'000);
  CHECK(c.phases[0].lr == 1e-4);
  CHECK(c.phases[0].loss.has_pixel());
  CHECK(c.adam.beta1 == 0.9);
}

TEST_CASE("a config survives being written and read", "[config]") {
  CHECK(parse(to_json(RunConfig{})) == RunConfig{});
  CHECK(parse(to_json(unusual())) == unusual());
  CHECK(compare(unusual(), parse(to_json(unusual()))).empty());
}

TEST_CASE("no default hides in the round trip", "[config]") {
  // Every key of the unusual config differs from its default, so a key that the reader or the
  // writer forgot would show up.
  const auto lines = summary(unusual());
  for (const ConfigKey& key : config_keys()) {
    if (key.path == "precision") continue;  // has one value only
    std::string path = key.path;
    if (const auto list = path.find("[]"); list != std::string::npos) path.replace(list, 2, "[0]");
    CAPTURE(path);
    CHECK(std::any_of(lines.begin(), lines.end(),
                      [&](const std::string& line) { return line.starts_with(path + "="); }));
  }
}

TEST_CASE("presets hold the paper's numbers", "[config]") {
  const std::string folder = std::string(SUBPIX_SOURCE_DIR) + "/train/configs/";
  const RunConfig srresnet = load_config(folder + "srresnet.json", {});
  CHECK(srresnet == RunConfig{});
  const RunConfig srgan = load_config(folder + "srgan.json", {});
  REQUIRE(srgan.phases.size() == 2);
  CHECK(srgan.phases[0] == RunConfig{}.phases[0]);
  const PhaseConfig& p = srgan.phases[1];
  CHECK(p.name == "adversarial");
  CHECK(p.steps == 200'000);
  CHECK_FALSE(p.loss.pixel);
  CHECK(p.loss.vgg == VggLoss{});
  CHECK(p.loss.adversarial->weight == 1e-3);
  CHECK(p.generator_schedule().at(0) == 1e-4);
  CHECK(p.generator_schedule().at(99'999) == 1e-4);
  CHECK(p.generator_schedule().at(100'000) == Approx(1e-5));
  CHECK(p.discriminator_schedule().at(100'000) == Approx(1e-5));
  const RunConfig quick = load_config(folder + "quickstart.json", {});
  REQUIRE(quick.phases.size() == 2);
  CHECK(quick.phases[0].name == "pixel");
  CHECK(quick.phases[1].name == "adversarial");
}

TEST_CASE("a run needs photographs, steps and a VGG file where it is used", "[config]") {
  CHECK(has_all(input_error([] { check_ready(RunConfig{}); }), {"data.train", "--set"}));
  RunConfig c;
  c.data.train = {"photos"};
  check_ready(c);
  c.phases[0].steps = 0;
  CHECK(has_all(input_error([&] { check_ready(c); }), {"0 steps"}));
  c.phases[0].steps = 1;
  c.phases[0].loss.vgg = VggLoss{};
  CHECK(has_all(input_error([&] { check_ready(c); }), {"vgg.weights"}));
  c.phases[0].loss.vgg->weight = 0.0;
  check_ready(c);
}

TEST_CASE("config errors name file, key and remedy", "[config]") {
  struct Case {
    const char* text;
    std::vector<std::string> words;
  };
  const std::vector<Case> cases = {
      {"", {"run.json", "not valid JSON"}},
      {"{\"seed\": 1,}", {"run.json", "not valid JSON", "line 1"}},
      {"{\n\"data\": {\n\"crop\" 3}}", {"run.json", "line 3"}},
      {"[1]", {"run.json", "a list", "object"}},
      {"3", {"run.json", "object"}},
      {R"({"seed": 1, "seed": 2})", {"run.json", "seed", "twice"}},
      {R"({"data": {"crop": 48, "crop": 48}})", {"crop", "twice"}},
      {R"({"sead": 1})", {"run.json", "sead", "seed"}},
      {R"({"data": {"batchs": 1}})", {"data.batchs", "data.batch"}},
      {R"({"phases": [{"name": "a"}, {"name": "b", "stepz": 3}]})",
       {"phases[1].stepz", "phases[1].steps"}},
      {R"({"batch": 4})", {"no key batch", "data.batch"}},
      {R"({"phases": [{"loss": {"pixel": {"wieght": 1}}}]})",
       {"phases[0].loss.pixel.wieght", "phases[0].loss.pixel.weight"}},
      {R"({"phases": [{"loss": {"vgg": {"layer": "relu9_1"}}}]})",
       {"phases[0].loss.vgg.layer", "relu9_1"}},
      {R"({"seed": -1})", {"seed", "-1", "0 to"}},
      {R"({"seed": 1.5})", {"seed", "1.5", "whole number"}},
      {R"({"seed": "1"})", {"seed", "\"1\"", "whole number"}},
      {R"({"threads": 100000})", {"threads", "4096"}},
      {R"({"data": 3})", {"data is 3", "object"}},
      {R"({"data": {"crop": 0}})", {"data.crop is 0", "8 to 4096"}},
      {R"({"data": {"crop": 48.5}})", {"data.crop is 48.5", "whole number"}},
      {R"({"data": {"crop": 18446744073709551615}})", {"data.crop", "4096"}},
      {R"({"data": {"crop": 1e300}})", {"data.crop", "4096"}},
      {R"({"data": {"crop": 50}})", {"data.crop is 50", "multiple", "4"}},
      {R"({"data": {"flip": 1}})", {"data.flip", "true or false"}},
      {R"({"data": {"flip": null}})", {"data.flip is null", "true or false"}},
      {R"({"data": {"lr": "patch"}})", {"data.lr", "\"patch\"", "\"image\" or \"crop\""}},
      {R"({"data": {"train": 5}})", {"data.train", "5", "list"}},
      {R"({"data": {"train": ["a", 5]}})", {"data.train[1]", "5", "text"}},
      {R"({"data": {"shrink": 0.5}})", {"data.shrink", "0.5", "at least 1"}},
      {R"({"model": {"scale": 3}})", {"model.scale is 3", "2 or 4"}},
      {R"({"model": {"prelu": "both"}})", {"model.prelu", "\"channel\" or \"shared\""}},
      {R"({"precision": "fp16"})", {"precision", "fp16", "fp32", "bf16"}},
      {R"({"precision": "int8"})", {"precision", "int8", "fp32"}},
      {R"({"ema": 1})", {"ema is 1", "less than 1"}},
      {R"({"adam": {"eps": 0}})", {"adam.eps", "greater than 0"}},
      {R"({"log": {"every": 0}})", {"log.every is 0", "1 or more"}},
      {R"({"phases": []})", {"phases", "at least one"}},
      {R"({"phases": {}})", {"phases", "list"}},
      {R"({"phases": [7]})", {"phases[0] is 7", "object"}},
      {R"({"phases": [{"lr": 0}]})", {"phases[0].lr is 0", "greater than 0"}},
      {R"({"phases": [{"name": "a/b"}]})", {"phases[0].name", "a/b", "file name"}},
      {R"({"phases": [{"name": ""}]})", {"phases[0].name", "file name"}},
      {R"({"phases": [{"name": "a"}, {"name": "a"}]})", {"phases[1].name", "another phase"}},
      {R"({"phases": [{"loss": {}}]})", {"phases[0].loss", "no term"}},
      {R"({"phases": [{"loss": {"pixel": {"weight": 0}}}]})", {"phases[0].loss", "no term"}},
      {R"({"phases": [{"loss": {"pixel": {"weight": -1}}}]})",
       {"phases[0].loss.pixel.weight", "-1", "at least 0"}},
      {R"({"phases": [{"schedule": {"milestones": [5, 3]}}]})",
       {"phases[0].schedule.milestones", "ascending"}},
      {R"({"data": {"crop": 12}, "phases": [{"loss": {"adversarial": {}}}]})",
       {"data.crop is 12", "discriminator", "16"}},
      {R"({"data": {"crop": 8}, "phases": [{"loss": {"vgg": {"layer": "VGG54"}}}]})",
       {"data.crop is 8", "VGG54", "16"}},
  };
  for (const Case& one : cases) {
    CAPTURE(one.text);
    const std::string text = parse_error(one.text);
    CAPTURE(text);
    CHECK(has_all(text, one.words));
  }
  // A hostile depth must neither crash the parser nor the message.
  const std::string deep(200'000, '[');
  CHECK(has_all(parse_error("{\"seed\": " + deep + std::string(deep.size(), ']') + "}"),
                {"seed is a list"}));
}

TEST_CASE("a missing config file is named", "[config]") {
  const tests::TemporaryFolder folder;
  CHECK(has_all(input_error([&] { load_config(folder / "none.json", {}); }), {"none.json"}));
  CHECK(has_all(input_error([&] { load_config(folder.path(), {}); }), {folder.path().string()}));
}

TEST_CASE("--set changes single keys", "[config]") {
  const std::string two = R"({"phases": [{"name": "a", "steps": 5}, {"name": "b", "steps": 6}]})";
  CHECK(parse(two, {"phases.1.steps=70"}).phases[1].steps == 70);
  CHECK(parse(two, {"phases[1].steps=1e3"}).phases[1].steps == 1000);
  CHECK(parse(two, {"phases[0].steps=1", "phases[0].steps=2"}).phases[0].steps == 2);
  const RunConfig three = parse(two, {"phases.2.name=c", "phases[2].steps=9"});
  REQUIRE(three.phases.size() == 3);
  CHECK(three.phases[2].steps == 9);
  CHECK(three.phases[2].loss.has_pixel());
  // A list the file leaves out starts from the defaults.
  const RunConfig short_run = parse("{}", {"phases.0.steps=10"});
  REQUIRE(short_run.phases.size() == 1);
  CHECK(short_run.phases[0].name == "pixel");
  CHECK(short_run.phases[0].steps == 10);
  CHECK(short_run.phases[0].loss.has_pixel());

  CHECK(parse("{}", {"data.train=photos"}).data.train == std::vector<std::string>{"photos"});
  CHECK(parse("{}", {"data.train=[\"a\",\"b\"]"}).data.train == std::vector<std::string>{"a", "b"});
  CHECK(parse("{}", {"data.train.0=a", "data.train.1=b"}).data.train ==
        std::vector<std::string>{"a", "b"});
  CHECK(parse("{}", {"data.train=2024"}).data.train == std::vector<std::string>{"2024"});
  CHECK(parse("{}", {"init=1e3"}).init == "1e3");
  CHECK(parse("{}", {"init=a=b"}).init == "a=b");
  CHECK_FALSE(parse("{}", {"data.flip=false"}).data.flip);
  CHECK(parse("{}", {"phases.0.lr_discriminator=null"}).phases[0].lr_discriminator == std::nullopt);
  CHECK(parse("{}", {"phases.0.schedule.milestones=[3,4]"}).phases[0].schedule.milestones ==
        std::vector<Index>{3, 4});
  // A loss term added and one taken away.
  const RunConfig gan = parse("{}", {"phases.0.loss.adversarial={}", "phases.0.loss.pixel=null"});
  CHECK(gan.phases[0].loss.adversarial == AdversarialLoss{});
  CHECK_FALSE(gan.phases[0].loss.pixel);
}

TEST_CASE("errors of --set quote it", "[config]") {
  struct Case {
    const char* set;
    std::vector<std::string> words;
  };
  const std::vector<Case> cases = {
      {"data.batch", {"--set data.batch", "key=value"}},
      {"=3", {"--set =3", "key=value"}},
      {"data..batch=3", {"--set data..batch=3"}},
      {"data.batsh=4", {"--set data.batsh=4", "data.batch"}},
      {"data.batch=four", {"--set data.batch=four", "\"four\"", "whole number"}},
      {"phases.2.steps=4", {"phases", "1 elements", "next index is 1"}},
      {"seed.x=4", {"seed"}},
      {"data.crop.3=4", {"data.crop"}},
      {"phases.0.loss.vgg.layer=relu0_0", {"--set phases.0.loss.vgg.layer", "relu0_0"}},
      {"init=\xff\xfe", {"--set init", "UTF-8"}},
  };
  for (const Case& one : cases) {
    CAPTURE(one.set);
    const std::string text = parse_error("{}", {one.set});
    CAPTURE(text);
    CHECK(has_all(text, one.words));
  }
  // What the file says remains the file's fault.
  CHECK(
      has_all(parse_error(R"({"data": {"crop": 0}})", {"data.batch=3"}), {"run.json: data.crop"}));
}

TEST_CASE("compare names what changed", "[config]") {
  RunConfig a, b;
  b.data.batch = 4;
  b.phases.push_back(b.phases[0]);
  b.phases[0].loss.tv = VariationLoss{};
  std::map<std::string, std::pair<std::string, std::string>> changes;
  for (const ConfigChange& c : compare(a, b)) changes[c.path] = {c.before, c.after};
  CHECK(changes["data.batch"] == std::pair<std::string, std::string>("16", "4"));
  CHECK(changes["phases[0].loss.tv.weight"].first == "absent");
  CHECK(changes["phases[1].steps"].second == "1000000");
  CHECK_FALSE(changes.contains("seed"));
}

TEST_CASE("docs/config.md tells every key with its default, and no other", "[config][docs]") {
  const std::string page =
      engine::read_text(std::string(SUBPIX_SOURCE_DIR) + "/docs/config.md", 1 << 20);
  std::map<std::string, std::string> rows;  // key to default
  std::istringstream lines(page.substr(0, page.find("## Environment")));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("| `")) continue;
    const std::size_t key_end = line.find('`', 3);
    const std::size_t start = line.find('`', key_end + 1), end = line.find('`', start + 1);
    CHECK(rows.try_emplace(line.substr(3, key_end - 3), line.substr(start + 1, end - start - 1))
              .second);
  }
  for (const ConfigKey& key : config_keys()) {
    CAPTURE(key.path);
    REQUIRE(rows.contains(key.path));
    CHECK(rows[key.path] == key.default_value);
    rows.erase(key.path);
  }
  for (const auto& [key, value] : rows) FAIL_CHECK("docs/config.md tells of " << key);
  // And the keys that may change at resume.
  const std::string resuming = page.substr(page.find("## Resuming"));
  for (const ConfigKey& key : config_keys())
    if (may_change(key.path)) {
      CAPTURE(key.path);
      CHECK(resuming.find("`" + key.path + "`") != std::string::npos);
    }
}

TEST_CASE("only listed keys may change at resume", "[config][resume]") {
  RunState saved;
  saved.config.phases.resize(3);
  saved.config.phases[1].name = "middle";
  saved.config.phases[2].name = "last";
  saved.phase = 1;
  saved.phase_step = 50;
  const auto with = [&](const std::vector<std::string>& overrides) {
    return parse_config(to_json(saved.config), "run.json", overrides);
  };
  for (const char* allowed : {"threads=1",
                              "loader_threads=7",
                              "backend=cpu",
                              "data.train=moved",
                              "data.val=x",
                              "data.memory_mib=5",
                              "vgg.weights=moved",
                              "init=gone",
                              "log.every=3",
                              "val.every=4",
                              "val.samples=0",
                              "checkpoint.every=9",
                              "checkpoint.keep=1",
                              "phases.1.steps=50",
                              "phases.1.lr=1e-5",
                              "phases.1.lr_discriminator=1e-5",
                              "phases.1.schedule.kind=cosine",
                              "phases.2.steps=1",
                              "phases.2.loss.pixel.kind=l1",
                              "phases.3.name=more"}) {
    CAPTURE(allowed);
    CHECK_NOTHROW(check_resumable(saved, with({allowed})));
  }
  for (const char* refused : {"seed=2",
                              "data.crop=48",
                              "data.batch=8",
                              "data.lr=crop",
                              "data.flip=false",
                              "data.rotate=false",
                              "data.shrink=2",
                              "data.channels=convert",
                              "model.blocks=3",
                              "model.channels=8",
                              "model.scale=2",
                              "model.prelu=shared",
                              "model.init=icnr",
                              "model.bn_momentum=0.2",
                              "model.bn_eps=1e-4",
                              "discriminator.channels=3",
                              "adam.beta1=0.5",
                              "ema=0.9",
                              "phases.0.steps=3",
                              "phases.0.lr=0.1",
                              "phases.1.steps=49",
                              "phases.1.loss.pixel.kind=l1",
                              "phases.1.name=renamed"}) {
    CAPTURE(refused);
    const std::string text = input_error([&] { check_resumable(saved, with({refused})); });
    CAPTURE(text);
    std::string key = std::string(refused).substr(0, std::string(refused).find('='));
    if (key.starts_with("phases.")) key = "phases[" + key.substr(7, 1) + "]" + key.substr(8);
    CHECK(has_all(text, {key}));
  }
  RunConfig fewer = saved.config;
  fewer.phases.resize(1);
  CHECK(has_all(input_error([&] { check_resumable(saved, fewer); }), {"middle"}));
  fewer.phases = {saved.config.phases[0], saved.config.phases[1]};
  CHECK_NOTHROW(check_resumable(saved, fewer));
}

}  // namespace subpix::train
