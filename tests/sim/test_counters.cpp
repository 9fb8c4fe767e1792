// Counters are exact numbers, equal under every schedule.

#include "tests/sim/support.h"

namespace subpix::sim::test {
namespace {

struct Wanted {
  AccessKind kind;
  const char* file;
  const char* marker;
  std::uint64_t requests, lanes, bytes, units, ideal;
};

void check_counter(const Wanted& w) {
  const Stats s = stats();
  const AccessCounter c = s.at(w.kind, w.file, line_of(w.file, w.marker));
  INFO(name(w.kind) << " " << w.file << " " << w.marker << "\n" << report(s));
  CHECK(c.requests == w.requests);
  CHECK(c.lanes == w.lanes);
  CHECK(c.bytes == w.bytes);
  CHECK(c.units == w.units);
  CHECK(c.ideal == w.ideal);
}

/// Runs f with counters under FIFO, LIFO and two seeds, then the checks.
void counted(const std::function<void()>& f, const std::vector<Wanted>& wanted) {
  std::string first;
  for (std::uint64_t i = 0; i < 4; ++i) {
    const Scope scope({.schedule = i == 0   ? Schedule::Fifo
                                   : i == 1 ? Schedule::Lifo
                                            : Schedule::Random,
                       .seed = i,
                       .races = false,
                       .count = true});
    k::wait_for_device();
    reset_stats();
    f();
    k::wait_for_device();
    for (const Wanted& w : wanted) check_counter(w);
    if (i == 0) first = report(stats());
    CHECK(report(stats()) == first);
  }
}

}  // namespace

TEST_CASE("[check] coalesced and broken accesses", "[check]") {
  Buffer<float> x(integers(1024, 1)), out(1);
  // 1024 floats by 4 blocks of 256: each warp reads 128 consecutive bytes.
  counted([&] { k::block_sum(Bug::None, x.data(), 1024, out.data(), 4); },
          {{AccessKind::GlobalLoad, "threads.cu", "[block_sum load]", 32, 1024, 4096, 128, 128},
           {AccessKind::SharedStore, "threads.cu", "[block_sum write]", 32, 32, 128, 32, 32},
           {AccessKind::SharedLoad, "threads.cu", "[block_sum read]", 4, 32, 128, 4, 4}});
  // One float behind: each warp touches five sectors.
  counted([&] { k::scale_shift(x.data() + 1, x.data() + 512, 256, 1, 0); },
          {{AccessKind::GlobalLoad, "threads.cu", "[scale_shift]", 8, 256, 1024, 40, 32},
           {AccessKind::GlobalStore, "threads.cu", "[scale_shift]", 8, 256, 1024, 32, 32}});
}

TEST_CASE("[check] the main loop of the tiled convolution has no bank conflicts", "[check]") {
  Buffer<float> x(integers(64 * 32, 1)), w(integers(9 * 32 * 64, 2)), bias(integers(64, 3)),
      y(64 * 64);
  // One block of 4 warps, 18 steps of 16: a warp reads 2 different float4 of a, 16 of b.
  const std::uint64_t requests = 4 * 18 * 16;
  counted(
      [&] { k::conv_fp32(Bug::None, x.data(), w.data(), bias.data(), y.data(), 1, 8, 8, 32, 64); },
      {{AccessKind::SharedLoad, "conv_fp32.cu", "[conv a]", requests, requests * 32, requests * 512,
        requests * 4, requests * 4},
       {AccessKind::SharedLoad, "conv_fp32.cu", "[conv b]", requests, requests * 32, requests * 512,
        requests * 4, requests * 4},
       // The transposing store meets two-way conflicts.
       {AccessKind::SharedStore, "conv_fp32.cu", "[conv store]", 4 * 18 * 8, 4 * 18 * 8 * 32,
        4 * 18 * 8 * 128, 4 * 18 * 8 * 2, 4 * 18 * 8},
       {AccessKind::SharedStore, "conv_fp32.cu", "[conv store b]", 4 * 18 * 2, 4 * 18 * 2 * 32,
        4 * 18 * 2 * 512, 4 * 18 * 2 * 4, 4 * 18 * 2 * 4}});
}

TEST_CASE("[check] without the swizzle ldmatrix takes eight times as long", "[check]") {
  Buffer<bf16> x(to_bf16(integers(128 * 64, 1))), w(to_bf16(integers(9 * 64 * 64, 2))), y(128 * 64);
  const auto run = [&](Bug bug) {
    return [&, bug] { k::conv_mma(bug, x.data(), w.data(), y.data(), 1, 8, 16); };
  };
  const std::uint64_t a = 4 * 9 * 4 * 2, b = 4 * 9 * 4 * 4;
  counted(run(Bug::None),
          {{AccessKind::SharedLoad, "conv_mma.cu", "[mma a]", a, a * 32, a * 512, a * 4, a * 4},
           {AccessKind::SharedLoad, "conv_mma.cu", "[mma b]", b, b * 32, b * 512, b * 4, b * 4},
           {AccessKind::SharedStore, "conv_mma.cu", "[mma fill]", 9 * 8 * 4, 9 * 8 * 128,
            9 * 8 * 128 * 16, 9 * 8 * 4 * 4, 9 * 8 * 4 * 4}});
  CHECK(stats().mma == 4 * 9 * 4 * 16);
  CHECK(stats().ldmatrix == a + b);
  CHECK(stats().cp_async == 9 * (8 + 4) * 128);
  CHECK(stats().block_barriers == 9);
  counted(run(Bug::NoSwizzle),
          {{AccessKind::SharedLoad, "conv_mma.cu", "[mma a]", a, a * 32, a * 512, a * 32, a * 4},
           {AccessKind::SharedLoad, "conv_mma.cu", "[mma b]", b, b * 32, b * 512, b * 32, b * 4}});
}

TEST_CASE("[check] fragment stores fill half of their sectors' rows", "[check]") {
  Buffer<bf16> x(to_bf16(integers(128 * 64, 1))), w(to_bf16(integers(9 * 64 * 64, 2))), y(128 * 64);
  // 4 bytes a lane, 8 rows of 16 bytes a request: 8 sectors where 4 would do.
  counted([&] { k::conv_mma(Bug::None, x.data(), w.data(), y.data(), 1, 8, 16); },
          {{AccessKind::GlobalStore, "conv_mma.cu", "[mma store]", 4 * 4 * 8, 4 * 4 * 8 * 32,
            4 * 4 * 8 * 128, 4 * 4 * 8 * 8, 4 * 4 * 8 * 4}});
}

TEST_CASE("counters of events are exact in every flavour") {
  Buffer<bf16> a(to_bf16(integers(100 * 576, 1))), b(to_bf16(integers(64 * 576, 2)));
  Buffer<float> d(100 * 64);
  under_schedules(
      [&] {
        k::gemm_wgmma(Bug::None, a.data(), b.data(), d.data(), 100, 576);
        k::wait_for();
        const Stats s = stats();
        CHECK(s.launches == 1);
        CHECK(s.blocks == 2);
        CHECK(s.threads == 320);
        CHECK(s.block_barriers == 2 * 2);  // one __syncthreads, one named barrier
        CHECK(s.wgmma == 72);
        CHECK(s.bulk_copies == 36);
        CHECK(s.bulk_bytes == 36 * 8192);
        CHECK(s.total(AccessKind::GlobalLoad).requests == 0);  // not asked for
      },
      2);
}

TEST_CASE("launches that are not executed are counted, and change nothing") {
  Buffer<float> x(integers(1024, 1)), out(std::vector<float>{0.0f});
  k::block_sum(Bug::None, x.data(), 1024, out.data(), 4);
  k::wait_for_device();
  const std::vector<float> before = out.read();
  Buffer<float> other(integers(1024, 2));
  {
    Config c = config();
    c.execute = false;
    const Scope scope(c);
    reset_stats();
    k::block_sum(Bug::None, other.data(), 1024, out.data(), 4);
    k::wait_for_device();
    CHECK(stats().launches == 1);
    CHECK(stats().blocks == 4);
    CHECK(stats().threads == 4 * 256);
    CHECK(stats().block_barriers == 0);
  }
  CHECK(out.read() == before);
}

}  // namespace subpix::sim::test
