#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/sim/entry.h"

/// Note [Happens before]: two accesses to the same bytes, one of them a write, must be ordered by
/// something that CUDA orders: program order, a barrier, __syncwarp, an mbarrier, a wait for an
/// asynchronous copy, the end of a launch. Whether they are is decided with vector clocks: each
/// thread counts its releases in an epoch, and knows for each other thread up to which epoch it is
/// ordered after it (`seen`). A cell of shadow memory remembers who wrote and read some bytes last,
/// in which epoch and at which line. So a race is reported wherever the schedule happens to run the
/// threads.
///
/// Agents are numbered within a gang: its threads, then one for the reads of each warpgroup's
/// wgmma, then 64 in rotation for bulk copies.
///
/// Note [Proxies]: TMA and wgmma go through the async proxy. They see an ordinary write only if a
/// fence.proxy.async stands between, on the writer's or on the reader's side. `fenced` is the part
/// of `seen` that lies before such a fence; it travels with `seen` through every barrier.
namespace subpix::sim {

struct Thread;
struct Block;
struct Allocation;

using Clock = std::vector<std::uint32_t>;
/// Shorter clocks know nothing of the agents they lack.
inline std::uint32_t at(const Clock& clock, std::uint32_t agent) {
  return agent < clock.size() ? clock[agent] : 0;
}
void join(Clock& into, const Clock& from);

struct Knowledge {
  Clock seen, fenced;
  void clear() {
    seen.clear();
    fenced.clear();
  }
};
void join(Knowledge& into, const Knowledge& from);

/// A source line: of a call (Where) or of an instrumented instruction (its address).
using Site = std::uint32_t;
Site site_of(Where where);
Site site_of_instruction(std::uintptr_t return_address);
Where where_of(Site site);
std::string describe(Site site);

struct Access {
  std::uint32_t gang = 0;  ///< serial number over all launches; 0: never
  std::uint32_t clock = 0;
  Site site = 0;
  std::uint16_t agent = 0;
  std::uint8_t flags = 0;
};
inline constexpr std::uint8_t kAtomic = 1;
inline constexpr std::uint8_t kAsyncProxy = 2;
inline constexpr std::uint8_t kInFlight =
    4;  ///< until a wait makes it an access of the waiting thread

struct Cell {
  Access write;
  Access reads[2];  ///< one that later ones do not cover, and the last
};

/// Cells for a range of memory, each for 4, 2 or 1 bytes: as coarse as the accesses so far allow.
class Shadow {
 public:
  explicit Shadow(std::size_t bytes);

  /// visit(cell, offset of its first byte) for the cells of a range.
  template <class Visit>
  void visit(std::size_t offset, std::size_t bytes, Visit&& visit) {
    if ((offset | bytes) & ((std::size_t{1} << shift_) - 1)) narrow(offset | bytes);
    for (std::size_t i = offset >> shift_, end = (offset + bytes) >> shift_; i < end; ++i)
      visit(cells_[i], i << shift_);
  }

 private:
  struct Free {
    void operator()(Cell* cells) const;
  };
  static std::unique_ptr<Cell[], Free> make(std::size_t count);
  void narrow(std::size_t alignment);

  std::size_t bytes_;
  int shift_ = 2;
  std::unique_ptr<Cell[], Free> cells_;
};

/// True where plain loads and stores are seen and races are wanted.
bool checking_races();

// --- edges ---------------------------------------------------------------------------------------
/// What the thread did so far becomes part of `into`; what it does next does not.
void release(Thread& t, Knowledge& into);
void acquire(Thread& t, const Knowledge& from);

// --- accesses ------------------------------------------------------------------------------------
/// Who accesses: the clocks it knows, and how it is remembered.
struct Accessor {
  const Knowledge* knowledge;
  std::uint32_t agent, clock;
  Site site;
  std::uint8_t flags = 0;
};
Accessor as_thread(const Thread& t, Site site, std::uint8_t flags = 0);
void shared_access(Block& block, const void* p, std::size_t bytes, bool write, const Accessor& by);
void global_access(Allocation& allocation, const void* p, std::size_t bytes, bool write,
                   const Accessor& by);
/// The copy's accesses in flight to these bytes become ordinary ones of the thread, now.
void settle(Thread& t, Block& block, const void* p, std::size_t bytes, bool write);

/// Each instrumented load and store (tsan_entry.cpp).
void plain_access(const void* p, std::size_t bytes, bool write, bool aligned,
                  std::uintptr_t return_address);

// --- launches ------------------------------------------------------------------------------------
/// Note [Stream order]: work of one stream is ordered; work of two streams only through events and
/// the host. Each queued piece knows, for each stream, up to which piece of it it is ordered after.
using StreamOrder = std::unordered_map<std::uint32_t, std::uint64_t>;

/// Begins a piece of work: `gangs` serial numbers are set aside, the first is returned.
std::uint32_t begin_work(std::uint32_t gangs, std::uint32_t stream, std::uint64_t sequence,
                         const StreamOrder& known);
/// Before blocks run: the orders of the last launch's blocks are void.
void begin_launch();
/// A copy or fill, done by a piece of work of its own.
void copy_access(const void* p, std::size_t bytes, bool write);
/// What is ordered before everything that will be queued: nothing older is waiting to run.
void forget_streams(const StreamOrder& host);

/// Orders between blocks of one launch that are not resident together: by atomics that follow a
/// __threadfence.
struct BlockOrder {
  struct Known {
    std::shared_ptr<const Clock> published;  ///< of the other gang, at its fence
    std::uint32_t agent, clock;              ///< the thread of this gang that learnt it, and when
  };
  std::unordered_map<std::uint32_t, std::vector<Known>> gangs;
};

}  // namespace subpix::sim
