#include "kernels/sim/race.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <new>
#include <utility>

#include "kernels/sim/engine.h"
#include "kernels/sim/memory.h"
#include "kernels/sim/symbols.h"

namespace subpix::sim {

extern bool instrumented;

// --- clocks --------------------------------------------------------------------------------------

void join(Clock& into, const Clock& from) {
  if (into.size() < from.size()) into.resize(from.size(), 0);
  std::uint32_t* a = into.data();
  const std::uint32_t* b = from.data();
  for (std::size_t i = 0; i < from.size(); ++i) a[i] = a[i] < b[i] ? b[i] : a[i];
}
void join(Knowledge& into, const Knowledge& from) {
  join(into.seen, from.seen);
  join(into.fenced, from.fenced);
}

bool checking_races() { return instrumented && config().races; }

void release(Thread& t, Knowledge& into) {
  if (!checking_races()) return;
  join(into, t.knowledge);
  ++t.knowledge.seen[t.agent];
}
void acquire(Thread& t, const Knowledge& from) {
  if (checking_races()) join(t.knowledge, from);
}

void fence_proxy_async() {
  if (!checking_races()) return;
  Knowledge& k = current->knowledge;
  k.fenced = k.seen;
  ++k.seen[current->agent];  // what the thread writes from now on is not covered
}

// --- sites ---------------------------------------------------------------------------------------

namespace {

// A site is the offset of an instruction in the program, or, from the given bit on, a number in a
// table.
constexpr Site kInterned = 1u << 30, kCall = 1u << 31;

std::uintptr_t program_base() {
  extern const char start asm("__executable_start");
  return reinterpret_cast<std::uintptr_t>(&start);
}

std::vector<Where> calls;
std::vector<std::uintptr_t> far_instructions;  // of shared libraries

}  // namespace

Site site_of(Where where) {
  static std::map<std::pair<const char*, int>, Site> known;
  static std::pair<const char*, int> last_key{nullptr, 0};
  static Site last = 0;
  const std::pair key{where.file, where.line};
  if (key == last_key) return last;
  const auto [it, fresh] = known.try_emplace(key, kCall | static_cast<Site>(calls.size()));
  if (fresh) calls.push_back(where);
  last_key = key;
  return last = it->second;
}

Site site_of_instruction(std::uintptr_t return_address) {
  static const std::uintptr_t base = program_base();
  const std::uintptr_t offset = return_address - base;
  if (offset < kInterned) return static_cast<Site>(offset);
  static std::map<std::uintptr_t, Site> known;
  const auto [it, fresh] =
      known.try_emplace(return_address, kInterned | static_cast<Site>(far_instructions.size()));
  if (fresh) far_instructions.push_back(return_address);
  return it->second;
}

Where where_of(Site site) {
  if (site & kCall) return calls[site & ~kCall];
  if (site & kInterned) return where_of_instruction(far_instructions[site & ~kInterned]);
  return where_of_instruction(program_base() + site);
}

std::string describe(Site site) { return describe(where_of(site)); }

// --- shadow memory -------------------------------------------------------------------------------

void Shadow::Free::operator()(Cell* cells) const { std::free(cells); }

std::unique_ptr<Cell[], Shadow::Free> Shadow::make(std::size_t count) {
  // calloc hands out untouched pages for large arrays: only what is accessed costs memory.
  auto* cells = static_cast<Cell*>(std::calloc(count, sizeof(Cell)));
  if (!cells) throw std::bad_alloc();
  return std::unique_ptr<Cell[], Free>(cells);
}

Shadow::Shadow(std::size_t bytes) : bytes_(bytes), cells_(make((bytes >> shift_) + 1)) {}

void Shadow::narrow(std::size_t alignment) {
  const int shift = alignment & 1 ? 0 : 1;
  const std::size_t copies = std::size_t{1} << (shift_ - shift);
  auto cells = make((bytes_ >> shift) + copies + 1);
  for (std::size_t i = 0, n = (bytes_ >> shift_) + 1; i < n; ++i)
    for (std::size_t j = 0; j < copies; ++j) cells[i * copies + j] = cells_[i];
  cells_ = std::move(cells);
  shift_ = shift;
}

// --- order of launches and blocks ----------------------------------------------------------------

namespace {

struct Work {
  std::uint64_t sequence;
  std::uint32_t first, count;  // serial numbers
};
std::map<std::uint32_t, std::vector<Work>> history;  // by stream, in order of execution
std::uint32_t next_serial = 1;
std::uint32_t work_serial = 0;    // of the piece of work that runs, its first
std::uint32_t ordered_floor = 1;  // all work below is ordered before it
StreamOrder work_known;
std::uint32_t work_stream = 0;

/// The work of the given serial number is ordered before the one that runs.
bool ordered_before(std::uint32_t serial) {
  if (serial < ordered_floor) return true;
  for (const auto& [stream, works] : history) {
    if (stream == work_stream) continue;
    for (auto w = works.rbegin(); w != works.rend(); ++w)
      if (serial >= w->first && serial - w->first < w->count) {
        const auto known = work_known.find(stream);
        return known != work_known.end() && known->second >= w->sequence;
      }
  }
  return true;
}

/// What the atomics on a word of global memory have published during this launch.
struct WordOrder {
  std::uint32_t serial = 0;  ///< gang of `here`
  Clock here;                ///< for threads of the same gang
  std::unordered_map<std::uint32_t, std::shared_ptr<const Clock>> gangs;
};
std::unordered_map<const void*, WordOrder> words;

/// Known to the running thread, about a gang that ran earlier in this launch.
bool known_of_gang(const Access& a, const Accessor& by) {
  if (!current) return false;
  const auto& gangs = current->block->order.gangs;
  const auto it = gangs.find(a.gang);
  if (it == gangs.end()) return false;
  return std::any_of(it->second.begin(), it->second.end(), [&](const BlockOrder::Known& k) {
    return a.clock <= at(*k.published, a.agent) &&
           (k.agent == by.agent || k.clock <= at(by.knowledge->seen, k.agent));
  });
}

bool ordered(const Access& a, const Accessor& by, bool shared) {
  if (a.gang == 0) return true;
  if (a.gang == gang.serial && current) {
    if (a.flags & kInFlight) return false;
    return a.agent == by.agent || a.clock <= at(by.knowledge->seen, a.agent);
  }
  if (shared) return true;  // a leftover of another block
  if (a.gang >= work_serial) return known_of_gang(a, by);
  return ordered_before(a.gang);
}

// --- reports -------------------------------------------------------------------------------------

std::string describe_agent(std::uint32_t serial, std::uint32_t agent) {
  if (serial < work_serial) return "an earlier launch or copy of another stream";
  const std::uint32_t threads = gang.thread_count, per_block = threads / gang.block_count;
  const auto block_of = [&](std::uint32_t rank) {
    const std::uint32_t number = gang.block_order[serial - gang.first_serial] + rank;
    const dim3& grid = gang.launch->grid;
    return concat("block (", number % grid.x, ",", number / grid.x % grid.y, ",",
                  number / grid.x / grid.y, ")");
  };
  if (agent < threads) {
    const std::uint32_t linear = agent % per_block;
    const dim3& size = gang.launch->block;
    return concat("thread (", linear % size.x, ",", linear / size.x % size.y, ",",
                  linear / size.x / size.y, ") of ", block_of(agent / per_block));
  }
  if (agent < gang.bulk_agent(0)) {
    const std::uint32_t group = agent - threads;
    return concat("wgmma of warpgroup ", group % gang.warpgroups_per_block(), " of ",
                  block_of(group / gang.warpgroups_per_block()));
  }
  return "a bulk copy";
}

std::string describe_access(const Access& a, bool write) {
  return concat("the ", a.flags & kInFlight ? "unfinished asynchronous " : "",
                a.flags & kAtomic ? "atomic " : "", write ? "write" : "read", " by ",
                describe_agent(a.gang, a.agent), " at ", describe(a.site));
}

[[noreturn]] void report_race(const Access& a, bool a_writes, const Accessor& by, bool by_writes,
                              const std::string& place) {
  const char* remedy = !current || a.gang < work_serial ? "no event orders the two streams"
                       : a.gang != gang.serial
                           ? "blocks of one launch are ordered only by __threadfence and an atomic"
                           : "no barrier or wait orders them";
  fail(concat("race on ", place, ": this ", by.flags & kAtomic ? "atomic " : "",
              by_writes ? "write" : "read", " and ", describe_access(a, a_writes), "; ", remedy),
       where_of(by.site));
}

[[noreturn]] void report_proxy(const Access& a, const Accessor& by, bool by_writes,
                               const std::string& place) {
  fail(concat("proxy: ", place, " was written by ordinary stores (", describe_access(a, true),
              "), and this asynchronous ", by_writes ? "write" : "read",
              " is not separated from them by fence_proxy_async"),
       where_of(by.site));
}

Access remember(const Accessor& by, std::uint32_t serial) {
  return {serial, by.clock, by.site, static_cast<std::uint16_t>(by.agent), by.flags};
}

/// One cell. place() describes it for a message.
template <class Place>
void check_cell(Cell& cell, bool write, const Accessor& by, std::uint32_t serial, bool shared,
                Place&& place) {
  const bool both_atomic = cell.write.flags & by.flags & kAtomic;
  if (!both_atomic && !ordered(cell.write, by, shared))
    report_race(cell.write, true, by, write, place());
  if (shared && by.flags & kAsyncProxy && cell.write.gang == serial &&
      !(cell.write.flags & kAsyncProxy) &&
      cell.write.clock > at(by.knowledge->fenced, cell.write.agent))
    report_proxy(cell.write, by, write, place());
  if (!write) {
    Access& first = cell.reads[0];
    const bool covered = ordered(first, by, shared);
    cell.reads[covered ? 0 : 1] = remember(by, serial);
    return;
  }
  for (const Access& read : cell.reads)
    if (!(read.flags & by.flags & kAtomic) && !ordered(read, by, shared))
      report_race(read, false, by, write, place());
  cell.write = remember(by, serial);
  cell.reads[0] = cell.reads[1] = {};
}

}  // namespace

Accessor as_thread(const Thread& t, Site site, std::uint8_t flags) {
  return {&t.knowledge, t.agent, t.knowledge.seen[t.agent], site, flags};
}

void shared_access(Block& block, const void* p, std::size_t bytes, bool write, const Accessor& by) {
  block.shadow->visit(block.offset(p), bytes, [&](Cell& cell, std::size_t offset) {
    check_cell(cell, write, by, gang.serial, true,
               [&] { return concat("shared memory byte ", offset); });
  });
}

void global_access(Allocation& allocation, const void* p, std::size_t bytes, bool write,
                   const Accessor& by) {
  if (!allocation.shadow) allocation.shadow = std::make_unique<Shadow>(allocation.bytes);
  const auto first =
      static_cast<std::size_t>(static_cast<const unsigned char*>(p) - allocation.data);
  const std::uint32_t serial = current ? gang.serial : work_serial;
  allocation.shadow->visit(first, bytes, [&](Cell& cell, std::size_t offset) {
    check_cell(cell, write, by, serial, false, [&] {
      return concat("global memory, byte ", offset, " of an allocation of ", allocation.bytes);
    });
  });
}

void settle(Thread& t, Block& block, const void* p, std::size_t bytes, bool write) {
  block.shadow->visit(block.offset(p), bytes, [&](Cell& cell, std::size_t) {
    for (Access* a : {&cell.write, &cell.reads[0], &cell.reads[1]}) {
      const bool is_write = a == &cell.write;
      if (is_write != write || a->gang != gang.serial || a->agent != t.agent ||
          !(a->flags & kInFlight))
        continue;
      a->flags &= static_cast<std::uint8_t>(~kInFlight);
      a->clock = t.knowledge.seen[t.agent];
    }
  });
}

// --- accesses of threads -------------------------------------------------------------------------

void plain_access(const void* p, std::size_t bytes, bool write, bool aligned,
                  std::uintptr_t return_address) {
  Thread& t = *current;
  const auto* address = static_cast<const unsigned char*>(p);
  // The thread's own stack: local arrays, and parameters passed in memory.
  if (static_cast<std::size_t>(address - t.fiber.stack) < t.fiber.stack_bytes) return;
  const char* verb = write ? "write" : "read";
  const auto here = [&] { return where_of_instruction(return_address); };
  if (aligned && bytes > 1 && reinterpret_cast<std::uintptr_t>(p) % bytes != 0)
    fail(concat(verb, " of ", bytes, " bytes at an address that is not a multiple of ", bytes),
         here());
  const Site site = site_of_instruction(return_address);
  const auto size = static_cast<std::uint32_t>(bytes);
  if (gang.in_arena(p)) {
    Block* b = gang.owner(p, bytes);
    if (!b)
      fail(concat(verb, " of ", bytes, " bytes past the end of the ", t.block->smem_bytes,
                  " bytes of shared memory of this launch"),
           here());
    count_access(t, write ? AccessKind::SharedStore : AccessKind::SharedLoad, p, size, site);
    if (config().races) shared_access(*b, p, bytes, write, as_thread(t, site));
    return;
  }
  if (Allocation* a = find_allocation(p)) {
    if (bytes > a->bytes - static_cast<std::size_t>(address - a->data))
      fail(concat(verb, " of ", bytes, " bytes across the end of an allocation of ", a->bytes,
                  " bytes"),
           here());
    count_access(t, write ? AccessKind::GlobalStore : AccessKind::GlobalLoad, p, size, site);
    if (config().races) global_access(*a, p, bytes, write, as_thread(t, site));
    return;
  }
  const auto* arguments = static_cast<const unsigned char*>(gang.launch->arguments.get());
  if (!write && static_cast<std::size_t>(address - arguments) < gang.launch->arguments_size) return;
  if (in_program(p)) return;  // constants
  fail(concat("global ", verb, " of ", bytes, " bytes ", describe_address(p)), here());
}

void atomic_access(const void* p, std::uint32_t bytes, Where where) {
  ++totals.atomics;
  Thread& t = *current;
  Block* b = gang.owner(p, bytes);
  Allocation* a = b ? nullptr : find_allocation(p);
  if (!b && !a) fail("atomic " + describe_address(p), where);
  if (reinterpret_cast<std::uintptr_t>(p) % bytes != 0)
    fail(concat("atomic at an address that is not a multiple of ", bytes), where);
  if (!checking_races()) return;
  const Accessor by = as_thread(t, site_of(where), kAtomic);
  if (b) {
    shared_access(*b, p, bytes, true, by);
    return;
  }
  global_access(*a, p, bytes, true, by);

  // Release what the thread's last __threadfence covers, acquire what others released here.
  WordOrder& word = words[p];
  if (word.serial != gang.serial) {
    word.serial = gang.serial;
    word.here.clear();
  }
  auto& known = t.block->order.gangs;
  for (const auto& [serial, clock] : word.gangs) {
    if (serial == gang.serial) continue;
    auto& list = known[serial];
    if (list.empty() || list.back().published != clock)
      list.push_back({clock, t.agent, t.knowledge.seen[t.agent]});
  }
  join(t.knowledge.seen, word.here);
  if (!t.published) return;
  join(word.here, *t.published);
  word.gangs[gang.serial] = std::make_shared<const Clock>(word.here);
  for (const auto& [serial, list] : known)  // and what it knows of others, in turn
    if (serial != gang.serial && !word.gangs.contains(serial))
      word.gangs[serial] = list.back().published;
}

void thread_fence() {
  if (!checking_races()) return;
  Thread& t = *current;
  t.published = std::make_shared<const Clock>(t.knowledge.seen);
  ++t.knowledge.seen[t.agent];
}

// --- launches ------------------------------------------------------------------------------------

std::uint32_t begin_work(std::uint32_t gangs, std::uint32_t stream, std::uint64_t sequence,
                         const StreamOrder& known) {
  work_serial = next_serial;
  next_serial += gangs;
  work_stream = stream;
  work_known = known;
  ordered_floor = work_serial;
  for (const auto& [other, works] : history) {
    if (other == stream) continue;
    const auto it = known.find(other);
    const std::uint64_t seen = it == known.end() ? 0 : it->second;
    const auto unknown =
        std::find_if(works.begin(), works.end(), [&](const Work& w) { return w.sequence > seen; });
    if (unknown != works.end()) ordered_floor = std::min(ordered_floor, unknown->first);
  }
  if (checking_races()) history[stream].push_back({sequence, work_serial, gangs});
  return work_serial;
}

void begin_launch() { words.clear(); }

void copy_access(const void* p, std::size_t bytes, bool write) {
  Allocation* a = find_allocation(p);
  if (!checking_races() || !a || bytes == 0) return;
  static const Knowledge nothing;
  global_access(*a, p, bytes, write, {&nothing, 0, 1, site_of({"a copy", 0})});
}

void forget_streams(const StreamOrder& host) {
  for (auto& [stream, works] : history) {
    const auto known = host.find(stream);
    if (known != host.end())
      std::erase_if(works, [&](const Work& w) { return w.sequence <= known->second; });
  }
  std::erase_if(history, [](const auto& entry) { return entry.second.empty(); });
}

}  // namespace subpix::sim
