#pragma once

// Included by gpu.cuh. Host side: what a TMA descriptor says, and the limits the PTX ISA and the
// driver API document for it, checked on both sides before anything is encoded.

#include <string>

namespace subpix::gpu {
inline namespace KERNEL_TARGET {

enum class TmaElement : std::uint8_t { F32, BF16, U8 };
inline constexpr std::uint32_t size_of(TmaElement e) {
  return e == TmaElement::F32 ? 4 : e == TmaElement::BF16 ? 2 : 1;
}

/// A dense tensor of rank 1 to 5 read or written in boxes. Dimension 0 is innermost and contiguous;
/// strides[i] is the byte distance between neighbours along dimension i + 1. Elements outside are
/// read as zero and not written.
struct TmaTiled {
  const void* base;  ///< 16-byte aligned
  TmaElement element;
  int rank;
  std::uint64_t dims[5];
  std::uint64_t strides[4];  ///< bytes, multiples of 16
  std::uint32_t box[5];      ///< elements, at most 256 each
  Swizzle swizzle = Swizzle::None;
};

/// An NHWC tensor read as im2col rows: `pixels` positions of the moving window times `channels`
/// channels. The window's corner walks over w in [lower_w, W + upper_w), then h, then n (PTX ISA,
/// "im2col mode"); the offsets of a load are added to it. Traversal stride 1.
struct TmaIm2col {
  const void* base;
  TmaElement element;
  std::uint64_t n, h, w, c;
  int lower_w, lower_h, upper_w, upper_h;
  std::uint32_t channels, pixels;
  Swizzle swizzle = Swizzle::None;
};

/// The descriptor as a kernel parameter: `const __grid_constant__ gpu::TmaMap map`.
struct TmaMap;

/// Throw Error naming the violated limit. Maps may be kept as long as the tensor stays where it is.
TmaMap make_tma_map(const TmaTiled& tensor);
TmaMap make_tma_map(const TmaIm2col& tensor);

namespace detail {

inline std::uint32_t swizzle_bytes(Swizzle s) {
  return s == Swizzle::None ? 0 : s == Swizzle::B32 ? 32 : s == Swizzle::B64 ? 64 : 128;
}

inline void check_inner(std::uint32_t inner_bytes, Swizzle swizzle) {
  SUBPIX_REQUIRE(inner_bytes % 16 == 0, "TMA: the inner box must be a multiple of 16 bytes, not ",
                 inner_bytes);
  // Narrower rows are allowed, but nobody needs them and nothing here models how they are laid out.
  SUBPIX_REQUIRE(swizzle == Swizzle::None || inner_bytes == swizzle_bytes(swizzle),
                 "TMA: the inner box must be as wide as the swizzle, ", swizzle_bytes(swizzle),
                 " bytes, not ", inner_bytes);
}

inline void check(const TmaTiled& t) {
  SUBPIX_REQUIRE(t.rank >= 1 && t.rank <= 5, "TMA: rank ", t.rank, " is not 1 to 5");
  SUBPIX_REQUIRE(reinterpret_cast<std::uintptr_t>(t.base) % 16 == 0,
                 "TMA: the tensor must be 16-byte aligned");
  for (int i = 0; i < t.rank; ++i) {
    SUBPIX_REQUIRE(t.dims[i] >= 1 && t.dims[i] <= std::uint64_t{1} << 32, "TMA: dimension ", i,
                   " of ", t.dims[i], " elements");
    SUBPIX_REQUIRE(t.box[i] >= 1 && t.box[i] <= 256, "TMA: box dimension ", i, " of ", t.box[i],
                   " elements; 1 to 256 are allowed");
    if (i + 1 < t.rank)
      SUBPIX_REQUIRE(t.strides[i] % 16 == 0 && t.strides[i] < std::uint64_t{1} << 40,
                     "TMA: stride ", i + 1, " of ", t.strides[i],
                     " bytes must be a multiple of 16 below 2^40");
  }
  check_inner(t.box[0] * size_of(t.element), t.swizzle);
}

inline void check(const TmaIm2col& t) {
  SUBPIX_REQUIRE(reinterpret_cast<std::uintptr_t>(t.base) % 16 == 0,
                 "TMA: the tensor must be 16-byte aligned");
  SUBPIX_REQUIRE(t.n >= 1 && t.h >= 1 && t.w >= 1 && t.c >= 1, "TMA: an empty tensor");
  SUBPIX_REQUIRE(t.c * size_of(t.element) % 16 == 0, "TMA: ", t.c,
                 " channels are not a multiple of 16 bytes");
  SUBPIX_REQUIRE(t.channels >= 1 && t.channels <= 256 && t.pixels >= 1 && t.pixels <= 1024,
                 "TMA: im2col boxes hold 1 to 256 channels and 1 to 1024 pixels, not ", t.channels,
                 " and ", t.pixels);
  for (const int corner : {t.lower_w, t.lower_h, t.upper_w, t.upper_h})
    SUBPIX_REQUIRE(corner >= -128 && corner <= 127, "TMA: im2col corner ", corner,
                   " is not in -128 to 127");
  check_inner(t.channels * size_of(t.element), t.swizzle);
}

}  // namespace detail
}  // namespace KERNEL_TARGET
}  // namespace subpix::gpu
