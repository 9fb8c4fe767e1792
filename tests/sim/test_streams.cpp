// The host side: deferred work, streams and events, device memory, graphs.

#include <array>
#include <thread>

#include "tests/sim/support.h"

namespace subpix::sim::test {
namespace {

struct Stream {
  void* handle = k::make_stream();
  Stream() = default;
  ~Stream() { k::drop_stream(handle); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator void*() const { return handle; }  // NOLINT: stands for the handle
};
struct Event {
  void* handle = k::make_event();
  Event() = default;
  ~Event() { k::drop_event(handle); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  operator void*() const { return handle; }  // NOLINT
};

constexpr int kCount = 100;
const std::vector<float> kOnes(kCount, 1.0f);

/// Of ten seeds (and FIFO), those in which f() throws an Error or returns something other than
/// `want`.
int failures(const std::vector<float>& want, const std::function<std::vector<float>()>& f) {
  int failed = 0;
  for (std::uint64_t seed = 0; seed <= 10; ++seed) {
    const Scope scope({.schedule = seed ? Schedule::Random : Schedule::Fifo, .seed = seed});
    reset_stats();
    try {
      failed += f() != want;
    } catch (const Error&) {
      ++failed;
    }
  }
  return failed;
}

}  // namespace

TEST_CASE("nothing runs before the host waits") {
  Buffer<float> x(kOnes), y(kCount);
  k::wait_for();
  reset_stats();
  k::scale_shift(x.data(), y.data(), kCount, 2, 1);
  CHECK(pending() == 1);
  CHECK(stats().launches == 0);
  std::vector<float> early(kCount, 0.0f);
  k::to_host_async(early.data(), y.data(), kCount * 4, nullptr);
  CHECK(std::isnan(early[0]));  // a host that does not wait reads poison
  k::wait_for();
  CHECK(pending() == 0);
  CHECK(stats().launches == 1);
  CHECK(early == std::vector<float>(kCount, 3.0f));
}

TEST_CASE("a copy to the device takes the bytes it was given") {
  std::vector<float> host = kOnes;
  Buffer<float> x(kCount);
  x.write(host);
  std::fill(host.begin(), host.end(), 7.0f);
  CHECK(x.read() == kOnes);
}

TEST_CASE("events order streams, under every schedule") {
  const Stream a, b;
  const Event ready, done;
  Buffer<float> x(kCount), y(kCount), z(kCount);
  under_schedules([&] {
    for (int round = 0; round < 3; ++round) {
      k::to_device(x.data(), kOnes.data(), kCount * 4, a);
      k::scale_shift(x.data(), y.data(), kCount, 2, static_cast<float>(round), a);
      k::record_event(ready, a);
      k::wait_event(b, ready);
      k::scale_shift(y.data(), z.data(), kCount, 3, 0, b);
      std::vector<float> got(kCount);
      k::to_host(got.data(), z.data(), kCount * 4, b);
      CHECK(got == std::vector<float>(kCount, 3.0f * (2.0f + static_cast<float>(round))));
      k::record_event(done, b);
      k::wait_event(a, done);
    }
    k::wait_for_device();
  });
}

TEST_CASE("a missing event shows, first as poison, then as stale data") {
  const Stream a, b;
  Buffer<float> x(kOnes);
  k::wait_for();
  const auto run = [&](bool with_event, bool fresh) {
    Buffer<float> y(kCount, a), z(kCount, b);
    const Event ready;
    if (!fresh) k::device_fill(y.data(), 0, kCount * 4, a);
    k::wait_for(a);
    k::scale_shift(x.data(), y.data(), kCount, 2, 0, a);
    k::record_event(ready, a);
    if (with_event) k::wait_event(b, ready);
    k::scale_shift(y.data(), z.data(), kCount, 1, 0, b);
    std::vector<float> got(kCount);
    k::to_host(got.data(), z.data(), kCount * 4, b);
    k::wait_for_device();
    return got;
  };
  const std::vector<float> want(kCount, 2.0f);
  CHECK(failures(want, [&] { return run(true, true); }) == 0);
  CHECK(failures(want, [&] { return run(true, false); }) == 0);
  // FIFO runs only what the wait needs, so it finds both at once.
  CHECK(failures(want, [&] { return run(false, true); }) >= 6);
  CHECK(failures(want, [&] { return run(false, false); }) >= 6);
}

TEST_CASE("[check] a missing event is a race between streams", "[check]") {
  const Stream a, b;
  Buffer<float> x(kOnes), y(kCount), z(kCount);
  k::wait_for();
  for (const Schedule schedule : {Schedule::Fifo, Schedule::Lifo, Schedule::Random}) {
    const Scope scope({.schedule = schedule});
    std::string error;
    try {
      k::scale_shift(x.data(), y.data(), kCount, 2, 0, a);
      k::scale_shift(y.data(), z.data(), kCount, 1, 0, b);
      k::wait_for(a);
      k::wait_for_device();
    } catch (const Error& e) {
      error = e.what();
    }
    INFO(error);
    CHECK(error.rfind("threads.cu:" + std::to_string(line_of("threads.cu", "[scale_shift]")), 0) ==
          0);
    CHECK(error.find("no event orders the two streams") != std::string::npos);
    k::wait_for_device();
    // The same with an event is in order, and so is what the host has waited for.
    const Event ready;
    k::scale_shift(x.data(), y.data(), kCount, 2, 0, a);
    k::record_event(ready, a);
    k::wait_event(b, ready);
    k::scale_shift(y.data(), z.data(), kCount, 1, 0, b);
    k::wait_for(b);
    k::scale_shift(z.data(), y.data(), kCount, 1, 0, a);
    CHECK_NOTHROW(k::wait_for_device());
  }
}

TEST_CASE("[check] a copy can be the other side of a race", "[check]") {
  const Stream a, b;
  Buffer<float> x(kCount), y(kCount);
  k::wait_for();
  k::to_device(x.data(), kOnes.data(), kCount * 4, a);
  k::scale_shift(x.data(), y.data(), kCount, 2, 0, b);
  k::wait_for(a);
  CHECK_THROWS_WITH(k::wait_for(b), Catch::Contains("at a copy") &&
                                        Catch::Contains("no event orders the two streams"));
}

TEST_CASE("an error ends what was queued, and the next work starts clean") {
  Buffer<float> out(64), x(kOnes), y(kCount);
  k::wait_for();
  k::run_bug("failing_assertion", out.data());
  k::scale_shift(x.data(), y.data(), kCount, 2, 0);
  CHECK_THROWS_AS(k::wait_for(), Error);
  CHECK(pending() == 0);
  k::scale_shift(x.data(), y.data(), kCount, 2, 0);
  CHECK(y.read() == std::vector<float>(kCount, 2.0f));
}

TEST_CASE("launches that no device takes are refused at once") {
  Buffer<float> x(kOnes);
  CHECK_THROWS_WITH(k::scale_shift(x.data(), x.data(), 0, 1, 0), Catch::Contains("a grid of 0"));
  CHECK(pending() <= 1);  // the copy that filled x
}

TEST_CASE("device memory is counted, poisoned and checked") {
  k::wait_for();
  const MemoryUse before = memory_use();
  {
    Buffer<float> x(1000);
    CHECK(memory_use().blocks == before.blocks + 1);
    CHECK(memory_use().bytes == before.bytes + 4000);
    for (const float v : x.read()) REQUIRE(std::isnan(v));
  }
  CHECK(memory_use().blocks == before.blocks);
  CHECK(memory_use().bytes == before.bytes);

  Buffer<float> small(10);
  std::vector<float> host(11);
  k::to_host_async(host.data(), small.data(), 44, nullptr);
  CHECK_THROWS_WITH(k::wait_for(), Catch::Contains("copy to the host: a read of 44 bytes at byte 0 "
                                                   "of an allocation of 40 bytes"));
  void* gone = k::device_allocate(100);
  k::device_release(gone);
  k::device_fill(gone, 0, 100);
  CHECK_THROWS_WITH(k::wait_for(), Catch::Contains("was released"));
  k::device_release(small.data() + 1);
  CHECK_THROWS_WITH(k::wait_for(), Catch::Contains("release of"));
  CHECK_THROWS_AS(k::device_allocate(std::size_t{1} << 60), InputError);
}

TEST_CASE("release waits for the work queued before it") {
  Buffer<float> x(kOnes), z(kCount);
  auto* y = static_cast<float*>(k::device_allocate(kCount * 4));
  k::scale_shift(x.data(), y, kCount, 2, 0);
  k::scale_shift(y, z.data(), kCount, 2, 0);
  k::device_release(y);
  CHECK(z.read() == std::vector<float>(kCount, 4.0f));
}

TEST_CASE("several host threads may launch, each on its stream") {
  std::vector<std::thread> threads;
  std::array<std::vector<float>, 4> got;
  for (std::size_t i = 0; i < got.size(); ++i)
    threads.emplace_back([&got, i] {
      const Stream s;
      Buffer<float> x(kCount, s), y(kCount, s);
      got[i].resize(kCount);
      for (int round = 0; round < 10; ++round) {
        x.write(kOnes);
        k::scale_shift(x.data(), y.data(), kCount, 2, static_cast<float>(i), s);
        k::to_host(got[i].data(), y.data(), kCount * 4, s);
      }
    });
  for (std::thread& t : threads) t.join();
  for (std::size_t i = 0; i < got.size(); ++i)
    CHECK(got[i] == std::vector<float>(kCount, 2.0f + static_cast<float>(i)));
}

TEST_CASE("copies and fills on the device") {
  Buffer<float> x(kOnes), y(kCount);
  k::device_copy(y.data(), x.data(), kCount * 4);
  CHECK(y.read() == kOnes);
  k::device_fill(y.data(), 0, kCount * 4);
  CHECK(y.read() == std::vector<float>(kCount, 0.0f));
}

TEST_CASE("a captured graph replays what was recorded, and runs nothing before") {
  const Stream s;
  Buffer<float> x(kOnes), y(kCount);
  k::wait_for();
  reset_stats();
  k::capture_begin(s);
  k::scale_shift(x.data(), y.data(), kCount, 2, 0, s);
  k::scale_shift(y.data(), x.data(), kCount, 1, 1, s);
  CHECK_THROWS_WITH(k::wait_for(s), Catch::Contains("being captured"));
  CHECK_THROWS_WITH(k::device_allocate(4), Catch::Contains("being captured"));
  void* graph = k::capture_end(s);
  k::wait_for_device();
  CHECK(stats().launches == 0);
  under_schedules([&] {
    k::to_device(x.data(), kOnes.data(), kCount * 4, s);
    for (int i = 0; i < 3; ++i) k::graph_launch(graph, s);
    std::vector<float> got(kCount);
    k::to_host(got.data(), x.data(), kCount * 4, s);
    CHECK(got == std::vector<float>(kCount, 15.0f));
    CHECK(stats().graph_launches == 3);
    CHECK(stats().launches == 6);
  });
  k::graph_drop(graph);
}

namespace {
/// y = 2 x on one branch, z = 3 x on another, x = y + z by a copy chain on the first.
void* capture_fork(void* a, void* b, Buffer<float>& x, Buffer<float>& y, Buffer<float>& z,
                   bool fork_edge, bool join_edge) {
  const Event forked, joined;
  k::capture_begin(a);
  k::scale_shift(x.data(), y.data(), kCount, 2, 0, a);
  k::record_event(forked, a);
  if (fork_edge) k::wait_event(b, forked);
  if (!fork_edge) return k::capture_end(a);
  k::scale_shift(y.data(), z.data(), kCount, 3, 0, b);
  k::record_event(joined, b);
  if (join_edge) k::wait_event(a, joined);
  k::scale_shift(z.data(), x.data(), kCount, 1, 1, a);
  return k::capture_end(a);
}
}  // namespace

TEST_CASE("branches of a graph follow their events") {
  const Stream a, b;
  Buffer<float> x(kOnes), y(kCount), z(kCount);
  k::wait_for();
  void* graph = capture_fork(a, b, x, y, z, true, true);
  under_schedules([&] {
    k::to_device(x.data(), kOnes.data(), kCount * 4, a);
    k::graph_launch(graph, a);
    k::graph_launch(graph, a);
    std::vector<float> got(kCount);
    k::to_host(got.data(), x.data(), kCount * 4, a);
    CHECK(got == std::vector<float>(kCount, 43.0f));
  });
  k::graph_drop(graph);
  CHECK_THROWS_WITH(capture_fork(a, b, x, y, z, true, false), Catch::Contains("another stream"));
  CHECK_THROWS_WITH(k::capture_begin(nullptr), Catch::Contains("default stream"));
}

TEST_CASE("[check] branches of a graph that share data without an edge race", "[check]") {
  const Stream a, b;
  Buffer<float> x(kOnes), y(kCount), z(kCount);
  k::wait_for();
  const Event begun, done;
  k::capture_begin(a);
  k::record_event(begun, a);
  k::wait_event(b, begun);
  k::scale_shift(x.data(), y.data(), kCount, 2, 0, a);
  k::scale_shift(y.data(), z.data(), kCount, 3, 0, b);  // y without waiting for it
  k::record_event(done, b);
  k::wait_event(a, done);
  void* graph = k::capture_end(a);
  k::graph_launch(graph, a);
  CHECK_THROWS_WITH(k::wait_for(a), Catch::Contains("no event orders the two streams"));
  k::graph_drop(graph);
}

}  // namespace subpix::sim::test
