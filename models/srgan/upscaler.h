#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "models/srgan/generator.h"

namespace subpix::models {

/// The generator for inference on pictures of any size.
///
/// Note [Folding]: in inference batch norm is y = (x - mean) * g + beta with
/// g = gamma / sqrt(var + eps), so the bias-free convolution before it becomes one with filters
/// w * g and bias beta - mean * g. Both are computed in double and rounded to float once.
///
/// Note [Tiles]: a picture is worked on in two levels. Head, blocks and trunk conv run on a tile
/// with ceil(trunk_radius) + ceil(up_radius) LR pixels around it (40 for 16 blocks at x4); their
/// features are cut into pieces with ceil(up_radius) pixels around them, on which up stages and
/// tail run, where a pixel weighs ten times as much memory. What the cut borders spoil lies within
/// those margins and is thrown away; at the picture's own border there is no margin, so zero
/// padding happens exactly where it does in one run over the whole picture. All windows of a level
/// have one size (they are shifted inwards at the picture's border). The result is bit for bit that
/// of one run, since every backend sums a convolution's terms in an order that does not depend on
/// the size of the image or the position in it.
class Upscaler {
 public:
  static constexpr engine::Index kAutoTile = -1;
  static constexpr engine::Index kWholePicture = 0;
  struct Options {
    /// Largest side of a tile in LR pixels, kWholePicture or kAutoTile.
    engine::Index tile = kAutoTile;
    /// kAutoTile takes the largest tile that needs no more than this, weights aside.
    std::size_t memory = std::size_t{1} << 30;
  };

  /// Takes a copy of the weights. InputError for a tile below -1.
  Upscaler(engine::Device& device, const Generator& generator, const Options& options);
  Upscaler(engine::Device& device, const Generator& generator)
      : Upscaler(device, generator, Options()) {}

  /// A picture in host memory: RGB, row by row, 3 bytes a pixel.
  struct Picture {
    std::span<const std::uint8_t> rgb;
    engine::Index height, width;
  };
  /// Called with the share of the work done, 0 to 1, several times a second or so. What it throws
  /// ends the run.
  using Progress = std::function<void(double)>;
  /// Takes whole rows of the result, from top to bottom, several at a time.
  using RowSink = std::function<void(std::span<const std::uint8_t> rgb_rows)>;

  /// Network input is bytes / 255; output in [-1,1] becomes clamp(round(127.5 * y + 127.5)).
  void run(const Picture& lr, const RowSink& sink, const Progress& progress = {}) const;
  /// The whole result, scale*height * scale*width * 3 bytes.
  std::vector<std::uint8_t> run(const Picture& lr) const;

  /// One piece of the network's output before rounding: rows top..top+height and columns
  /// left..left+width of sr [1,h,w,3] belong at (at_top, at_left) of the result.
  struct Piece {
    engine::Tensor sr;
    engine::Index top, left, height, width;
    engine::Index at_top, at_left;
  };
  /// Visits all pieces, tile after tile; the pieces of one row of tiles come before the next row.
  void for_each_piece(const Picture& lr, const std::function<void(const Piece&)>& visit,
                      const Progress& progress = {}) const;

  engine::Index scale() const { return config_.scale; }
  const GeneratorConfig& config() const { return config_; }

  /// How a picture is cut, all in LR pixels.
  struct Plan {
    engine::Index tile_h, tile_w, window_h, window_w;  ///< first level; window = tile and margin
    engine::Index piece_h, piece_w, part_h, part_w;    ///< second level; part = piece and margin
    std::size_t bytes;                                 ///< estimate of the memory at work
  };
  Plan plan(engine::Index height, engine::Index width) const;

 private:
  struct Conv {
    engine::Tensor weight, bias, slope;  ///< slope undefined where no PReLU follows
  };
  struct Work;
  Plan plan_for(engine::Index height, engine::Index width, engine::Index tile) const;
  engine::Tensor trunk(const engine::Tensor& x, Work& work) const;
  engine::Tensor upsample(engine::Tensor x) const;

  std::shared_ptr<engine::Device> device_;
  GeneratorConfig config_;
  Options options_;
  Conv head_, trunk_, tail_;
  std::vector<Conv> blocks_;  ///< conv1 (with slope), conv2 of each block in turn
  std::vector<Conv> up_;
};

}  // namespace subpix::models
