#include "train/resample.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/api/error.h"

namespace subpix::train {
namespace {

__extension__ using Wide = __int128;

/// Output coordinate i lies at (i + 1/2) * denominator / numerator - 1/2; lowest terms.
struct Scale {
  std::int64_t numerator, denominator;
};

/// For each output sample, where its taps begin and their weights, whole numbers in lowest terms
/// that add up to the sample's own `total`.
struct Taps {
  struct Sample {
    std::int64_t first = 0;  ///< input index of the first tap
    std::int64_t count = 0;
    std::size_t offset = 0;  ///< into weights
    Wide total = 0;
  };
  std::vector<Sample> samples;
  std::vector<Wide> weights;
  Wide largest = 0;  ///< bound of |255 * sum of weights| over all samples, rounding included
};

/// 2 q^3 times Keys's kernel (a = -1/2) at t / q.
Wide kernel(Wide t, Wide q) {
  if (t < 0) t = -t;
  if (t < q) return (3 * t - 5 * q) * t * t + 2 * q * q * q;
  if (t < 2 * q) return ((5 * q - t) * t - 8 * q * q) * t + 4 * q * q * q;
  return 0;
}

std::int64_t inside(std::int64_t j, std::int64_t size, Edge edge) {
  if (edge == Edge::Clamp) return std::clamp<std::int64_t>(j, 0, size - 1);
  const std::int64_t period = 2 * size;
  j = (j % period + period) % period;
  return j < size ? j : period - 1 - j;
}

Taps make_taps(std::int64_t in, std::int64_t out, Scale scale, Edge edge) {
  const std::int64_t a = scale.numerator, b = scale.denominator;
  const std::int64_t q = 2 * std::max(a, b);
  Taps taps;
  taps.samples.reserve(static_cast<std::size_t>(out));
  std::vector<Wide> folded;
  for (std::int64_t i = 0; i < out; ++i) {
    // The distance of tap j is t / q with t = (2j + 1) a - (2i + 1) b; non-zero weights have |t| <
    // 2q.
    const std::int64_t centre = (2 * i + 1) * b;
    const auto tap_after = [&](std::int64_t t) {  // smallest j with (2j + 1) a - centre > t
      const std::int64_t n = t + centre - a;      // 2 a j > n
      return n >= 0 ? n / (2 * a) + 1 : -((-n - 1) / (2 * a));
    };
    const std::int64_t begin = tap_after(-2 * q), end = tap_after(2 * q - 1);
    std::int64_t first = in, last = -1;
    for (std::int64_t j = begin; j < end; ++j) {
      first = std::min(first, inside(j, in, edge));
      last = std::max(last, inside(j, in, edge));
    }
    folded.assign(static_cast<std::size_t>(last - first + 1), 0);
    for (std::int64_t j = begin; j < end; ++j)
      folded[static_cast<std::size_t>(inside(j, in, edge) - first)] +=
          kernel(Wide{2 * j + 1} * a - centre, q);

    Taps::Sample sample{first, last - first + 1, taps.weights.size(), 0};
    Wide divisor = 0, magnitude = 0;
    for (const Wide w : folded) {
      for (Wide x = w < 0 ? -w : w; x != 0;) {  // Euclid; std::gcd knows no 128 bits
        const Wide rest = divisor % x;
        divisor = x;
        x = rest;
      }
    }
    for (const Wide w : folded) {
      taps.weights.push_back(w / divisor);
      sample.total += w / divisor;
      magnitude += (w < 0 ? -w : w) / divisor;
    }
    taps.largest = std::max(taps.largest, 255 * magnitude * 2 + sample.total);
    taps.samples.push_back(sample);
  }
  return taps;
}

/// floor(sum / total + 1/2), clamped to 0..255.
template <class Number>
std::uint8_t round_half_up(Number sum, Number total) {
  if (sum <= 0) return 0;
  const Number value = (2 * sum + total) / (2 * total);
  return static_cast<std::uint8_t>(std::min<Number>(value, 255));
}

/// The vertical pass: whole rows are added up, so memory is read in order.
template <class Number>
void combine_rows(const Image& from, const Taps& taps, Image& to) {
  const auto row_bytes = static_cast<std::size_t>(from.row_bytes());
  std::vector<Number> sums(row_bytes);
  for (std::int64_t y = 0; y < to.height; ++y) {
    const Taps::Sample& sample = taps.samples[static_cast<std::size_t>(y)];
    std::fill(sums.begin(), sums.end(), Number{0});
    for (std::int64_t k = 0; k < sample.count; ++k) {
      const auto weight =
          static_cast<Number>(taps.weights[sample.offset + static_cast<std::size_t>(k)]);
      const std::uint8_t* row = from.row(sample.first + k);
      for (std::size_t x = 0; x < row_bytes; ++x) sums[x] += weight * row[x];
    }
    const auto total = static_cast<Number>(sample.total);
    std::uint8_t* out = to.row(y);
    // At scales 2 and 4 the total is a power of two, and a shift takes the place of a division.
    if ((total & (total - 1)) == 0) {
      int shift = 0;
      while ((Number{1} << shift) < total) ++shift;
      for (std::size_t x = 0; x < row_bytes; ++x)
        out[x] = static_cast<std::uint8_t>(
            std::clamp<Number>((2 * sums[x] + total) >> (shift + 1), 0, 255));
    } else {
      for (std::size_t x = 0; x < row_bytes; ++x) out[x] = round_half_up(sums[x], total);
    }
  }
}

template <class Number, int kChannels>
void combine_columns(const Image& from, const Taps& taps, Image& to) {
  std::vector<Number> weights(taps.weights.size());
  std::transform(taps.weights.begin(), taps.weights.end(), weights.begin(),
                 [](Wide w) { return static_cast<Number>(w); });
  for (std::int64_t y = 0; y < to.height; ++y) {
    const std::uint8_t* row = from.row(y);
    std::uint8_t* out = to.row(y);
    for (const Taps::Sample& sample : taps.samples) {
      Number sums[kChannels] = {};
      const Number* weight = &weights[sample.offset];
      const std::uint8_t* pixel = row + sample.first * kChannels;
      for (std::int64_t k = 0; k < sample.count; ++k, pixel += kChannels)
        for (int c = 0; c < kChannels; ++c) sums[c] += weight[k] * pixel[c];
      const auto total = static_cast<Number>(sample.total);
      for (int c = 0; c < kChannels; ++c) *out++ = round_half_up(sums[c], total);
    }
  }
}

template <class Number>
void combine_columns(const Image& from, const Taps& taps, Image& to) {
  switch (from.channels) {
    case 1:
      return combine_columns<Number, 1>(from, taps, to);
    case 2:
      return combine_columns<Number, 2>(from, taps, to);
    case 3:
      return combine_columns<Number, 3>(from, taps, to);
    default:
      return combine_columns<Number, 4>(from, taps, to);
  }
}

/// Calls pass(Number{}) with the smallest whole-number type in which no sum can overflow.
template <class Pass>
void with_number(const Taps& taps, const Pass& pass) {
  if (taps.largest <= std::numeric_limits<std::int32_t>::max())
    pass(std::int32_t{});
  else if (taps.largest <= std::numeric_limits<std::int64_t>::max())
    pass(std::int64_t{});
  else
    pass(Wide{});
}

Image resample(const Image& image, std::int64_t width, Scale scale_x, std::int64_t height,
               Scale scale_y, Edge edge) {
  SUBPIX_REQUIRE(image.channels >= 1 && image.channels <= 4 &&
                     static_cast<std::int64_t>(image.pixels.size()) ==
                         image.width * image.height * image.channels,
                 "a picture of ", image.width, "x", image.height, "x", image.channels, " with ",
                 image.pixels.size(), " bytes");
  Image rows_combined(image.width, height, image.channels);
  const Taps taps_y = make_taps(image.height, height, scale_y, edge);
  with_number(taps_y,
              [&]<class Number>(Number) { combine_rows<Number>(image, taps_y, rows_combined); });
  Image result(width, height, image.channels);
  const Taps taps_x = make_taps(image.width, width, scale_x, edge);
  with_number(taps_x, [&]<class Number>(Number) {
    combine_columns<Number>(rows_combined, taps_x, result);
  });
  return result;
}

}  // namespace

Image shrink_bicubic(const Image& image, std::int64_t factor, Edge edge) {
  SUBPIX_REQUIRE(factor >= 1 && factor <= 4096, "cannot reduce by ", factor);
  const Scale scale{1, factor};
  return resample(image, (image.width + factor - 1) / factor, scale,
                  (image.height + factor - 1) / factor, scale, edge);
}

Image enlarge_bicubic(const Image& image, std::int64_t factor, Edge edge) {
  SUBPIX_REQUIRE(factor >= 1 && factor <= 4096, "cannot enlarge by ", factor);
  const Scale scale{factor, 1};
  return resample(image, image.width * factor, scale, image.height * factor, scale, edge);
}

Image resize_bicubic(const Image& image, std::int64_t width, std::int64_t height, Edge edge) {
  // Up to this size the whole numbers of Note [Exact bicubic] fit 128 bits.
  constexpr std::int64_t kLargest = std::int64_t{1} << 24;
  SUBPIX_REQUIRE(width >= 1 && height >= 1 && width <= kLargest && height <= kLargest &&
                     image.width <= kLargest && image.height <= kLargest,
                 "cannot resize ", image.width, "x", image.height, " to ", width, "x", height);
  const auto ratio = [](std::int64_t out, std::int64_t in) {
    const std::int64_t divisor = std::gcd(out, in);
    return Scale{out / divisor, in / divisor};
  };
  return resample(image, width, ratio(width, image.width), height, ratio(height, image.height),
                  edge);
}

Image enlarge_nearest(const Image& image, std::int64_t factor) {
  SUBPIX_REQUIRE(factor >= 1 && factor <= 4096, "cannot enlarge by ", factor);
  Image result(image.width * factor, image.height * factor, image.channels);
  for (std::int64_t y = 0; y < result.height; ++y) {
    const std::uint8_t* from = image.row(y / factor);
    std::uint8_t* to = result.row(y);
    if (y % factor != 0) {
      std::copy_n(result.row(y - 1), result.row_bytes(), to);
      continue;
    }
    for (std::int64_t x = 0; x < image.width; ++x, from += image.channels)
      for (std::int64_t k = 0; k < factor; ++k) to = std::copy_n(from, image.channels, to);
  }
  return result;
}

}  // namespace subpix::train
