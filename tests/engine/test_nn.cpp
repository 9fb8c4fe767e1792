#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "engine/core/safetensors.h"
#include "engine/nn/layers.h"
#include "tests/engine/backends.h"
#include "tests/support/message.h"
#include "tests/support/temporary_folder.h"

using namespace subpix;
using namespace subpix::engine;
using namespace subpix::tests;
using nn::FileLayout;
using Kind = nn::FileLayout::Kind;

namespace {

std::vector<float> counting(std::size_t n) {
  std::vector<float> values(n);
  std::iota(values.begin(), values.end(), 0.0f);
  return values;
}

/// Own parameters around a child, so that the order of state() shows.
class Block : public nn::Module {
 public:
  Block(Device& device, Philox& random)
      : conv(device, {.in = 2, .out = 8, .kernel = 3, .shuffle = 2}, random), bn(device, 2) {
    gain = add_parameter("gain", Tensor::full(device, {1}, 1.0f));
    add_child("conv", conv);
    shift = add_parameter("shift", Tensor::zeros(device, {1}));
    add_child("norm.0", bn);
  }
  Tensor gain, shift;
  nn::Conv2d conv;
  nn::BatchNorm2d bn;
};

class Net : public nn::Module {
 public:
  Net(Device& device, Philox& random, Index hidden = 3)
      : block(device, random), dense(device, 2 * 2 * 3, hidden, random, {3, 2, 2}, 0.2f) {
    add_child("block", block);
    add_child("fc", dense);
  }
  Block block;
  nn::Dense dense;
};

std::vector<std::vector<float>> values_of(const nn::Module& module) {
  std::vector<std::vector<float>> all;
  for (const nn::NamedTensor& t : module.state()) all.push_back(t.tensor.to_host());
  return all;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("file layouts match examples worked by hand", "[engine][nn]") {
  // KRSC [2,1,2,3]: memory index k*6 + s*3 + c, file OIHW index k*6 + c*2 + s.
  const Shape filter{2, 1, 2, 3};
  CHECK(nn::to_file(counting(12), filter, {Kind::Filter}) ==
        std::vector<float>{0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11});
  CHECK(nn::file_shape(filter, {Kind::Filter}) == std::vector<Index>{2, 3, 1, 2});

  // Eight channels, scale 2: memory (i, j, c) with two c, file (c, i, j). File entry 0 is c 0, i 0,
  // j 0; entry 1 is c 0, i 0, j 1, which memory holds at (0*2 + 1)*2 + 0 = 2.
  CHECK(nn::to_file(counting(8), {8}, {Kind::ShuffleVector, 2}) ==
        std::vector<float>{0, 2, 4, 6, 1, 3, 5, 7});
  CHECK(nn::file_shape({8}, {Kind::ShuffleVector, 2}) == std::vector<Index>{8});

  // The same permutation of K with one pixel and two C: rows of two stay together.
  CHECK(nn::to_file(counting(16), {8, 1, 1, 2}, {Kind::ShuffleFilter, 2}) ==
        std::vector<float>{0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15});
  CHECK(nn::file_shape({8, 1, 1, 2}, {Kind::ShuffleFilter, 2}) == std::vector<Index>{8, 2, 1, 1});

  // A picture of C 2, H 1, W 3: memory columns (w, c), file columns (c, w).
  const FileLayout chw{Kind::DenseChw, 1, 2, 1, 3};
  CHECK(nn::to_file(counting(12), {2, 6}, chw) ==
        std::vector<float>{0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11});
  CHECK(nn::file_shape({2, 6}, chw) == std::vector<Index>{2, 6});

  CHECK(nn::to_file(counting(6), {2, 3}, {}) == counting(6));
}

TEST_CASE("every file layout is a permutation that comes back", "[engine][nn]") {
  const std::vector<std::pair<Shape, FileLayout>> all{
      {{3, 5}, {}},
      {{4, 3, 5, 2}, {Kind::Filter}},
      {{18, 3, 1, 2}, {Kind::ShuffleFilter, 3}},
      {{18}, {Kind::ShuffleVector, 3}},
      {{3, 24}, {Kind::DenseChw, 1, 4, 2, 3}},
      {{4, 3, 3, 2}, {Kind::ShuffleFilter, 1}},
  };
  for (const auto& [shape, layout] : all) {
    CAPTURE(shape.str());
    const std::vector<float> memory = counting(static_cast<std::size_t>(shape.count()));
    const std::vector<float> file = nn::to_file(memory, shape, layout);
    CHECK(nn::from_file(file, shape, layout) == memory);
    std::vector<float> sorted = file;
    std::sort(sorted.begin(), sorted.end());
    CHECK(sorted == memory);
    const std::vector<Index> dims = nn::file_shape(shape, layout);
    CHECK(Shape(dims).count() == shape.count());
  }
  CHECK(has(error_of([] { nn::to_file(counting(6), {6}, {Kind::ShuffleVector, 2}); }), "scale 2"));
  CHECK(has(error_of([] { nn::to_file(counting(6), {2, 3}, {Kind::Filter}); }), "4 dimensions"));
  CHECK(has(error_of([] {
              nn::to_file(counting(6), {2, 3}, {Kind::DenseChw, 1, 2, 2, 2});
            }),
            "2x2x2"));
  CHECK(has(error_of([] { nn::from_file(counting(5), {2, 3}, {}); }), "5 values"));
}

TEST_CASE("a module lists its tensors in the order of registration", "[engine][nn]") {
  const auto device = Device::open("reference");
  Philox random(1);
  Net net(*device, random);
  std::vector<std::string> names;
  std::vector<bool> trainable;
  for (const nn::NamedTensor& t : net.state()) {
    names.push_back(t.name);
    trainable.push_back(t.trainable);
  }
  CHECK(names == std::vector<std::string>{"block.gain", "block.conv.weight", "block.conv.bias",
                                          "block.shift", "block.norm.0.weight", "block.norm.0.bias",
                                          "block.norm.0.running_mean", "block.norm.0.running_var",
                                          "fc.weight", "fc.bias"});
  CHECK(trainable ==
        std::vector<bool>{true, true, true, true, true, true, false, false, true, true});
  CHECK(net.parameters().size() == 8);
  CHECK(net.parameter_count() == 1 + 8 * 9 * 2 + 8 + 1 + 2 + 2 + 36 + 3);
  CHECK(net.state()[1].tensor.raw() == net.block.conv.weight.raw());
}

TEST_CASE("train and eval, freezing and clearing reach every part", "[engine][nn]") {
  const auto device = Device::open("reference");
  Philox random(1);
  Net net(*device, random);
  CHECK(net.block.bn.training());
  net.set_training(false);
  CHECK_FALSE(net.training());
  CHECK_FALSE(net.block.bn.training());
  net.set_training(true);
  CHECK(net.block.bn.training());

  for (const Tensor& t : net.parameters()) CHECK(t.requires_grad());
  CHECK_FALSE(net.block.bn.running_mean.requires_grad());
  net.set_requires_grad(false);
  for (const Tensor& t : net.parameters()) CHECK_FALSE(t.requires_grad());
  CHECK_FALSE(net.block.conv.weight.requires_grad());
  net.block.gain.set_grad(Tensor::zeros(*device, {1}));
  net.clear_grad();
  CHECK_FALSE(net.block.gain.grad().defined());
}

TEST_CASE("names of a module's parts are unique and hold no dots", "[engine][nn]") {
  const auto device = Device::open("reference");
  struct Bad : nn::Module {
    Bad(Device& device, const std::string& a, const std::string& b) {
      add_parameter(a, Tensor::zeros(device, {1}));
      add_buffer(b, Tensor::zeros(device, {1}));
    }
  };
  CHECK(has(error_of([&] { Bad(*device, "w", "w"); }), "'w' already"));
  CHECK(has(error_of([&] { Bad(*device, "a.b", "w"); }), "'a.b' holds a dot"));
  CHECK(has(error_of([&] { Bad(*device, "a", ""); }), "needs a name"));
}

TEST_CASE("batch norm uses the batch in training and the running values in eval", "[engine][nn]") {
  on_each_backend([](Device& device) {
    nn::BatchNorm2d bn(device, 1, 1e-5f, 1.0f);
    const Tensor x = Tensor::from_host(device, {1, 1, 4, 1}, std::vector<float>{1, 2, 3, 4});
    const double sigma = std::sqrt(1.25 + 1e-5);
    CHECK(bn(x).to_host()[0] == Approx(-1.5 / sigma).epsilon(1e-5));
    CHECK(bn.running_mean.item() == Approx(2.5));
    CHECK(bn.running_var.item() == Approx(5.0 / 3.0));
    bn.set_training(false);
    const Tensor y = bn(x);
    CHECK(y.to_host()[0] == Approx(-1.5 / std::sqrt(5.0 / 3.0 + 1e-5)).epsilon(1e-5));
    CHECK(bn.running_mean.item() == Approx(2.5));  // eval does not move them
  });
}

TEST_CASE("layers compute what their names say", "[engine][nn]") {
  on_each_backend([](Device& device) {
    Philox random(7);
    const nn::Conv2d conv(device, {.in = 3, .out = 4, .kernel = 5, .stride = 2}, random);
    const Tensor x = Tensor::full(device, {2, 7, 6, 3}, 1.0f);
    CHECK(conv(x).shape() == Shape({2, 4, 3, 4}));
    const Tensor fused = conv.forward_activation(x, ops::Activation::LeakyRelu, 0.2f);
    const std::vector<float> plain = ops::leaky_relu(conv(x), 0.2f).to_host();
    for (std::size_t i = 0; i < plain.size(); ++i)
      CHECK(fused.to_host()[i] == Approx(plain[i]).margin(1e-5));
    const nn::Conv2d bare(device, {.in = 3, .out = 4, .kernel = 3, .bias = false}, random);
    CHECK_FALSE(bare.bias.defined());
    CHECK(bare.state().size() == 1);

    CHECK(nn::PRelu(device, 4, false).weight.to_host() == std::vector<float>(4, 0.25f));
    CHECK(nn::PRelu(device, 4, true, 0.1f).weight.to_host() == std::vector<float>{0.1f});
    CHECK(error_of([&] {
            nn::Conv2d(device, {.in = 1, .out = 1, .kernel = 4}, random);
          }).find("odd") != std::string::npos);
  });
}

TEST_CASE("a dense layer over a picture equals the file's matrix over C,H,W", "[engine][nn]") {
  on_each_backend([](Device& device) {
    Philox random(3);
    const nn::Dense dense(device, 2 * 3 * 4, 5, random, {4, 2, 3}, 0.2f);
    std::vector<float> picture = counting(24);  // [H=2, W=3, C=4]
    for (float& v : picture) v = v / 8.0f - 1.0f;
    const std::vector<float> y = dense(Tensor::from_host(device, {1, 24}, picture)).to_host();
    const std::vector<float> file =
        nn::to_file(dense.weight.to_host(), {5, 24}, dense.state()[0].layout);
    for (std::size_t o = 0; o < 5; ++o) {
      double sum = 0.0;
      for (std::size_t c = 0; c < 4; ++c)
        for (std::size_t hw = 0; hw < 6; ++hw)
          sum += static_cast<double>(file[o * 24 + c * 6 + hw]) * picture[hw * 4 + c];
      CHECK(y[o] == Approx(sum).epsilon(1e-5).margin(1e-6));
    }
  });
}

TEST_CASE("initial values have the moments of their formula", "[engine][nn]") {
  const Shape shape{64, 3, 3, 32};
  const double fan_in = 32 * 9, fan_out = 64 * 9;
  const auto moments = [](const std::vector<float>& values) {
    double mean = 0.0, square = 0.0;
    for (const float v : values) mean += v, square += static_cast<double>(v) * v;
    return std::pair(mean / static_cast<double>(values.size()),
                     square / static_cast<double>(values.size()));
  };
  Philox random(11);
  for (const float slope : {0.0f, 0.25f}) {
    const auto [mean, square] =
        moments(nn::init_filter(shape, nn::InitKind::KaimingNormal, slope, 1, random));
    const double variance = 2.0 / ((1.0 + slope * slope) * fan_in);
    CHECK(std::fabs(mean) < 4.0 * std::sqrt(variance / 18432));
    CHECK(square == Approx(variance).epsilon(0.05));
  }
  const std::vector<float> xavier =
      nn::init_filter(shape, nn::InitKind::XavierUniform, 0.0f, 1, random);
  const double limit = std::sqrt(6.0 / (fan_in + fan_out));
  CHECK(moments(xavier).second == Approx(limit * limit / 3.0).epsilon(0.05));
  CHECK(*std::max_element(xavier.begin(), xavier.end()) <= static_cast<float>(limit));
  CHECK(*std::max_element(xavier.begin(), xavier.end()) > 0.99 * limit);
  CHECK(*std::min_element(xavier.begin(), xavier.end()) >= -static_cast<float>(limit));

  const auto [mean, square] = moments(nn::init_dense({200, 100}, 0.2f, random));
  CHECK(square == Approx(2.0 / (1.04 * 100)).epsilon(0.05));
  CHECK(std::fabs(mean) < 0.01);
}

TEST_CASE("filters are drawn in the order of the file", "[engine][nn]") {
  const Shape krsc{2, 3, 3, 2};
  Philox drawing(5), plain(5);
  const std::vector<float> memory =
      nn::init_filter(krsc, nn::InitKind::KaimingNormal, 0.0f, 1, drawing);
  const auto deviation = static_cast<float>(std::sqrt(2.0 / 18.0));
  const std::vector<float> file = nn::to_file(memory, krsc, {Kind::Filter});
  for (const float v : file) CHECK(v == deviation * plain.normal());
}

TEST_CASE("ICNR starts as an enlargement of equal sub-pixels", "[engine][nn]") {
  on_each_backend([](Device& device) {
    Philox random(9);
    const nn::Conv2d conv(
        device, {.in = 2, .out = 12, .kernel = 3, .shuffle = 2, .init = nn::InitKind::Icnr},
        random);
    Philox noise(4);
    std::vector<float> values(2 * 3 * 3 * 2);
    for (float& v : values) v = noise.normal();
    const Tensor x = Tensor::from_host(device, {2, 3, 3, 2}, values);
    const std::vector<float> y = ops::pixel_shuffle(conv(x), 2).to_host();  // [2,6,6,3]
    bool varied = false;
    for (std::size_t n = 0; n < 2; ++n)
      for (std::size_t h = 0; h < 6; ++h)
        for (std::size_t w = 0; w < 6; ++w)
          for (std::size_t c = 0; c < 3; ++c) {
            const auto at = [&](std::size_t a, std::size_t b, std::size_t e) {
              return y[((n * 6 + a) * 6 + b) * 3 + e];
            };
            CHECK(at(h, w, c) == Approx(at(h / 2 * 2, w / 2 * 2, c)).margin(1e-6));
            varied = varied || at(h, w, c) != at(h, w, 0);
          }
    CHECK(varied);
  });
}

TEST_CASE("a saved module loads to the same bits", "[engine][nn]") {
  on_each_backend([](Device& device) {
    const TemporaryFolder folder;
    const std::string path = folder / "net.safetensors";
    Philox one(1), two(2);
    Net net(device, one), other(device, two);
    net.block.bn.running_mean.upload(std::vector<float>{0.5f, -1.0f});
    CHECK(values_of(net) != values_of(other));
    nn::save_module(net, path, {{"kind", "test"}, {"blocks", "1"}});
    const std::uint64_t version = other.block.conv.weight.version();
    nn::load_module(other, path);
    CHECK(values_of(net) == values_of(other));
    CHECK(other.block.conv.weight.version() > version);
    CHECK(other.block.conv.weight.requires_grad());

    const SafetensorsFile file = SafetensorsFile::open(path);
    CHECK(file.metadata().at("kind") == "test");
    CHECK(file.at("block.conv.weight").shape == std::vector<Index>{8, 2, 3, 3});
    CHECK(file.at("block.conv.weight").dtype == "F32");
    CHECK(file.read_f32("fc.weight") ==
          nn::to_file(net.dense.weight.to_host(), {3, 12}, {Kind::DenseChw, 1, 3, 2, 2}));
    CHECK(file.tensors().size() == 10);
  });
}

namespace {

/// Rewrites the file with one change, as another tool might have.
void rewrite(const std::string& from, const std::string& to,
             const std::function<void(std::vector<TensorToSave>&)>& change) {
  const SafetensorsFile file = SafetensorsFile::open(from);
  std::vector<std::vector<std::byte>> bytes;
  std::vector<TensorToSave> tensors;
  for (const TensorInfo& info : file.tensors()) {
    bytes.push_back(file.read_bytes(info.name));
    tensors.push_back({info.name, info.dtype, info.shape, bytes.back().data(), info.bytes()});
  }
  change(tensors);
  save_safetensors(to, tensors);
}

TensorToSave& find(std::vector<TensorToSave>& tensors, const std::string& name) {
  return *std::find_if(tensors.begin(), tensors.end(),
                       [&](const TensorToSave& t) { return t.name == name; });
}

}  // namespace

TEST_CASE("a weight file that does not fit is refused and changes nothing", "[engine][nn]") {
  const auto device = Device::open("reference");
  const TemporaryFolder folder;
  const std::string good = folder / "good.safetensors", bad = folder / "bad.safetensors";
  Philox one(1), two(2);
  Net net(*device, one), other(*device, two);
  nn::save_module(net, good);
  const auto before = values_of(other);
  const auto refusal = [&](const std::function<void(std::vector<TensorToSave>&)>& change) {
    rewrite(good, bad, change);
    const std::string message = input_error([&] { nn::load_module(other, bad); });
    UNSCOPED_INFO(message);
    CHECK(has(message, bad));
    CHECK(values_of(other) == before);
    return message;
  };

  CHECK(has(refusal([](auto& t) { t.erase(t.begin() + 2); }), "is missing"));
  CHECK(has(refusal([](auto& t) { find(t, "fc.bias").name = "fc.offset"; }),
            "tensor 'fc.bias' is missing (1 more difference)"));
  static const std::vector<float> extra(4);
  CHECK(has(refusal([](auto& t) {
              t.push_back({"blocks.9.weight", "F32", {2, 2}, extra.data(), 16});
            }),
            "the network has no tensor 'blocks.9.weight'"));
  const std::string shape = refusal([](auto& t) {
    find(t, "block.conv.weight").shape = {2, 8, 3, 3};
  });
  CHECK(has(shape, "'block.conv.weight' has shape [2,8,3,3] where the network has [8,2,3,3]"));
  CHECK(has(shape, "model settings"));
  CHECK(has(refusal([](auto& t) { find(t, "fc.bias").dtype = "I32"; }),
            "'fc.bias' has type I32 where F32 is needed"));

  // Another width: the shapes say more than what is missing.
  Philox three(3);
  Net wide(*device, three, 4);
  nn::save_module(wide, bad);
  const std::string message = input_error([&] { nn::load_module(other, bad); });
  CHECK(has(message, "'fc.weight' has shape [4,12] where the network has [3,12]"));
  CHECK(has(message, "(1 more difference)"));
}

TEST_CASE("a file of another architecture is called that", "[engine][nn]") {
  const auto device = Device::open("reference");
  const TemporaryFolder folder;
  const std::string path = folder / "vgg.safetensors";
  const std::vector<float> values(4);
  save_safetensors(path, {{"features.0.bias", "F32", {4}, values.data(), 16}});
  Philox random(1);
  Net net(*device, random);
  const std::string message = input_error([&] { nn::load_module(net, path); });
  CHECK(has(message, path));
  CHECK(has(message, "another architecture"));
  CHECK(has(message, "'features.0.bias'"));
  CHECK(has(message, "'block.gain'"));
  CHECK(has(input_error([&] { nn::load_module(net, folder / "absent.safetensors"); }), "absent"));
}
