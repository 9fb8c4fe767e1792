#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace subpix::train {

/// A picture in memory: rows from the top, pixels from the left, channels side by side, 8 bits
/// each. 1 channel is grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
struct Image {
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::int64_t channels = 0;
  std::vector<std::uint8_t> pixels;  ///< width * height * channels

  Image() = default;
  /// All zero.
  Image(std::int64_t width, std::int64_t height, std::int64_t channels);

  std::int64_t row_bytes() const { return width * channels; }
  std::uint8_t* row(std::int64_t y) { return pixels.data() + y * row_bytes(); }
  const std::uint8_t* row(std::int64_t y) const { return pixels.data() + y * row_bytes(); }
  bool operator==(const Image&) const = default;
};

enum class ImageFormat : std::uint8_t { Jpeg, Png, Bmp };

/// What a picture file says about itself.
struct ImageInfo {
  ImageFormat format = ImageFormat::Png;
  std::int64_t width = 0;   ///< of the loaded picture, so after turning it upright
  std::int64_t height = 0;  ///< likewise
  int channels = 0;         ///< 1 to 4, as in the file
  int bits = 8;  ///< 16 for a PNG of 16 bits per channel, of which the upper 8 are loaded
};

/// What is refused before anything is decoded, since a small file can claim a huge picture.
struct ImageLimits {
  std::uint64_t max_file_bytes = std::uint64_t{1} << 30;
  std::int64_t max_pixels = std::int64_t{1} << 28;  ///< 16384 x 16384
};

/// Reads a JPEG (baseline or progressive), PNG or BMP, recognised by content, with the channels it
/// has. An Exif orientation is applied, so the picture stands as viewers show it; other metadata
/// and colour profiles are ignored. A file that is cut short or damaged, however little, is an
/// InputError that names it: JPEG scans are followed to their last coefficient, PNG checksums
/// compared. A colour with non-opaque alpha stays as it is. `info`, if given, receives what the
/// file said.
Image load_image(const std::filesystem::path& path, const ImageLimits& limits = {},
                 ImageInfo* info = nullptr);

/// The same from bytes in memory; `name` stands for the file in messages.
Image decode_image(std::span<const std::byte> bytes, const std::string& name,
                   const ImageLimits& limits = {}, ImageInfo* info = nullptr);

/// Size and kind from the file's head without decoding; a file cut short further behind passes.
/// `channels` does not count transparency that a PNG declares beside its pixels.
ImageInfo read_image_info(const std::filesystem::path& path, const ImageLimits& limits = {});

/// Writes a PNG atomically (see PngWriter).
void save_png(const std::filesystem::path& path, const Image& image);

/// All .jpg, .jpeg, .png and .bmp files (any case) of the folders: folder by folder as given,
/// sorted by their path's bytes within each, none twice. Hidden files are left out, links are
/// followed. A missing folder, one without pictures, or a file in place of a folder is an
/// InputError.
std::vector<std::filesystem::path> list_images(const std::vector<std::filesystem::path>& folders,
                                               bool recursive = true);

/// The part with its upper left corner at (x, y); must lie within the picture.
Image crop(const Image& image, std::int64_t x, std::int64_t y, std::int64_t width,
           std::int64_t height);

/// Grey or RGB: an alpha channel is dropped if it is opaque everywhere, else this is an InputError
/// that tells the user of `name` to flatten the picture, since any background we chose could be
/// wrong.
Image without_alpha(Image image, const std::string& name);

/// RGB: as without_alpha, then grey becomes three equal channels.
Image to_rgb(Image image, const std::string& name);

}  // namespace subpix::train
