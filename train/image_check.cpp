#include "train/image_check.h"

#include <zlib.h>

#include <array>
#include <cstdlib>
#include <cstring>

#include "kernels/api/error.h"

namespace subpix::train {
namespace {

std::uint32_t big_endian32(const std::uint8_t* p) {
  return std::uint32_t{p[0]} << 24 | std::uint32_t{p[1]} << 16 | std::uint32_t{p[2]} << 8 | p[3];
}

std::uint32_t little_endian32(const std::uint8_t* p) {
  return std::uint32_t{p[3]} << 24 | std::uint32_t{p[2]} << 16 | std::uint32_t{p[1]} << 8 | p[0];
}

std::uint32_t little_endian16(const std::uint8_t* p) { return p[0] | std::uint32_t{p[1]} << 8; }

}  // namespace

std::string png_problem(FileBytes file) {
  constexpr std::size_t kSignature = 8, kChunkFrame = 12;  // length, type and checksum
  constexpr char kCut[] = "it is cut short";
  bool has_header = false, has_data = false;
  for (std::size_t at = kSignature;;) {
    if (file.size() - at < kChunkFrame) return kCut;
    const std::uint32_t length = big_endian32(&file[at]);
    if (length > file.size() - at - kChunkFrame) return kCut;
    const std::string type(reinterpret_cast<const char*>(&file[at + 4]), 4);
    // An upper-case first letter marks the chunks that a decoder needs.
    if ((file[at + 4] & 0x20) == 0) {
      const std::uint32_t stored = big_endian32(&file[at + 8 + length]);
      if (::crc32(0, &file[at + 4], length + 4) != stored)
        return concat("its data is damaged (checksum of the chunk at byte ", at, ")");
    }
    if (!has_header && (type != "IHDR" || length != 13)) return "its header is damaged";
    has_header = true;
    has_data = has_data || type == "IDAT";
    if (type == "IEND") return has_data ? "" : "it holds no picture data";
    at += kChunkFrame + length;
  }
}

std::string bmp_problem(FileBytes file) {
  constexpr char kCut[] = "it is cut short";
  constexpr char kDamaged[] = "its header is damaged";
  constexpr std::uint32_t kUncompressed = 0, kBitFields = 3;
  if (file.size() < 26) return kCut;
  const std::uint64_t data_start = little_endian32(&file[10]);
  const std::uint32_t header_bytes = little_endian32(&file[14]);
  std::int64_t width, height;
  std::uint32_t bits, compression = kUncompressed;
  if (header_bytes == 12) {
    width = little_endian16(&file[18]);
    height = little_endian16(&file[20]);
    bits = little_endian16(&file[24]);
  } else {
    if (file.size() < 34) return kCut;
    width = static_cast<std::int32_t>(little_endian32(&file[18]));
    height = std::abs(std::int64_t{static_cast<std::int32_t>(little_endian32(&file[22]))});
    bits = little_endian16(&file[28]);
    compression = little_endian32(&file[30]);
  }
  if (width <= 0 || height <= 0 || bits > 32 || data_start < 14) return kDamaged;
  if (compression != kUncompressed && compression != kBitFields)
    return "it is a compressed BMP, which is not supported";
  const std::uint64_t row_bytes = (static_cast<std::uint64_t>(width) * bits + 31) / 32 * 4;
  if (data_start > file.size()) return kCut;
  if (row_bytes > (file.size() - data_start) / static_cast<std::uint64_t>(height)) return kCut;
  return {};
}

}  // namespace subpix::train
