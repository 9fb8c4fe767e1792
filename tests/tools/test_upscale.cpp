#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <thread>

#include "engine/core/file.h"
#include "models/srgan/upscaler.h"
#include "tests/support/catch.h"
#include "tests/support/fill.h"
#include "tests/support/process.h"
#include "tests/support/temporary_folder.h"
#include "train/image.h"

namespace subpix {
namespace {

namespace fs = std::filesystem;
using engine::Index;
using models::Upscaler;
using tests::Finished;
using tests::TemporaryFolder;

train::Image noise(Index height, Index width, Index channels) {
  tests::Generator random(tests::seed_of(concat(height, "x", width, "x", channels)));
  train::Image image(width, height, channels);
  for (auto& v : image.pixels) v = static_cast<std::uint8_t>(random.next() >> 56);
  return image;
}

/// A folder with a small random generator, which also answers what the tool should.
struct Bench {
  Bench() : device(engine::Device::open()) {
    models::GeneratorConfig config;
    config.blocks = 1;
    config.channels = 8;
    generator = std::make_unique<models::Generator>(*device, config, 3);
    generator->set_training(false);
    weights = (folder / "g.safetensors").string();
    models::save_generator(*generator, weights);
  }

  /// What the network makes of a picture, one run over all of it.
  train::Image expected(const train::Image& lr) const {
    Upscaler::Options options;
    options.tile = Upscaler::kWholePicture;
    train::Image sr(lr.width * 4, lr.height * 4, 3);
    sr.pixels = Upscaler(*device, *generator, options).run({lr.pixels, lr.height, lr.width});
    return sr;
  }

  std::string path(const std::string& name) const { return (folder / name).string(); }

  Finished upscale(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"--weights", weights});
    return tests::run_tool("srgan_upscale", arguments, logs.path());
  }
  /// One sentence on stderr, exit code 2; returns the sentence.
  std::string refused(const std::vector<std::string>& arguments) const {
    const Finished done = upscale(arguments);
    INFO(done.err);
    CHECK(done.code == 2);
    CHECK(std::count(done.err.begin(), done.err.end(), '\n') == 1);
    CHECK(done.err.starts_with("srgan_upscale: "));
    CHECK(done.err.find("internal") == std::string::npos);
    return done.err;
  }

  TemporaryFolder folder, logs;
  std::shared_ptr<engine::Device> device;
  std::unique_ptr<models::Generator> generator;
  std::string weights;
};

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("srgan_upscale writes what the network answers, whatever the tile", "[tools][upscale]") {
  const Bench bench;
  for (const auto& [height, width] : {std::pair<Index, Index>{1, 1}, {23, 37}}) {
    INFO(height << "x" << width);
    const train::Image lr = noise(height, width, 3);
    train::save_png(bench.path("lr.png"), lr);
    const Finished done = bench.upscale({bench.path("lr.png"), bench.path("sr.png")});
    INFO(done.err);
    REQUIRE(done.code == 0);
    CHECK(done.err.empty());
    CHECK(has(done.out, bench.path("sr.png")));
    CHECK(train::load_image(bench.path("sr.png")) == bench.expected(lr));
    const std::string whole = bytes_of(bench.path("sr.png"));
    for (const std::string tile : {"0", "1", "7", "1000"}) {
      if (tile == "1" && height > 1) continue;  // a thousand tiles
      INFO("tile " << tile);
      REQUIRE(bench.upscale({"--tile", tile, bench.path("lr.png"), bench.path("sr.png")}).code ==
              0);
      CHECK(bytes_of(bench.path("sr.png")) == whole);
    }
  }
}

TEST_CASE("srgan_upscale takes JPEG and BMP and an output folder", "[tools][upscale]") {
  const Bench bench;
  const fs::path jpeg = fs::path(SUBPIX_SOURCE_DIR) / "tests/train/fixtures/baseline.jpg";
  fs::create_directory(bench.folder / "out");
  REQUIRE(bench.upscale({jpeg.string(), bench.path("out")}).code == 0);
  CHECK(train::load_image(bench.folder / "out/baseline.png") ==
        bench.expected(train::load_image(jpeg)));

  // A 2x2 BMP by hand: 54 bytes of header, rows from the bottom, BGR, padded to 4 bytes.
  std::string bmp = "BM";
  const auto little = [&](std::uint32_t v, int bytes) {
    for (int i = 0; i < bytes; ++i) bmp += static_cast<char>(v >> (8 * i));
  };
  for (const std::uint32_t v : {70u, 0u, 54u, 40u, 2u, 2u}) little(v, 4);
  little(1, 2);
  little(24, 2);
  for (const std::uint32_t v : {0u, 16u, 2835u, 2835u, 0u, 0u}) little(v, 4);
  bmp += std::string("\x10\x20\x30\x40\x50\x60\0\0\x70\x11\x22\x33\x44\x55\0\0", 16);
  std::ofstream(bench.path("small.bmp"), std::ios::binary) << bmp;
  REQUIRE(bench.upscale({bench.path("small.bmp"), bench.path("small.png")}).code == 0);
  CHECK(train::load_image(bench.path("small.png")) ==
        bench.expected(train::load_image(bench.path("small.bmp"))));
}

TEST_CASE("grey and alpha are refused unless --channels convert is given", "[tools][upscale]") {
  const Bench bench;
  for (const Index channels : {1, 2, 4}) {
    INFO(channels << " channels");
    const train::Image image = noise(5, 6, channels);
    train::save_png(bench.path("in.png"), image);
    const std::string said = bench.refused({bench.path("in.png"), bench.path("out.png")});
    CHECK(has(said, concat(channels, " channel")));
    CHECK(has(said, "--channels convert"));
    CHECK_FALSE(fs::exists(bench.path("out.png")));

    train::Image rgb(6, 5, 3);
    for (std::size_t i = 0; i < 30; ++i)
      for (std::size_t c = 0; c < 3; ++c)
        rgb.pixels[3 * i + c] =
            image.pixels[i * static_cast<std::size_t>(channels) + (channels == 4 ? c : 0)];
    REQUIRE(bench.upscale({"--channels", "convert", bench.path("in.png"), bench.path("out.png")})
                .code == 0);
    CHECK(train::load_image(bench.path("out.png")) == bench.expected(rgb));
    fs::remove(bench.path("out.png"));
  }
}

TEST_CASE("in a folder a bad picture is reported and the rest is done", "[tools][upscale]") {
  const Bench bench;
  fs::create_directory(bench.folder / "in");
  const train::Image a = noise(6, 9, 3), c = noise(4, 4, 3);
  train::save_png(bench.folder / "in/a.png", a);
  std::ofstream(bench.folder / "in/b.png") << "not a picture";
  train::save_png(bench.folder / "in/c.png", c);
  train::save_png(bench.folder / "in/grey.png", noise(3, 3, 1));
  std::ofstream(bench.folder / "in/notes.txt") << "no picture";
  fs::copy_file(fs::path(SUBPIX_SOURCE_DIR) / "tests/train/fixtures/baseline.jpg",
                bench.folder / "in/c.jpg");
  const Finished done = bench.upscale({bench.path("in"), bench.path("out")});
  INFO(done.err);
  CHECK(done.code == 2);
  CHECK(has(done.err, "in/b.png"));
  CHECK(has(done.err, "in/grey.png"));
  CHECK(has(done.err, "would become c.png"));
  CHECK(has(done.err, "3 of 5 pictures"));
  CHECK(names_in(bench.folder / "out") == std::vector<std::string>{"a.png", "c.png"});
  CHECK(train::load_image(bench.folder / "out/a.png") == bench.expected(a));

  // Nothing to complain about: exit code 0, and results replace what was there.
  for (const char* name : {"in/b.png", "in/grey.png", "in/c.jpg"}) fs::remove(bench.folder / name);
  std::ofstream(bench.folder / "out/a.png") << "old";
  CHECK(bench.upscale({bench.path("in"), bench.path("out")}).code == 0);
  CHECK(train::load_image(bench.folder / "out/a.png") == bench.expected(a));
  CHECK(train::load_image(bench.folder / "out/c.png") == bench.expected(c));
}

TEST_CASE("what cannot be done is one sentence and changes nothing", "[tools][upscale]") {
  const Bench bench;
  train::save_png(bench.path("in.png"), noise(4, 4, 3));
  const std::string original = bytes_of(bench.path("in.png"));
  std::ofstream(bench.path("old.png")) << "old";
  CHECK(has(bench.refused({bench.path("none.png"), bench.path("old.png")}), "none.png"));
  std::ofstream(bench.path("cut.png"), std::ios::binary) << original.substr(0, original.size() / 2);
  CHECK(has(bench.refused({bench.path("cut.png"), bench.path("old.png")}), "cut.png"));
  CHECK(bytes_of(bench.path("old.png")) == "old");

  CHECK(has(bench.refused({bench.path("in.png"), bench.path("in.png")}), "in.png"));
  CHECK(bytes_of(bench.path("in.png")) == original);
  fs::create_directory(bench.folder / "photos");
  fs::copy_file(bench.path("in.png"), bench.folder / "photos/in.png");
  const Finished in_place = bench.upscale({bench.path("photos"), bench.path("photos")});
  CHECK(in_place.code == 2);
  CHECK(has(in_place.err, "one of the pictures to upscale"));
  CHECK(bytes_of(bench.folder / "photos/in.png") == original);

  CHECK(has(bench.refused({bench.path("in.png"), bench.path("out.jpg")}), ".png"));
  CHECK(has(bench.refused({bench.path("in.png"), bench.path("none/out.png")}), "none"));
  CHECK(has(bench.refused({bench.path("photos"), bench.path("old.png")}), "old.png"));
  for (const std::string tile : {"-1", "x", "3.5", "12 "})
    CHECK(has(bench.refused({"--tile=" + tile, bench.path("in.png"), bench.path("out.png")}),
              "--tile"));
  bench.refused({"--backend", "abacus", bench.path("in.png"), bench.path("out.png")});
  bench.refused({"--channels", "guess", bench.path("in.png"), bench.path("out.png")});

  const auto with_weights = [&](const std::string& weights) {
    const Finished done = tests::run_tool(
        "srgan_upscale", {"--weights", weights, bench.path("in.png"), bench.path("out.png")},
        bench.logs.path());
    CHECK(done.code == 2);
    CHECK(std::count(done.err.begin(), done.err.end(), '\n') == 1);
    return done.err;
  };
  const std::string fixtures = SUBPIX_SOURCE_DIR "/tests/fixtures/";
  CHECK(has(with_weights(bench.path("none.safetensors")), "none.safetensors"));
  CHECK(has(with_weights(bench.path("in.png")), "in.png"));
  CHECK(has(with_weights(fixtures + "discriminator_32.safetensors"), "discriminator"));
  CHECK_FALSE(fs::exists(bench.path("out.png")));
}

TEST_CASE("srgan_eval measures what the network answers", "[tools][eval]") {
  const Bench bench;
  fs::create_directory(bench.folder / "set");
  train::save_png(bench.folder / "set/colour.png", noise(49, 58, 3));
  train::save_png(bench.folder / "set/grey.png", noise(48, 52, 1));
  const auto evaluate = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--data", bench.path("set")});
    return tests::run_tool("srgan_eval", arguments, bench.logs.path());
  };
  const Finished done = evaluate(
      {"--weights", bench.weights, "--json", bench.path("e.json"), "--save", bench.path("saved")});
  INFO(done.err);
  REQUIRE(done.code == 0);
  const std::string json = bytes_of(bench.path("e.json"));
  CHECK(has(json, "\"network\""));
  CHECK(has(json, bench.weights));
  // What it compared is what the network makes of the LR picture it saved.
  const train::Image lr = train::load_image(bench.folder / "saved/LR/colour.png");
  CHECK(lr.width == 14);
  CHECK(train::load_image(bench.folder / "saved/SR/colour.png") == bench.expected(lr));
  const train::Image grey = train::load_image(bench.folder / "saved/LR/grey.png");
  CHECK(train::load_image(bench.folder / "saved/SR/grey.png") ==
        bench.expected(train::to_rgb(grey, "grey")));

  for (const std::vector<std::string>& wrong :
       std::vector<std::vector<std::string>>{{},
                                             {"--weights", bench.weights, "--method", "bicubic"},
                                             {"--weights", bench.weights, "--scale", "2"},
                                             {"--weights", bench.path("set/colour.png")}}) {
    const Finished refused = evaluate(wrong);
    INFO(refused.err);
    CHECK(refused.code == 2);
    CHECK(std::count(refused.err.begin(), refused.err.end(), '\n') == 1);
  }
}

TEST_CASE("an interrupted upscale leaves no file behind", "[tools][upscale]") {
  const Bench bench;
  fs::create_directory(bench.folder / "out");
  std::ofstream(bench.folder / "out/sr.png") << "old";
  train::save_png(bench.path("lr.png"), noise(400, 600, 3));
  // The plain loops take far longer than this test waits.
  tests::Process process("srgan_upscale",
                         {"--weights", bench.weights, "--backend", "reference", "--tile", "16",
                          bench.path("lr.png"), bench.path("out/sr.png")},
                         bench.logs.path());
  using namespace std::chrono_literals;
  for (int i = 0; i < 600 && names_in(bench.folder / "out").size() < 2; ++i)
    std::this_thread::sleep_for(50ms);
  REQUIRE(names_in(bench.folder / "out").size() == 2);  // the temporary is there: it works
  process.signal(SIGINT);
  CHECK(process.wait() == 128 + SIGINT);
  CHECK(has(process.err(), "sr.png"));
  CHECK(names_in(bench.folder / "out") == std::vector<std::string>{"sr.png"});
  CHECK(bytes_of(bench.folder / "out/sr.png") == "old");
}

}  // namespace
}  // namespace subpix
