#include "models/srgan/upscaler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "engine/autograd/node.h"
#include "engine/ops/ops.h"

namespace subpix::models {

using engine::Device;
using engine::Index;
using engine::Tensor;
namespace ops = engine::ops;

namespace {

// A piece of this side keeps the output-resolution maps of the paper's network near 200 MB.
constexpr Index kPiece = 128;
constexpr Index kLargestTile = 768;
constexpr Index kTileStep = 32;  // also the smallest tile that auto chooses

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

Index divide_up(Index a, Index b) { return (a + b - 1) / b; }

Index margin(double radius) { return static_cast<Index>(std::ceil(radius)); }

/// The least side that cuts `length` into as few parts as `largest` does.
Index even_side(Index length, Index largest) {
  return divide_up(length, divide_up(length, largest));
}

/// Where a window of `size` lies that shall cover [begin - margin, ...) inside [low, high).
Index window_start(Index begin, Index margin, Index size, Index low, Index high) {
  return std::clamp(begin - margin, low, high - size);
}

class Weights {
 public:
  explicit Weights(const Generator& generator) {
    for (const engine::nn::NamedTensor& entry : generator.state())
      tensors_[entry.name] = entry.tensor;
  }

  Tensor copy(Device& device, const std::string& name) const {
    const Tensor& t = tensors_.at(name);
    return Tensor::from_host(device, t.shape(), t.to_host());
  }

  /// Note [Folding].
  std::pair<Tensor, Tensor> fold(Device& device, const std::string& conv, const std::string& norm,
                                 float eps) const {
    const Tensor& weight = tensors_.at(conv + ".weight");
    std::vector<float> w = weight.to_host();
    const std::vector<float> gamma = tensors_.at(norm + ".weight").to_host();
    const std::vector<float> beta = tensors_.at(norm + ".bias").to_host();
    const std::vector<float> mean = tensors_.at(norm + ".running_mean").to_host();
    const std::vector<float> var = tensors_.at(norm + ".running_var").to_host();
    std::vector<float> bias(gamma.size());
    const std::size_t per_filter = w.size() / gamma.size();  // [K,R,S,C]: K is outermost
    for (std::size_t k = 0; k < gamma.size(); ++k) {
      const double g = gamma[k] / std::sqrt(double{var[k]} + double{eps});
      bias[k] = static_cast<float>(beta[k] - mean[k] * g);
      for (std::size_t i = k * per_filter; i < (k + 1) * per_filter; ++i)
        w[i] = static_cast<float>(w[i] * g);
    }
    return {Tensor::from_host(device, weight.shape(), w),
            Tensor::from_host(device, tensors_.at(norm + ".bias").shape(), bias)};
  }

 private:
  std::map<std::string, Tensor> tensors_;
};

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return ops::conv2d(x, weight, bias, 1, weight.dim(1) / 2);
}

}  // namespace

/// Counts multiply-adds for the progress report.
struct Upscaler::Work {
  const Progress& progress;
  double total = 0.0, done = 0.0;

  void add(double amount) {
    done += amount;
    if (progress) progress(std::min(1.0, done / total));
  }
};

Upscaler::Upscaler(Device& device, const Generator& generator, const Options& options)
    : device_(device.shared_from_this()), config_(generator.config()), options_(options) {
  if (options.tile < kAutoTile)
    throw InputError(concat("a tile has at least 1 LR pixel, not ", options.tile,
                            "; auto and 0 (the whole picture) are valid too"));
  const Weights weights(generator);
  const auto plain = [&](const std::string& name) {
    return Conv{weights.copy(device, name + ".weight"), weights.copy(device, name + ".bias"), {}};
  };
  const auto folded = [&](const std::string& conv, const std::string& norm) {
    const auto [weight, bias] = weights.fold(device, conv, norm, config_.bn_eps);
    return Conv{weight, bias, {}};
  };
  head_ = plain("head");
  head_.slope = weights.copy(device, "head_prelu.weight");
  for (Index i = 0; i < config_.blocks; ++i) {
    const std::string block = concat("blocks.", i, ".");
    blocks_.push_back(folded(block + "conv1", block + "bn1"));
    blocks_.back().slope = weights.copy(device, block + "prelu.weight");
    blocks_.push_back(folded(block + "conv2", block + "bn2"));
  }
  trunk_ = folded("trunk_conv", "trunk_bn");
  for (Index size = 1, j = 0; size < config_.scale; size *= 2, ++j) {
    up_.push_back(plain(concat("up.", j, ".conv")));
    up_.back().slope = weights.copy(device, concat("up.", j, ".prelu.weight"));
  }
  tail_ = plain("tail");
}

// --- how a picture is cut
// --------------------------------------------------------------------------

Upscaler::Plan Upscaler::plan_for(Index height, Index width, Index tile) const {
  const Index up = margin(config_.up_radius()), both = margin(config_.trunk_radius()) + up;
  const bool whole = tile == kWholePicture;
  Plan p{};
  p.tile_h = whole ? height : even_side(height, tile);
  p.tile_w = whole ? width : even_side(width, tile);
  p.window_h = std::min(height, p.tile_h + 2 * both);
  p.window_w = std::min(width, p.tile_w + 2 * both);
  p.piece_h = whole ? height : even_side(p.tile_h, kPiece);
  p.piece_w = whole ? width : even_side(p.tile_w, kPiece);
  p.part_h = std::min(p.window_h, p.piece_h + 2 * up);
  p.part_w = std::min(p.window_w, p.piece_w + 2 * up);

  // Trunk: head's output, the running sum and two maps in between. Pieces: the last two maps of the
  // output's resolution and the two of each stage before, as long as the allocator keeps them.
  const auto map = static_cast<double>(config_.channels) * sizeof(float);
  const auto scale2 = static_cast<double>(config_.scale * config_.scale);
  const double trunk = 4.0 * map * static_cast<double>(p.window_h * p.window_w);
  const double stages = 2.0 * map * scale2 * (config_.scale == 4 ? 1.25 : 1.0);
  const double parts = (stages + map) * static_cast<double>(p.part_h * p.part_w);
  const double rows = 3.0 * scale2 * static_cast<double>(p.tile_h * width);
  p.bytes = static_cast<std::size_t>(trunk + parts + rows);
  return p;
}

Upscaler::Plan Upscaler::plan(Index height, Index width) const {
  SUBPIX_REQUIRE(height >= 1 && width >= 1, "a picture of ", height, "x", width, " pixels");
  if (options_.tile != kAutoTile) return plan_for(height, width, options_.tile);
  for (Index tile = kLargestTile;; tile -= kTileStep) {
    const Plan p = plan_for(height, width, tile);
    if (p.bytes <= options_.memory || tile <= kTileStep) return p;
  }
}

// --- the network
// -----------------------------------------------------------------------------------

Tensor Upscaler::trunk(const Tensor& x, Work& work) const {
  const auto pixels = static_cast<double>(x.dim(1) * x.dim(2));
  // Every map goes as soon as it is used: the locals are overwritten, not nested in one expression.
  const auto apply = [&](const Tensor& in, const Conv& c) {
    Tensor y = conv2d(in, c.weight, c.bias);
    if (c.slope.defined()) y = ops::prelu(y, c.slope);
    work.add(pixels * static_cast<double>(c.weight.count()));
    return y;
  };
  const Tensor head = apply(x, head_);
  Tensor y = head;
  for (std::size_t i = 0; i < blocks_.size(); i += 2) {
    Tensor t = apply(y, blocks_[i]);
    t = apply(t, blocks_[i + 1]);
    y = ops::add(y, t);
  }
  y = apply(y, trunk_);
  return ops::add(head, y);
}

Tensor Upscaler::upsample(Tensor x) const {
  for (const Conv& up : up_) {
    x = conv2d(x, up.weight, up.bias);
    x = ops::pixel_shuffle(x, 2);
    x = ops::prelu(x, up.slope);
  }
  return conv2d(x, tail_.weight, tail_.bias);
}

void Upscaler::for_each_piece(const Picture& lr, const std::function<void(const Piece&)>& visit,
                              const Progress& progress) const {
  const Index height = lr.height, width = lr.width, s = config_.scale;
  SUBPIX_REQUIRE(static_cast<Index>(lr.rgb.size()) == height * width * 3, lr.rgb.size(),
                 " bytes are no ", height, "x", width, " RGB picture");
  const Plan p = plan(height, width);
  const Index up = margin(config_.up_radius()), both = margin(config_.trunk_radius()) + up;

  Work work{progress};
  const auto tiles = static_cast<double>(divide_up(height, p.tile_h) * divide_up(width, p.tile_w));
  const auto pieces =
      static_cast<double>(divide_up(p.tile_h, p.piece_h) * divide_up(p.tile_w, p.piece_w));
  double trunk_work = static_cast<double>(head_.weight.count() + trunk_.weight.count());
  for (const Conv& c : blocks_) trunk_work += static_cast<double>(c.weight.count());
  trunk_work *= static_cast<double>(p.window_h * p.window_w);
  double piece_work = 0.0;
  for (std::size_t j = 0; j < up_.size(); ++j)
    piece_work += static_cast<double>(up_[j].weight.count() << (2 * j));
  piece_work += static_cast<double>(tail_.weight.count() * s * s);
  piece_work *= static_cast<double>(p.part_h * p.part_w);
  work.total = tiles * (trunk_work + pieces * piece_work);

  const engine::NoGrad no_grad;
  std::vector<std::uint8_t> window(at(p.window_h * p.window_w * 3));
  for (Index top = 0; top < height; top += p.tile_h)
    for (Index left = 0; left < width; left += p.tile_w) {
      const Index window_top = window_start(top, both, p.window_h, 0, height);
      const Index window_left = window_start(left, both, p.window_w, 0, width);
      for (Index y = 0; y < p.window_h; ++y)
        std::memcpy(window.data() + at(y * p.window_w * 3),
                    lr.rgb.data() + at(((window_top + y) * width + window_left) * 3),
                    at(p.window_w * 3));
      Tensor features;
      {
        const Tensor bytes = Tensor::from_bytes(*device_, {1, p.window_h, p.window_w, 3}, window);
        features = trunk(ops::from_bytes(bytes, 1.0f / 255.0f, 0.0f), work);
      }
      const Index bottom = std::min(height, top + p.tile_h);
      const Index right = std::min(width, left + p.tile_w);
      for (Index y = top; y < bottom; y += p.piece_h)
        for (Index x = left; x < right; x += p.piece_w) {
          const Index part_top = window_start(y, up, p.part_h, window_top, window_top + p.window_h);
          const Index part_left =
              window_start(x, up, p.part_w, window_left, window_left + p.window_w);
          Piece piece;
          piece.sr = upsample(ops::crop(features, part_top - window_top, part_left - window_left,
                                        p.part_h, p.part_w));
          piece.top = (y - part_top) * s;
          piece.left = (x - part_left) * s;
          piece.height = (std::min(bottom, y + p.piece_h) - y) * s;
          piece.width = (std::min(right, x + p.piece_w) - x) * s;
          piece.at_top = y * s;
          piece.at_left = x * s;
          visit(piece);
          work.add(piece_work);
        }
    }
}

void Upscaler::run(const Picture& lr, const RowSink& sink, const Progress& progress) const {
  constexpr float kHalf = 127.5f;
  const Index row_bytes = lr.width * config_.scale * 3;
  const Index rows_in_all = lr.height * config_.scale;
  const Index band_rows = plan(lr.height, lr.width).tile_h * config_.scale;
  std::vector<std::uint8_t> band(at(std::min(band_rows, rows_in_all) * row_bytes));
  Index band_top = 0;
  const auto hand_out = [&] {
    const Index rows = std::min(band_rows, rows_in_all - band_top);
    sink(std::span(band).first(at(rows * row_bytes)));
    band_top += rows;
  };
  for_each_piece(
      lr,
      [&](const Piece& piece) {
        if (piece.at_top >= band_top + band_rows) hand_out();
        const std::vector<std::uint8_t> bytes =
            ops::to_bytes(piece.sr, kHalf, kHalf).to_host_bytes();
        const Index stride = piece.sr.dim(2) * 3;
        for (Index y = 0; y < piece.height; ++y)
          std::memcpy(
              band.data() + at((piece.at_top - band_top + y) * row_bytes + piece.at_left * 3),
              bytes.data() + at((piece.top + y) * stride + piece.left * 3), at(piece.width * 3));
      },
      progress);
  hand_out();
}

std::vector<std::uint8_t> Upscaler::run(const Picture& lr) const {
  std::vector<std::uint8_t> all;
  all.reserve(at(lr.height * lr.width * config_.scale * config_.scale * 3));
  run(lr,
      [&](std::span<const std::uint8_t> rows) { all.insert(all.end(), rows.begin(), rows.end()); });
  return all;
}

}  // namespace subpix::models
