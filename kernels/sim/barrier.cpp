#include "kernels/sim/engine.h"
#include "kernels/sim/memory.h"

namespace subpix::sim {
namespace {

/// True for the thread that completed the barrier.
bool arrive(Barrier& b, int expected, bool wait, bool same_line, const char* name, Where where) {
  Thread& t = *current;
  if (b.arrived == 0) {
    b.expected = expected;
    b.first = where;
  } else if (b.expected != expected) {
    fail(concat(name, " joined for ", expected, " threads, but at ", describe(b.first), " for ",
                b.expected),
         where);
  } else if (same_line && (b.first.line != where.line || b.first.file != where.file)) {
    fail(concat("divergent ", name, ": other threads wait in the one at ", describe(b.first)),
         where);
  }
  release(t, b.knowledge);
  if (++b.arrived < b.expected) {
    if (wait) {
      b.waiting.push_back(&t);
      park(name, where);
    }
    return false;
  }
  for (Thread* w : b.waiting) {
    acquire(*w, b.knowledge);
    make_ready(*w);
  }
  if (wait) acquire(t, b.knowledge);
  b.reset();
  return true;
}

}  // namespace

void block_barrier(Where where) {
  Block& b = *current->block;
  if (arrive(b.barriers[0], static_cast<int>(b.thread_count), true, true, "__syncthreads", where)) {
    ++totals.block_barriers;
    if (config().count) flush_counters(b);
  }
}

void named_barrier(int id, int count, bool wait, Where where) {
  Block& b = *current->block;
  if (id < 1 || id > 15)
    fail(concat("named barrier ", id, " does not exist; 1 to 15 do, 0 is __syncthreads"), where);
  if (count <= 0 || count % 32 != 0 || count > static_cast<int>(b.thread_count + 31) / 32 * 32)
    fail(concat("a named barrier for ", count, " threads; it takes whole warps of the block"),
         where);
  if (arrive(b.barriers[id], count, wait, false, "named barrier", where)) ++totals.block_barriers;
}

void grid_barrier(Where where) {
  if (!gang.launch->coop) fail("grid_sync in a launch that is not cooperative", where);
  arrive(gang.barrier, static_cast<int>(gang.thread_count), true, true, "grid_sync", where);
}

void cluster_barrier(Where where) {
  if (gang.launch->coop) fail("cluster_sync in a launch without clusters", where);
  arrive(gang.barrier, static_cast<int>(gang.thread_count), true, true, "cluster_sync", where);
}

std::uint32_t cluster_rank(Where where) {
  if (gang.launch->coop) fail("cluster_rank in a launch without clusters", where);
  return current->block->rank;
}

void* cluster_map(void* p, std::uint32_t rank, Where where) {
  const Block& b = *current->block;
  if (gang.launch->coop || rank >= gang.block_count)
    fail(concat("cluster_map to rank ", rank, " of a cluster of ", gang.launch->cluster), where);
  if (!b.contains(p, 1)) fail("cluster_map of an address outside the block's shared memory", where);
  return gang.blocks[rank]->smem + b.offset(p);
}

// --- flags between resident blocks ---------------------------------------------------------------

void release_add(std::uint32_t* p, std::uint32_t value, Where where) {
  const Allocation* a = find_allocation(p);
  if (!a) fail("red_release_add: " + describe_address(p), where);
  ++totals.atomics;
  Thread& t = *current;
  if (checking_races()) {
    global_access(*find_allocation(p), p, sizeof *p, true, as_thread(t, site_of(where), kAtomic));
    release(t, gang.flags[p]);
  }
  *p += value;
  std::erase_if(gang.flag_waits, [&](const FlagWait& w) {
    const bool reached = w.word == p && static_cast<std::int32_t>(*p - w.value) >= 0;
    if (reached) make_ready(*w.thread);
    return reached;
  });
}

void wait_acquire_ge(const std::uint32_t* p, std::uint32_t value, Where where) {
  Allocation* a = find_allocation(p);
  if (!a) fail("wait_acquire_ge: " + describe_address(p), where);
  Thread& t = *current;
  while (static_cast<std::int32_t>(*p - value) < 0) {
    gang.flag_waits.push_back({&t, p, value});
    park(gang.launch->coop ? "wait_acquire_ge"
                           : "wait_acquire_ge (in a launch that is not cooperative, so blocks need "
                             "not be resident together)",
         where);
  }
  if (checking_races()) {
    acquire(t, gang.flags[p]);
    global_access(*a, p, sizeof *p, false, as_thread(t, site_of(where), kAtomic));
  }
}

}  // namespace subpix::sim
