#include <cstring>

#include "kernels/sim/engine.h"

/// mbarriers. The 8 bytes in shared memory hold a tag and a number; the state lies outside, so that
/// a kernel that overwrites its mbarrier is found out.
namespace subpix::sim {
namespace {

constexpr std::uint64_t kTag = std::uint64_t{0x5B41B7} << 40;
constexpr std::uint64_t kTagMask = ~std::uint64_t{0} << 40;
constexpr std::int64_t kMostBytes = (1 << 20) - 1;  // PTX ISA: range of the transaction count
constexpr std::uint32_t kMostArrivals = (1 << 20) - 1;

/// The phase ends when nobody and nothing is awaited.
void check_phase(MBarrier& m) {
  if (m.pending > 0 || m.bytes != 0) return;
  const std::uint32_t ended = m.phase;
  m.phase ^= 1;
  m.pending = m.arrivals;
  m.completed[ended] = std::move(m.current);
  m.current.clear();
  std::erase_if(m.waiting, [&](const MBarrier::Wait& w) {
    if (w.parity != ended) return false;
    make_ready(*w.thread);
    return true;
  });
}

void expect(MBarrier& m, std::int64_t bytes, Where where) {
  m.bytes += bytes;
  if (m.bytes > kMostBytes || m.bytes < -kMostBytes)
    fail(concat("the mbarrier's byte count reaches ", m.bytes, "; at most ", kMostBytes,
                " are counted"),
         where);
}

/// A use must be ordered after the initialisation.
void note_use(std::uint64_t* bar, Where where) {
  if (!checking_races()) return;
  Block* b = gang.owner(bar, sizeof *bar);
  shared_access(*b, bar, sizeof *bar, false, as_thread(*current, site_of(where)));
}

}  // namespace

MBarrier& mbarrier_at(std::uint64_t* bar, Where where) {
  if (!gang.owner(bar, sizeof *bar) || reinterpret_cast<std::uintptr_t>(bar) % 8 != 0)
    fail("an mbarrier must be an aligned 8-byte word of shared memory", where);
  std::uint64_t word;
  std::memcpy(&word, bar, sizeof word);
  const std::uint64_t number = word & ~kTagMask;
  if ((word & kTagMask) != kTag || number >= gang.mbarriers.size() ||
      gang.mbarriers[number].word != bar)
    fail("the mbarrier was not initialised, or was overwritten", where);
  return gang.mbarriers[number];
}

void mbarrier_init(std::uint64_t* bar, int arrivals, Where where) {
  Thread& t = *current;
  if (!t.block->contains(bar, sizeof *bar) || reinterpret_cast<std::uintptr_t>(bar) % 8 != 0)
    fail("an mbarrier must be an aligned 8-byte word of the block's shared memory", where);
  if (arrivals < 1 || static_cast<std::uint32_t>(arrivals) > kMostArrivals)
    fail(concat("an mbarrier for ", arrivals, " arrivals"), where);
  if (checking_races())
    shared_access(*t.block, bar, sizeof *bar, true, as_thread(t, site_of(where)));
  const std::uint64_t word = kTag | gang.mbarriers.size();
  std::memcpy(bar, &word, sizeof word);
  MBarrier& m = gang.mbarriers.emplace_back();
  m.word = bar;
  m.arrivals = m.pending = static_cast<std::uint32_t>(arrivals);
}

void mbarrier_arrive(std::uint64_t* bar, int expect_bytes, Where where) {
  MBarrier& m = mbarrier_at(bar, where);
  note_use(bar, where);
  if (m.pending == 0)
    fail(concat("more arrivals in one phase than the mbarrier was initialised for (", m.arrivals,
                ")"),
         where);
  release(*current, m.current);
  expect(m, expect_bytes, where);
  --m.pending;
  check_phase(m);
}

void mbarrier_wait(std::uint64_t* bar, std::uint32_t parity, Where where) {
  Thread& t = *current;
  note_use(bar, where);
  parity &= 1;
  if (!t.block->contains(bar, sizeof *bar))
    fail("mbar_wait on the mbarrier of another block", where);
  while (mbarrier_at(bar, where).phase == parity) {
    mbarrier_at(bar, where).waiting.push_back({&t, parity});
    park("mbar_wait", where);
  }
  acquire(t, mbarrier_at(bar, where).completed[parity]);
}

void mbarrier_complete_bytes(std::uint64_t* bar, const BulkLoad& load) {
  MBarrier& m = mbarrier_at(bar, load.where);
  if (checking_races()) {
    Clock& seen = m.current.seen;
    if (seen.size() <= load.agent) seen.resize(load.agent + 1, 0);
    seen[load.agent] = std::max(seen[load.agent], load.clock);
  }
  expect(m, -static_cast<std::int64_t>(load.bytes), load.where);
  check_phase(m);
}

std::string awaited_mbarriers() {
  std::string text;
  for (const MBarrier& m : gang.mbarriers) {
    if (m.waiting.empty()) continue;
    const Block& b = *gang.owner(m.word, sizeof *m.word);
    text += concat("; the mbarrier at shared memory byte ", b.offset(m.word), " is in phase ",
                   m.phase, " and lacks ", m.pending, " arrivals and ", m.bytes, " bytes");
  }
  return text;
}

std::string unfinished_mbarrier() {
  for (const MBarrier& m : gang.mbarriers) {
    if (m.bytes == 0) continue;
    std::uint64_t word;
    std::memcpy(&word, m.word, sizeof word);
    if (word != (kTag | static_cast<std::uint64_t>(&m - gang.mbarriers.data()))) continue;
    const Block& b = *gang.owner(m.word, sizeof word);
    return concat("the mbarrier at shared memory byte ", b.offset(m.word), " ends with ", m.bytes,
                  " bytes outstanding: what was announced and what was copied disagree");
  }
  return "";
}

}  // namespace subpix::sim
