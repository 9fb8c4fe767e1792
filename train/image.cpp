#include "train/image.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "engine/core/file.h"
#include "kernels/api/error.h"
#include "train/image_check.h"
#include "train/png_writer.h"

namespace subpix::train {
namespace {

// stb_image allocates what a file tells it to. Its allocations run through these, which refuse
// beyond a budget set from the picture's checked size, so that a few kilobytes of compressed zeros
// cannot fill the memory. Each block remembers its size in front.
struct Budget {
  std::size_t left = 0;
};
thread_local Budget budget;
constexpr std::size_t kBlockHeader = alignof(std::max_align_t);

void* budget_allocate(std::size_t bytes) {
  if (bytes > budget.left) return nullptr;
  auto* block = static_cast<std::byte*>(std::malloc(bytes + kBlockHeader));
  if (!block) return nullptr;
  std::memcpy(block, &bytes, sizeof bytes);
  budget.left -= bytes;
  return block + kBlockHeader;
}

void budget_free(void* pointer) {
  if (!pointer) return;
  std::byte* block = static_cast<std::byte*>(pointer) - kBlockHeader;
  std::size_t bytes = 0;
  std::memcpy(&bytes, block, sizeof bytes);
  budget.left += bytes;
  std::free(block);
}

void* budget_reallocate(void* pointer, std::size_t bytes) {
  if (!pointer) return budget_allocate(bytes);
  std::size_t old_bytes = 0;
  std::memcpy(&old_bytes, static_cast<std::byte*>(pointer) - kBlockHeader, sizeof old_bytes);
  void* moved = budget_allocate(bytes);
  if (!moved) return nullptr;
  std::memcpy(moved, pointer, std::min(old_bytes, bytes));
  budget_free(pointer);
  return moved;
}

}  // namespace
}  // namespace subpix::train

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_MALLOC(bytes) subpix::train::budget_allocate(bytes)
#define STBI_REALLOC(pointer, bytes) subpix::train::budget_reallocate(pointer, bytes)
#define STBI_FREE(pointer) subpix::train::budget_free(pointer)
#include <stb/stb_image.h>

namespace subpix::train {
namespace {

namespace fs = std::filesystem;

constexpr char kRemedy[] = "; save or copy it again, or remove it";

template <class... Parts>
[[noreturn]] void refuse(const std::string& name, const Parts&... parts) {
  throw InputError(concat("cannot read ", name, ": ", parts...));
}

const char* format_name(ImageFormat format) {
  return format == ImageFormat::Jpeg ? "JPEG" : format == ImageFormat::Png ? "PNG" : "BMP";
}

ImageFormat recognise(FileBytes file, const std::string& name) {
  const auto starts_with = [&](std::string_view magic) {
    return file.size() >= magic.size() && std::memcmp(file.data(), magic.data(), magic.size()) == 0;
  };
  if (file.empty()) refuse(name, "it is empty", kRemedy);
  if (starts_with("\xff\xd8\xff")) return ImageFormat::Jpeg;
  if (starts_with("\x89PNG\r\n\x1a\n")) return ImageFormat::Png;
  if (starts_with("BM")) return ImageFormat::Bmp;
  refuse(name, "it is no JPEG, PNG or BMP picture; convert it to one of these or remove it");
}

/// Size and kind as the header tells them, before turning upright; checked against the limits.
/// Nothing if the header is not complete.
bool read_header(FileBytes file, const std::string& name, const ImageLimits& limits,
                 ImageInfo& info) {
  info.format = recognise(file, name);
  const int size = static_cast<int>(file.size());
  int width = 0, height = 0;
  budget.left = std::size_t{1} << 20;
  if (!stbi_info_from_memory(file.data(), size, &width, &height, &info.channels)) return false;
  info.width = width;
  info.height =
      std::abs(std::int64_t{height});  // a BMP with its rows from the top counts them negative
  if (info.width <= 0 || info.height <= 0) refuse(name, "it has no pixels", kRemedy);
  if (info.width > limits.max_pixels / info.height)
    refuse(name, "its ", info.width, "x", info.height, " pixels are more than the ",
           limits.max_pixels, " allowed; reduce it or remove it");
  info.bits = stbi_is_16_bit_from_memory(file.data(), size) ? 16 : 8;
  return true;
}

[[noreturn]] void refuse_damaged(const std::string& name, ImageFormat format) {
  const char* reason = stbi_failure_reason();
  refuse(name, "it is no sound ", format_name(format), " picture (",
         reason ? reason : "unknown reason", ")", kRemedy);
}

/// Exif's orientations, by where the stored first row and column belong. 5 to 8 swap width and
/// height.
Image turn_upright(Image image, int orientation) {
  if (orientation == 1) return image;
  const bool swap = orientation >= 5;
  // Position (x, y) of the upright picture comes from (x, y) or (y, x) of the stored one, with
  // these axes of the stored one reversed.
  const bool mirror_x =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool mirror_y =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image upright(swap ? image.height : image.width, swap ? image.width : image.height,
                image.channels);
  std::uint8_t* to = upright.pixels.data();
  for (std::int64_t y = 0; y < upright.height; ++y) {
    for (std::int64_t x = 0; x < upright.width; ++x, to += image.channels) {
      std::int64_t from_x = swap ? y : x, from_y = swap ? x : y;
      if (mirror_x) from_x = image.width - 1 - from_x;
      if (mirror_y) from_y = image.height - 1 - from_y;
      std::copy_n(image.row(from_y) + from_x * image.channels, image.channels, to);
    }
  }
  return upright;
}

FileBytes as_file(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
}

// stb_image counts bytes in int.
std::uint64_t byte_limit(const ImageLimits& limits) {
  return std::min(limits.max_file_bytes, std::uint64_t{0x7fffffff});
}

}  // namespace

Image::Image(std::int64_t width_, std::int64_t height_, std::int64_t channels_)
    : width(width_), height(height_), channels(channels_) {
  SUBPIX_REQUIRE(width >= 1 && height >= 1 && channels >= 1 && channels <= 4 &&
                     width <= (std::int64_t{1} << 50) / height,
                 "no picture can be ", width, "x", height, " with ", channels, " channels");
  pixels.resize(static_cast<std::size_t>(width * height * channels));
}

Image decode_image(std::span<const std::byte> bytes, const std::string& name,
                   const ImageLimits& limits, ImageInfo* info) {
  const FileBytes file = as_file(bytes);
  if (file.size() > byte_limit(limits))
    refuse(name, "it holds ", file.size(), " bytes, more than the ", byte_limit(limits),
           " allowed; reduce it or remove it");
  ImageInfo found;
  const bool header_complete = read_header(file, name, limits, found);
  int orientation = 1;
  std::string problem;
  if (found.format == ImageFormat::Jpeg) {
    // Following the scans takes memory by the frame's size, so that has to be within the limits.
    const JpegReport report = header_complete ? check_jpeg(file) : check_jpeg_head(file);
    problem = report.problem;
    orientation = report.orientation;
  } else {
    problem = found.format == ImageFormat::Png ? png_problem(file) : bmp_problem(file);
  }
  if (!problem.empty()) refuse(name, problem, kRemedy);
  if (!header_complete) refuse_damaged(name, found.format);

  // Per pixel at most: 4 channels of 16 bits, as decompressed bytes, samples and rows, and 4 of 8
  // bits; or 4 JPEG components with their 16-bit coefficients. Beside it, the compressed bytes once
  // more.
  constexpr std::size_t kBytesPerPixel = 48, kFixed = std::size_t{16} << 20;
  budget.left = static_cast<std::size_t>(found.width * found.height) * kBytesPerPixel +
                2 * file.size() + kFixed;
  int width = 0, height = 0;
  std::uint8_t* decoded = stbi_load_from_memory(file.data(), static_cast<int>(file.size()), &width,
                                                &height, &found.channels, 0);
  if (!decoded) refuse_damaged(name, found.format);
  const struct Release {
    std::uint8_t* pointer;
    ~Release() { stbi_image_free(pointer); }
  } release{decoded};
  Image image(width, height, found.channels);
  std::memcpy(image.pixels.data(), decoded, image.pixels.size());
  image = turn_upright(std::move(image), orientation);
  found.width = image.width;
  found.height = image.height;
  if (info) *info = found;
  return image;
}

Image load_image(const fs::path& path, const ImageLimits& limits, ImageInfo* info) {
  return decode_image(engine::read_file(path, byte_limit(limits)), path.string(), limits, info);
}

ImageInfo read_image_info(const fs::path& path, const ImageLimits& limits) {
  const engine::InputFile file(path);
  const std::string name = path.string();
  if (file.size() > byte_limit(limits))
    refuse(name, "it holds ", file.size(), " bytes, more than the ", byte_limit(limits),
           " allowed; reduce it or remove it");
  // The head is enough unless large metadata stands before the frame header.
  std::uint64_t length = std::min<std::uint64_t>(file.size(), 1 << 16);
  for (;;) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(length));
    file.read_at(0, bytes);
    ImageInfo info;
    if (read_header(as_file(bytes), name, limits, info)) {
      if (info.format == ImageFormat::Jpeg && check_jpeg_head(as_file(bytes)).orientation >= 5)
        std::swap(info.width, info.height);
      return info;
    }
    if (length == file.size()) refuse_damaged(name, info.format);
    length = file.size();
  }
}

void save_png(const fs::path& path, const Image& image) {
  PngWriter writer(path, image.width, image.height, image.channels);
  writer.write_rows(image.pixels.data(), image.height);
  writer.close();
}

namespace {

bool is_picture_name(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png" || extension == ".bmp";
}

/// Appends the pictures below `folder`. `open_folders` are those being listed, by their real path,
/// so that a link upwards is not followed for ever. Tells whether there are subfolders.
bool list_folder(const fs::path& folder, bool recursive, std::set<fs::path>& open_folders,
                 std::vector<fs::path>& found) {
  std::error_code error;
  const fs::path real = fs::canonical(folder, error);
  if (!error && !open_folders.insert(real).second) return false;
  bool has_subfolders = false;
  fs::directory_iterator entry(folder, error);
  for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) {
    const fs::path& path = entry->path();
    if (path.filename().string().starts_with('.')) continue;
    std::error_code unreadable;  // a dangling link is no picture
    const fs::file_status status = entry->status(unreadable);
    if (fs::is_directory(status)) {
      has_subfolders = true;
      if (recursive) list_folder(path, recursive, open_folders, found);
    } else if (fs::is_regular_file(status) && is_picture_name(path)) {
      found.push_back(path);
    }
  }
  if (error)
    throw InputError(concat("cannot list the folder ", folder.string(), ": ", error.message(),
                            "; check its permissions"));
  open_folders.erase(real);
  return has_subfolders;
}

}  // namespace

std::vector<fs::path> list_images(const std::vector<fs::path>& folders, bool recursive) {
  if (folders.empty()) throw InputError("no folder with pictures was named; name at least one");
  std::vector<fs::path> all;
  std::set<fs::path> known;
  for (const fs::path& folder : folders) {
    std::error_code error;
    const fs::file_status status = fs::status(folder, error);
    if (!fs::exists(status))
      throw InputError(concat("the folder ", folder.string(), " does not exist; check the path"));
    if (!fs::is_directory(status))
      throw InputError(concat(folder.string(), " is a file; name the folder that holds it"));
    std::vector<fs::path> found;
    std::set<fs::path> open_folders;
    const bool has_subfolders = list_folder(folder, recursive, open_folders, found);
    if (found.empty())
      throw InputError(concat("the folder ", folder.string(),
                              " holds no .jpg, .jpeg, .png or .bmp file",
                              recursive        ? ", nor do its subfolders"
                              : has_subfolders ? " (its subfolders are not looked into)"
                                               : "",
                              "; name a folder with pictures"));
    std::sort(found.begin(), found.end(),
              [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
    for (fs::path& path : found)
      if (known.insert(fs::absolute(path).lexically_normal()).second)
        all.push_back(std::move(path));
  }
  return all;
}

Image crop(const Image& image, std::int64_t x, std::int64_t y, std::int64_t width,
           std::int64_t height) {
  SUBPIX_REQUIRE(x >= 0 && y >= 0 && width >= 1 && height >= 1 && width <= image.width - x &&
                     height <= image.height - y,
                 "a part of ", width, "x", height, " at (", x, ",", y, ") of ", image.width, "x",
                 image.height);
  Image part(width, height, image.channels);
  for (std::int64_t r = 0; r < height; ++r)
    std::copy_n(image.row(y + r) + x * image.channels, part.row_bytes(), part.row(r));
  return part;
}

Image without_alpha(Image image, const std::string& name) {
  if (image.channels == 1 || image.channels == 3) return image;
  Image plain(image.width, image.height, image.channels - 1);
  const std::uint8_t* from = image.pixels.data();
  std::uint8_t* to = plain.pixels.data();
  for (std::int64_t i = image.width * image.height; i > 0; --i) {
    to = std::copy_n(from, plain.channels, to);
    from += image.channels;
    if (from[-1] != 255)
      throw InputError(concat(name, " is transparent in places (", image.channels,
                              " channels); flatten it onto a background, or remove it"));
  }
  return plain;
}

Image to_rgb(Image image, const std::string& name) {
  image = without_alpha(std::move(image), name);
  if (image.channels == 3) return image;
  Image rgb(image.width, image.height, 3);
  std::uint8_t* to = rgb.pixels.data();
  for (const std::uint8_t grey : image.pixels) to = std::fill_n(to, 3, grey);
  return rgb;
}

}  // namespace subpix::train
