#include "train/report.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>
#include <system_error>

#include "engine/core/file.h"
#include "kernels/api/error.h"
#include "train/resample.h"

namespace subpix::train {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::uint64_t kLargestLog = std::uint64_t{4} << 30;

[[noreturn]] void fail(const fs::path& path, const char* what, int error) {
  throw InputError(concat("cannot ", what, " ", path.string(), ": ",
                          std::system_category().message(error),
                          "; free some space or choose another folder with --out"));
}

/// Losses are floats: more digits would only show how they were stored.
double nine_digits(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", value);
  return std::strtod(text, nullptr);
}

Json to_json_value(const LogValue& value) {
  if (const auto* number = std::get_if<double>(&value))
    return std::isfinite(*number) ? Json(nine_digits(*number)) : Json(nullptr);
  if (const auto* integer = std::get_if<Index>(&value)) return *integer;
  return std::get<std::string>(value);
}

/// The length of the part that belongs to steps up to `step`.
std::size_t length_up_to(const std::string& log, Index step, bool without_validation) {
  std::size_t begin = 0;
  while (begin < log.size()) {
    const std::size_t end = log.find('\n', begin);
    if (end == std::string::npos) break;
    const Json line = Json::parse(log.begin() + static_cast<std::ptrdiff_t>(begin),
                                  log.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    if (!line.is_object() || !line.contains("step") || !line["step"].is_number_integer() ||
        line["step"].get<Index>() > step)
      break;
    if (without_validation && line["step"].get<Index>() == step && line.contains("type") &&
        line["type"] == "val")
      break;
    begin = end + 1;
  }
  return begin;
}

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

}  // namespace

LogFile::LogFile(fs::path path, int flags) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0666);
  if (descriptor_ < 0) fail(path_, "write", errno);
}

LogFile LogFile::create(const fs::path& path) { return {path, O_APPEND | O_TRUNC}; }

LogFile LogFile::reopen(const fs::path& path, Index step, bool without_validation) {
  LogFile file(path, O_APPEND);
  const std::string log = engine::read_text(path, kLargestLog);
  if (::ftruncate(file.descriptor_,
                  static_cast<off_t>(length_up_to(log, step, without_validation))) != 0)
    fail(path, "shorten", errno);
  return file;
}

LogFile::LogFile(LogFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

LogFile::~LogFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void LogFile::append(const LogLine& line) {
  Json j = Json::object();
  for (const auto& [key, value] : line) j[key] = to_json_value(value);
  const std::string text = j.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t written = ::write(descriptor_, text.data() + at, text.size() - at);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(path_, "write", errno);
    at += static_cast<std::size_t>(written);
  }
}

void LogFile::sync() {
  while (::fsync(descriptor_) != 0) {
    if (errno == EINTR) continue;
    if (errno == EINVAL || errno == ENOTSUP) return;  // a file system without it
    fail(path_, "write", errno);
  }
}

Console::Console(std::FILE* out) : out_(out), terminal_(out && ::isatty(::fileno(out)) == 1) {}

Console::~Console() { clear_live(); }

void Console::clear_live() {
  if (!live_shown_) return;
  std::fputs("\r\x1b[K", out_);
  std::fflush(out_);
  live_shown_ = false;
}

void Console::line(const std::string& text) {
  if (!out_) return;
  clear_live();
  std::fprintf(out_, "%s\n", text.c_str());
  std::fflush(out_);
}

void Console::live(const std::string& text) {
  constexpr double kSecondsBetween = 0.2;
  if (!terminal_ || now() < last_live_ + kSecondsBetween) return;
  last_live_ = now();
  winsize size{};
  std::size_t width = 80;
  if (::ioctl(::fileno(out_), TIOCGWINSZ, &size) == 0 && size.ws_col > 1) width = size.ws_col;
  // A longer line would wrap, and the next one could not rewrite it.
  std::fprintf(out_, "\r\x1b[K%s", text.substr(0, width - 1).c_str());
  std::fflush(out_);
  live_shown_ = true;
}

std::string clock_text(double seconds) {
  constexpr double kLongest = 360000.0 * 3600.0;
  if (!(seconds >= 0.0 && seconds < kLongest)) return "?";
  const auto s = static_cast<long long>(seconds + 0.5);
  char text[40];
  std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
  return text;
}

Image side_by_side(const Image& lr, const Image& sr, const Image& hr) {
  constexpr Index kLargestPanel = 512, kRgb = 3;
  const Index scale = hr.width / lr.width;
  const Index width = std::min(lr.width, kLargestPanel / scale);
  const Index height = std::min(lr.height, kLargestPanel / scale);
  const Index x = (lr.width - width) / 2, y = (lr.height - height) / 2;
  const auto part = [&](const Image& image, Index factor) {
    return to_rgb(crop(image, x * factor, y * factor, width * factor, height * factor), "");
  };
  const Image panels[] = {enlarge_nearest(part(lr, 1), scale), part(sr, scale), part(hr, scale)};
  Image all(3 * width * scale, height * scale, kRgb);
  for (Index row = 0; row < all.height; ++row) {
    std::uint8_t* out = all.row(row);
    for (const Image& panel : panels)
      out = std::copy_n(panel.row(row), static_cast<std::size_t>(panel.row_bytes()), out);
  }
  return all;
}

}  // namespace subpix::train
