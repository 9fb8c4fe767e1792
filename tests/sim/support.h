#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "kernels/sim/sim.h"
#include "tests/sim/kernels/kernels.h"
#include "tests/support/catch.h"

/// What the simulator's tests share. Tags: [check] needs instrumented kernels, [asan] the
/// sanitizers, [plain] neither; untagged cases run in every flavour.
namespace subpix::sim::test {

namespace k = kernels::KERNEL_TARGET;
using k::Bug;

/// Device memory for n values; uninitialised ones are poison.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t n, void* stream = nullptr)
      : n_(n), stream_(stream), data_(static_cast<T*>(k::device_allocate(n * sizeof(T), stream))) {}
  explicit Buffer(const std::vector<T>& values, void* stream = nullptr)
      : Buffer(values.size(), stream) {
    write(values);
  }
  ~Buffer() {
    try {
      k::device_release(data_, stream_);
      k::wait_for(stream_);
    } catch (const std::exception&) {  // the test has its own opinion about what was queued
    }
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() { return data_; }
  void write(const std::vector<T>& values) {
    k::to_device(data_, values.data(), values.size() * sizeof(T), stream_);
  }
  /// Waits for the stream.
  std::vector<T> read() {
    std::vector<T> values(n_);
    k::to_host(values.data(), data_, n_ * sizeof(T), stream_);
    return values;
  }

 private:
  std::size_t n_;
  void* stream_;
  T* data_;
};

/// Runs f under FIFO, LIFO and `seeds` random schedules.
inline void under_schedules(const std::function<void()>& f, int seeds = 10) {
  for (int i = -1; i <= seeds; ++i) {
    Config c;
    c.schedule = i < 0 ? Schedule::Fifo : i == 0 ? Schedule::Lifo : Schedule::Random;
    c.seed = static_cast<std::uint64_t>(i < 1 ? 1 : i);
    INFO("schedule " << static_cast<int>(c.schedule) << ", seed " << c.seed);
    const Scope scope(c);
    reset_stats();
    f();
  }
}

/// The line that the comment `marker` marks in a kernel source of the tests: its own, or the next
/// one if nothing else stands there. A call that spans lines counts as its first.
int line_of(const std::string& file, const std::string& marker);

/// What became of a run: the report, if any, and the output.
struct Outcome {
  std::string error;
  std::vector<float> out;
  bool has_nan() const {
    for (const float v : out)
      if (std::isnan(v)) return true;
    return false;
  }
};

/// Queues with `run`, reads n floats of `out` back.
Outcome observe(std::size_t n, const std::function<void(float* out)>& run);

/// The report contains `text` and starts with the marked line.
void check_report(const Outcome& o, const std::string& file, const std::string& marker,
                  const std::string& text);
/// ... and names a second line.
void check_report(const Outcome& o, const std::string& file, const std::string& marker,
                  const std::string& text, const std::string& other_marker);

/// Runs f in a child process that has to die; what it wrote to stderr.
std::string dying_words(const std::function<void()>& f);

/// Small integers, exact in bf16 and in sums.
std::vector<float> integers(std::size_t n, unsigned seed, int range = 4);
std::vector<bf16> to_bf16(const std::vector<float>& v);
/// 3x3, pad 1, NHWC; w [9][c][k].
std::vector<float> conv3x3(const std::vector<float>& x, const std::vector<float>& w, int n, int h,
                           int wd, int c, int k);

/// Equal to the bit, no NaN.
inline void check_equal(const std::vector<float>& got, const std::vector<float>& want) {
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    if (!(got[i] == want[i])) {
      INFO("element " << i << " is " << got[i] << ", not " << want[i]);
      REQUIRE(false);
    }
  SUCCEED();
}

}  // namespace subpix::sim::test
