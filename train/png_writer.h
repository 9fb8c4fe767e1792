#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

namespace subpix::train {

/// Writes a PNG of 8 bits per channel row by row, so that a picture larger than memory can be made
/// in strips. The file appears under its name only after close(); before, or after any failure,
/// what stood there is untouched. Failures (disk full, no permission, ...) are InputErrors. The
/// same pixels give the same bytes with the same libpng and zlib.
class PngWriter {
 public:
  /// 1 channel is grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
  PngWriter(const std::filesystem::path& path, std::int64_t width, std::int64_t height,
            std::int64_t channels);
  PngWriter(PngWriter&&) noexcept;
  PngWriter& operator=(PngWriter&&) noexcept;
  ~PngWriter();

  /// The next `count` rows from the top, each width * channels bytes, without gaps.
  void write_rows(const std::uint8_t* rows, std::int64_t count);
  /// Finishes the file; all rows must have been written.
  void close();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace subpix::train
