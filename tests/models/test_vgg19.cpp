#include <algorithm>
#include <fstream>
#include <map>

#include "engine/autograd/node.h"
#include "models/vgg/vgg19.h"
#include "tests/models/fixture.h"
#include "tests/support/message.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"
#include "train/image.h"

namespace subpix {
namespace {

using engine::Device;
using engine::Index;
using engine::Tensor;
using models::Vgg19;
using models::VggLayer;
using tests::Fixture;
using tests::fixture_path;
using tests::input_error;
namespace ops = engine::ops;

constexpr double kForward = 1e-5;
constexpr double kBackward = 3e-5;
constexpr double kPaperScale = 1.0 / 12.75;  // of the features, section 3.2

/// The loss of make_fixtures.py: mean over the map of what lies between the scaled features.
Tensor vgg_loss(const Vgg19& vgg, const Tensor& image, const Tensor& target, const VggLayer& layer,
                bool squared) {
  const Tensor a = vgg.features(image, layer), b = vgg.features(target, layer);
  const double mean = 1.0 / static_cast<double>(a.count());
  return squared ? ops::mse_loss(a, b, static_cast<float>(mean * kPaperScale * kPaperScale))
                 : ops::l1_loss(a, b, static_cast<float>(mean * kPaperScale));
}

/// Loss and image gradient for every "<layer>.<distance>" that the oracle holds.
void check_losses(Device& device, const std::string& weights, const Fixture& oracle) {
  const std::vector<std::string> cases = oracle.names("loss.");
  CHECK(cases.size() >= 3);
  for (const std::string& name : cases) {
    INFO(name);
    const VggLayer layer = VggLayer::parse(name.substr(0, name.find('.')));
    const bool squared = name.ends_with(".squared");
    const Vgg19 vgg(device, weights, layer);
    const Tensor image = oracle.tensor(device, "image").set_requires_grad(true);
    const Tensor loss = vgg_loss(vgg, image, oracle.tensor(device, "target"), layer, squared);
    CHECK(loss.item() == Approx(oracle.value("loss." + name)).epsilon(kForward));
    engine::backward(loss);
    REQUIRE(image.grad().defined());
    tests::check_close("gradient", image.grad(), oracle.values("grad." + name), kBackward);
  }
}

/// A copy of vgg_rgb with other metadata or other tensors.
template <class Change>
std::string changed(const std::filesystem::path& path, Change&& change) {
  const auto file = engine::SafetensorsFile::open(fixture_path("vgg_rgb"));
  std::map<std::string, std::vector<std::byte>> bytes;
  std::vector<engine::TensorToSave> tensors;
  for (const engine::TensorInfo& info : file.tensors()) {
    bytes[info.name] = file.read_bytes(info.name);
    tensors.push_back({info.name, info.dtype, info.shape, bytes[info.name].data(), info.bytes()});
  }
  std::map<std::string, std::string> metadata = file.metadata();
  change(tensors, metadata);
  engine::save_safetensors(path, tensors, metadata);
  return path.string();
}

TEST_CASE("VGG layers are named as in the papers and in torchvision", "[models][vgg]") {
  CHECK(VggLayer::parse("VGG22").str() == "relu2_2");
  CHECK(VggLayer::parse("VGG54").str() == "relu5_4");
  CHECK(VggLayer::parse("conv3_4").str() == "conv3_4");
  CHECK_FALSE(VggLayer::parse("conv3_4").after_relu);
  // torchvision's positions of the sixteen convolutions.
  const std::vector<std::pair<std::string, int>> positions = {
      {"1_1", 0},  {"1_2", 2},  {"2_1", 5},  {"2_2", 7},  {"3_1", 10}, {"3_2", 12},
      {"3_3", 14}, {"3_4", 16}, {"4_1", 19}, {"4_2", 21}, {"4_3", 23}, {"4_4", 25},
      {"5_1", 28}, {"5_2", 30}, {"5_3", 32}, {"5_4", 34}};
  for (const auto& [name, index] : positions)
    CHECK(VggLayer::parse("conv" + name).features_index() == index);
  for (const char* wrong : {"", "VGG23", "VGG00", "VGG5", "conv2_3", "relu6_1", "conv0_1", "pool2",
                            "conv2_2 ", "relu22", "convx_y", "vgg54"}) {
    INFO(wrong);
    CHECK(input_error([&] { VggLayer::parse(wrong); }).find("VGG54") != std::string::npos);
  }
}

TEST_CASE("VGG features and their gradients are PyTorch's", "[models][vgg]") {
  for (const std::string& backend : engine::available_backends())
    for (const std::string name : {"vgg_rgb", "vgg_bgr"}) {
      DYNAMIC_SECTION(backend << " " << name) {
        const auto device = Device::open(backend);
        const Fixture oracle(name + "_oracle");
        const Vgg19 vgg(*device, fixture_path(name), VggLayer::parse("conv5_4"));
        CHECK(vgg.input().channel_order == (name == "vgg_rgb" ? "RGB" : "BGR"));
        CHECK(vgg.input().family == (name == "vgg_rgb" ? "torchvision" : ""));
        const Tensor image = oracle.tensor(*device, "image");
        for (const std::string& layer : oracle.names("features.")) {
          INFO(layer);
          const Tensor y = vgg.features(image, VggLayer::parse(layer));
          CHECK_FALSE(y.requires_grad());
          tests::check_close("features", y, oracle.values("features." + layer), kForward);
        }
        check_losses(*device, fixture_path(name), oracle);
      }
    }
}

TEST_CASE("a layer beyond what was loaded is refused", "[models][vgg]") {
  const auto device = Device::open("reference");
  const Vgg19 vgg(*device, fixture_path("vgg_rgb"), VggLayer::parse("relu2_2"));
  const Tensor image = Tensor::zeros(*device, {1, 16, 16, 3});
  CHECK(vgg.features(image, VggLayer::parse("relu2_2")).count() == 8 * 8 * 6);
  CHECK(vgg.features(image, VggLayer::parse("conv1_2")).count() == 16 * 16 * 4);
  CHECK_THROWS_AS(vgg.features(image, VggLayer::parse("conv3_1")), Error);
  CHECK_THROWS_AS(vgg.features(Tensor::zeros(*device, {1, 16, 16, 1}), VggLayer::parse("conv1_1")),
                  Error);
}

TEST_CASE("a VGG file must state its input and hold the layers", "[models][vgg]") {
  const auto device = Device::open("reference");
  const tests::TemporaryFolder folder;
  using Tensors = std::vector<engine::TensorToSave>;
  using Metadata = std::map<std::string, std::string>;
  const auto refusal = [&](const std::string& layer, const auto& change) {
    const std::string path = changed(folder / "vgg.safetensors", change);
    const std::string text = input_error([&] { Vgg19(*device, path, VggLayer::parse(layer)); });
    CHECK(text.find(path) != std::string::npos);
    return text;
  };
  const auto contains = [](const std::string& text, const std::string& part) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
  };
  for (const std::string key : {"channel_order", "input_range", "input_mean", "input_std"}) {
    const std::string text = refusal("VGG22", [&](Tensors&, Metadata& m) { m.erase(key); });
    contains(text, "the metadata has no '" + key + "'");
    contains(text, "convert_vgg19.py");
  }
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"channel_order", "GBR"},  {"input_range", "0..256"},   {"input_mean", "1,2"},
      {"input_mean", "1,2,3,4"}, {"input_mean", "1,2,three"}, {"input_std", "1,0,1"},
      {"input_std", "1,-1,1"},   {"input_mean", ""},          {"input_std", "1;1;1"},
      {"input_mean", "1,2,nan"}};
  for (const auto& [key, value] : wrong)
    contains(refusal("VGG22", [&](Tensors&, Metadata& m) { m[key] = value; }), key);

  const auto cut = [](Tensors& t, int from) {
    std::erase_if(t, [&](const auto& tensor) {
      return std::stoi(tensor.name.substr(std::string("features.").size())) >= from;
    });
  };
  const std::string text = refusal("VGG54", [&](Tensors& t, Metadata&) { cut(t, 19); });
  contains(text, "cannot give relu5_4");
  contains(text, "conv4_1");
  contains(text, "it holds conv1_1 to conv3_4");
  contains(refusal("conv1_2", [&](Tensors& t, Metadata&) { cut(t, 2); }), "conv1_1 only");
  contains(refusal("conv1_2", [&](Tensors& t, Metadata&) { cut(t, 0); }), "no layer");
  contains(refusal("conv1_2",
                   [&](Tensors& t, Metadata&) {
                     std::erase_if(t, [](const auto& x) { return x.name == "features.2.bias"; });
                   }),
           "'features.2.bias'");
  contains(refusal("conv1_2",
                   [&](Tensors& t, Metadata&) {
                     for (auto& x : t)
                       if (x.name == "features.2.weight") x.shape = {4, 4, 9, 1};
                   }),
           "[4,4,9,1], not [4,4,3,3]");
  contains(refusal("conv1_2",
                   [&](Tensors& t, Metadata&) {
                     for (auto& x : t)
                       if (x.name == "features.2.weight") x.dtype = "I32";
                   }),
           "I32");
}

// --- the published layers
// --------------------------------------------------------------------------

constexpr const char* kRealFile = "vgg19/vgg19_keras_conv1_1-conv3_4.safetensors";

struct Row {
  const char* layer;
  double mean_before, mean_after, first_before;  ///< of the ReLU; measured in float64
};
/// Set5's butterfly, all of it.
constexpr Row kButterfly[] = {
    {"1_1", -3.22618, 26.36311, 228.07576},    {"1_2", 84.09538, 129.86742, -322.63124},
    {"2_1", 4.13218, 177.82218, -433.81882},   {"2_2", -112.58547, 164.11461, 16.32354},
    {"3_1", -132.11318, 203.00015, 82.97205},  {"3_2", -50.90238, 230.73016, 754.03463},
    {"3_3", 322.31359, 443.63276, 1721.03178}, {"3_4", 398.62728, 682.51150, 704.40386}};

double mean(const std::vector<float>& values) {
  double sum = 0.0;
  for (const float v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

TEST_CASE("the published VGG19 layers answer a photograph as they should", "[models][vgg][data]") {
  const auto weights = tests::shared_data(kRealFile);
  const auto photo = tests::shared_data("test/set5/butterfly.png");
  if (!weights || !photo) return;
  const auto device = Device::open();
  const train::Image image = train::load_image(*photo);
  REQUIRE(image.channels == 3);
  const Tensor bytes = Tensor::from_bytes(*device, {1, image.height, image.width, 3}, image.pixels);
  const Tensor x = ops::from_bytes(bytes, 1.0f / 127.5f, -1.0f);
  const Vgg19 vgg(*device, weights->string(), VggLayer::parse("conv3_4"));
  for (const Row& row : kButterfly) {
    INFO(row.layer);
    const auto before = vgg.features(x, VggLayer::parse(concat("conv", row.layer))).to_host();
    const auto after = vgg.features(x, VggLayer::parse(concat("relu", row.layer))).to_host();
    // Means cancel: their error is judged by what was summed.
    double magnitude = 0.0;
    for (const float v : before) magnitude += std::fabs(v);
    magnitude /= static_cast<double>(before.size());
    CHECK(mean(before) == Approx(row.mean_before).margin(1e-5 * magnitude));
    CHECK(mean(after) == Approx(row.mean_after).epsilon(1e-5));
    CHECK(before[0] == Approx(row.first_before).margin(1e-5 * magnitude));
  }
}

TEST_CASE("the gradient through the published VGG19 layers is PyTorch's", "[models][vgg][data]") {
  const auto weights = tests::shared_data(kRealFile);
  if (!weights) return;
  for (const std::string& backend : engine::available_backends()) {
    DYNAMIC_SECTION(backend) {
      const auto device = Device::open(backend);
      check_losses(*device, weights->string(), Fixture("vgg_real_oracle"));
    }
  }
}

TEST_CASE("the published VGG19 file ends before VGG54", "[models][vgg][data]") {
  const auto weights = tests::shared_data(kRealFile);
  if (!weights) return;
  const auto device = Device::open("reference");
  const std::string text =
      input_error([&] { Vgg19(*device, weights->string(), VggLayer::parse("VGG54")); });
  CHECK(text.find("conv1_1 to conv3_4") != std::string::npos);
}

}  // namespace
}  // namespace subpix
