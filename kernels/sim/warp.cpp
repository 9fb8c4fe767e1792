#include "kernels/sim/warp.h"

#include <bit>

#include "kernels/sim/engine.h"

namespace subpix::sim {
namespace {

/// visit(lane) for each lane of the mask.
template <class Visit>
void for_lanes(std::uint32_t mask, Visit&& visit) {
  for (; mask; mask &= mask - 1) visit(std::countr_zero(mask));
}

std::string hex(std::uint32_t mask) {
  char text[12];
  std::snprintf(text, sizeof text, "0x%08x", mask);
  return text;
}

}  // namespace

void warp_collective(std::uint32_t mask, void* slot, WarpFunction function, const char* name,
                     bool same_line, Where where) {
  Thread& t = *current;
  Warp& warp = t.block->warps[t.warp];
  const std::uint32_t bit = 1u << t.lane;
  if (!(mask & bit))
    fail(concat(name, ": lane ", t.lane, " is not in its own mask ", hex(mask)), where);
  if (mask & warp.exited)
    fail(concat(name, ": the mask ", hex(mask),
                " names lanes that have exited: ", hex(mask & warp.exited)),
         where);
  int i = 0;
  while (i < warp.pending && warp.collectives[i].mask != mask) ++i;
  if (i == warp.pending) {
    if (i == static_cast<int>(std::size(warp.collectives)))
      fail("more than 8 masks are pending in one warp", where);
    warp.collectives[warp.pending++] = {mask, 0, function, name, where, {}};
  }
  Collective& c = warp.collectives[i];
  if (c.function != function ||
      (same_line && (c.where.line != where.line || c.where.file != where.file)))
    fail(concat("divergent warp: lane ", t.lane, " is in ", name, " with mask ", hex(mask),
                ", other lanes of the mask wait in ", c.name, " at ", describe(c.where)),
         where);
  c.slots[t.lane] = slot;
  c.arrived |= bit;
  if (c.arrived != mask) {
    park(name, where);
    return;
  }
  ++totals.warp_collectives;
  function(c.slots, mask);
  const std::uint32_t first = t.block->first_thread + t.warp * 32;
  for_lanes(mask & ~bit, [&](int lane) { make_ready(*gang.threads[first + lane]); });
  c = warp.collectives[--warp.pending];
}

void warp_barrier(std::uint32_t mask, Where where) {
  const WarpFunction function = [](void** slots, std::uint32_t m) {
    if (!checking_races()) return;
    Knowledge all;
    for_lanes(m, [&](int lane) { release(*static_cast<Thread*>(slots[lane]), all); });
    for_lanes(m, [&](int lane) { acquire(*static_cast<Thread*>(slots[lane]), all); });
  };
  warp_collective(mask, current, function, "__syncwarp", false, where);
}

namespace {
struct ShuffleSlot {
  std::uint64_t value, result;
  Shuffle kind;
  int argument, width;
};

/// The lane that lane l reads (PTX ISA, shfl.sync); itself where the source lies outside its
/// segment.
int source_lane(int l, const ShuffleSlot& s) {
  const int first = l & ~(s.width - 1);
  switch (s.kind) {
    case Shuffle::Index:
      return first + (s.argument & (s.width - 1));
    case Shuffle::Up:
      return l - s.argument < first ? l : l - s.argument;
    case Shuffle::Down:
      return l + s.argument >= first + s.width ? l : l + s.argument;
    case Shuffle::Xor:
      return (l ^ s.argument) >= first + s.width ? l : l ^ s.argument;
  }
  return l;
}
}  // namespace

std::uint64_t shuffle(std::uint32_t mask, std::uint64_t value, Shuffle kind, int argument,
                      int width, Where where) {
  if (width < 1 || width > 32 || !std::has_single_bit(static_cast<unsigned>(width)))
    fail(concat("a shuffle of width ", width, "; powers of two up to 32 exist"), where);
  if ((kind == Shuffle::Up || kind == Shuffle::Down) && argument < 0)
    fail(concat("a shuffle by ", argument, " lanes"), where);
  ShuffleSlot slot{value, 0, kind, argument, width};
  const WarpFunction function = [](void** slots, std::uint32_t m) {
    for_lanes(m, [&](int lane) {
      auto& s = *static_cast<ShuffleSlot*>(slots[lane]);
      const int source = source_lane(lane, s) & 31;
      // A lane outside the mask brings nothing; what CUDA leaves undefined is poison here.
      s.result =
          m >> source & 1 ? static_cast<ShuffleSlot*>(slots[source])->value : ~std::uint64_t{0};
    });
  };
  warp_collective(mask, &slot, function, "__shfl_sync", true, where);
  return slot.result;
}

std::uint32_t ballot(std::uint32_t mask, bool predicate, Where where) {
  struct Slot {
    bool predicate;
    std::uint32_t result;
  } slot{predicate, 0};
  const WarpFunction function = [](void** slots, std::uint32_t m) {
    std::uint32_t votes = 0;
    for_lanes(m, [&](int lane) {
      votes |= static_cast<std::uint32_t>(static_cast<Slot*>(slots[lane])->predicate) << lane;
    });
    for_lanes(m, [&](int lane) { static_cast<Slot*>(slots[lane])->result = votes; });
  };
  warp_collective(mask, &slot, function, "__ballot_sync", true, where);
  return slot.result;
}

}  // namespace subpix::sim
