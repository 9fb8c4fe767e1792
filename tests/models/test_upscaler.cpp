#include <algorithm>
#include <cstring>

#include "engine/autograd/node.h"
#include "models/srgan/upscaler.h"
#include "tests/models/fixture.h"
#include "tests/support/fill.h"
#include "tests/support/message.h"

namespace subpix {
namespace {

using engine::Device;
using engine::Index;
using engine::Tensor;
using models::Generator;
using models::GeneratorConfig;
using models::Upscaler;
using tests::input_error;
namespace ops = engine::ops;

struct Photo {
  Index height, width;
  std::vector<std::uint8_t> rgb;
  Upscaler::Picture picture() const { return {rgb, height, width}; }
};

Photo noise(Index height, Index width) {
  tests::Generator random(tests::seed_of(concat("noise", height, "x", width)));
  Photo photo{height, width,
              std::vector<std::uint8_t>(static_cast<std::size_t>(height * width * 3))};
  for (auto& v : photo.rgb) v = static_cast<std::uint8_t>(random.next() >> 56);
  return photo;
}

/// A generator in inference mode whose every parameter and statistic matters.
std::unique_ptr<Generator> random_generator(Device& device, Index blocks, Index channels,
                                            Index scale, bool shared) {
  GeneratorConfig config;
  config.blocks = blocks;
  config.channels = channels;
  config.scale = scale;
  config.prelu_shared = shared;
  auto g = std::make_unique<Generator>(device, config, 11);
  tests::Generator random(17);
  for (const auto& entry : g->state()) {
    if (entry.tensor.shape().rank() != 1) continue;
    std::vector<float> values = entry.tensor.to_host();
    for (float& v : values) v = static_cast<float>(v + random.uniform(-0.2, 0.2));
    entry.tensor.upload(values);
  }
  g->set_training(false);
  return g;
}

Upscaler::Options tile(Index side) {
  Upscaler::Options options;
  options.tile = side;
  return options;
}

/// The network's floats before rounding, put together; every element must be written once.
std::vector<float> floats(const Upscaler& upscaler, const Photo& photo) {
  const Index wide = photo.width * upscaler.scale();
  std::vector<float> all(static_cast<std::size_t>(photo.height * upscaler.scale() * wide * 3));
  std::vector<int> writes(all.size());
  upscaler.for_each_piece(photo.picture(), [&](const Upscaler::Piece& piece) {
    const std::vector<float> sr = piece.sr.to_host();
    for (Index y = 0; y < piece.height; ++y)
      for (Index x = 0; x < piece.width * 3; ++x) {
        const auto to =
            static_cast<std::size_t>((piece.at_top + y) * wide * 3 + piece.at_left * 3 + x);
        all.at(to) = sr.at(
            static_cast<std::size_t>(((piece.top + y) * piece.sr.dim(2) + piece.left) * 3 + x));
        ++writes[to];
      }
  });
  CHECK(std::all_of(writes.begin(), writes.end(), [](int n) { return n == 1; }));
  return all;
}

/// How many floats differ in any bit.
std::size_t different_bits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return std::max(a.size(), b.size());
  std::size_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += std::memcmp(&a[i], &b[i], sizeof(float)) != 0;
  return count;
}

std::vector<std::uint8_t> rounded(const std::vector<float>& values) {
  std::vector<std::uint8_t> bytes;
  for (const float v : values)
    bytes.push_back(static_cast<std::uint8_t>(
        std::clamp(std::floor(v * 127.5f + 127.5f + 0.5f), 0.0f, 255.0f)));
  return bytes;
}

TEST_CASE("folding batch norm changes the output by roundings only", "[models][upscaler]") {
  for (const std::string& backend : engine::available_backends())
    for (const std::string name : {"generator_x4", "generator_x4_shared", "generator_x2"}) {
      DYNAMIC_SECTION(backend << " " << name) {
        const auto device = Device::open(backend);
        const auto g = models::load_generator(*device, tests::fixture_path(name));
        const Photo photo = noise(13, 10);
        const Tensor x = Tensor::from_bytes(*device, {1, photo.height, photo.width, 3}, photo.rgb);
        const engine::NoGrad no_grad;
        const Tensor y = (*g)(ops::from_bytes(x, 1.0f / 255.0f, 0.0f));
        const Upscaler upscaler(*device, *g, tile(Upscaler::kWholePicture));
        const std::vector<float> folded = floats(upscaler, photo);
        CHECK(tests::mismatch("folded", folded, y.to_host(), 1e-5) == "");
        CHECK(upscaler.run(photo.picture()) == rounded(folded));
      }
    }
}

TEST_CASE("tiles give the bits of the whole picture", "[models][upscaler]") {
  struct Case {
    Index blocks, channels, scale;
    bool shared;
    Index height, width;
    std::vector<Index> tiles;
  };
  const std::vector<Case> cases = {
      {1, 8, 4, false, 1, 1, {1, 8}},
      {1, 8, 2, true, 1, 37, {3, 16}},
      {2, 8, 4, true, 37, 33, {7, 16, 200}},
      {1, 5, 4, false, 19, 31, {8}},
      {2, 16, 2, false, 34, 40, {13, 33}},
      {1, 64, 4, false, 33, 31, {9}},
      // The paper's network, longer than a tile with its margins of 40 pixels on either side.
      {16, 64, 4, false, 21, 131, {43}},
      {16, 64, 4, false, 127, 19, {43}},
  };
  const bool only_cpu = std::getenv("DNNL_MAX_CPU_ISA") != nullptr;  // test_models_avx2
  for (const std::string& backend : engine::available_backends())
    for (const Case& c : cases) {
      if (only_cpu && backend != "cpu") continue;
      if (backend == "reference" && c.channels == 64) continue;  // minutes of plain loops
      if (backend == "sim" && c.blocks == 16) continue;          // the kernels of one block again
      DYNAMIC_SECTION(backend << " " << c.blocks << " blocks, " << c.channels << " channels, x"
                              << c.scale << ", " << c.height << "x" << c.width) {
        const auto device = Device::open(backend);
        const auto g = random_generator(*device, c.blocks, c.channels, c.scale, c.shared);
        const Photo photo = noise(c.height, c.width);
        const std::vector<float> whole =
            floats(Upscaler(*device, *g, tile(Upscaler::kWholePicture)), photo);
        CHECK(std::any_of(whole.begin(), whole.end(), [](float v) { return v != 0.0f; }));
        for (const Index side : c.tiles) {
          INFO("tile " << side);
          CHECK(different_bits(floats(Upscaler(*device, *g, tile(side)), photo), whole) == 0);
        }
        CHECK(different_bits(floats(Upscaler(*device, *g), photo), whole) == 0);
      }
    }
}

TEST_CASE("with a context one pixel short tiles show", "[models][upscaler]") {
  // Proves that the other cases could fail: beyond the radius nothing matters, within it something.
  const auto device = Device::open();
  const auto g = random_generator(*device, 2, 8, 4, false);
  const Photo photo = noise(64, 64);
  const std::vector<float> whole =
      floats(Upscaler(*device, *g, tile(Upscaler::kWholePicture)), photo);
  const Index reach = static_cast<Index>(std::ceil(g->receptive_radius()));
  const auto corner = [&](Index context) {
    // The upper left 16x16 pixels, from a picture cut `context` pixels beyond them.
    const Index side = 16 + context;
    Photo part{side, side, {}};
    for (Index y = 0; y < side; ++y)
      part.rgb.insert(part.rgb.end(), photo.rgb.begin() + y * photo.width * 3,
                      photo.rgb.begin() + (y * photo.width + side) * 3);
    const std::vector<float> sr =
        floats(Upscaler(*device, *g, tile(Upscaler::kWholePicture)), part);
    std::size_t different = 0;
    for (Index y = 0; y < 64; ++y)
      for (Index x = 0; x < 64 * 3; ++x)
        different += sr[static_cast<std::size_t>(y * side * 12 + x)] !=
                     whole[static_cast<std::size_t>(y * 64 * 12 + x)];
    return different;
  };
  CHECK(corner(reach) == 0);
  CHECK(corner(reach - 1) > 0);
}

TEST_CASE("rows come out in order and the bytes are the rounded floats", "[models][upscaler]") {
  const auto device = Device::open();
  const auto g = random_generator(*device, 1, 8, 4, false);
  const Photo photo = noise(50, 21);
  const Upscaler upscaler(*device, *g, tile(16));
  std::vector<std::uint8_t> rows;
  std::vector<double> shares;
  std::size_t calls = 0;
  upscaler.run(
      photo.picture(),
      [&](std::span<const std::uint8_t> band) {
        CHECK(band.size() % (21 * 4 * 3) == 0);
        rows.insert(rows.end(), band.begin(), band.end());
        ++calls;
      },
      [&](double share) { shares.push_back(share); });
  CHECK(calls == 4);
  CHECK(rows == rounded(floats(upscaler, photo)));
  CHECK(rows == upscaler.run(photo.picture()));
  CHECK(std::is_sorted(shares.begin(), shares.end()));
  CHECK(shares.size() > 10);
  CHECK(shares.back() == Approx(1.0));

  struct Stop {};
  CHECK_THROWS_AS(upscaler.run(
                      photo.picture(), [](auto) {},
                      [](double share) {
                        if (share > 0.3) throw Stop();
                      }),
                  Stop);
}

TEST_CASE("an upscaler keeps the weights it was made with", "[models][upscaler]") {
  const auto device = Device::open();
  const auto g = random_generator(*device, 1, 8, 2, false);
  const Photo photo = noise(9, 9);
  const Upscaler upscaler(*device, *g);
  const auto before = upscaler.run(photo.picture());
  for (const Tensor& t : g->parameters()) ops::fill(t.detach(), 0.0f);
  CHECK(upscaler.run(photo.picture()) == before);
}

TEST_CASE("the automatic tile keeps to its memory", "[models][upscaler]") {
  const auto device = Device::open("reference");
  const Generator paper(*device, GeneratorConfig(), 1);
  const Upscaler upscaler(*device, paper);
  CHECK(upscaler.plan(3000, 4000).bytes <= Upscaler::Options().memory);
  CHECK(upscaler.plan(4000, 30000).bytes <= Upscaler::Options().memory);
  const auto small = upscaler.plan(320, 480);
  CHECK(small.tile_h == 320);
  CHECK(small.tile_w == 480);
  // Context of 40 pixels for 16 blocks at x4.
  const auto large = upscaler.plan(3000, 4000);
  CHECK(large.window_h == large.tile_h + 80);
  CHECK(large.part_w == large.piece_w + 6);

  input_error([&] { Upscaler(*device, paper, tile(-2)); });
  CHECK_THROWS_AS(upscaler.run(Upscaler::Picture{{}, 0, 4}), Error);
  const Photo photo = noise(3, 3);
  CHECK_THROWS_AS(upscaler.run(Upscaler::Picture{photo.rgb, 3, 4}), Error);
}

}  // namespace
}  // namespace subpix
