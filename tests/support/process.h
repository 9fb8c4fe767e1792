#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace subpix::tests {

/// A tool of this build running with its output in files below `folder`.
class Process {
 public:
  Process(const std::string& tool, const std::vector<std::string>& arguments,
          const std::filesystem::path& folder)
      : out_(folder / "stdout"), err_(folder / "stderr") {
    const std::string program = SUBPIX_BINARY_DIR "/bin/" + tool;
    std::vector<std::string> all = {program};
    all.insert(all.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& argument : all) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const std::string out = out_.string(), err = err_.string();
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("cannot start " + program);
    if (pid_ > 0) return;
    // Between fork and exec only what a signal handler may do.
    constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC;
    if (::dup2(::open(out.c_str(), kFlags, 0600), 1) < 0 ||
        ::dup2(::open(err.c_str(), kFlags, 0600), 2) < 0)
      ::_exit(126);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    wait();
  }

  void signal(int number) const { ::kill(pid_, number); }
  /// Exit code, or minus the number of the signal that ended it.
  int wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0)
      if (errno != EINTR) throw std::runtime_error("cannot wait for a process");
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  std::string out() const { return text(out_); }
  std::string err() const { return text(err_); }

 private:
  static std::string text(const std::filesystem::path& path) {
    std::ostringstream all;
    all << std::ifstream(path).rdbuf();
    return all.str();
  }
  std::filesystem::path out_, err_;
  pid_t pid_ = 0;
};

struct Finished {
  int code;
  std::string out, err;
};

/// Runs a tool to its end.
inline Finished run_tool(const std::string& tool, const std::vector<std::string>& arguments,
                         const std::filesystem::path& folder) {
  Process process(tool, arguments, folder);
  const int code = process.wait();
  return {code, process.out(), process.err()};
}

}  // namespace subpix::tests
