#include "train/png_writer.h"

#include <png.h>

#include <csetjmp>
#include <exception>
#include <string>
#include <utility>

#include "engine/core/file.h"
#include "kernels/api/error.h"

namespace subpix::train {

// libpng reports errors by longjmp, which must not cross a C++ frame with anything to destroy, and
// our write callback must not throw through libpng's C frames. So the callback keeps an exception
// here and enters libpng's error path; call() catches the jump in a frame that owns nothing and
// throws again.
struct PngWriter::State {
  State(const std::filesystem::path& path, std::int64_t width_, std::int64_t height_,
        std::int64_t channels_)
      : file(path), width(width_), height(height_), channels(channels_) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { png_destroy_write_struct(&png, &info); }

  template <class Step>
  static bool guarded(png_structp png, const Step& step) noexcept {
    if (setjmp(png_jmpbuf(png))) return false;
    step();
    return true;
  }

  template <class Step>
  void call(const Step& step) {
    if (guarded(png, step)) return;
    if (failure) std::rethrow_exception(std::exchange(failure, nullptr));
    throw Error(concat("cannot write ", file.path().string(), ": libpng says ", message));
  }

  static void on_write(png_structp png, png_bytep bytes, std::size_t size) {
    auto* state = static_cast<State*>(png_get_io_ptr(png));
    try {
      state->file.write(bytes, size);
      return;
    } catch (...) {
      state->failure = std::current_exception();
    }
    png_error(png, "write failed");
  }
  static void on_flush(png_structp) {}
  static void on_error(png_structp png, png_const_charp text) {
    static_cast<State*>(png_get_error_ptr(png))->message = text;
    png_longjmp(png, 1);
  }
  static void on_warning(png_structp, png_const_charp) {}

  engine::AtomicFile file;
  std::int64_t width, height, channels;
  std::int64_t rows_written = 0;
  std::exception_ptr failure;
  std::string message;
  png_structp png = nullptr;
  png_infop info = nullptr;
};

PngWriter::PngWriter(const std::filesystem::path& path, std::int64_t width, std::int64_t height,
                     std::int64_t channels) {
  SUBPIX_REQUIRE(width >= 1 && height >= 1 && width <= PNG_UINT_31_MAX &&
                     height <= PNG_UINT_31_MAX && channels >= 1 && channels <= 4,
                 "no PNG can be ", width, "x", height, " with ", channels, " channels");
  state_ = std::make_unique<State>(path, width, height, channels);
  State& s = *state_;
  s.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &s, State::on_error, State::on_warning);
  if (s.png) s.info = png_create_info_struct(s.png);
  if (!s.info) throw std::bad_alloc();
  png_set_write_fn(s.png, &s, State::on_write, State::on_flush);
  s.call([&s] {
    constexpr int kTypes[] = {PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB,
                              PNG_COLOR_TYPE_RGB_ALPHA};
    // libpng's own limit of a million pixels per side is there for readers.
    png_set_user_limits(s.png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    // Photographs hardly get smaller with more effort, but take several times as long.
    png_set_compression_level(s.png, 4);
    png_set_IHDR(s.png, s.info, static_cast<png_uint_32>(s.width),
                 static_cast<png_uint_32>(s.height), 8, kTypes[s.channels - 1], PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(s.png, s.info);
  });
}

PngWriter::PngWriter(PngWriter&&) noexcept = default;
PngWriter& PngWriter::operator=(PngWriter&&) noexcept = default;
PngWriter::~PngWriter() = default;

void PngWriter::write_rows(const std::uint8_t* rows, std::int64_t count) {
  SUBPIX_REQUIRE(state_, "the PNG is already closed");
  State& s = *state_;
  SUBPIX_REQUIRE(count >= 0 && count <= s.height - s.rows_written, s.rows_written, " + ", count,
                 " rows of ", s.height);
  s.call([&s, rows, count] {
    for (std::int64_t i = 0; i < count; ++i) png_write_row(s.png, rows + i * s.width * s.channels);
  });
  s.rows_written += count;
}

void PngWriter::close() {
  SUBPIX_REQUIRE(state_, "the PNG is already closed");
  State& s = *state_;
  SUBPIX_REQUIRE(s.rows_written == s.height, "only ", s.rows_written, " of ", s.height,
                 " rows were written");
  s.call([&s] { png_write_end(s.png, s.info); });
  s.file.commit();
  state_.reset();
}

}  // namespace subpix::train
