#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <numeric>

#include "kernels/sim/engine.h"
#include "kernels/sim/memory.h"
#include "kernels/sim/symbols.h"

namespace subpix::sim {

Gang gang;
constinit thread_local Thread* current = nullptr;

namespace {

constexpr std::size_t kSharedRedZone = 1024;
constexpr unsigned kSharedLimit = 227 * 1024;
constexpr unsigned kMultiprocessors = 132, kThreadsPerMultiprocessor = 2048;
constexpr std::uint32_t kRaceThreads = 8192;  // clocks of all threads for all threads fit memory

/// The next thread to run; asynchronous work is delivered when there is none. Null: deadlock.
Thread* next_thread() {
  const Schedule schedule = config().schedule;
  auto& loads = gang.bulk_loads;
  while (true) {
    if (schedule == Schedule::Random && !loads.empty() && draw() % 16 == 0)
      deliver(draw() % loads.size());
    if (Thread* t = gang.ready.pop()) return t;
    if (loads.empty()) return nullptr;
    deliver(schedule == Schedule::Fifo   ? 0
            : schedule == Schedule::Lifo ? loads.size() - 1
                                         : draw() % loads.size());
  }
}

/// Ends the gang with this report.
[[noreturn]] void stop(const std::string& report) {
  gang.error = report;
  Thread& t = *current;
  current = nullptr;
  switch_fiber(t.fiber, gang.host, true);
  std::abort();  // the thread is abandoned together with its gang
}

[[noreturn]] void report_deadlock() {
  std::map<std::string, int> groups;
  int exited = 0;
  Where where;
  for (std::uint32_t i = 0; i < gang.thread_count; ++i) {
    const Thread& t = *gang.threads[i];
    if (t.state == Thread::State::Done) {
      ++exited;
    } else {
      where = t.waiting_at;
      ++groups[concat(t.waiting_in, " at ", describe(t.waiting_at))];
    }
  }
  std::string text = "deadlock:";
  if (exited) text += concat(" ", exited, " threads exited;");
  for (const auto& [what, count] : groups)
    text += concat(" ", count, count == 1 ? " thread" : " threads", " waiting in ", what, ";");
  text.pop_back();
  stop(concat(describe(where), ": ", text, awaited_mbarriers(), " [",
              function_name(gang.launch->kernel), "]"));
}

void continue_with(Thread* next, bool dying) {
  Thread* self = current;
  if (!next) report_deadlock();
  if (next == self) return;
  ++totals.switches;
  current = next;
  switch_fiber(self->fiber, next->fiber, dying);
}

void check_exit(Thread& t) {
  if (!t.copies.empty())
    fail("the thread exits with a cp.async it never waited for",
         where_of(t.copies.operations[t.copies.done].site));
  if (!t.stores.empty())
    fail("the thread exits with a bulk store it never waited for",
         t.stores.operations[t.stores.done].where);
  if (!t.wgmma.hidden.empty()) {
    const Warpgroup& group = t.block->warpgroups[t.linear / kWarpgroup];
    fail("the thread exits with a wgmma it never waited for",
         group.operations.empty() ? Where{} : group.operations.front().where);
  }
}

void thread_main() {
  fiber_started();
  const LaunchRequest& launch = *gang.launch;
  try {
    launch.invoke(launch.kernel, launch.arguments.get());
  } catch (const std::exception& e) {
    fail(concat("an exception leaves the kernel: ", e.what()), {});
  }
  Thread& t = *current;
  check_exit(t);
  t.state = Thread::State::Done;
  t.block->warps[t.warp].exited |= 1u << t.lane;
  if (--gang.live > 0) {
    continue_with(next_thread(), true);
  } else {
    current = nullptr;
    switch_fiber(t.fiber, gang.host, true);
  }
  std::abort();  // a finished thread is never continued
}

// --- setting up a gang ---------------------------------------------------------------------------

void lay_out_arena(std::uint32_t blocks, unsigned smem) {
  const std::size_t stride = (smem + 1023u) / 1024u * 1024u + kSharedRedZone;
  static std::size_t capacity = 0;
  if (capacity < stride * blocks) {
    unpoison(gang.arena, capacity);
    std::free(gang.arena);
    capacity = stride * blocks;
    gang.arena = static_cast<unsigned char*>(std::aligned_alloc(1024, capacity));
    if (!gang.arena) throw std::bad_alloc();
  }
  gang.arena_stride = stride;
  gang.arena_bytes = stride * blocks;
  unpoison(gang.arena, capacity);
  for (std::uint32_t i = 0; i < blocks; ++i) {
    unsigned char* p = gang.arena + i * stride;
    std::memset(p, kPoison, smem);
    mark_red_zone(p + smem, stride - smem);
    poison(p + smem, stride - smem);
  }
}

std::string damaged_shared_zone() {
  if (address_sanitizer()) return "";  // it has reported at once
  for (std::uint32_t i = 0; i < gang.block_count; ++i) {
    const Block& b = *gang.blocks[i];
    const unsigned char* end = gang.arena + (i + 1) * gang.arena_stride;
    const unsigned char* bad = first_damage(b.smem + b.smem_bytes, end);
    if (bad != end)
      return concat("block (", b.index.x, ",", b.index.y, ",", b.index.z, ") wrote to byte ",
                    bad - b.smem, " of its ", b.smem_bytes,
                    " bytes of shared memory; the check flavour of the simulator names the line");
  }
  return "";
}

void set_up_thread(Thread& t, Block& b, std::uint32_t linear, const LaunchRequest& request) {
  const dim3& size = request.block;
  t.index = {linear % size.x, linear / size.x % size.y, linear / size.x / size.y};
  t.block_index = b.index;
  t.block_dim = request.block;
  t.grid_dim = request.grid;
  t.linear = linear;
  t.lane = linear % 32;
  t.warp = linear / 32;
  t.agent = b.first_thread + linear;
  t.block = &b;
  t.copies.clear();
  t.stores.clear();
  t.wgmma.reset();
  t.published.reset();
  t.knowledge.clear();
  if (checking_races()) {
    t.knowledge.seen.assign(gang.bulk_agent(0), 0);
    t.knowledge.seen[t.agent] = 1;
  }
  prepare(t.fiber, t.agent, thread_main);
  make_ready(t);
}

void set_up_block(Block& b, std::uint32_t rank, std::uint32_t number,
                  const LaunchRequest& request) {
  const dim3& grid = request.grid;
  const std::uint32_t count = gang.thread_count / gang.block_count;
  b.index = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
  b.number = number;
  b.rank = rank;
  b.first_thread = rank * count;
  b.thread_count = count;
  b.smem = gang.arena + rank * gang.arena_stride;
  b.smem_bytes = request.smem;
  for (Barrier& barrier : b.barriers) barrier.reset();
  b.warps.assign((count + 31) / 32, Warp{});
  if (count % 32) b.warps.back().exited = ~0u << count % 32;
  b.warpgroups.assign(gang.warpgroups_per_block(), Warpgroup{});
  b.order.gangs.clear();
  b.logs.clear();
  if (config().count) b.logs.resize(b.warps.size());
  if (checking_races() && (!b.shadow || b.shadow_bytes < request.smem)) {
    b.shadow = std::make_unique<Shadow>(request.smem);
    b.shadow_bytes = request.smem;
  }
}

/// Runs the gang whose first block is `first`; throws Error.
void run_gang(const LaunchRequest& request, std::uint32_t blocks, std::uint32_t first) {
  const std::uint32_t per_block = request.block.x * request.block.y * request.block.z;
  gang.block_count = blocks;
  gang.thread_count = gang.live = per_block * blocks;
  while (gang.threads.size() < gang.thread_count)
    gang.threads.push_back(std::make_unique<Thread>());
  while (gang.blocks.size() < blocks) gang.blocks.push_back(std::make_unique<Block>());
  gang.ready.reset(gang.thread_count);
  gang.random = scramble(config().seed * 0x9E3779B97F4A7C15u + totals.launches) ^
                scramble(first + 0xD1B54A32D192ED03u);
  gang.error.clear();
  gang.barrier.reset();
  gang.flag_waits.clear();
  gang.flags.clear();
  gang.bulk_loads.clear();
  gang.mbarriers.clear();
  gang.next_bulk_agent = 0;
  std::fill(std::begin(gang.bulk_clocks), std::end(gang.bulk_clocks), 0u);
  lay_out_arena(blocks, request.smem);
  for (std::uint32_t i = 0; i < blocks; ++i) {
    Block& b = *gang.blocks[i];
    set_up_block(b, i, first + i, request);
    for (std::uint32_t t = 0; t < per_block; ++t)
      set_up_thread(*gang.threads[b.first_thread + t], b, t, request);
  }
  totals.blocks += blocks;
  totals.threads += gang.thread_count;

  current = next_thread();
  {
    const LeakPause pause;  // what a thread abandoned after an error had allocated is lost
    switch_fiber(gang.host, current->fiber);
  }
  current = nullptr;

  std::string wrong = std::move(gang.error);
  const auto in_kernel = [&](const std::string& sentence) {
    return concat(sentence, " [", function_name(request.kernel), "]");
  };
  if (wrong.empty() && !gang.bulk_loads.empty())
    wrong = in_kernel(concat(describe(gang.bulk_loads.front().where),
                             ": the kernel ended while this bulk copy was on its way; nobody "
                             "waited for its mbarrier"));
  if (wrong.empty()) {
    for (const std::string& s : {unfinished_mbarrier(), damaged_shared_zone()})
      if (wrong.empty() && !s.empty()) wrong = in_kernel(s);
  }
  if (!wrong.empty()) throw Error(wrong);
  if (config().count)
    for (std::uint32_t i = 0; i < blocks; ++i) flush_counters(*gang.blocks[i]);
}

/// First blocks of the gangs, in the order they run.
std::vector<std::uint32_t> order_of_gangs(std::uint32_t gangs, std::uint32_t blocks) {
  std::vector<std::uint32_t> order(gangs);
  for (std::uint32_t i = 0; i < gangs; ++i) order[i] = i * blocks;
  if (config().schedule == Schedule::Lifo) std::reverse(order.begin(), order.end());
  if (config().schedule == Schedule::Random) {
    std::uint64_t x = scramble(config().seed + 0x2545F4914F6CDD1Du + totals.launches);
    for (std::uint32_t i = gangs; i > 1; --i) {
      x = scramble(x + i);
      std::swap(order[i - 1], order[x % i]);
    }
  }
  return order;
}

}  // namespace

void ReadyQueue::reset(std::size_t capacity) {
  ring_.assign(std::bit_ceil(capacity + 1), nullptr);
  head_ = count_ = 0;
}

Thread* ReadyQueue::pop() {
  if (count_ == 0) return nullptr;
  const std::size_t mask = ring_.size() - 1;
  const Schedule schedule = config().schedule;
  if (schedule == Schedule::Fifo) {
    Thread* t = ring_[head_];
    head_ = (head_ + 1) & mask;
    --count_;
    return t;
  }
  const std::size_t last = (head_ + count_ - 1) & mask;
  if (schedule == Schedule::Random) std::swap(ring_[(head_ + draw() % count_) & mask], ring_[last]);
  --count_;
  return ring_[last];
}

Block* Gang::owner(const void* p, std::size_t bytes) {
  if (!in_arena(p)) return nullptr;
  const auto offset = static_cast<std::size_t>(static_cast<const unsigned char*>(p) - arena);
  Block& b = *blocks[offset / arena_stride];
  return b.contains(p, bytes) ? &b : nullptr;
}

void make_ready(Thread& t) {
  t.state = Thread::State::Ready;
  gang.ready.push(&t);
}

void park(const char* what, Where where) {
  current->state = Thread::State::Waiting;
  current->waiting_in = what;
  current->waiting_at = where;
  continue_with(next_thread(), false);
}

void defer() {
  do {
    make_ready(*current);
    continue_with(next_thread(), false);
  } while (config().schedule == Schedule::Random && draw() % 8 != 0);
}

std::uint64_t draw() {  // xorshift64
  std::uint64_t& x = gang.random;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return x;
}

std::uint64_t scramble(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

void fail(const std::string& message, Where where) {
  const std::string text = where.line ? concat(describe(where), ": ", message) : message;
  if (!current) throw Error(text);
  stop(concat(text, " [", describe(*current), "]"));
}
void fail_assertion(const char* condition, Where where) {
  fail(concat("assertion failed: ", condition), where);
}

void run_launch(const LaunchRequest& request, std::uint32_t stream, std::uint64_t sequence,
                const StreamOrder& known) {
  const std::uint32_t blocks = request.grid.x * request.grid.y * request.grid.z;
  const std::uint32_t per_gang = request.coop ? blocks : request.cluster;
  const std::uint32_t threads = request.block.x * request.block.y * request.block.z;
  if (!config().execute) {
    ++totals.launches;
    totals.blocks += blocks;
    totals.threads += std::uint64_t{blocks} * threads;
    return;
  }
  if (checking_races() && per_gang * threads > kRaceThreads)
    throw Error(concat("the race checker takes at most ", kRaceThreads, " resident threads, not ",
                       per_gang * threads, ": test with a smaller grid [",
                       function_name(request.kernel), "]"));
  adopt_host_stack(gang.host);
  const CrashReporter crash_reporter;
  gang.launch = &request;
  gang.block_order = order_of_gangs(blocks / per_gang, per_gang);
  const auto gangs = static_cast<std::uint32_t>(gang.block_order.size());
  gang.first_serial = begin_work(gangs, stream, sequence, known);
  begin_launch();
  for (std::uint32_t i = 0; i < gangs; ++i) {
    gang.serial = gang.first_serial + i;
    run_gang(request, per_gang, gang.block_order[i]);
  }
  if (const std::string zone = damaged_red_zone(); !zone.empty())
    throw Error(concat(zone, " [", function_name(request.kernel), "]"));
  ++totals.launches;
}

/// What the device would refuse at once.
void check_launch(const LaunchRequest& r) {
  const std::uint64_t blocks = std::uint64_t{r.grid.x} * r.grid.y * r.grid.z;
  const std::uint64_t threads = std::uint64_t{r.block.x} * r.block.y * r.block.z;
  const auto refuse = [&](const std::string& why) {
    throw Error(concat("launch of ", function_name(r.kernel), " refused: ", why));
  };
  if (blocks == 0 || r.grid.x > 0x7fffffffu || r.grid.y > 65535 || r.grid.z > 65535 ||
      blocks > 0x7fffffffu)
    refuse(concat("grid (", r.grid.x, ",", r.grid.y, ",", r.grid.z, ")"));
  if (threads == 0 || threads > 1024 || r.block.z > 64)
    refuse(concat("block (", r.block.x, ",", r.block.y, ",", r.block.z, ")"));
  if (r.smem > kSharedLimit)
    refuse(concat(r.smem, " bytes of shared memory; a block has at most ", kSharedLimit));
  if (r.cluster < 1 || r.cluster > 8 || r.grid.x % r.cluster != 0)
    refuse(concat("clusters of ", r.cluster, " blocks in a grid of ", r.grid.x,
                  "; 1 to 8 are portable and must divide it"));
  if (r.coop && r.cluster > 1) refuse("cooperative launches of clusters are not modelled");
  if (r.coop) {
    const std::uint64_t resident =
        kMultiprocessors * std::min<std::uint64_t>({32, kThreadsPerMultiprocessor / threads,
                                                    228u * 1024u / (r.smem + 1024u)});
    if (blocks > resident)
      refuse(concat("a cooperative grid of ", blocks, " blocks; at most ", resident,
                    " are resident together"));
  }
}

std::string describe(const Thread& t) {
  const auto triple = [](const uint3& v) { return concat("(", v.x, ",", v.y, ",", v.z, ")"); };
  return concat("block ", triple(t.block_index), " thread ", triple(t.index), " of ",
                function_name(gang.launch->kernel));
}

// --- what a thread asks about itself -------------------------------------------------------------

uint3 thread_index() noexcept { return current->index; }
uint3 block_index() noexcept { return current->block_index; }
dim3 block_dim() noexcept { return current->block_dim; }
dim3 grid_dim() noexcept { return current->grid_dim; }
std::uint32_t lane() noexcept { return current->lane; }

void* shared_memory(std::size_t bytes, std::size_t, Where where) {
  const Block& b = *current->block;
  if (bytes > b.smem_bytes)
    fail(concat("the kernel's shared memory struct has ", bytes, " bytes, the launch gave ",
                b.smem_bytes),
         where);
  return b.smem;
}

std::uint32_t shared_address(const void* p, Where where) {
  const Block& b = *current->block;
  if (!b.contains(p, 1)) fail("smem_addr of an address outside the block's shared memory", where);
  return b.offset(p);
}

}  // namespace subpix::sim
