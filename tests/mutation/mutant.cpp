// Which mutant runs, and which were reached: linked once into a program with mutants, and never
// instrumented. mutant.h has the variables of a program that runs one mutant. With
//
//   SUBPIX_MUTANTS=FILE           lines "number milliseconds"
//   SUBPIX_MUTANT_VERDICTS=FILE   is written: "number reached|caught|crashed|late op variant"
//
// the table tests run each call of a variant once more for each of these mutants that it reaches,
// in a child process that begins where the call begins: the oracle's numbers are there already, and
// a mutant that is caught is not run again. Mutants that passed for so many milliseconds are left
// alone.

#include "tests/mutation/mutant.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>

namespace subpix::mutation {

unsigned char seen[kMost];

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

struct State {
  int chosen = 0;  // numbers begin at 1

  State() {
    if (const char* value = std::getenv("SUBPIX_MUTANT")) chosen = std::atoi(value);
  }
  ~State() {
    const char* path = std::getenv("SUBPIX_MUTANT_REACHED");
    if (chosen >= 0 || !path) return;
    if (std::FILE* file = std::fopen(path, "w")) {
      for (int id = 0; id < kMost; ++id)
        if (seen[id]) std::fprintf(file, "%d\n", id);
      std::fclose(file);
    }
  }
};
State state;

class Server {
 public:
  Server() {
    const char* from = std::getenv("SUBPIX_MUTANTS");
    const char* to = std::getenv("SUBPIX_MUTANT_VERDICTS");
    if (!from || !to) return;
    if (const char* value = std::getenv("SUBPIX_MUTANT_JOBS")) jobs_ = std::atoi(value);
    verdicts_ = std::fopen(to, "w");
    if (std::FILE* file = std::fopen(from, "r")) {
      int id = 0;
      double milliseconds = 0;
      while (std::fscanf(file, "%d %lf", &id, &milliseconds) == 2) left_[id] = milliseconds / 1000;
      std::fclose(file);
    }
  }

  void each(const std::string& where, const std::function<bool()>& passes) {
    if (!verdicts_ || left_.empty()) return;
    std::memset(seen, 0, sizeof seen);
    state.chosen = -1;
    const auto begin = Clock::now();
    const bool sound = passes();
    const double seconds = since(begin);
    state.chosen = 0;
    if (!sound) {
      std::fprintf(verdicts_, "0 caught %s\n", where.c_str());
      std::fflush(verdicts_);
      _exit(3);
    }
    for (const auto& [id, left] : std::map<int, double>(left_)) {
      if (!seen[id]) continue;
      if (reached_.insert({{id, where}, true}).second) tell(id, "reached", where);
      if (left <= 0) continue;
      while (static_cast<int>(running_.size()) >= jobs_) reap(where);
      const pid_t child = fork();
      if (child == 0) run(id, 2 + 10 * seconds, passes);
      if (child > 0) running_[child] = {id, Clock::now()};
    }
    while (!running_.empty()) reap(where);
  }

 private:
  struct Child {
    int id;
    Clock::time_point begin;
  };

  [[noreturn]] static void run(int id, double limit, const std::function<bool()>& passes) {
    for (const int signal_number : {SIGSEGV, SIGABRT, SIGFPE, SIGILL, SIGBUS, SIGTERM, SIGALRM})
      signal(signal_number, SIG_DFL);
    const rlimit none{0, 0};
    setrlimit(RLIMIT_CORE, &none);
    itimerval timer{};
    timer.it_value.tv_sec = static_cast<time_t>(limit) + 1;
    setitimer(ITIMER_REAL, &timer, nullptr);
    if (!std::freopen("/dev/null", "w", stdout) || !std::freopen("/dev/null", "w", stderr))
      _exit(4);
    state.chosen = id;
    bool passed = false;
    try {
      passed = passes();
    } catch (...) {
    }
    _exit(passed ? 0 : 1);
  }

  void reap(const std::string& where) {
    int status = 0;
    const auto it = running_.find(wait(&status));
    if (it == running_.end()) return;
    const auto [id, begin] = it->second;
    running_.erase(it);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
      left_[id] -= since(begin);
      return;
    }
    tell(id,
         WIFEXITED(status)             ? "caught"
         : WTERMSIG(status) == SIGALRM ? "late"
                                       : "crashed",
         where);
    left_.erase(id);
  }

  void tell(int id, const char* what, const std::string& where) {
    std::fprintf(verdicts_, "%d %s %s\n", id, what, where.c_str());
    std::fflush(verdicts_);
  }

  std::FILE* verdicts_ = nullptr;
  int jobs_ = 1;
  std::map<int, double> left_;  // seconds
  std::map<std::pair<int, std::string>, bool> reached_;
  std::map<pid_t, Child> running_;
};

}  // namespace

int chosen() noexcept { return state.chosen; }

void reached(int id) noexcept { seen[id] = 1; }

}  // namespace subpix::mutation

namespace subpix::tests {

/// Declared, weak, by tests/kernels/op_case.h.
void each_mutant(const std::string& op, const char* variant, const std::function<bool()>& passes);
void each_mutant(const std::string& op, const char* variant, const std::function<bool()>& passes) {
  static mutation::Server server;
  server.each(op + " " + variant, passes);
}

}  // namespace subpix::tests
