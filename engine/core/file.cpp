#include "engine/core/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <limits>
#include <system_error>
#include <utility>

#include "kernels/api/error.h"

namespace subpix::engine {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTemporaryMark = ".subpix-tmp-";
constexpr std::size_t kLongestName = 255;  // NAME_MAX of the file systems in use

// A signal handler without SA_RESTART (the trainer's) must not turn into an I/O error.
template <class Call>
auto retry_interrupted(const Call& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

fs::path folder_of(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

std::string reason(int error) { return std::system_category().message(error); }

[[noreturn]] void fail_write(const fs::path& path, int error) {
  const std::string where = folder_of(path).string();
  std::string remedy;
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      remedy = "free some space or choose a folder on another disk";
      break;
    case EFBIG:
      remedy = "the file would exceed this system's file size limit (see ulimit -f)";
      break;
    case EACCES:
    case EPERM:
      remedy = "choose a folder you may write to, or change the permissions of " + where;
      break;
    case EROFS:
      remedy = "the disk is mounted read-only; choose a folder on another disk";
      break;
    case ENOENT:
      remedy = "create the folder " + where + " first";
      break;
    case ENOTDIR:
      remedy = "a part of " + where + " is a file, not a folder";
      break;
    case EISDIR:
      remedy = "this is a folder; name a file";
      break;
    case ENAMETOOLONG:
      remedy = "choose a shorter name";
      break;
    case EMFILE:
    case ENFILE:
      remedy = "too many files are open; raise the limit (ulimit -n)";
      break;
    default:
      remedy = "check the disk that holds " + where;
  }
  throw InputError(concat("cannot write ", path.string(), ": ", reason(error), "; ", remedy));
}

[[noreturn]] void fail_read(const fs::path& path, int error) {
  std::string remedy;
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      remedy = "check the path";
      break;
    case EACCES:
    case EPERM:
      remedy = "change its permissions or run as a user who may read it";
      break;
    case EISDIR:
      remedy = "this is a folder; name a file";
      break;
    case EMFILE:
    case ENFILE:
      remedy = "too many files are open; raise the limit (ulimit -n)";
      break;
    default:
      remedy = "check the disk that holds it";
  }
  throw InputError(concat("cannot read ", path.string(), ": ", reason(error), "; ", remedy));
}

// Symbolic links are followed by hand so that the temporary lies on the target's file system; a
// link to a file that does not exist yet names the place to create.
fs::path resolve_links(const fs::path& path) {
  constexpr int kMostLinks = 40;  // the kernel's own limit
  fs::path target = path;
  std::error_code error;
  for (int depth = 0; fs::is_symlink(target, error); ++depth) {
    if (depth == kMostLinks) fail_write(path, ELOOP);
    const fs::path next = fs::read_symlink(target, error);
    if (error) fail_write(path, error.value());
    target = next.is_absolute() ? next : folder_of(target) / next;
  }
  return target;
}

/// The names under which Linux shows a process's open files: links that lead nowhere, or to a file
/// that others go on writing to.
bool names_open_file(const fs::path& path) {
  const std::string name = path.lexically_normal().string();
  return name == "/dev/stdout" || name == "/dev/stderr" || name.starts_with("/dev/fd/") ||
         name.starts_with("/proc/");
}

fs::path temporary_name(const fs::path& target) {
  static std::atomic<unsigned> counter{0};
  const std::string tail = concat(kTemporaryMark, ::getpid(), "-", counter.fetch_add(1));
  std::string name = target.filename().string();
  name.resize(std::min(name.size(), kLongestName - tail.size()));
  return folder_of(target) / (name + tail);
}

void write_all(int descriptor, const fs::path& path, std::span<const std::byte> bytes) {
  // One write() moves at most 2 GiB; a smaller step keeps signals answered.
  constexpr std::size_t kStep = std::size_t{1} << 26;
  while (!bytes.empty()) {
    const ssize_t written = retry_interrupted(
        [&] { return ::write(descriptor, bytes.data(), std::min(bytes.size(), kStep)); });
    if (written < 0) fail_write(path, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

// The rename itself is only durable once the folder is on the disk. Some network file systems
// cannot do that and say so with EINVAL or ENOTSUP: then there is nothing more to be had.
void sync_folder(const fs::path& folder, const fs::path& path) {
  const int descriptor =
      retry_interrupted([&] { return ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  // A folder one may write but not list still holds the file.
  if (descriptor < 0) return;
  const int result = retry_interrupted([&] { return ::fsync(descriptor); });
  const int error = errno;
  ::close(descriptor);
  if (result < 0 && error != EINVAL && error != ENOTSUP) fail_write(path, error);
}

}  // namespace

AtomicFile::AtomicFile(const fs::path& path) : path_(path) {
  if (path_.empty()) throw InputError("cannot write a file without a name; name a file");
  if (path_.filename().empty() || is_folder(path_)) fail_write(path_, EISDIR);
  struct stat old {};
  const bool exists = ::stat(path_.c_str(), &old) == 0;
  atomic_ = !(exists && !S_ISREG(old.st_mode)) && !names_open_file(path_);
  if (!atomic_) {
    temporary_ = target_ = path_;
    // Appending, since an open file that is named again starts at its beginning.
    descriptor_ =
        retry_interrupted([&] { return ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC); });
    if (descriptor_ < 0) fail_write(path_, errno);
    return;
  }
  target_ = resolve_links(path_);
  // rename() would replace a file its owner protected: respect what plain writing respects.
  if (exists && ::access(target_.c_str(), W_OK) != 0) fail_write(path_, errno);
  if (target_.filename().string().size() > kLongestName) fail_write(path_, ENAMETOOLONG);
  // A name can only be taken by the leftover of a killed process that had our number.
  do {
    temporary_ = temporary_name(target_);
    descriptor_ = retry_interrupted(
        [&] { return ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); });
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0) fail_write(path_, errno);
  if (exists && ::fchmod(descriptor_, old.st_mode & 07777) != 0) {
    const int error = errno;
    discard();
    fail_write(path_, error);
  }
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() noexcept {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  descriptor_ = -1;
  if (atomic_) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  SUBPIX_REQUIRE(descriptor_ >= 0, path_.string(), " is already committed");
  write_all(descriptor_, path_, bytes);
}

void AtomicFile::commit() {
  SUBPIX_REQUIRE(descriptor_ >= 0, path_.string(), " is already committed");
  if (!atomic_) {
    const int descriptor = std::exchange(descriptor_, -1);
    if (::close(descriptor) != 0 && errno != EINTR) fail_write(path_, errno);
    return;
  }
  if (retry_interrupted([&] { return ::fsync(descriptor_); }) != 0) fail_write(path_, errno);
  // Network file systems report a full disk here at the latest. Linux closes even if it says EINTR.
  const int descriptor = std::exchange(descriptor_, -1);
  int error = ::close(descriptor) != 0 && errno != EINTR ? errno : 0;
  if (error == 0 && ::rename(temporary_.c_str(), target_.c_str()) != 0) error = errno;
  if (error != 0) {
    ::unlink(temporary_.c_str());
    fail_write(path_, error);
  }
  sync_folder(folder_of(target_), path_);
}

void atomic_write(const fs::path& path, std::span<const std::byte> bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

void atomic_write(const fs::path& path, std::string_view text) {
  atomic_write(path, std::as_bytes(std::span(text.data(), text.size())));
}

void atomic_write(const fs::path& path, const std::function<void(AtomicFile&)>& writer) {
  AtomicFile file(path);
  writer(file);
  file.commit();
}

int remove_leftover_temporaries(const fs::path& folder) {
  int removed = 0;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const std::size_t mark = name.rfind(kTemporaryMark);
    if (mark == std::string::npos) continue;
    const std::string_view numbers = std::string_view(name).substr(mark + kTemporaryMark.size());
    if (numbers.empty() || numbers.find_first_not_of("0123456789-") != std::string_view::npos)
      continue;
    std::error_code status;
    if (!fs::is_regular_file(entry->symlink_status(status))) continue;
    if (::unlink(entry->path().c_str()) == 0) ++removed;
  }
  return removed;
}

InputFile::InputFile(const fs::path& path) : path_(path) {
  descriptor_ = retry_interrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); });
  if (descriptor_ < 0) fail_read(path_, errno);
  struct stat status {};
  int error = ::fstat(descriptor_, &status) != 0 ? errno : 0;
  if (error == 0 && S_ISDIR(status.st_mode)) error = EISDIR;
  if (error == 0 && !S_ISREG(status.st_mode)) error = ESPIPE;
  if (error != 0) {
    ::close(std::exchange(descriptor_, -1));
    if (error == ESPIPE)
      throw InputError(concat("cannot read ", path_.string(),
                              ": it is a device or pipe; name an ordinary file"));
    fail_read(path_, error);
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  if (this != &other) {
    if (descriptor_ >= 0) ::close(descriptor_);
    path_ = std::move(other.path_);
    descriptor_ = std::exchange(other.descriptor_, -1);
    size_ = other.size_;
  }
  return *this;
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void InputFile::read_at(std::uint64_t offset, std::span<std::byte> bytes) const {
  constexpr std::size_t kStep = std::size_t{1} << 26;
  while (!bytes.empty()) {
    const ssize_t got = retry_interrupted([&] {
      return ::pread(descriptor_, bytes.data(), std::min(bytes.size(), kStep),
                     static_cast<off_t>(offset));
    });
    if (got < 0) fail_read(path_, errno);
    if (got == 0)
      throw InputError(concat("cannot read ", path_.string(), ": it ends at byte ", offset,
                              " although more was expected; another program may be changing it"));
    bytes = bytes.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
}

namespace {

template <class Container>
Container read_whole(const fs::path& path, std::uint64_t max_bytes) {
  const InputFile file(path);
  if (file.size() > max_bytes)
    throw InputError(concat("cannot read ", path.string(), ": it holds ", file.size(),
                            " bytes, more than the ", max_bytes,
                            " allowed here; check that it is the right file"));
  Container content;
  content.resize(static_cast<std::size_t>(file.size()));
  file.read_at(0, std::as_writable_bytes(std::span(content.data(), content.size())));
  return content;
}

}  // namespace

std::vector<std::byte> read_file(const fs::path& path, std::uint64_t max_bytes) {
  return read_whole<std::vector<std::byte>>(path, max_bytes);
}

std::string read_text(const fs::path& path, std::uint64_t max_bytes) {
  return read_whole<std::string>(path, max_bytes);
}

void create_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  // create_directories reports success or EEXIST-like codes differently across versions: look.
  if (is_folder(folder)) return;
  const int code = error ? error.value() : EEXIST;
  throw InputError(concat("cannot create the folder ", folder.string(), ": ", reason(code),
                          "; choose another place or change what stands in the way"));
}

}  // namespace subpix::engine
