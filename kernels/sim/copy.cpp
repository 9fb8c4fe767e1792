#include <cstring>

#include "kernels/sim/engine.h"
#include "kernels/sim/memory.h"

/// cp.async: each thread's own copies into shared memory. They belong to the generic proxy, so
/// wgmma and TMA see them only after a fence that follows the wait.
namespace subpix::sim {

void cp_async(void* dst, const void* src, int bytes, bool valid, Where where) {
  Thread& t = *current;
  Block& b = *t.block;
  const auto size = static_cast<std::size_t>(bytes);
  ++totals.cp_async;
  if (!b.contains(dst, size))
    fail("cp.async: the destination is outside the block's shared memory", where);
  if (reinterpret_cast<std::uintptr_t>(dst) % size != 0)
    fail(concat("cp.async: the destination is not aligned to ", bytes, " bytes"), where);
  const Site site = site_of(where);
  if (valid) {
    if (reinterpret_cast<std::uintptr_t>(src) % size != 0)
      fail(concat("cp.async: the source is not aligned to ", bytes, " bytes"), where);
    Allocation* a = find_allocation(src);
    if (!a || a->data + a->bytes - static_cast<const unsigned char*>(src) < bytes)
      fail(concat("cp.async reads ", bytes, " bytes ", describe_address(src)), where);
    count_access(t, AccessKind::GlobalLoad, src, static_cast<std::uint32_t>(bytes), site);
    if (checking_races()) global_access(*a, src, size, false, as_thread(t, site));
  }
  count_access(t, AccessKind::SharedStore, dst, static_cast<std::uint32_t>(bytes), site);
  if (checking_races()) shared_access(b, dst, size, true, as_thread(t, site, kInFlight));
  std::memset(dst, kPoison, size);
  t.copies.operations.push_back({static_cast<unsigned char*>(dst),
                                 static_cast<const unsigned char*>(src), bytes, valid, site});
}

void cp_async_commit() { current->copies.commit(); }

void cp_async_wait(int pending, Where) {
  Thread& t = *current;
  t.copies.wait(static_cast<std::size_t>(pending), [&](const CpAsync& copy) {
    const auto size = static_cast<std::size_t>(copy.bytes);
    if (copy.valid)
      std::memcpy(copy.dst, copy.src, size);
    else
      std::memset(copy.dst, 0, size);
    if (checking_races()) settle(t, *t.block, copy.dst, size, true);
  });
}

}  // namespace subpix::sim
