#include "tests/sim/support.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <random>

namespace subpix::sim::test {

int line_of(const std::string& file, const std::string& marker) {
  std::ifstream in(std::string(SUBPIX_SOURCE_DIR) + "/tests/sim/kernels/" + file);
  REQUIRE(in);
  int found = 0, number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.find("// " + marker) == std::string::npos) continue;
    INFO(marker << " stands twice in " << file);
    REQUIRE(found == 0);
    // On a line of its own it marks the statement that follows.
    found = line.find_first_not_of(' ') == line.find("// ") ? number + 1 : number;
  }
  INFO(marker << " is not in " << file);
  REQUIRE(found > 0);
  return found;
}

Outcome observe(std::size_t n, const std::function<void(float* out)>& run) {
  Outcome o;
  Buffer<float> out(n);
  try {
    run(out.data());
    o.out = out.read();
  } catch (const Error& e) {
    o.error = e.what();
  }
  return o;
}

namespace {
std::string place(const std::string& file, const std::string& marker) {
  return file + ":" + std::to_string(line_of(file, marker));
}
}  // namespace

void check_report(const Outcome& o, const std::string& file, const std::string& marker,
                  const std::string& text) {
  INFO("report: " << (o.error.empty() ? "none" : o.error));
  INFO("wanted: " << place(file, marker) << ": ... " << text);
  CHECK(o.error.rfind(place(file, marker) + ":", 0) == 0);
  CHECK(o.error.find(text) != std::string::npos);
}

void check_report(const Outcome& o, const std::string& file, const std::string& marker,
                  const std::string& text, const std::string& other_marker) {
  check_report(o, file, marker, text);
  INFO("report: " << o.error);
  INFO("the other line: " << place(file, other_marker));
  CHECK(o.error.find(" at " + place(file, other_marker)) != std::string::npos);
}

std::string dying_words(const std::function<void()>& f) {
  int pipe_ends[2];
  REQUIRE(pipe(pipe_ends) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    dup2(pipe_ends[1], 2);
    close(pipe_ends[0]);
    std::signal(SIGSEGV, SIG_DFL);  // Catch's handlers would go on with the tests
    std::signal(SIGABRT, SIG_DFL);
    try {
      f();
    } catch (const std::exception& e) {
      static_cast<void>(!write(2, e.what(), std::strlen(e.what())));
    }
    _exit(0);
  }
  close(pipe_ends[1]);
  std::string words;
  char text[4096];
  for (ssize_t n; (n = ::read(pipe_ends[0], text, sizeof text)) > 0;)
    words.append(text, static_cast<std::size_t>(n));
  close(pipe_ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  INFO("the child wrote: " << words);
  CHECK_FALSE((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  return words;
}

std::vector<float> integers(std::size_t n, unsigned seed, int range) {
  std::mt19937 random(seed);
  std::vector<float> v(n);
  for (float& x : v) x = static_cast<float>(static_cast<int>(random() % (2 * range + 1)) - range);
  return v;
}

std::vector<bf16> to_bf16(const std::vector<float>& v) {
  std::vector<bf16> out;
  out.reserve(v.size());
  for (const float x : v) out.push_back(subpix::to_bf16(x));
  return out;
}

std::vector<float> conv3x3(const std::vector<float>& x, const std::vector<float>& w, int n, int h,
                           int wd, int c, int k) {
  std::vector<float> y(static_cast<std::size_t>(n) * h * wd * k);
  for (int pixel = 0; pixel < n * h * wd; ++pixel) {
    const int q = pixel % wd, p = pixel / wd % h;
    for (int tap = 0; tap < 9; ++tap) {
      const int pp = p + tap / 3 - 1, qq = q + tap % 3 - 1;
      if (pp < 0 || pp >= h || qq < 0 || qq >= wd) continue;
      const float* in = &x[static_cast<std::size_t>(pixel + (tap / 3 - 1) * wd + tap % 3 - 1) * c];
      for (int i = 0; i < c; ++i)
        for (int o = 0; o < k; ++o)
          y[static_cast<std::size_t>(pixel) * k + o] +=
              in[i] * w[(static_cast<std::size_t>(tap) * c + i) * k + o];
    }
  }
  return y;
}

}  // namespace subpix::sim::test
