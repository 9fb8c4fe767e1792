#include <map>

#include "engine/autograd/node.h"
#include "models/srgan/discriminator.h"
#include "tests/models/fixture.h"
#include "tests/support/message.h"
#include "tests/support/temporary_folder.h"

namespace subpix {
namespace {

using engine::Device;
using engine::Index;
using engine::Shape;
using engine::Tensor;
using models::Discriminator;
using models::DiscriminatorConfig;
using tests::Fixture;
using tests::fixture_path;
using tests::input_error;

constexpr double kForward = 1e-5;
constexpr double kBackward = 3e-5;

DiscriminatorConfig small(Index crop) {
  DiscriminatorConfig config;
  config.crop = crop;
  config.channels = 4;
  config.dense = 16;
  return config;
}

TEST_CASE("the discriminator has the paper's number of parameters", "[models][discriminator]") {
  const auto device = Device::open("reference");
  const Discriminator d(*device, DiscriminatorConfig(), 1);
  CHECK(d.parameter_count() == 23563649);
  std::map<std::string, std::vector<Index>> shapes;
  for (const auto& entry : d.state())
    shapes[entry.name] = engine::nn::file_shape(entry.tensor.shape(), entry.layout);
  CHECK(shapes["blocks.7.conv.weight"] == std::vector<Index>{512, 512, 3, 3});
  CHECK(shapes["fc1.weight"] == std::vector<Index>{1024, 18432});
  CHECK(shapes["fc2.weight"] == std::vector<Index>{1, 1024});
}

TEST_CASE("discriminator settings and images that do not fit are refused",
          "[models][discriminator]") {
  const auto device = Device::open("reference");
  CHECK(input_error([&] { Discriminator(*device, small(15), 1); }).find("16 pixels, not 15") !=
        std::string::npos);
  DiscriminatorConfig config = small(16);
  config.dense = 0;
  input_error([&] { Discriminator(*device, config, 1); });
  const Discriminator d(*device, small(16), 1);
  CHECK_THROWS_AS(d(Tensor::zeros(*device, {1, 16, 17, 3})), Error);
  CHECK_THROWS_AS(d(Tensor::zeros(*device, {1, 16, 16, 1})), Error);
  CHECK(d(Tensor::zeros(*device, {2, 16, 16, 3})).shape() == Shape{2, 1});
}

TEST_CASE("the discriminator computes PyTorch's logits, gradients and statistics",
          "[models][discriminator]") {
  for (const std::string& backend : engine::available_backends())
    for (const Index crop : {24, 32}) {
      DYNAMIC_SECTION(backend << " crop " << crop) {
        const auto device = Device::open(backend);
        const std::string name = concat("discriminator_", crop);
        const Fixture oracle(name + "_oracle");
        Discriminator d(*device, small(crop), 1);
        engine::nn::load_module(d, fixture_path(name));
        const Tensor x = oracle.tensor(*device, "input");
        d.set_training(false);
        {
          const engine::NoGrad no_grad;
          tests::check_close("evaluation", d(x), oracle.values("output_eval"), kForward);
        }
        d.set_training(true);
        x.set_requires_grad(true);
        const Tensor y = d(x);
        tests::check_close("training", y, oracle.values("output_train"), kForward);
        engine::backward(y, oracle.tensor(*device, "seed"));
        tests::check_close("dx", x.grad(), oracle.values("grad_input"), kBackward);
        tests::check_gradients(d, oracle, "grad.", kBackward);
        std::size_t statistics = 0;
        for (const auto& entry : d.state()) {
          if (entry.trainable) continue;
          tests::check_close(entry.name, entry.tensor, oracle.values("after." + entry.name),
                             kForward);
          ++statistics;
        }
        CHECK(statistics == oracle.names("after.").size());
      }
    }
}

TEST_CASE("a saved discriminator has the documented names and comes back unchanged",
          "[models][discriminator]") {
  const auto device = Device::open();
  const tests::TemporaryFolder folder;
  const std::string path = (folder / "d.safetensors").string();
  const Discriminator d(*device, small(32), 9);
  engine::nn::save_module(d, path);
  std::map<std::string, std::vector<Index>> ours, theirs;
  const auto our_file = engine::SafetensorsFile::open(path);
  const auto their_file = engine::SafetensorsFile::open(fixture_path("discriminator_32"));
  for (const auto& info : our_file.tensors()) {
    ours[info.name] = info.shape;
    CHECK(info.dtype == "F32");
  }
  for (const auto& info : their_file.tensors())
    if (!info.name.ends_with("num_batches_tracked")) theirs[info.name] = info.shape;
  CHECK(ours == theirs);

  Discriminator back(*device, small(32), 10);
  engine::nn::load_module(back, path);
  const auto a = d.state(), b = back.state();
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i].tensor.to_host() == b[i].tensor.to_host());
}

TEST_CASE("a weight file of another network is no discriminator", "[models][discriminator]") {
  const auto device = Device::open("reference");
  Discriminator d(*device, small(48), 1);
  const std::vector<float> before = d.parameters()[0].to_host();
  // 24 and 32 pixels end in 2x2 maps, 48 in 3x3.
  const std::string text =
      input_error([&] { engine::nn::load_module(d, fixture_path("discriminator_32")); });
  CHECK(text.find("fc1.weight") != std::string::npos);
  CHECK(text.find("[16,128]") != std::string::npos);
  CHECK(text.find("[16,288]") != std::string::npos);
  input_error([&] { engine::nn::load_module(d, fixture_path("generator_x4")); });
  CHECK(d.parameters()[0].to_host() == before);
}

}  // namespace
}  // namespace subpix
