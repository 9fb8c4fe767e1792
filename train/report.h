#pragma once

#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "train/config.h"
#include "train/image.h"

namespace subpix::train {

/// One line of log.jsonl: keys in order. docs/formats.md lists them.
using LogValue = std::variant<Index, double, std::string>;
using LogLine = std::vector<std::pair<std::string, LogValue>>;

/// log.jsonl: one JSON object a line, each appended by one write. Every line has a "step"; they
/// never decrease. InputError when the disk refuses.
class LogFile {
 public:
  /// Opens an empty file.
  static LogFile create(const std::filesystem::path& path);
  /// Opens an existing one (or an empty one if it was lost) and cuts off every line of a later step
  /// and a last line that a killed process left incomplete; without_validation also that step's
  /// "val" line.
  static LogFile reopen(const std::filesystem::path& path, Index step, bool without_validation);
  LogFile(LogFile&& other) noexcept;
  LogFile& operator=(LogFile&&) = delete;
  ~LogFile();

  /// Floating-point values are written with nine significant digits.
  void append(const LogLine& line);
  /// Forces the file to the disk.
  void sync();

 private:
  LogFile(std::filesystem::path path, int flags);
  std::filesystem::path path_;
  int descriptor_ = -1;
};

/// What a person sees: plain lines, and on a terminal one live line below them that is rewritten.
class Console {
 public:
  /// out null: says nothing.
  explicit Console(std::FILE* out);
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  bool is_terminal() const { return terminal_; }
  /// A line that stays.
  void line(const std::string& text);
  /// Replaces the live line, several times a second at most; nothing without a terminal.
  void live(const std::string& text);

 private:
  void clear_live();
  std::FILE* out_;
  bool terminal_;
  bool live_shown_ = false;
  double last_live_ = -1.0;
};

/// "1:02:03".
std::string clock_text(double seconds);

/// Left to right: LR enlarged by repeating pixels, SR, HR; the middle of large pictures.
Image side_by_side(const Image& lr, const Image& sr, const Image& hr);

}  // namespace subpix::train
