#pragma once

#include <cstdint>

#include "train/image.h"

namespace subpix::train {

/// What stands past the edge of a picture. Clamp repeats the edge sample (..., 0, 0 | 0, 1, ...) as
/// the published LR sets do; Mirror reflects (..., 1, 0 | 0, 1, ...) as current MATLAB does.
enum class Edge : std::uint8_t { Clamp, Mirror };

// Note [Exact bicubic]
// The rule, per axis, for a scale of a / b in lowest terms (a/b = 1/4 makes a quarter, 4/1 four
// times as much): output sample i lies at input coordinate u = (i + 1/2) * b/a - 1/2; its weights
// are Keys's cubic kernel with a = -1/2 at the distances j - u, times min(1, a/b) (antialiasing:
// the kernel is stretched when the picture shrinks), divided by their sum. Rows are combined first,
// then columns; after each pass a sample is rounded to 8 bits, halves upward, and clamped to
// 0..255.
//
// All of these are fractions: every distance is t / q with q = 2 max(a, b) and whole t, so every
// weight is a whole number over 2 q^3 before the division by the sum. The code computes with these
// whole numbers, so nothing is rounded but the result, no order of summation matters, and a half is
// a half. In double precision the same holds by luck where q is a power of two (scales 2 and 4: all
// weights are multiples of 2^-12); for other scales its own error of about 1e-16 decides exact
// halves either way.
//
// An output size follows MATLAB's imresize(picture, scale): ceil(size * scale), with u computed
// from the scale, not from the sizes. So a size that is no multiple of 4 has a last LR sample that
// reaches past the edge, and the other samples are those of the picture without its last rows or
// columns, except near the edge. Shrinking to a named size uses a/b = output size / input size.

/// Reduces by a whole factor; the size is ceil(size / factor). Any channel count.
Image shrink_bicubic(const Image& image, std::int64_t factor, Edge edge = Edge::Clamp);

/// Enlarges by a whole factor.
Image enlarge_bicubic(const Image& image, std::int64_t factor, Edge edge = Edge::Clamp);

/// To any size, larger or smaller per axis.
Image resize_bicubic(const Image& image, std::int64_t width, std::int64_t height,
                     Edge edge = Edge::Clamp);

/// Each pixel factor x factor times.
Image enlarge_nearest(const Image& image, std::int64_t factor);

}  // namespace subpix::train
