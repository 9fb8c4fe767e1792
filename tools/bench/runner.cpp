#include "tools/bench/runner.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "tools/sim_counts.h"

namespace subpix::tools::bench {

namespace {

constexpr std::uint64_t kSeed = 1;
// Up to here the plain loops of the reference backend are the oracle: a few seconds. Beyond,
// another variant of the same table, which is checked by the same loops on smaller problems.
constexpr double kReferenceFlops = 4e9;
// A sample is long against what starting it and waiting for it takes.
constexpr double kSampleUs = 2000.0;
constexpr int kMostCalls = 1000;
constexpr int kMostCopies = 64;

double now_us() {
  using clock = std::chrono::steady_clock;
  return std::chrono::duration<double, std::micro>(clock::now().time_since_epoch()).count();
}

}  // namespace

const char* name(Status s) {
  switch (s) {
    case Status::Measured:
      return "measured";
    case Status::Simulated:
      return "simulated";
    case Status::Wrong:
      return "wrong";
    case Status::Unsupported:
      return "unsupported";
    case Status::Unavailable:
      return "unavailable";
    case Status::NoMemory:
      return "out of memory";
  }
  return "";
}

RivalName parse_rival(const std::string& text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos) return {text, ""};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

std::size_t host_cache_bytes() {
  long most = 0;
  for (const int level : {_SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE})
    most = std::max(most, sysconf(level));
  return static_cast<std::size_t>(most);
}

/// A variant with its operands, once or in as many copies as make every call a cold one.
class Runner::Contender {
 public:
  Contender(const Bench& bench, const BenchCase& c, std::string variant)
      : ctx_(bench.ctx), case_(c), variant_(std::move(variant)) {
    if (ctx_.table().streams.create) stream_ = ctx_.table().streams.create(ctx_);
    const Turn turn(*this);
    copies_.push_back(std::make_unique<Operands>(ctx_, kSeed));
    calls_.push_back(case_.bind(ctx_, variant_, *copies_.front()));
  }
  ~Contender() {
    {
      const Turn turn(*this);
      for (void* graph : {cold_.graph, warm_.graph})
        if (graph) ctx_.table().streams.destroy_graph(graph);
      calls_.clear();
      copies_.clear();
      ctx_.trim_workspace();
      wait();
    }
    if (stream_) ctx_.table().streams.destroy(stream_);
  }
  Contender(const Contender&) = delete;
  Contender& operator=(const Contender&) = delete;

  const std::string& variant() const { return variant_; }

  std::vector<Output> output() {
    const Turn turn(*this);
    copies_.front()->poison();
    calls_.front()();
    wait();
    return copies_.front()->read();
  }

  /// Copies until a round over all of them leaves nothing of the first in the cache.
  void make_cold(const RunOptions& o) {
    const Turn turn(*this);
    const std::size_t one = std::max<std::size_t>(copies_.front()->bytes(), 1);
    const std::size_t wanted = 3 * o.cache_bytes / one + 2;
    const std::size_t room = std::max<std::size_t>(o.most_bytes / one, 1);
    const std::size_t n = std::min({wanted, room, std::size_t{kMostCopies}});
    while (copies_.size() < n) {
      copies_.push_back(std::make_unique<Operands>(ctx_, *copies_.front()));
      calls_.push_back(case_.bind(ctx_, variant_, *copies_.back()));
    }
    wait();
  }

  double cold_us() { return sample(cold_, copies_.size()); }
  double warm_us() { return sample(warm_, 1); }

 private:
  /// Gives the context to one contender. A recorded graph knows the addresses of its scratch
  /// memory, so contenders that share a context have scratch memory of their own each, and a
  /// stream.
  class Turn {
   public:
    explicit Turn(Contender& c) : c_(c) { swap(); }
    ~Turn() { swap(); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    void swap() {
      std::swap(c_.ctx_.stream, c_.stream_);
      c_.ctx_.swap_arena(c_.arena_);
    }
    Contender& c_;
  };
  struct Group {
    int calls = 0;
    void* graph = nullptr;
    std::size_t next = 0;
  };

  void wait() { ctx_.table().memory.synchronize(ctx_); }
  void call(Group& g, std::size_t copies, int times) {
    for (int i = 0; i < times; ++i) calls_[g.next++ % copies]();
  }

  /// Microseconds a call.
  double sample(Group& g, std::size_t copies) {
    const Turn turn(*this);
    if (g.calls == 0) choose_calls(g, copies);
    const double begin = now_us();
    if (g.graph)
      ctx_.table().streams.launch_graph(ctx_, g.graph);
    else
      call(g, copies, g.calls);
    wait();
    return (now_us() - begin) / g.calls;
  }

  void choose_calls(Group& g, std::size_t copies) {
    // The first call may build what it keeps; the second one is timed.
    call(g, copies, static_cast<int>(copies));
    wait();
    const double begin = now_us();
    call(g, copies, 1);
    wait();
    const double us = std::max(now_us() - begin, 0.1);
    g.calls = std::clamp(static_cast<int>(std::ceil(kSampleUs / us)), 1, kMostCalls);
    if (!ctx_.table().streams.begin_capture) return;
    ctx_.table().streams.begin_capture(ctx_);
    try {
      call(g, copies, g.calls);
    } catch (...) {
      // The stream must leave capture; the reason to tell is the one that interrupted it.
      if (void* part = ctx_.table().streams.end_capture(ctx_))
        ctx_.table().streams.destroy_graph(part);
      throw;
    }
    g.graph = ctx_.table().streams.end_capture(ctx_);
    ctx_.table().streams.launch_graph(ctx_, g.graph);
    wait();
  }

  kernels::Context& ctx_;
  const BenchCase& case_;
  std::string variant_;
  void* stream_ = nullptr;
  kernels::Context::Arena arena_;
  std::vector<std::unique_ptr<Operands>> copies_;
  std::vector<std::function<void()>> calls_;
  Group cold_, warm_;
};

Runner::Runner(Bench bench, Bench oracle, RunOptions options)
    : bench_(std::move(bench)), oracle_(std::move(oracle)), options_(options) {}

std::string Runner::check(const BenchCase& c, Contender& contender, std::string* oracle) {
  const std::vector<Output> got = contender.output();
  const Bench* by = &oracle_;
  const std::vector<std::string> candidates = c.variants(by->ctx);
  std::string variant = candidates.empty() ? "" : candidates.front();
  if (c.flops > kReferenceFlops) {
    for (const std::string& other : c.variants(bench_.ctx))
      if (other != contender.variant() && other != "reference" && other != "composed") {
        by = &bench_;
        variant = other;
      }
  }
  if (variant.empty()) throw Error(concat("no oracle for ", c.op, " ", c.key));
  *oracle = concat(by->backend, " ", variant);
  std::vector<Output> want;
  {
    Contender other(*by, c, variant);
    want = other.output();
  }
  return compare(got, want);
}

Result Runner::run(const BenchCase& c, const std::string& variant, const Bench* rival,
                   const std::string& rival_variant) try {
  Result r{.backend = bench_.backend, .variant = variant};
  Contender ours(bench_, c, variant);
  r.note = check(c, ours, &r.oracle);
  if (!r.note.empty()) {
    r.status = Status::Wrong;
    return r;
  }
  std::unique_ptr<Contender> theirs;
  if (rival) {
    RivalResult& other =
        r.rivals.emplace_back(RivalResult{rival->backend, rival_variant, "same", {}, {}, {}, ""});
    try {
      const std::vector<std::string> takes = c.variants(rival->ctx);
      if (other.variant.empty() && !takes.empty()) other.variant = takes.front();
      if (std::find(takes.begin(), takes.end(), other.variant) == takes.end()) {
        other.note = concat(rival->backend, " has no variant ", other.variant, " for this problem");
      } else {
        other.kind = other.variant == "composed"                        ? "sequence"
                     : other.variant.find("fused") != std::string::npos ? "fused"
                                                                        : "same";
        theirs = std::make_unique<Contender>(*rival, c, other.variant);
        std::string oracle;
        if (const std::string wrong = check(c, *theirs, &oracle); !wrong.empty()) {
          other.note = "WRONG: " + wrong;
          theirs.reset();
        }
      }
    } catch (const std::exception& error) {
      other.note = error.what();
      theirs.reset();
    }
  }
  ours.make_cold(options_);
  if (theirs) theirs->make_cold(options_);
  const auto both = [&](double (Contender::*sample)()) {
    std::vector<std::function<double()>> contenders = {[&] { return (ours.*sample)(); }};
    if (theirs) contenders.push_back([&] { return (theirs.get()->*sample)(); });
    return interleave(contenders, options_.rule);
  };
  const std::vector<Series> cold = both(&Contender::cold_us), warm = both(&Contender::warm_us);
  r.times = Times{cold[0], warm[0]};
  if (theirs) {
    r.rivals.front().times = Times{cold[1], warm[1]};
    r.rivals.front().cold = ratio_of(cold[0], cold[1]);
    r.rivals.front().warm = ratio_of(warm[0], warm[1]);
  }
  return r;
} catch (const std::exception& error) {
  Result r{.backend = bench_.backend, .variant = variant};
  r.note = error.what();
  // A table's allocate() and a variant that refuses throw the same type.
  const bool no_memory =
      dynamic_cast<const std::bad_alloc*>(&error) ||
      (dynamic_cast<const InputError*>(&error) && r.note.find("memory") != std::string::npos);
  r.status = no_memory ? Status::NoMemory : Status::Unavailable;
  return r;
}

Result Runner::simulate(const BenchCase& c, const std::string& variant) try {
  Result r{.backend = bench_.backend, .variant = variant};
  r.status = Status::Simulated;
  Contender ours(bench_, c, variant);
  count_sim_accesses(true);
  reset_sim_counts();
  ours.output();
  r.counters = sim_counts();
  count_sim_accesses(false);
  r.note = check(c, ours, &r.oracle);
  if (!r.note.empty()) r.status = Status::Wrong;
  return r;
} catch (const std::exception& error) {
  Result r{.backend = bench_.backend, .variant = variant};
  r.status = Status::Unavailable;
  r.note = error.what();
  return r;
}

}  // namespace subpix::tools::bench
