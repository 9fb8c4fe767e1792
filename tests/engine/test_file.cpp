#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>

#include "engine/core/file.h"
#include "tests/support/message.h"
#include "tests/support/temporary_folder.h"

namespace fs = std::filesystem;
using namespace subpix;
using namespace subpix::engine;
using Catch::Matchers::Contains;
using tests::input_error;
using tests::TemporaryFolder;

namespace {

constexpr std::uint64_t kPlenty = 1 << 20;

int entries(const fs::path& folder) {
  return static_cast<int>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

/// Runs `body` in a process of its own (it may change limits, users or mounts) and returns its
/// answer.
template <class Body>
std::string in_child(const Body& body) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::string answer;
    try {
      answer = body();
    } catch (const std::exception& error) {
      answer = std::string("threw: ") + error.what();
    }
    const ssize_t sent = ::write(ends[1], answer.data(), answer.size());
    ::_exit(sent == static_cast<ssize_t>(answer.size()) ? 0 : 1);
  }
  ::close(ends[1]);
  std::string answer;
  char buffer[4096];
  for (ssize_t got = 0; (got = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    answer.append(buffer, static_cast<std::size_t>(got));
  ::close(ends[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  return answer;
}

/// Mounts 64 KiB at `folder` in a mount table of this process's own; false where that is not
/// allowed.
bool mount_small_disk(const fs::path& folder) {
  const std::string user = std::to_string(::getuid());
  if (::unshare(CLONE_NEWNS) != 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    std::ofstream("/proc/self/uid_map") << "0 " << user << " 1";
  }
  return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=64k") == 0;
}

}  // namespace

TEST_CASE("atomic_write leaves exactly the file", "[engine][file]") {
  const TemporaryFolder folder;
  const fs::path path = folder / "a.json";
  atomic_write(path, "first");
  CHECK(read_text(path, kPlenty) == "first");
  atomic_write(path, "the second, longer content");
  CHECK(read_text(path, kPlenty) == "the second, longer content");
  atomic_write(path, std::string_view());
  CHECK(read_text(path, kPlenty).empty());
  atomic_write(path, [](AtomicFile& file) {
    file.write("piece ");
    file.write("by piece");
  });
  CHECK(read_text(path, kPlenty) == "piece by piece");
  CHECK(entries(folder.path()) == 1);
}

TEST_CASE("a name as long as the file system allows can be written", "[engine][file]") {
  const TemporaryFolder folder;
  const fs::path path = folder / std::string(255, 'n');
  atomic_write(path, "text");
  CHECK(read_text(path, kPlenty) == "text");
  CHECK_THAT(input_error([&] { atomic_write(folder / std::string(256, 'n'), "text"); }),
             Contains("shorter name"));
  CHECK(entries(folder.path()) == 1);
}

TEST_CASE("the old content stays readable until commit", "[engine][file]") {
  const TemporaryFolder folder;
  const fs::path path = folder / "weights";
  atomic_write(path, "old");
  {
    AtomicFile file(path);
    file.write("half of the n");
    CHECK(read_text(path, kPlenty) == "old");
    CHECK(file.temporary().parent_path() == path.parent_path());
    CHECK(fs::exists(file.temporary()));
  }
  CHECK(read_text(path, kPlenty) == "old");
  CHECK(entries(folder.path()) == 1);
}

TEST_CASE("a writer that throws changes nothing", "[engine][file]") {
  const TemporaryFolder folder;
  const fs::path path = folder / "weights";
  atomic_write(path, "old");
  CHECK_THROWS_AS(atomic_write(path,
                               [](AtomicFile& file) {
                                 file.write("new");
                                 throw std::runtime_error("stop");
                               }),
                  std::runtime_error);
  CHECK(read_text(path, kPlenty) == "old");
  CHECK(entries(folder.path()) == 1);
}

TEST_CASE("nothing can be written after commit", "[engine][file]") {
  const TemporaryFolder folder;
  AtomicFile file(folder / "a");
  file.commit();
  CHECK_THROWS_AS(file.write("x"), Error);
  CHECK_THROWS_AS(file.commit(), Error);
}

TEST_CASE("permissions of a replaced file and symbolic links survive", "[engine][file]") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "disk");
  atomic_write(folder / "disk/real", "old");
  ::chmod((folder / "disk/real").c_str(), 0640);
  fs::create_symlink("disk/real", folder / "link");
  fs::create_symlink("link", folder / "link to link");
  atomic_write(folder / "link to link", "new");
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(read_text(folder / "disk/real", kPlenty) == "new");
  struct stat status {};
  REQUIRE(::stat((folder / "disk/real").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0640);
  CHECK(entries(folder / "disk") == 1);

  fs::create_symlink("disk/not yet there", folder / "dangling");
  atomic_write(folder / "dangling", "made");
  CHECK(read_text(folder / "disk/not yet there", kPlenty) == "made");

  fs::create_symlink("circle", folder / "circle");
  input_error([&] { atomic_write(folder / "circle", "x"); });
}

TEST_CASE("a place that cannot be written is named with a remedy", "[engine][file]") {
  const TemporaryFolder folder;
  const fs::path missing = folder / "missing/a.json";
  const std::string text = input_error([&] { atomic_write(missing, "x"); });
  CHECK_THAT(text, Contains(missing.string()) && Contains("No such file or directory") &&
                       Contains("create the folder"));
  CHECK_THAT(input_error([&] { atomic_write(folder.path(), "x"); }), Contains("folder"));
  CHECK_THAT(input_error([&] { atomic_write(folder.path().string() + "/", "x"); }),
             Contains("folder"));
  CHECK_THAT(input_error([&] { atomic_write("", "x"); }), Contains("without a name"));
  atomic_write(folder / "file", "x");
  CHECK_THAT(input_error([&] { atomic_write(folder / "file/a", "x"); }), Contains("not a folder"));
}

TEST_CASE("missing permission is named", "[engine][file]") {
  const TemporaryFolder folder;
  atomic_write(folder / "mine", "old");
  atomic_write(folder / "protected", "old");
  ::chmod((folder / "protected").c_str(), 0444);
  fs::create_directory(folder / "closed");
  ::chmod((folder / "closed").c_str(), 0555);
  ::chmod(folder.path().c_str(), 0777);
  // As somebody without special rights, since root may write everywhere.
  const std::string answer = in_child([&]() -> std::string {
    if (::getuid() == 0 && ::setuid(65534) != 0) return "cannot become another user";
    std::string texts;
    for (const char* name : {"closed/a", "protected"}) {
      try {
        atomic_write(folder / name, "new");
        texts += "written!";
      } catch (const InputError& error) {
        texts += error.what();
      }
      texts += '|';
    }
    return texts;
  });
  if (answer == "cannot become another user") {
    WARN("left out: " << answer);
    return;
  }
  CHECK_THAT(answer, Contains("closed/a: Permission denied") &&
                         Contains("change the permissions") &&
                         Contains("protected: Permission denied") && !Contains("written!"));
  CHECK(read_text(folder / "protected", kPlenty) == "old");
  CHECK(entries(folder / "closed") == 0);
  ::chmod((folder / "closed").c_str(), 0755);
}

TEST_CASE("a full disk leaves the old file and no temporary", "[engine][file]") {
  const TemporaryFolder folder;
  const fs::path path = folder / "weights";
  const std::string answer = in_child([&]() -> std::string {
    if (!mount_small_disk(folder.path())) return "no mount";
    atomic_write(path, "old");
    std::string text;
    try {
      atomic_write(path, std::string(1 << 20, 'x'));
      text = "written!";
    } catch (const InputError& error) {
      text = error.what();
    }
    return text + "|" + read_text(path, kPlenty) + "|" + std::to_string(entries(folder.path()));
  });
  if (answer == "no mount") {
    WARN("left out: this process may not mount a small disk");
    return;
  }
  CHECK_THAT(answer, Contains(path.string() + ": No space left on device") &&
                         Contains("free some space") && Catch::Matchers::EndsWith("|old|1"));
}

TEST_CASE("a file size limit leaves the old file and no temporary", "[engine][file]") {
  const TemporaryFolder folder;
  const fs::path path = folder / "weights";
  const std::string answer = in_child([&]() -> std::string {
    atomic_write(path, "old");
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 16, 1 << 16};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    std::string text;
    try {
      atomic_write(path, std::string(1 << 20, 'x'));
      text = "written!";
    } catch (const InputError& error) {
      text = error.what();
    }
    return text + "|" + read_text(path, kPlenty) + "|" + std::to_string(entries(folder.path()));
  });
  CHECK_THAT(answer,
             Contains(path.string() + ": File too large") && Catch::Matchers::EndsWith("|old|1"));
}

TEST_CASE("devices are written to, not replaced", "[engine][file]") {
  atomic_write("/dev/null", "x");
  CHECK(fs::is_character_file("/dev/null"));
  if (fs::is_character_file("/dev/full")) {
    CHECK_THAT(input_error([] { atomic_write("/dev/full", "x"); }),
               Contains("No space left on device") && Contains("free some space"));
    CHECK(fs::is_character_file("/dev/full"));
  }
}

TEST_CASE("standard output can be named, whatever stands behind it", "[engine][file]") {
  const TemporaryFolder folder;
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const int file = ::open((folder / "out").c_str(), O_CREAT | O_WRONLY, 0600);
  REQUIRE(file >= 0);
  const std::string answer = in_child([&]() -> std::string {
    ::dup2(ends[1], STDOUT_FILENO);
    atomic_write("/dev/stdout", "to the pipe");
    ::dup2(file, STDOUT_FILENO);
    if (::write(STDOUT_FILENO, "a table, ", 9) != 9) return "not written";
    atomic_write("/dev/stdout", "to the file");
    return "written";
  });
  CHECK(answer == "written");
  ::close(ends[1]);
  ::close(file);
  char buffer[64];
  const ssize_t got = ::read(ends[0], buffer, sizeof buffer);
  ::close(ends[0]);
  CHECK(std::string(buffer, got > 0 ? static_cast<std::size_t>(got) : 0) == "to the pipe");
  CHECK(read_text(folder / "out", kPlenty) == "a table, to the file");
  CHECK(entries(folder.path()) == 1);
}

TEST_CASE("leftovers of killed processes can be removed", "[engine][file]") {
  const TemporaryFolder folder;
  const fs::path path = folder / "weights";
  in_child([&]() -> std::string {
    AtomicFile file(path);
    file.write("half");
    ::_exit(0);  // as after kill -9: no destructor runs
  });
  CHECK(entries(folder.path()) == 1);
  atomic_write(folder / "a.subpix-tmp-file", "not a temporary");
  CHECK(remove_leftover_temporaries(folder.path()) == 1);
  CHECK(entries(folder.path()) == 1);
  CHECK(remove_leftover_temporaries(folder / "missing") == 0);
}

TEST_CASE("reading names what is wrong", "[engine][file]") {
  const TemporaryFolder folder;
  atomic_write(folder / "a", "0123456789");
  CHECK(read_text(folder / "a", 10) == "0123456789");
  CHECK(read_file(folder / "a", 10).size() == 10);
  CHECK_THAT(input_error([&] { read_text(folder / "a", 9); }), Contains("more than the 9 allowed"));
  CHECK_THAT(input_error([&] { read_text(folder / "b", 9); }),
             Contains((folder / "b").string()) && Contains("No such file"));
  CHECK_THAT(input_error([&] { read_text(folder.path(), 9); }), Contains("folder"));
  CHECK_THAT(input_error([&] { read_text("/dev/zero", 9); }), Contains("device"));
}

TEST_CASE("InputFile reads at any position and reports a file that shrank", "[engine][file]") {
  const TemporaryFolder folder;
  atomic_write(folder / "a", "0123456789");
  InputFile file(folder / "a");
  std::byte bytes[4];
  file.read_at(6, bytes);
  CHECK(bytes[0] == std::byte{'6'});
  CHECK(bytes[3] == std::byte{'9'});
  InputFile moved = std::move(file);
  CHECK(moved.size() == 10);
  fs::resize_file(folder / "a", 8);
  CHECK_THAT(input_error([&] { moved.read_at(6, bytes); }), Contains("ends at byte 8"));
}

TEST_CASE("create_folder makes parents and names obstacles", "[engine][file]") {
  const TemporaryFolder folder;
  create_folder(folder / "a/b/c");
  create_folder(folder / "a/b/c");
  CHECK(fs::is_directory(folder / "a/b/c"));
  atomic_write(folder / "file", "x");
  CHECK_THAT(input_error([&] { create_folder(folder / "file"); }),
             Contains("cannot create the folder") && Contains("file"));
  CHECK_THAT(input_error([&] { create_folder(folder / "file/b"); }), Contains("file/b"));
}
