#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "engine/core/file.h"
#include "engine/core/random.h"
#include "tests/support/message.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"
#include "train/evaluate.h"
#include "train/metrics.h"

namespace fs = std::filesystem;
using namespace subpix;
using namespace subpix::train;
using Catch::Matchers::Contains;
using tests::input_error;
using tests::TemporaryFolder;

namespace {

Image picture(std::int64_t width, std::int64_t height, std::int64_t channels, std::uint64_t seed) {
  Image small((width + 2) / 3, (height + 2) / 3, channels);
  engine::Philox random(seed);
  for (std::uint8_t& p : small.pixels) p = static_cast<std::uint8_t>(random.next());
  return crop(enlarge_bicubic(small, 3), 0, 0, width, height);
}

Image bicubic(const Image& lr) { return enlarge_bicubic(lr, 4); }
Image nearest(const Image& lr) { return enlarge_nearest(lr, 4); }

struct Row {
  double psnr, ssim;
};

bool near(double a, double b, double tolerance) { return std::abs(a - b) <= tolerance; }

}  // namespace

TEST_CASE("bicubic reproduces the published table picture by picture", "[train][evaluate]") {
  const std::map<std::string, std::map<std::string, Row>> table{
      {"set5",
       {{"baby", {31.7845, 0.8575}},
        {"bird", {30.1840, 0.8736}},
        {"butterfly", {22.1010, 0.7375}},
        {"head", {31.6135, 0.7546}},
        {"woman", {26.4682, 0.8325}},
        {"mean", {28.4302, 0.8111}}}},
      {"set14",
       {{"baboon", {22.4386, 0.4528}},
        {"barbara", {25.1489, 0.6870}},
        {"bridge", {23.1459, 0.5403}},
        {"coastguard", {25.4760, 0.5222}},
        {"comic", {21.6909, 0.5836}},
        {"face", {31.5789, 0.7528}},
        {"flowers", {25.5220, 0.7221}},
        {"foreman", {29.3976, 0.8667}},
        {"lenna", {29.8384, 0.8142}},
        {"man", {25.6956, 0.6761}},
        {"monarch", {27.4602, 0.8814}},
        {"pepper", {30.5912, 0.8377}},
        {"ppt3", {21.9133, 0.8190}},
        {"zebra", {24.0601, 0.6849}},
        {"mean", {25.9970, 0.7029}}}},
  };
  const std::map<std::string, double> daala{{"set5", 0.8211}, {"set14", 0.7486}};
  for (const auto& [name, rows] : table) {
    const auto folder = tests::shared_data("test/" + name);
    if (!folder) return;
    EvaluationRequest request;
    request.folders = {*folder};
    const Evaluation result = evaluate(request, bicubic);
    CHECK(result.sets.at(0).images.size() == rows.size() - 1);
    for (const ImageScore& image : result.sets.at(0).images) {
      CAPTURE(name, image.name, image.scores.psnr_y, image.scores.ssim_gauss);
      const Row& expected = rows.at(image.name);
      CHECK(near(image.scores.psnr_y, expected.psnr, 5.1e-5));
      CHECK(near(image.scores.ssim_gauss, expected.ssim, 5.1e-5));
    }
    CAPTURE(name, result.mean.psnr_y, result.mean.ssim_gauss, result.mean.ssim_daala);
    CHECK(near(result.mean.psnr_y, rows.at("mean").psnr, 5.1e-5));
    CHECK(near(result.mean.ssim_gauss, rows.at("mean").ssim, 5.1e-5));
    CHECK(near(result.mean.ssim_daala, daala.at(name), 5.1e-5));
  }
}

TEST_CASE("nearest reproduces the published means", "[train][evaluate]") {
  const auto set5 = tests::shared_data("test/set5"), set14 = tests::shared_data("test/set14");
  if (!set5 || !set14) return;
  EvaluationRequest request;
  request.folders = {*set5, *set14};
  const Evaluation result = evaluate(request, nearest);
  const Scores& five = result.sets.at(0).mean;
  CHECK(near(five.psnr_y, 26.2583, 5.1e-5));
  CHECK(near(five.ssim_gauss, 0.7380, 5.1e-5));
  CHECK(near(five.ssim_daala, 0.7547, 5.1e-5));
  const Scores& fourteen = result.sets.at(1).mean;
  CHECK(near(fourteen.psnr_y, 24.65, 5.1e-3));
  CHECK(near(fourteen.ssim_gauss, 0.6533, 5.1e-5));
  CHECK(near(fourteen.ssim_daala, 0.7098, 5.1e-5));
  CHECK(near(result.mean.psnr_y, (5 * five.psnr_y + 14 * fourteen.psnr_y) / 19, 1e-12));
}

TEST_CASE("the protocol crops, reduces and asks", "[train][evaluate]") {
  const Image hr = picture(47, 38, 3, 1);
  Image seen;
  const ComparedPictures p = upscale_reduced(hr, "x",
                                             [&](const Image& lr) {
                                               seen = lr;
                                               return bicubic(lr);
                                             },
                                             {});
  CHECK(p.hr == crop(hr, 0, 0, 44, 36));
  CHECK(p.lr == shrink_bicubic(p.hr, 4));
  CHECK(seen == p.lr);
  CHECK(p.sr == bicubic(p.lr));

  const Scores scores = measure(p.hr, p.sr, {});
  const Plane a = without_border(luma(p.hr), 4), b = without_border(luma(p.sr), 4);
  CHECK(scores.psnr_y == psnr(a, b));
  CHECK(scores.ssim_gauss == ssim_gauss(a, b));
  CHECK(scores.ssim_daala == ssim_daala(a, b));

  EvaluationProtocol other{2, 3, Edge::Mirror};
  const ComparedPictures q = upscale_reduced(
      hr, "x", [](const Image& lr) { return enlarge_nearest(lr, 2); }, other);
  CHECK(q.hr.width == 46);
  CHECK(q.lr == shrink_bicubic(q.hr, 2, Edge::Mirror));
  CHECK(measure(q.hr, q.sr, other).psnr_y ==
        psnr(without_border(luma(q.hr), 3), without_border(luma(q.sr), 3)));
  CHECK_THAT(other.describe(), Contains("mirrored") && Contains("3 samples") && Contains("1/2"));
}

TEST_CASE("a grey picture is its own luma, and an RGB answer full-range grey",
          "[train][evaluate]") {
  const Image hr = picture(40, 40, 1, 2);
  const ComparedPictures p = upscale_reduced(hr, "x", bicubic, {});
  CHECK(p.lr.channels == 1);
  const Scores grey = measure(p.hr, p.sr, {});
  const Scores rgb = measure(p.hr, to_rgb(p.sr, "x"), {});
  CHECK(near(grey.psnr_y, rgb.psnr_y, 1e-9));
  CHECK(near(grey.ssim_gauss, rgb.ssim_gauss, 1e-9));
  CHECK_THROWS_AS(measure(to_rgb(p.hr, "x"), p.sr, {}), Error);
  CHECK_THROWS_AS(measure(p.hr, p.lr, {}), Error);
}

TEST_CASE("pictures that cannot be measured are named", "[train][evaluate]") {
  CHECK_THAT(input_error([] { upscale_reduced(picture(19, 40, 3, 1), "tiny.png", bicubic, {}); }),
             Contains("tiny.png") && Contains("19x40") && Contains("20x20"));
  upscale_reduced(picture(20, 20, 3, 1), "x", bicubic, {});
  CHECK_THAT(input_error([] { upscale_reduced(picture(40, 40, 4, 1), "alpha.png", bicubic, {}); }),
             Contains("alpha.png") && Contains("transparent"));
}

TEST_CASE("a folder is evaluated, listed and saved", "[train][evaluate]") {
  const TemporaryFolder folder;
  fs::create_directories(folder / "photos/sub");
  save_png(folder / "photos/b.png", picture(41, 42, 3, 1));
  save_png(folder / "photos/sub/a.png", picture(40, 44, 1, 2));
  save_png(folder / "photos/b.PNG", picture(40, 40, 3, 3));
  EvaluationRequest request;
  request.folders = {folder / "photos/"};
  request.method = "bicubic";
  request.save = folder / "compared";
  std::vector<std::string> progress;
  request.on_progress = [&](std::size_t done, std::size_t total, const std::string& name) {
    CHECK(done == progress.size());
    CHECK(total == 3);
    progress.push_back(name);
  };
  const Evaluation result = evaluate(request, bicubic);
  CHECK(progress == std::vector<std::string>{"b.PNG", "b.png", "sub/a"});
  REQUIRE(result.sets.size() == 1);
  CHECK(result.sets[0].name == "photos");
  REQUIRE(result.sets[0].images.size() == 3);
  double sum = 0.0;
  for (std::size_t i = 0; i < 3; ++i) {
    const ImageScore& image = result.sets[0].images[i];
    CHECK(image.name == progress[i]);
    sum += image.scores.psnr_y;
    const Image hr = load_image(folder / ("compared/HR/" + image.name + ".png"));
    const Image lr = load_image(folder / ("compared/LR/" + image.name + ".png"));
    const Image sr = load_image(folder / ("compared/SR/" + image.name + ".png"));
    CHECK(lr == shrink_bicubic(hr, 4));
    CHECK(sr == bicubic(lr));
    CHECK(measure(hr, sr, {}).psnr_y == image.scores.psnr_y);
  }
  CHECK(near(result.mean.psnr_y, sum / 3, 1e-12));

  const auto json = nlohmann::json::parse(to_json(result));
  CHECK(json["method"] == "bicubic");
  CHECK(!json.contains("weights"));
  CHECK(json["scale"] == 4);
  CHECK(json["border"] == 4);
  CHECK(json["protocol"] == result.protocol.describe());
  REQUIRE(json["images"].size() == 3);
  CHECK(json["images"][2]["name"] == "sub/a");
  CHECK(json["images"][2]["set"] == "photos");
  CHECK(json["images"][2]["psnr_y"] == result.sets[0].images[2].scores.psnr_y);
  CHECK(json["images"][2]["ssim_gauss"] == result.sets[0].images[2].scores.ssim_gauss);
  CHECK(json["images"][2]["ssim_daala"] == result.sets[0].images[2].scores.ssim_daala);
  CHECK(json["mean"]["psnr_y"] == result.mean.psnr_y);
  CHECK(json["mean"]["ssim_gauss"] == result.mean.ssim_gauss);
  CHECK(json["mean"]["ssim_daala"] == result.mean.ssim_daala);
  CHECK(json["sets"][0]["images"] == 3);
  CHECK(json["sets"][0]["mean"]["psnr_y"] == result.mean.psnr_y);
  const std::string table = to_table(result);
  CHECK_THAT(table, Contains("sub/a") && Contains("PSNR Y dB") && Contains("mean"));
  CHECK_THAT(table, !Contains("mean of all"));
}

TEST_CASE("several folders are several sets", "[train][evaluate]") {
  const TemporaryFolder folder;
  for (const char* name : {"a/x", "b/x", "a/y"}) {
    fs::create_directories((folder / name).parent_path());
    save_png(folder / (std::string(name) + ".png"), picture(40, 40, 3, 4));
  }
  fs::create_directories(folder / "other/a");
  save_png(folder / "other/a/z.png", picture(40, 40, 3, 5));
  EvaluationRequest request;
  request.folders = {folder / "a", folder / "b", folder / "other/a"};
  request.save = folder / "compared";
  request.method = "network";
  request.weights = "G.safetensors";
  const Evaluation result = evaluate(request, bicubic);
  REQUIRE(result.sets.size() == 3);
  CHECK(result.sets[0].name == "a");
  CHECK(result.sets[1].name == "b");
  CHECK(result.sets[2].name == "a-2");
  CHECK(fs::exists(folder / "compared/a/HR/y.png"));
  CHECK(fs::exists(folder / "compared/b/SR/x.png"));
  CHECK(fs::exists(folder / "compared/a-2/LR/z.png"));
  CHECK_THAT(to_table(result), Contains("mean of all") && Contains("network G.safetensors"));
  const auto json = nlohmann::json::parse(to_json(result));
  CHECK(json["weights"] == "G.safetensors");
  CHECK(json["images"].size() == 4);
  CHECK(json["sets"].size() == 3);

  request.folders = {folder / "a", folder / "missing"};
  request.save.clear();
  CHECK_THAT(input_error([&] {
               evaluate(request,
                        [](const Image&) -> Image { throw std::logic_error("too early"); });
             }),
             Contains("missing does not exist"));
}

TEST_CASE("a perfect answer has no finite PSNR, and JSON says so", "[train][evaluate]") {
  const TemporaryFolder folder;
  Image plain(40, 40, 3);
  std::fill(plain.pixels.begin(), plain.pixels.end(), std::uint8_t{77});
  save_png(folder / "plain.png", plain);
  save_png(folder / "rich.png", picture(40, 40, 3, 4));
  EvaluationRequest request;
  request.folders = {folder.path()};
  const Evaluation result = evaluate(request, bicubic);
  const auto json = nlohmann::json::parse(to_json(result));
  CHECK(json["images"][0]["psnr_y"].is_null());
  CHECK(json["images"][0]["psnr_y_text"] == "inf");
  CHECK(json["images"][0]["ssim_gauss"] == 1.0);
  CHECK(json["images"][0]["ssim_daala"] == 1.0);
  CHECK(json["images"][1]["psnr_y"].is_number());
  CHECK(!json["images"][1].contains("psnr_y_text"));
  CHECK(json["mean"]["psnr_y"].is_null());
  CHECK_THAT(to_table(result), Contains("inf"));
}
