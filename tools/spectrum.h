#pragma once

#include <cstdint>
#include <vector>

namespace subpix::tools {

/// How much of each spatial frequency a picture holds, averaged over directions and over the
/// picture (Welch's method: Hann-windowed square tiles, half overlapping, their mean removed).
struct RadialSpectrum {
  std::int64_t tile = 0;      ///< side of a tile, a power of two
  std::vector<double> power;  ///< [tile/2 + 1]; ring k holds k/tile cycles per pixel
};

/// luma [height * width], 8-bit scale. tile: a power of two, at most width and height, at least 8;
/// Error otherwise. Every ring contains the power that rounding to 8 bits would leave, so that
/// differences too small for a file do not count.
RadialSpectrum radial_spectrum(const std::vector<double>& luma, std::int64_t width,
                               std::int64_t height, std::int64_t tile);

/// The largest tile radial_spectrum takes for this size, at most 128; 0 if the picture is too
/// small.
std::int64_t largest_tile(std::int64_t width, std::int64_t height);

/// Log-spectral distance in decibels: root mean square over the rings of 10 log10(a / b), for the
/// frequencies from `low` to 1/2 cycles per pixel. 0: same spectrum. Symmetric. a and b of one
/// tile.
double spectral_distance_db(const RadialSpectrum& a, const RadialSpectrum& b, double low);

/// Mean over the same rings of 10 log10(a / b): negative where a lacks fine detail that b has.
double spectral_bias_db(const RadialSpectrum& a, const RadialSpectrum& b, double low);

/// Lowest frequency that a picture reduced by `scale` cannot hold, in cycles per pixel of the large
/// one: 0.125 for scale 4. What stands above was invented by the upscaler.
inline double lost_frequency(std::int64_t scale) { return 0.5 / static_cast<double>(scale); }

}  // namespace subpix::tools
