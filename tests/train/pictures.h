#pragma once

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/core/file.h"
#include "engine/core/random.h"
#include "train/image.h"

namespace subpix::train::tests {

/// Something like a photograph: waves, an edge and a little noise, another one for every seed.
inline Image make_photo(std::int64_t width, std::int64_t height, std::uint64_t seed) {
  engine::Philox random(seed, 99);
  Image image(width, height, 3);
  double fx[3], fy[3], phase[3];
  for (int c = 0; c < 3; ++c) {
    fx[c] = random.uniform(0.02f, 0.3f);
    fy[c] = random.uniform(0.02f, 0.3f);
    phase[c] = random.uniform(0.0f, 6.0f);
  }
  const double edge = random.uniform(0.3f, 0.7f) * static_cast<float>(width);
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) {
        const double wave =
            std::sin(fx[c] * static_cast<double>(x) + fy[c] * static_cast<double>(y) + phase[c]);
        const double value = 120.0 + 70.0 * wave + (static_cast<double>(x) > edge ? 30.0 : -30.0) +
                             random.uniform(-5.0f, 5.0f);
        image.row(y)[x * 3 + c] = static_cast<std::uint8_t>(value);
      }
  return image;
}

/// Writes photo_0.png ... of the given size.
inline void write_photos(const std::filesystem::path& folder, int count, std::int64_t width,
                         std::int64_t height, std::uint64_t seed = 1) {
  engine::create_folder(folder);
  for (int i = 0; i < count; ++i)
    save_png(folder / ("photo_" + std::to_string(i) + ".png"),
             make_photo(width, height, seed * 1000 + static_cast<std::uint64_t>(i)));
}

/// A committed file of this folder's fixtures.
inline std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(SUBPIX_SOURCE_DIR) / "tests/train/fixtures" / name;
}

}  // namespace subpix::train::tests
