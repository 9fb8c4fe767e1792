// Every planted defect must be found, by the right flavour, with the right line. docs/simulator.md
// shows the same as a table. [plain]: what numbers and protocols betray in the sim flavour.

#include <algorithm>

#include "tests/sim/support.h"

namespace subpix::sim::test {
namespace {

/// Runs a kernel of bugs.cu on an output of 64 zeros.
Outcome run(const char* name) {
  return observe(64, [&](float* out) {
    if (std::strcmp(name, "uninitialised_global") != 0) k::device_fill(out, 0, 256);
    k::run_bug(name, out);
  });
}

/// Of ten random seeds, those that end in a report, a NaN or numbers other than `want` (if given).
int caught_of_ten(std::size_t n, const std::function<void(float*)>& run,
                  const std::vector<float>& want = {}) {
  int caught = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const Scope scope({.schedule = Schedule::Random, .seed = seed});
    reset_stats();
    const Outcome o = observe(n, run);
    caught += !o.error.empty() || o.has_nan() || (!want.empty() && o.out != want);
  }
  return caught;
}

void check_clean(const Outcome& o) {
  INFO("report: " << o.error);
  CHECK(o.error.empty());
  CHECK_FALSE(o.has_nan());
}
void check_nan(const Outcome& o) {
  INFO("report: " << o.error);
  CHECK(o.error.empty());
  CHECK(o.has_nan());
}

/// The larger kernels with small inputs; each returns what it queued to one output.
struct Inputs {
  Buffer<float> x{integers(9 * 4096, 1)}, scratch{64};
  Buffer<bf16> a{to_bf16(integers(100 * 576, 1))}, b{to_bf16(integers(64 * 576, 2))};

  std::function<void(float*)> block_sum(Bug bug) {
    return [this, bug](float* out) {
      k::device_fill(out, 0, 4);
      k::block_sum(bug, x.data(), 2000, out, 3);
    };
  }
  std::function<void(float*)> conv_fp32(Bug bug) {
    return [this, bug](float* out) {
      k::conv_fp32(bug, x.data(), x.data(), x.data(), out, 2, 8, 9, 32, 64);
    };
  }
  std::function<void(float*)> conv_mma(Bug bug) {  // two bf16 a float
    return [this, bug](float* out) {
      k::conv_mma(bug, a.data(), a.data(), reinterpret_cast<bf16*>(out), 2, 9, 8);
    };
  }
  std::function<void(float*)> ring(Bug bug) {
    return [this, bug](float* out) { k::gemm_wgmma(bug, a.data(), b.data(), out, 100, 576); };
  }
  std::function<void(float*)> tiles(Bug bug) {
    return [bug](float* out) { k::tma_store_tiles(bug, out, 1, 3); };
  }
  std::function<void(float*)> strip(Bug bug) {
    return [this, bug](float* out) { k::strip_forward(bug, a.data(), a.data(), out, 1, 7); };
  }
  std::function<void(float*)> cluster(Bug bug) {
    return [this, bug](float* out) { k::cluster_sum(bug, x.data(), out, 3); };
  }
  std::function<void(float*)> counter(Bug bug) {
    return [this, bug](float* out) {
      k::device_fill(scratch.data(), 0, 4);
      k::reverse_counter(bug, x.data(), out, reinterpret_cast<std::uint32_t*>(scratch.data()),
                         1000);
    };
  }
  std::function<void(float*)> last_block(Bug bug) {
    return [this, bug](float* out) {
      k::device_fill(out, 0, 4);
      k::device_fill(scratch.data(), 0, 40);
      k::last_block_sum(bug, x.data(), scratch.data(), out, 9);
    };
  }
};

constexpr std::size_t kConv = 2 * 8 * 9 * 64, kMma = 2 * 9 * 8 * 32, kRing = 100 * 64;

}  // namespace

// --- found in every flavour
// ------------------------------------------------------------------------

TEST_CASE("uninitialised memory and undefined lanes are NaN") {
  check_nan(run("uninitialised_shared"));
  check_nan(run("uninitialised_global"));
  check_nan(run("shuffle_from_inactive_lane"));
}

TEST_CASE("divergence, exited threads and wrong masks are reported") {
  check_report(run("divergent_syncthreads"), "bugs.cu", "[divergent second]",
               "divergent __syncthreads", "[divergent first]");
  check_report(run("early_return"), "bugs.cu", "[early_return]",
               "24 threads exited; 40 threads waiting in __syncthreads", "[early_return]");
  check_report(run("shuffle_in_a_branch"), "bugs.cu", "[shuffle_in_a_branch]",
               "32 threads exited; 32 threads waiting in __shfl_sync");
  check_report(run("shuffle_with_exited_lanes"), "bugs.cu", "[exited lanes]",
               "56 threads exited; 8 threads waiting in __shfl_sync");
  check_report(run("shuffles_of_two_lines"), "bugs.cu", "[two lines first]", "divergent warp",
               "[two lines second]");
  check_report(run("foreign_mask"), "bugs.cu", "[foreign mask]", "not in its own mask 0x00000001");
  check_report(run("named_barrier_counts"), "bugs.cu", "[counts arrive]",
               "named barrier joined for 32 threads", "[counts sync]");
  check_report(run("named_barrier_zero"), "bugs.cu", "[barrier zero]", "does not exist");
  check_report(run("lonely_grid_sync"), "bugs.cu", "[lonely grid_sync]", "not cooperative");
  check_report(run("failing_assertion"), "bugs.cu", "[assertion]",
               "assertion failed: threadIdx.x < 63");
}

TEST_CASE("a report names kernel, block and thread") {
  const Outcome o = run("failing_assertion");
  CHECK(o.error.find("[block (0,0,0) thread (63,0,0) of failing_assertion]") != std::string::npos);
}

TEST_CASE("alignment and range of primitives are checked") {
  check_report(run("misaligned_ldmatrix"), "bugs.cu", "[ldmatrix]", "not aligned to 16 bytes");
  check_report(run("cp_async_past_the_end"), "bugs.cu", "[cp_async past]",
               "behind the last of an allocation of 256 bytes");
  check_report(run("shared_struct_too_large"), "bugs.cu", "[too large]", "the launch gave 768");
}

TEST_CASE("asynchronous work that nobody waits for is reported at the end") {
  check_report(run("cp_async_without_wait"), "bugs.cu", "[no wait]", "never waited for");
  check_report(run("bulk_copy_not_awaited"), "bugs.cu", "[bulk not awaited]", "on its way");
  check_report(run("wgmma_without_wait"), "bugs.cu", "[product]", "never waited for");
  Inputs in;
  check_report(observe(32 * 96, in.tiles(Bug::MissingStoreWait)), "hopper.cu", "[tile store]",
               "bulk store it never waited for");
}

TEST_CASE("mbarrier protocols are checked") {
  check_report(run("mbarrier_over_arrival"), "bugs.cu", "[over-arrival]", "more arrivals");
  check_report(run("mbarrier_overwritten"), "bugs.cu", "[overwritten]", "was overwritten");
  check_report(run("mbarrier_wrong_parity"), "bugs.cu", "[wrong parity]", "deadlock: 64 threads");
  check_report(run("bulk_bytes_disagree"), "bugs.cu", "[bytes disagree]",
               "lacks 0 arrivals and 256");
  Inputs in;
  check_report(observe(kRing, in.ring(Bug::EmptyNotAwaited)), "hopper.cu", "[ring announce]",
               "more arrivals in one phase");
  CHECK(caught_of_ten(kRing, in.ring(Bug::EmptyNotAwaited)) == 10);
}

TEST_CASE("wgmma rules are checked") {
  check_report(run("wgmma_without_fence"), "bugs.cu", "[product]", "without a wgmma_fence");
  check_nan(run("wgmma_read_early"));
  check_report(run("wgmma_by_three_warps"), "bugs.cu", "[three warps]",
               "32 threads exited; 96 threads waiting in wgmma_wait");
  check_report(run("wgmma_shifted_swizzle"), "bugs.cu", "[shifted]", "base offset");
}

TEST_CASE("a grid barrier of blocks that need not be resident together is a deadlock") {
  Inputs in;
  const Outcome o = observe(1000, in.counter(Bug::NotCooperative));
  INFO(o.error);
  CHECK(o.error.find("deadlock") != std::string::npos);
  CHECK(o.error.find("need not be resident together) at cluster.cu:" +
                     std::to_string(line_of("cluster.cu", "[counter wait]"))) != std::string::npos);
}

TEST_CASE("a wrong swizzle gives wrong numbers") {
  Inputs in;
  const Outcome right = observe(kMma, in.conv_mma(Bug::None));
  const Outcome wrong = observe(kMma, in.conv_mma(Bug::WrongSwizzle));
  check_clean(wrong);
  CHECK(std::memcmp(right.out.data(), wrong.out.data(), kMma * 4) != 0);
}

TEST_CASE("the fence of the reading thread counts as well") {
  check_clean(run("wgmma_fence_of_the_reader"));
}

// --- what the sim flavour alone finds ------------------------------------------------------------

TEST_CASE("[plain] missing barriers and waits show as NaN", "[plain]") {
  check_nan(run("missing_syncwarp"));
  Inputs in;
  const auto both = [&](std::size_t n, const std::function<void(float*)>& f) {
    check_nan(observe(n, f));
    CHECK(caught_of_ten(n, f) == 10);
  };
  both(1, in.block_sum(Bug::MissingSync));
  both(kConv, in.conv_fp32(Bug::MissingSync));
  both(kMma, in.conv_mma(Bug::MissingWait));
  both(kMma, in.conv_mma(Bug::MissingSync));
  both(3, in.cluster(Bug::MissingClusterSync));
}

TEST_CASE("[plain] reading past an allocation gives NaN, writing breaks a red zone", "[plain]") {
  Inputs in;
  Buffer<float> image(integers(2 * 8 * 9 * 16, 1));
  check_nan(observe(kConv, [&](float* out) {
    k::conv_fp32(Bug::OutOfBounds, image.data(), in.x.data(), in.x.data(), out, 2, 8, 9, 16, 64);
  }));
  CHECK(run("past_an_allocation").error.find("just past the end of an allocation of 256 bytes") !=
        std::string::npos);
  CHECK(run("before_an_allocation").error.find("just before the beginning") != std::string::npos);
  CHECK(run("past_shared_memory").error.find("wrote to byte 768 of its 768 bytes") !=
        std::string::npos);
}

TEST_CASE("[plain] ring protocols under FIFO and random schedules", "[plain]") {
  Inputs in;
  CHECK(caught_of_ten(kRing, in.ring(Bug::MissingInitSync)) == 10);
  check_report(observe(kRing, in.ring(Bug::FullNotAwaited)), "hopper.cu", "[ring announce]",
               "more arrivals in one phase");
  CHECK(caught_of_ten(kRing, in.ring(Bug::FullNotAwaited)) == 10);
  check_report(observe(kRing, in.ring(Bug::TooFewBytes)), "hopper.cu", "[ring load b]",
               "on its way");
  check_report(observe(kRing, in.ring(Bug::ReleasedEarly)), "hopper.cu", "[ring wgmma]",
               "changed between issue and completion");
  CHECK(caught_of_ten(kRing, in.ring(Bug::ReleasedEarly)) >= 5);
}

TEST_CASE("[plain] a misaligned vector access names the thread before the process dies",
          "[plain]") {
  const std::string words = dying_words([] { run("misaligned_vector"); });
  CHECK(words.find("misaligned vector access or impossible address") != std::string::npos);
  CHECK(words.find("block (0,0,0) thread (0,0,0) of misaligned_vector") != std::string::npos);
}

TEST_CASE("[plain] a stack overflow is called by its name", "[plain]") {
  const std::string words = dying_words([] { run("stack_overflow"); });
  CHECK(words.find("stack overflow") != std::string::npos);
  CHECK(words.find("block (0,0,0) thread (0,0,0) of stack_overflow") != std::string::npos);
}

TEST_CASE("[plain] what cannot change numbers on a CPU passes unnoticed", "[plain]") {
  // The reason why the check flavour exists.
  Inputs in;
  check_clean(observe(32 * 96, in.tiles(Bug::MissingProxyFence)));
  check_clean(observe(7 * 24 * 64, in.strip(Bug::MissingProxyFence)));
  check_clean(observe(1, in.last_block(Bug::MissingFence)));
  check_clean(run("blocks_share_a_word"));
  check_clean(run("wgmma_without_proxy_fence"));
}

// --- what the check flavour finds ----------------------------------------------------------------

namespace {
/// The report is the same kind under FIFO, and there is one under ten random seeds.
void check_race(std::size_t n, const std::function<void(float*)>& f, const std::string& file,
                const std::string& marker, const std::string& text, const std::string& other) {
  check_report(observe(n, f), file, marker, text, other);
  CHECK(caught_of_ten(n, f) == 10);
}
}  // namespace

TEST_CASE("[check] races name both lines", "[check]") {
  Inputs in;
  check_race(1, in.block_sum(Bug::MissingSync), "threads.cu", "[block_sum write]",
             "race on shared memory", "[block_sum read]");
  check_race(kConv, in.conv_fp32(Bug::MissingSync), "conv_fp32.cu", "[conv a]",
             "race on shared memory", "[conv store]");
  check_race(kMma, in.conv_mma(Bug::MissingWait), "conv_mma.cu", "[mma a]",
             "the unfinished asynchronous write by thread", "[mma fill]");
  check_race(kMma, in.conv_mma(Bug::MissingSync), "conv_mma.cu", "[mma fill]",
             "this write and the read", "[mma a]");
  check_report(run("missing_syncwarp"), "bugs.cu", "[syncwarp write]", "race on shared memory",
               "[syncwarp read]");
  check_race(3, in.cluster(Bug::MissingClusterSync), "cluster.cu", "[cluster write]",
             "race on shared memory", "[cluster read]");
}

TEST_CASE("[check] ring protocols", "[check]") {
  Inputs in;
  check_race(kRing, in.ring(Bug::MissingInitSync), "hopper.cu", "[ring consumer wait]",
             "race on shared memory", "[ring init]");
  check_race(kRing, in.ring(Bug::FullNotAwaited), "hopper.cu", "[ring load a]",
             "the read by wgmma of warpgroup 0", "[ring wgmma]");
  check_race(kRing, in.ring(Bug::TooFewBytes), "hopper.cu", "[ring wgmma]",
             "the write by a bulk copy", "[ring load b]");
  check_race(kRing, in.ring(Bug::ReleasedEarly), "hopper.cu", "[ring load a]",
             "the read by wgmma of warpgroup 0", "[ring wgmma]");
}

TEST_CASE("[check] missing proxy fences name the ordinary store", "[check]") {
  Inputs in;
  const std::string text = "not separated from them by fence_proxy_async";
  check_race(32 * 96, in.tiles(Bug::MissingProxyFence), "hopper.cu", "[tile store]", text,
             "[tile write]");
  check_race(7 * 24 * 64, in.strip(Bug::MissingProxyFence), "planes.cu", "[strip wgmma]", text,
             "[fill w]");
  // A fence between cp.async and its wait comes too early.
  check_race(7 * 24 * 64, in.strip(Bug::EarlyProxyFence), "planes.cu", "[strip wgmma]", text,
             "[fill w]");
  check_report(run("wgmma_without_proxy_fence"), "bugs.cu", "[product]", text, "[clear]");
  check_report(run("stores_then_bulk_load"), "bugs.cu", "[bulk over stores]", text, "[cleared]");
}

TEST_CASE("[check] races on global memory", "[check]") {
  Inputs in;
  check_report(run("blocks_share_a_word"), "bugs.cu", "[blocks share]",
               "ordered only by __threadfence and an atomic", "[blocks share]");
  check_report(run("threads_share_a_word"), "bugs.cu", "[threads share]", "race on global memory",
               "[threads share]");
  check_report(run("plain_and_atomic"), "bugs.cu", "[atomic]", "this atomic write", "[plain]");
  check_race(1, in.last_block(Bug::MissingFence), "threads.cu", "[last_block read]",
             "ordered only by __threadfence and an atomic", "[last_block write]");
  check_race(1000, in.counter(Bug::MissingSync), "cluster.cu", "[phase two]",
             "race on global memory", "[phase one]");
}

TEST_CASE("[check] accesses out of bounds name line, thread and allocation", "[check]") {
  Inputs in;
  Buffer<float> image(integers(2 * 8 * 9 * 16, 1));
  check_report(observe(kConv,
                       [&](float* out) {
                         k::conv_fp32(Bug::OutOfBounds, image.data(), in.x.data(), in.x.data(), out,
                                      2, 8, 9, 16, 64);
                       }),
               "conv_fp32.cu", "[conv x]",
               "global read of 16 bytes 1 bytes behind the last of an allocation of 9216 bytes");
  check_report(run("past_an_allocation"), "bugs.cu", "[past the end]", "behind the last");
  check_report(run("before_an_allocation"), "bugs.cu", "[before]",
               "4 bytes before an allocation of 256 bytes");
  check_report(run("past_shared_memory"), "bugs.cu", "[past shared memory]",
               "past the end of the 768 bytes of shared memory");
  check_report(run("misaligned_vector"), "bugs.cu", "[misaligned]", "not a multiple of 16");
}

TEST_CASE("[check] bounds are checked without races, too", "[check]") {
  const Scope scope({.races = false});
  check_report(run("past_an_allocation"), "bugs.cu", "[past the end]", "behind the last");
  check_clean(run("blocks_share_a_word"));
}

// --- what the asan flavour finds -----------------------------------------------------------------

TEST_CASE("[asan] the sanitizers see arrays inside the struct, and name line and thread",
          "[asan]") {
  const auto dies = [](const char* name, const std::string& report, const char* marker) {
    const std::string words = dying_words([&] { run(name); });
    INFO(words);
    CHECK(words.find(report) != std::string::npos);
    CHECK(words.find("bugs.cu:" + std::to_string(line_of("bugs.cu", marker))) != std::string::npos);
    return words;
  };
  dies("past_an_array", "index 64 out of bounds for type 'float [64]'", "[past an array]");
  const std::string words =
      dies("past_an_allocation", "AddressSanitizer: heap-buffer-overflow", "[past the end]");
  CHECK(words.find("simulator: in block (0,0,0) thread (63,0,0)") != std::string::npos);
  dies("before_an_allocation", "AddressSanitizer: heap-buffer-overflow", "[before]");
  dies("past_shared_memory", "AddressSanitizer: use-after-poison", "[past shared memory]");
  dies("misaligned_vector", "misaligned address", "[misaligned]");
}

}  // namespace subpix::sim::test
