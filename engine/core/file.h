#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace subpix::engine {

/// A file that appears complete or not at all: bytes go to a temporary file in the same folder,
/// commit() forces them to the disk and renames it over `path`, then forces the folder. Until then,
/// and after any failure, what stood at `path` is untouched and the destructor removes the
/// temporary. A symbolic link is followed; a device or pipe (/dev/stdout) is written straight,
/// since it cannot be replaced. Every failure is an InputError with path, reason and remedy.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(std::span<const std::byte> bytes);
  void write(const void* data, std::size_t size) {
    write(std::span(static_cast<const std::byte*>(data), size));
  }
  void write(std::string_view text) { write(text.data(), text.size()); }

  /// Makes the file visible. Nothing may be written afterwards.
  void commit();

  /// Where the bytes go before commit(); equal to path() for a device or pipe.
  const std::filesystem::path& temporary() const { return temporary_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  void discard() noexcept;

  std::filesystem::path path_;       ///< as the caller named it, for messages
  std::filesystem::path target_;     ///< symbolic links resolved
  std::filesystem::path temporary_;  ///< beside target_
  int descriptor_ = -1;
  bool atomic_ = true;  ///< false for devices and pipes
};

void atomic_write(const std::filesystem::path& path, std::span<const std::byte> bytes);
void atomic_write(const std::filesystem::path& path, std::string_view text);
/// `writer` streams the content; if it throws, nothing changes at `path`.
void atomic_write(const std::filesystem::path& path,
                  const std::function<void(AtomicFile&)>& writer);

/// Removes the temporaries that killed processes left in `folder` and returns how many. Only for a
/// folder in which nobody else is writing at the moment. A missing folder counts as empty.
int remove_leftover_temporaries(const std::filesystem::path& folder);

/// A file opened for reading at any position; safe to read from several threads. Positioned reads,
/// not a mapping: a file that shrinks meanwhile gives an InputError instead of SIGBUS.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path);
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;
  ~InputFile();

  /// Fills `bytes` from `offset`; a file that ends before is an InputError.
  void read_at(std::uint64_t offset, std::span<std::byte> bytes) const;
  std::uint64_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

/// The whole content. More than `max_bytes` is an InputError before anything is allocated.
std::vector<std::byte> read_file(const std::filesystem::path& path, std::uint64_t max_bytes);
std::string read_text(const std::filesystem::path& path, std::uint64_t max_bytes);

/// Makes the folder and its parents; an InputError names what stands in the way.
void create_folder(const std::filesystem::path& folder);

}  // namespace subpix::engine
