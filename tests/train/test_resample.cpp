#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/core/random.h"
#include "kernels/api/error.h"
#include "tests/support/catch.h"
#include "train/resample.h"

using namespace subpix;
using namespace subpix::train;

namespace {

enum class Fill { Noise, BlackAndWhite, Smooth };

Image picture(std::int64_t width, std::int64_t height, std::int64_t channels, Fill fill,
              std::uint64_t seed = 1) {
  Image image(width, height, channels);
  engine::Philox random(seed);
  int value = 128;
  for (std::uint8_t& p : image.pixels) {
    const std::uint32_t word = random.next();
    value = std::clamp(value + static_cast<int>(word % 21) - 10, 0, 255);
    p = static_cast<std::uint8_t>(fill == Fill::Noise           ? word >> 24
                                  : fill == Fill::BlackAndWhite ? (word >> 31) * 255
                                                                : static_cast<unsigned>(value));
  }
  return image;
}

// The rule once more in double precision, from its definition: one axis, one line at a time.

double keys(double x) {
  x = std::abs(x);
  if (x < 1.0) return (1.5 * x - 2.5) * x * x + 1.0;
  if (x < 2.0) return ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0;
  return 0.0;
}

/// Output sample i of a line, unrounded; scale = output per input sample.
template <class At>
double sample(std::int64_t i, std::int64_t in, double scale, bool mirror, const At& at) {
  const double stretch = std::min(scale, 1.0);
  const double u = (static_cast<double>(i) + 0.5) / scale - 0.5;
  const auto reach = static_cast<std::int64_t>(std::ceil(2.0 / stretch)) + 1;
  const auto middle = static_cast<std::int64_t>(std::floor(u));
  double sum = 0.0, weights = 0.0;
  for (std::int64_t j = middle - reach; j <= middle + reach; ++j) {
    const double w = keys((static_cast<double>(j) - u) * stretch);
    std::int64_t inside = j;
    if (mirror) {
      while (inside < 0 || inside >= in) inside = inside < 0 ? -1 - inside : 2 * in - 1 - inside;
    } else {
      inside = std::clamp<std::int64_t>(j, 0, in - 1);
    }
    sum += w * at(inside);
    weights += w;
  }
  return sum / weights;
}

std::uint8_t to_byte(double v) {
  return static_cast<std::uint8_t>(std::clamp(std::floor(v + 0.5), 0.0, 255.0));
}

/// `ties` counts samples so near a half that double precision cannot tell the side.
Image reference(const Image& image, std::int64_t width, double scale_x, std::int64_t height,
                double scale_y, bool mirror, int& ties) {
  const auto byte = [&](double v) {
    if (std::abs(v + 0.5 - std::round(v + 0.5)) < 1e-9) ++ties;
    return to_byte(v);
  };
  Image tall(image.width, height, image.channels);
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < image.row_bytes(); ++x)
      tall.row(y)[x] = byte(sample(y, image.height, scale_y, mirror, [&](std::int64_t j) {
        return static_cast<double>(image.row(j)[x]);
      }));
  Image result(width, height, image.channels);
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < width; ++x)
      for (std::int64_t c = 0; c < image.channels; ++c)
        result.row(y)[x * image.channels + c] =
            byte(sample(x, image.width, scale_x, mirror, [&](std::int64_t j) {
              return static_cast<double>(tall.row(y)[j * image.channels + c]);
            }));
  return result;
}

int differing(const Image& a, const Image& b) {
  REQUIRE(a.width == b.width);
  REQUIRE(a.height == b.height);
  REQUIRE(a.channels == b.channels);
  REQUIRE(a.pixels.size() == b.pixels.size());
  int count = 0;
  for (std::size_t i = 0; i < a.pixels.size(); ++i) count += a.pixels[i] != b.pixels[i] ? 1 : 0;
  return count;
}

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

Image flipped(const Image& image, bool horizontally) {
  Image result = image;
  for (std::int64_t y = 0; y < image.height; ++y)
    for (std::int64_t x = 0; x < image.width; ++x)
      std::memcpy(result.row(y) + x * image.channels,
                  horizontally ? image.row(y) + (image.width - 1 - x) * image.channels
                               : image.row(image.height - 1 - y) + x * image.channels,
                  static_cast<std::size_t>(image.channels));
  return result;
}

}  // namespace

TEST_CASE("bicubic equals the rule in double precision for every size", "[train][resample]") {
  // At 2 and 4 all weights are multiples of 2^-12, so double precision is exact and so are ties.
  for (std::int64_t size = 1; size <= 64; ++size) {
    const std::int64_t other = 1 + (size * 29) % 64;
    for (const std::int64_t factor : {2, 4}) {
      for (const bool mirror : {false, true}) {
        CAPTURE(size, other, factor, mirror);
        const Edge edge = mirror ? Edge::Mirror : Edge::Clamp;
        const Fill fill = size % 3 == 0   ? Fill::BlackAndWhite
                          : size % 3 == 1 ? Fill::Noise
                                          : Fill::Smooth;
        const Image image =
            picture(size, other, size % 4 + 1, fill, static_cast<std::uint64_t>(size));
        const double up = static_cast<double>(factor);
        int ties = 0;
        REQUIRE(differing(shrink_bicubic(image, factor, edge),
                          reference(image, divide_up(size, factor), 1.0 / up,
                                    divide_up(other, factor), 1.0 / up, mirror, ties)) == 0);
        if (size <= 24)
          REQUIRE(differing(
                      enlarge_bicubic(image, factor, edge),
                      reference(image, size * factor, up, other * factor, up, mirror, ties)) == 0);
      }
    }
  }
}

TEST_CASE("enlarging equals the rule for the larger sizes too", "[train][resample]") {
  for (std::int64_t size = 25; size <= 64; ++size) {
    CAPTURE(size);
    // Both directions of the size, thin in the other one.
    int ties = 0;
    const Image wide = picture(size, 3, 1, Fill::Noise), tall = picture(2, size, 1, Fill::Noise);
    REQUIRE(differing(enlarge_bicubic(wide, 4),
                      reference(wide, size * 4, 4.0, 12, 4.0, false, ties)) == 0);
    REQUIRE(differing(enlarge_bicubic(tall, 4),
                      reference(tall, 8, 4.0, size * 4, 4.0, false, ties)) == 0);
  }
}

TEST_CASE("other factors and sizes equal the rule but for undecidable ties", "[train][resample]") {
  int ties = 0, different = 0, samples = 0;
  for (std::int64_t size = 1; size <= 40; ++size) {
    const std::int64_t other = 1 + (size * 17) % 40;
    const Image image = picture(size, other, 3, Fill::Noise, static_cast<std::uint64_t>(size));
    for (const std::int64_t factor : {3, 5}) {
      const double scale = 1.0 / static_cast<double>(factor);
      const Image small = shrink_bicubic(image, factor);
      different += differing(small, reference(image, divide_up(size, factor), scale,
                                              divide_up(other, factor), scale, false, ties));
      samples += static_cast<int>(small.pixels.size());
    }
    const std::int64_t width = 1 + (size * 7) % 31, height = 1 + (size * 11) % 53;
    const Image resized = resize_bicubic(image, width, height);
    different += differing(
        resized,
        reference(image, width, static_cast<double>(width) / static_cast<double>(size), height,
                  static_cast<double>(height) / static_cast<double>(other), false, ties));
    samples += static_cast<int>(resized.pixels.size());
  }
  CAPTURE(ties, different, samples);
  CHECK(different <= ties);
  CHECK(ties < samples / 50);
}

TEST_CASE("halves are rounded upward after each pass", "[train][resample]") {
  Image image(2, 2, 1);
  image.pixels = {0, 1, 0, 1};
  CHECK(shrink_bicubic(image, 2).pixels == std::vector<std::uint8_t>{1});
  image.pixels = {254, 255, 254, 255};
  CHECK(shrink_bicubic(image, 2).pixels == std::vector<std::uint8_t>{255});
  // Columns 0|1 become 1 (from 0.5), then rows 1|1; rows first would end at 0.5 -> 1 as well, but
  // with one white corner the mean is a quarter: 0.25 -> 0 if rounded once, 0.5 -> 1, then 0.5
  // -> 1.
  image.pixels = {0, 1, 0, 0};
  CHECK(shrink_bicubic(image, 2).pixels == std::vector<std::uint8_t>{1});
}

TEST_CASE("rows are combined before columns", "[train][resample]") {
  // Vertically 0|1 -> 0.5 -> 1 in every column; then horizontally the mean of 1 and 1. With columns
  // first each row would give 0 or 1 depending on its order.
  Image image(2, 2, 1);
  image.pixels = {0, 1, 1, 0};
  CHECK(shrink_bicubic(image, 2).pixels == std::vector<std::uint8_t>{1});
  int different = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Image noisy = picture(16, 16, 1, Fill::Noise, seed);
    Image turned(16, 16, 1);
    for (std::int64_t y = 0; y < 16; ++y)
      for (std::int64_t x = 0; x < 16; ++x) turned.row(x)[y] = noisy.row(y)[x];
    const Image a = shrink_bicubic(noisy, 4), b = shrink_bicubic(turned, 4);
    for (std::int64_t y = 0; y < 4; ++y)
      for (std::int64_t x = 0; x < 4; ++x) different += a.row(y)[x] != b.row(x)[y] ? 1 : 0;
  }
  CHECK(different > 0);
}

TEST_CASE("the LR size is rounded up and the picture continued by its edge", "[train][resample]") {
  for (std::int64_t size = 1; size <= 64; ++size) {
    const Image image = picture(size, 65 - size, 3, Fill::Noise);
    const Image small = shrink_bicubic(image, 4);
    CHECK(small.width == divide_up(size, 4));
    CHECK(small.height == divide_up(65 - size, 4));
    // Repeating the last row and column up to a multiple of 4 changes nothing.
    Image padded(small.width * 4, small.height * 4, 3);
    for (std::int64_t y = 0; y < padded.height; ++y)
      for (std::int64_t x = 0; x < padded.width; ++x)
        std::memcpy(padded.row(y) + x * 3,
                    image.row(std::min(y, image.height - 1)) + std::min(x, image.width - 1) * 3, 3);
    REQUIRE(differing(shrink_bicubic(padded, 4), small) == 0);
  }
}

TEST_CASE("a plain picture stays plain", "[train][resample]") {
  for (const int value : {0, 1, 127, 254, 255}) {
    Image image(13, 9, 3);
    std::fill(image.pixels.begin(), image.pixels.end(), static_cast<std::uint8_t>(value));
    for (const Edge edge : {Edge::Clamp, Edge::Mirror})
      for (const Image& result : {shrink_bicubic(image, 4, edge), shrink_bicubic(image, 3, edge),
                                  enlarge_bicubic(image, 4, edge), enlarge_bicubic(image, 3, edge),
                                  resize_bicubic(image, 7, 31, edge), enlarge_nearest(image, 4)})
        for (const std::uint8_t p : result.pixels) REQUIRE(p == value);
  }
}

TEST_CASE("resampling commutes with flips", "[train][resample]") {
  for (const std::int64_t factor : {2, 3, 4}) {
    const Image image = picture(24, 36, 3, Fill::Noise);
    for (const bool horizontally : {true, false}) {
      CHECK(differing(shrink_bicubic(flipped(image, horizontally), factor),
                      flipped(shrink_bicubic(image, factor), horizontally)) == 0);
      CHECK(differing(enlarge_bicubic(flipped(image, horizontally), factor),
                      flipped(enlarge_bicubic(image, factor), horizontally)) == 0);
      CHECK(differing(resize_bicubic(flipped(image, horizontally), 19, 50),
                      flipped(resize_bicubic(image, 19, 50), horizontally)) == 0);
    }
  }
}

TEST_CASE("a picture of its own size is unchanged", "[train][resample]") {
  const Image image = picture(17, 5, 3, Fill::Noise);
  CHECK(resize_bicubic(image, 17, 5) == image);
  CHECK(shrink_bicubic(image, 1) == image);
  CHECK(enlarge_bicubic(image, 1) == image);
  CHECK(enlarge_nearest(image, 1) == image);
}

TEST_CASE("a ramp is enlarged to a ramp", "[train][resample]") {
  // Keys's kernel reproduces straight lines; 16 levels a pixel are 4 a new pixel, offset by 2.
  Image image(12, 1, 1);
  for (std::int64_t x = 0; x < 12; ++x)
    image.pixels[static_cast<std::size_t>(x)] = static_cast<std::uint8_t>(16 * x + 30);
  const Image large = enlarge_bicubic(image, 4);
  for (std::int64_t x = 8; x < 40; ++x)
    CHECK(large.pixels[static_cast<std::size_t>(x)] == 4 * x + 24);
}

TEST_CASE("clamped and mirrored edges differ only near the edge", "[train][resample]") {
  const Image image = picture(64, 64, 1, Fill::Noise);
  const Image clamped = shrink_bicubic(image, 4, Edge::Clamp);
  const Image mirrored = shrink_bicubic(image, 4, Edge::Mirror);
  int at_edge = 0;
  for (std::int64_t y = 0; y < 16; ++y)
    for (std::int64_t x = 0; x < 16; ++x) {
      const bool differs = clamped.row(y)[x] != mirrored.row(y)[x];
      if (std::min({x, y, 15 - x, 15 - y}) >= 2) CHECK(!differs);
      at_edge += differs ? 1 : 0;
    }
  CHECK(at_edge > 20);
}

TEST_CASE("channels do not mix", "[train][resample]") {
  for (std::int64_t channels = 1; channels <= 4; ++channels) {
    const Image image = picture(22, 14, channels, Fill::Noise);
    for (std::int64_t c = 0; c < channels; ++c) {
      const auto only = [&](const Image& from) {
        Image one(from.width, from.height, 1);
        for (std::size_t i = 0; i < one.pixels.size(); ++i)
          one.pixels[i] =
              from.pixels[i * static_cast<std::size_t>(channels) + static_cast<std::size_t>(c)];
        return one;
      };
      CHECK(shrink_bicubic(only(image), 4) == only(shrink_bicubic(image, 4)));
      CHECK(enlarge_bicubic(only(image), 4) == only(enlarge_bicubic(image, 4)));
      CHECK(enlarge_nearest(only(image), 3) == only(enlarge_nearest(image, 3)));
    }
  }
}

TEST_CASE("nearest repeats each pixel", "[train][resample]") {
  const Image image = picture(5, 3, 3, Fill::Noise);
  const Image large = enlarge_nearest(image, 4);
  REQUIRE(large.width == 20);
  REQUIRE(large.height == 12);
  for (std::int64_t y = 0; y < 12; ++y)
    for (std::int64_t x = 0; x < 20; ++x)
      for (int c = 0; c < 3; ++c)
        REQUIRE(large.row(y)[x * 3 + c] == image.row(y / 4)[x / 4 * 3 + c]);
}

TEST_CASE("long prime lengths neither overflow nor slow down", "[train][resample]") {
  // Their whole-numbered weights need more than 64 bits.
  const Image image = picture(99991, 1, 1, Fill::Smooth);
  const Image small = resize_bicubic(image, 49999, 1);
  int worst = 0;
  for (std::int64_t x = 0; x < small.width; ++x) {
    const double expected = sample(x, 99991, 49999.0 / 99991.0, false, [&](std::int64_t j) {
      return static_cast<double>(image.pixels[static_cast<std::size_t>(j)]);
    });
    const double error = std::abs(std::clamp(expected, 0.0, 255.0) - small.row(0)[x]);
    if (!(error <= 0.5 + 1e-9)) ++worst;
  }
  CHECK(worst == 0);
}

TEST_CASE("sizes that make no sense are refused", "[train][resample]") {
  const Image image = picture(5, 3, 3, Fill::Noise);
  CHECK_THROWS_AS(shrink_bicubic(image, 0), Error);
  CHECK_THROWS_AS(enlarge_bicubic(image, -1), Error);
  CHECK_THROWS_AS(enlarge_nearest(image, 0), Error);
  CHECK_THROWS_AS(resize_bicubic(image, 0, 3), Error);
  Image broken = image;
  broken.pixels.pop_back();
  CHECK_THROWS_AS(shrink_bicubic(broken, 2), Error);
}
