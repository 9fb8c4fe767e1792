#include <algorithm>
#include <map>

#include "engine/autograd/node.h"
#include "models/srgan/generator.h"
#include "tests/models/fixture.h"
#include "tests/support/message.h"
#include "tests/support/temporary_folder.h"

namespace subpix {
namespace {

using engine::Device;
using engine::Index;
using engine::Shape;
using engine::Tensor;
using models::Generator;
using models::GeneratorConfig;
using tests::Fixture;
using tests::fixture_path;
using tests::input_error;
namespace ops = engine::ops;

// Twelve layers of fp32 sums against float64, relative to |value| + rms.
constexpr double kForward = 1e-5;
constexpr double kBackward = 3e-5;

GeneratorConfig small(Index blocks, Index channels, Index scale, bool shared) {
  GeneratorConfig config;
  config.blocks = blocks;
  config.channels = channels;
  config.scale = scale;
  config.prelu_shared = shared;
  return config;
}

const std::map<std::string, GeneratorConfig>& fixtures() {
  static const std::map<std::string, GeneratorConfig> all = {
      {"generator_x4", small(2, 8, 4, false)},
      {"generator_x4_shared", small(1, 8, 4, true)},
      {"generator_x2", small(1, 6, 2, false)}};
  return all;
}

/// Writes a copy of a fixture with one change.
template <class Change>
std::string changed(const std::filesystem::path& path, const std::string& name, Change&& change) {
  const auto file = engine::SafetensorsFile::open(fixture_path(name));
  std::map<std::string, std::vector<std::byte>> bytes;
  std::vector<engine::TensorToSave> tensors;
  for (const engine::TensorInfo& info : file.tensors()) {
    bytes[info.name] = file.read_bytes(info.name);
    tensors.push_back({info.name, info.dtype, info.shape, bytes[info.name].data(), info.bytes()});
  }
  std::map<std::string, std::string> metadata;
  change(tensors, metadata);
  engine::save_safetensors(path, tensors, metadata);
  return path.string();
}

TEST_CASE("the generator has the paper's number of parameters", "[models][generator]") {
  const auto device = Device::open("reference");
  for (const bool shared : {false, true}) {
    const Generator g(*device, small(16, 64, 4, shared), 1);
    CHECK(g.parameter_count() == 1547331 + (shared ? 19 : 1216));
  }
  CHECK(GeneratorConfig().blocks == 16);
  CHECK(GeneratorConfig().channels == 64);
  CHECK(GeneratorConfig().scale == 4);
}

TEST_CASE("generator settings out of range are refused", "[models][generator]") {
  const auto device = Device::open("reference");
  CHECK(input_error([&] { Generator(*device, small(0, 8, 4, false), 1); }).find("block") !=
        std::string::npos);
  CHECK(input_error([&] { Generator(*device, small(1, 0, 4, false), 1); }).find("channel") !=
        std::string::npos);
  CHECK(input_error([&] { Generator(*device, small(1, 8, 3, false), 1); }).find("scale") !=
        std::string::npos);
}

TEST_CASE("the generator computes PyTorch's outputs, gradients and statistics",
          "[models][generator]") {
  for (const std::string& backend : engine::available_backends())
    for (const auto& [name, config] : fixtures()) {
      DYNAMIC_SECTION(backend << " " << name) {
        const auto device = Device::open(backend);
        const Fixture oracle(name + "_oracle");
        const auto loaded = models::load_generator(*device, fixture_path(name));
        Generator& g = *loaded;
        CHECK(g.config() == config);
        CHECK_FALSE(g.training());
        const Tensor x = oracle.tensor(*device, "input");
        {
          const engine::NoGrad no_grad;
          const Tensor y = g(x);
          CHECK(y.shape() == Shape{x.dim(0), config.scale * x.dim(1), config.scale * x.dim(2), 3});
          tests::check_close("evaluation", y, oracle.values("output_eval"), kForward);
        }
        g.set_training(true);
        x.set_requires_grad(true);
        const Tensor y = g(x);
        tests::check_close("training", y, oracle.values("output_train"), kForward);
        engine::backward(y, oracle.tensor(*device, "seed"));
        tests::check_close("dx", x.grad(), oracle.values("grad_input"), kBackward);
        tests::check_gradients(g, oracle, "grad.", kBackward);
        std::size_t statistics = 0;
        for (const auto& entry : g.state()) {
          if (entry.trainable) continue;
          tests::check_close(entry.name, entry.tensor, oracle.values("after." + entry.name),
                             kForward);
          ++statistics;
        }
        CHECK(statistics == oracle.names("after.").size());
      }
    }
}

TEST_CASE("one weight off by a fiftieth is noticed", "[models][generator]") {
  const auto device = Device::open();
  const Fixture oracle("generator_x4_oracle");
  const auto g = models::load_generator(*device, fixture_path("generator_x4"));
  const engine::NoGrad no_grad;
  for (const auto& entry : g->state()) {
    const std::vector<float> before = entry.tensor.to_host();
    tests::nudge(entry.tensor, 0.02);
    const Tensor y = (*g)(oracle.tensor(*device, "input"));
    INFO(entry.name);
    CHECK(tests::mismatch("y", y.to_host(), oracle.values("output_eval"), kForward) != "");
    entry.tensor.upload(before);
  }
}

TEST_CASE("a saved generator has the documented names and comes back unchanged",
          "[models][generator]") {
  const auto device = Device::open();
  const tests::TemporaryFolder folder;
  for (const auto& [name, config] : fixtures()) {
    INFO(name);
    GeneratorConfig unusual = config;
    unusual.bn_eps = 3e-4f;
    const Generator g(*device, unusual, 7);
    const std::string path = (folder / (name + ".safetensors")).string();
    models::save_generator(g, path);

    // The names and shapes are PyTorch's: those of the file that PyTorch wrote.
    const auto ours = engine::SafetensorsFile::open(path);
    const auto theirs = engine::SafetensorsFile::open(fixture_path(name));
    std::map<std::string, std::vector<Index>> our_shapes, their_shapes;
    for (const auto& info : ours.tensors()) {
      our_shapes[info.name] = info.shape;
      CHECK(info.dtype == "F32");
    }
    for (const auto& info : theirs.tensors())
      if (!info.name.ends_with("num_batches_tracked")) their_shapes[info.name] = info.shape;
    CHECK(our_shapes == their_shapes);
    CHECK(theirs.metadata().empty());

    CHECK(models::read_generator_config(path) == unusual);
    const auto back = models::load_generator(*device, path);
    const auto a = g.state(), b = back->state();
    REQUIRE(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i)
      CHECK(a[i].tensor.to_host() == b[i].tensor.to_host());
  }
}

TEST_CASE("a generator file is known by its shapes, others are refused", "[models][generator]") {
  const auto device = Device::open("reference");
  const tests::TemporaryFolder folder;
  using Tensors = std::vector<engine::TensorToSave>;
  using Metadata = std::map<std::string, std::string>;
  const auto refusal = [&](const auto& change) {
    const std::string path = changed(folder / "g.safetensors", "generator_x4", change);
    const std::string text = input_error([&] { models::read_generator_config(path); });
    CHECK(text.find(path) != std::string::npos);
    CHECK(input_error([&] { models::load_generator(*device, path); }) == text);
    return text;
  };
  const auto find = [](Tensors& tensors, const std::string& name) {
    return std::find_if(tensors.begin(), tensors.end(),
                        [&](const auto& t) { return t.name == name; });
  };
  const auto contains = [](const std::string& text, const std::string& part) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
  };

  contains(input_error([&] { models::read_generator_config(fixture_path("discriminator_32")); }),
           "looks like a discriminator");
  contains(input_error([&] { models::read_generator_config(fixture_path("vgg_rgb")); }),
           "looks like VGG");
  contains(input_error([&] { models::read_generator_config((folder / "none").string()); }), "none");
  contains(refusal([&](Tensors& t, Metadata&) { t.erase(find(t, "trunk_bn.running_var")); }),
           "no tensor 'trunk_bn.running_var'");
  contains(refusal([&](Tensors& t, Metadata&) { t.erase(find(t, "blocks.0.conv1.weight")); }),
           "no residual block");
  contains(refusal([&](Tensors& t, Metadata&) { t.erase(find(t, "up.0.conv.weight")); }),
           "0 up stages");
  contains(refusal([&](Tensors& t, Metadata&) {
             const auto& up = *find(t, "up.1.conv.weight");
             t.push_back(up);
             t.back().name = "up.2.conv.weight";
           }),
           "scale 8");
  contains(refusal([&](Tensors& t, Metadata&) {
             find(t, "blocks.1.conv2.weight")->shape = {8, 8, 9, 1};
           }),
           "'blocks.1.conv2.weight' has shape [8,8,9,1], not [8,8,3,3]");
  contains(refusal([&](Tensors& t, Metadata&) {
             find(t, "head.weight")->shape = {8, 243};
           }),
           "'head.weight' has shape [8,243]");
  contains(refusal([&](Tensors& t, Metadata&) {
             find(t, "head.weight")->shape = {8, 3, 9, 9, 1};
           }),
           "[8,3,9,9,1]");
  contains(refusal([&](Tensors& t, Metadata&) { find(t, "tail.bias")->name = "tail.offset"; }),
           "no tensor 'tail.bias'");
  contains(refusal([&](Tensors& t, Metadata&) {
             t.push_back(*find(t, "tail.bias"));
             t.back().name = "tail.offset";
           }),
           "a tensor 'tail.offset'");
  contains(refusal([&](Tensors&, Metadata& m) { m["bn_eps"] = "small"; }), "bn_eps");
  // One slope here, eight there: neither setting fits.
  contains(refusal([&](Tensors& t, Metadata&) {
             auto& slope = *find(t, "blocks.0.prelu.weight");
             slope.shape = {1};
             slope.bytes = sizeof(float);
           }),
           "'blocks.0.prelu.weight' has shape [1], not [8]");
}

TEST_CASE("the same seed gives the same generator, another seed another", "[models][generator]") {
  const auto device = Device::open("reference");
  const GeneratorConfig config = small(1, 4, 2, false);
  const Generator a(*device, config, 5), b(*device, config, 5), c(*device, config, 6);
  bool different = false;
  for (std::size_t i = 0; i < a.state().size(); ++i) {
    CHECK(a.state()[i].tensor.to_host() == b.state()[i].tensor.to_host());
    different = different || a.state()[i].tensor.to_host() != c.state()[i].tensor.to_host();
  }
  CHECK(different);
}

TEST_CASE("ICNR starts the up stages as nearest-neighbour enlargement", "[models][generator]") {
  const auto device = Device::open("reference");
  GeneratorConfig config = small(1, 4, 4, false);
  config.init = engine::nn::InitKind::Icnr;
  const Generator g(*device, config, 3);
  for (const auto& entry : g.state()) {
    if (!entry.name.starts_with("up.") || !entry.name.ends_with("conv.weight")) continue;
    const std::vector<float> w = entry.tensor.to_host();  // K in order (i, j, c)
    const std::size_t quarter = w.size() / 4;
    for (std::size_t i = 0; i < w.size(); ++i) REQUIRE(w[i] == w[i % quarter]);
    CHECK(*std::max_element(w.begin(), w.end()) > 0.0f);
  }
}

TEST_CASE("the receptive radius is what gradients reach", "[models][generator]") {
  const auto device = Device::open();
  CHECK(Generator(*device, small(16, 1, 4, false), 1).receptive_radius() == 39.5);
  CHECK(Generator(*device, small(16, 1, 2, false), 1).receptive_radius() == 40.0);
  for (const Index scale : {2, 4}) {
    Generator g(*device, small(2, 3, scale, false), 1);
    g.set_training(false);
    const Index side = 41, centre = 20;
    const Tensor x = Tensor::full(*device, {1, side, side, 3}, 0.5f).set_requires_grad(true);
    const Tensor y = g(x);
    // The gradient of the four corner pixels of the enlarged centre pixel.
    std::vector<float> seed(static_cast<std::size_t>(y.count()), 0.0f);
    const Index wide = side * scale, low = centre * scale, high = low + scale - 1;
    for (const Index row : {low, high})
      for (const Index column : {low, high})
        for (Index c = 0; c < 3; ++c)
          seed[static_cast<std::size_t>((row * wide + column) * 3 + c)] = 1.0f;
    engine::backward(y, Tensor::from_host(*device, y.shape(), seed));
    const std::vector<float> dx = x.grad().to_host();
    Index reach = 0;
    for (Index i = 0; i < x.count(); ++i)
      if (dx[static_cast<std::size_t>(i)] != 0.0f) {
        const Index row = i / 3 / side, column = i / 3 % side;
        reach = std::max({reach, std::abs(row - centre), std::abs(column - centre)});
      }
    INFO("scale " << scale << ", radius " << g.receptive_radius());
    CHECK(reach == static_cast<Index>(std::ceil(g.receptive_radius())));
  }
}

}  // namespace
}  // namespace subpix
