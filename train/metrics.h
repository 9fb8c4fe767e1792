#pragma once

#include <cstdint>
#include <vector>

#include "train/image.h"

namespace subpix::train {

/// One channel in double precision; rows from the top.
struct Plane {
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::vector<double> values;  ///< width * height

  const double* row(std::int64_t y) const { return values.data() + y * width; }
};

/// Y of BT.601 as MATLAB's rgb2ycbcr gives it for 8-bit RGB, but not rounded:
/// 16 + (65.481 R + 128.553 G + 24.966 B) / 255. A grey picture is its own Y, 0..255.
Plane luma(const Image& image);

/// Full-range grey, 0.299 R + 0.587 G + 0.114 B: what a network's RGB answer to a grey picture
/// counts as. A grey picture is itself.
Plane full_range_grey(const Image& image);

/// Without `border` samples on every side; at least one sample must remain.
Plane without_border(const Plane& plane, std::int64_t border);

// The measures compare planes of equal size with a peak of 255, in double precision and fixed
// order.

/// 10 log10(255^2 / mean squared error) in dB; infinite for equal planes.
double psnr(const Plane& a, const Plane& b);

/// Structural similarity of Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 2004: Gaussian window of
/// 11x11 with deviation 1.5, K1 = 0.01, K2 = 0.03, mean over the positions where the window fits
/// entirely. Planes smaller than 11x11 have no such position: NaN.
double ssim_gauss(const Plane& a, const Plane& b);

/// The SSIM of the daala tools, which the SRGAN paper reports: a Gaussian window whose deviation
/// grows with the height (1.5 at 256), quantised to 256ths, at every position, where the part of
/// the window inside the picture counts; the mean weighs each position with that part.
double ssim_daala(const Plane& a, const Plane& b);

}  // namespace subpix::train
