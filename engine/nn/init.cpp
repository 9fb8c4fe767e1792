#include "engine/nn/init.h"

#include <cmath>

#include "engine/nn/module.h"

namespace subpix::engine::nn {
namespace {

void draw_kaiming(std::vector<float>& values, Index fan_in, float slope, Philox& random) {
  const double gain = 2.0 / (1.0 + static_cast<double>(slope) * slope);
  const auto deviation = static_cast<float>(std::sqrt(gain / static_cast<double>(fan_in)));
  for (float& value : values) value = deviation * random.normal();
}

}  // namespace

std::vector<float> init_filter(const Shape& krsc, InitKind kind, float slope, Index shuffle,
                               Philox& random) {
  SUBPIX_REQUIRE(krsc.rank() == 4, "a filter is [K,R,S,C], not ", krsc);
  SUBPIX_REQUIRE(shuffle >= 1 && krsc[0] % (shuffle * shuffle) == 0, "the ", krsc[0],
                 " channels of ", krsc, " are no multiple of scale ", shuffle, " squared");
  const Index taps = krsc[1] * krsc[2];
  const Index filter = krsc[3] * taps;
  const Index sub_pixels = shuffle * shuffle;
  std::vector<float> file(static_cast<std::size_t>(krsc.count()));
  if (kind == InitKind::KaimingNormal) {
    draw_kaiming(file, filter, slope, random);
  } else if (kind == InitKind::XavierUniform) {
    const double fans = static_cast<double>(filter + krsc[0] * taps);
    const auto limit = static_cast<float>(std::sqrt(6.0 / fans));
    for (float& value : file) value = random.uniform(-limit, limit);
  } else {
    std::vector<float> drawn(file.size() / static_cast<std::size_t>(sub_pixels));
    draw_kaiming(drawn, filter, slope, random);
    // In file order the s^2 sub-pixels of one channel are neighbours: after the shuffle all of them
    // start equal, so the layer starts as a convolution and a nearest-neighbour enlargement.
    for (Index o = 0; o < krsc[0]; ++o)
      for (Index i = 0; i < filter; ++i)
        file[static_cast<std::size_t>(o * filter + i)] =
            drawn[static_cast<std::size_t>(o / sub_pixels * filter + i)];
  }
  return from_file(file, krsc, {FileLayout::Kind::ShuffleFilter, shuffle});
}

std::vector<float> init_dense(const Shape& shape, float slope, Philox& random) {
  SUBPIX_REQUIRE(shape.rank() == 2, "a matrix is [out,in], not ", shape);
  std::vector<float> values(static_cast<std::size_t>(shape.count()));
  draw_kaiming(values, shape[1], slope, random);
  return values;
}

}  // namespace subpix::engine::nn
