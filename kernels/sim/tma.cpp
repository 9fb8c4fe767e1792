#include <algorithm>
#include <cstring>

#include "kernels/sim/engine.h"
#include "kernels/sim/memory.h"

/// Bulk copies and TMA: loads that complete on an mbarrier, stores that a thread waits for.
namespace subpix::sim {
namespace {

std::uint32_t box_bytes(const TensorMap& m) {
  std::uint32_t bytes = m.element_size;
  for (int i = 0; i < m.rank; ++i) bytes *= static_cast<std::uint32_t>(m.box[i]);
  return bytes;
}

/// Where byte `offset` of a box lies: the 16-byte chunks of each 128-byte line are permuted by bits
/// of the line's number (32-byte swizzle: one bit, 64: two, 128: three).
std::uint32_t swizzled(std::uint32_t offset, std::uint32_t swizzle_bytes) {
  const std::uint32_t mask = swizzle_bytes / 16 - 1;
  return swizzle_bytes ? offset ^ (offset >> 7 & mask) << 4 : offset;
}

void check_map(const TensorMap& m, Where where) {
  if (!m.base) fail("TMA with an empty tensor map", where);
  std::int64_t last = m.element_size - 1;
  for (int i = 0; i < m.rank; ++i) last += (m.dims[i] - 1) * m.strides[i];
  const Allocation* a = find_allocation(m.base);
  if (!a || !a->contains(m.base + last))
    fail(concat("TMA: the tensor map reaches ", describe_address(m.base + last)), where);
}

void check_shared(const void* p, std::uint32_t bytes, std::uint32_t alignment, const char* what,
                  Where where) {
  if (!current->block->contains(p, bytes))
    fail(concat(what, " is outside the block's shared memory"), where);
  if (current->block->offset(p) % alignment != 0)
    fail(concat(what, " is not aligned to ", alignment, " bytes"), where);
}

std::uint32_t alignment_of(const TensorMap& m) { return m.swizzle_bytes == 128 ? 1024 : 128; }

/// Visits the rows (along dimension 0) of the box whose corner is given: visit(offset of the row in
/// the box, address of its element at coordinate 0 or null where the row lies outside).
template <class Visit>
void for_rows(const TensorMap& m, const int* corner, Visit&& visit) {
  const std::uint32_t pitch = static_cast<std::uint32_t>(m.box[0]) * m.element_size;
  int at[5] = {};
  for (std::uint32_t offset = 0, end = box_bytes(m); offset < end; offset += pitch) {
    const unsigned char* row = m.base;
    for (int i = 1; i < m.rank; ++i) {
      const std::int64_t x = std::int64_t{corner[i]} + at[i];
      if (x < 0 || x >= m.dims[i]) row = nullptr;
      if (row) row += x * m.strides[i];
    }
    visit(offset, row);
    for (int i = 1; i < m.rank && ++at[i] == m.box[i]; ++i) at[i] = 0;
  }
}

/// The same for im2col: the rows are positions of the window's corner (PTX ISA, "im2col mode").
template <class Visit>
void for_pixels(const BulkLoad& load, Visit&& visit) {
  const TensorMap& m = load.map;
  const std::uint32_t pitch = static_cast<std::uint32_t>(m.box[0]) * m.element_size;
  std::int64_t w = load.corner[1], h = load.corner[2], n = load.corner[3];
  for (int i = 0; i < m.box[1]; ++i) {
    const std::int64_t x = w + load.offset_w, y = h + load.offset_h;
    const bool inside = x >= 0 && x < m.dims[1] && y >= 0 && y < m.dims[2] && n < m.dims[3];
    visit(static_cast<std::uint32_t>(i) * pitch,
          inside ? m.base + x * m.strides[1] + y * m.strides[2] + n * m.strides[3] : nullptr);
    if (++w < m.dims[1] + m.upper[0]) continue;
    w = m.lower[0];
    if (++h < m.dims[2] + m.upper[1]) continue;
    h = m.lower[1];
    ++n;
  }
}

void load_row(const BulkLoad& load, std::uint32_t offset, const unsigned char* row) {
  const TensorMap& m = load.map;
  unsigned char* smem = load.block->smem;
  const std::uint32_t base = load.block->offset(load.dst);
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(m.box[0]); ++i) {
    const std::int64_t x = std::int64_t{load.corner[0]} + i;
    unsigned char* to = smem + swizzled(base + offset + i * m.element_size, m.swizzle_bytes);
    if (row && x >= 0 && x < m.dims[0])
      std::memcpy(to, row + x * m.element_size, m.element_size);
    else
      std::memset(to, 0, m.element_size);
  }
}

void start(BulkLoad load) {
  Thread& t = *current;
  mbarrier_at(load.bar, load.where);
  if (!t.block->contains(load.bar, sizeof *load.bar))
    fail("a bulk copy with the mbarrier of another block", load.where);
  ++totals.bulk_copies;
  totals.bulk_bytes += load.bytes;
  load.block = t.block;
  if (checking_races()) {
    const std::uint32_t slot = gang.next_bulk_agent++ % kBulkAgents;
    load.agent = gang.bulk_agent(slot);
    load.clock = ++gang.bulk_clocks[slot];
    shared_access(*t.block, load.dst, load.bytes, true,
                  {&t.knowledge, load.agent, load.clock, site_of(load.where), kAsyncProxy});
  }
  std::memset(load.dst, kPoison, load.bytes);
  gang.bulk_loads.push_back(load);
}

void store_row(const Thread& t, const BulkStore& store, std::uint32_t offset,
               const unsigned char* row) {
  const TensorMap& m = store.map;
  if (!row) return;
  const std::int64_t first = std::max<std::int64_t>(0, -std::int64_t{store.corner[0]});
  const std::int64_t last = std::min<std::int64_t>(m.box[0], m.dims[0] - store.corner[0]);
  if (first >= last) return;
  auto* to = const_cast<unsigned char*>(row) + store.corner[0] * std::int64_t{m.element_size};
  if (checking_races())
    global_access(*find_allocation(m.base), to + first * m.element_size,
                  static_cast<std::size_t>(last - first) * m.element_size, true,
                  as_thread(t, site_of(store.where)));
  const std::uint32_t base = t.block->offset(store.src);
  for (std::int64_t i = first; i < last; ++i) {
    const auto at = base + offset + static_cast<std::uint32_t>(i) * m.element_size;
    std::memcpy(to + i * m.element_size, t.block->smem + swizzled(at, m.swizzle_bytes),
                m.element_size);
  }
}

}  // namespace

void bulk_load(void* dst, const void* src, int bytes, std::uint64_t* bar, Where where) {
  if (bytes <= 0 || bytes % 16 != 0 || reinterpret_cast<std::uintptr_t>(src) % 16 != 0)
    fail("bulk_load: size and source must be multiples of 16 bytes", where);
  BulkLoad load;
  load.src = static_cast<const unsigned char*>(src);
  load.dst = static_cast<unsigned char*>(dst);
  load.bytes = static_cast<std::uint32_t>(bytes);
  load.bar = bar;
  load.where = where;
  check_shared(dst, load.bytes, 16, "bulk_load: the destination", where);
  Allocation* a = find_allocation(src);
  if (!a || !a->contains(load.src + bytes - 1))
    fail(concat("bulk_load reads ", bytes, " bytes ", describe_address(src)), where);
  if (checking_races())
    global_access(*a, src, load.bytes, false, as_thread(*current, site_of(where)));
  start(load);
}

void tma_load(void* dst, const TensorMap& map, std::uint64_t* bar, const int* corner, int corners,
              Where where) {
  if (map.im2col || map.rank != corners)
    fail(concat("tma_load_", corners, "d with a map of rank ", map.rank,
                map.im2col ? " for im2col" : ""),
         where);
  check_map(map, where);
  BulkLoad load;
  load.map = map;
  load.dst = static_cast<unsigned char*>(dst);
  load.bytes = box_bytes(map);
  std::copy(corner, corner + corners, load.corner);
  load.bar = bar;
  load.where = where;
  check_shared(dst, load.bytes, alignment_of(map), "TMA: the destination", where);
  start(load);
}

void tma_load_im2col(void* dst, const TensorMap& map, std::uint64_t* bar, const int* corner,
                     int offset_w, int offset_h, Where where) {
  if (!map.im2col) fail("tma_load_im2col with a map for tiles", where);
  check_map(map, where);
  BulkLoad load;
  load.map = map;
  load.map.rank = 2;  // a box of channels and pixels
  load.dst = static_cast<unsigned char*>(dst);
  load.bytes = box_bytes(load.map);
  std::copy(corner, corner + 4, load.corner);
  load.offset_w = offset_w;
  load.offset_h = offset_h;
  load.bar = bar;
  load.where = where;
  check_shared(dst, load.bytes, alignment_of(map), "TMA: the destination", where);
  start(load);
}

void deliver(std::size_t i) {
  const BulkLoad load = gang.bulk_loads[i];
  gang.bulk_loads.erase(gang.bulk_loads.begin() + static_cast<std::ptrdiff_t>(i));
  const auto row = [&](std::uint32_t offset, const unsigned char* from) {
    load_row(load, offset, from);
  };
  if (!load.map.base)
    std::memcpy(load.dst, load.src, load.bytes);
  else if (load.map.im2col)
    for_pixels(load, row);
  else
    for_rows(load.map, load.corner, row);
  mbarrier_complete_bytes(load.bar, load);
}

void tma_store(const TensorMap& map, const void* src, const int* corner, int corners, Where where) {
  if (map.im2col || map.rank != corners)
    fail(concat("tma_store_", corners, "d with a map of rank ", map.rank,
                map.im2col ? " for im2col" : ""),
         where);
  check_map(map, where);
  Thread& t = *current;
  const std::uint32_t bytes = box_bytes(map);
  check_shared(src, bytes, alignment_of(map), "TMA: the source", where);
  ++totals.bulk_stores;
  totals.bulk_bytes += bytes;
  if (checking_races())
    shared_access(*t.block, src, bytes, false,
                  as_thread(t, site_of(where), kAsyncProxy | kInFlight));
  const auto* from = static_cast<const unsigned char*>(src);
  BulkStore store{map, from, {}, {from, from + bytes}, where};
  std::copy(corner, corner + corners, store.corner);
  t.stores.operations.push_back(std::move(store));
}

void bulk_commit() { current->stores.commit(); }

void bulk_wait(int pending, Where) {
  Thread& t = *current;
  if (!t.stores.empty()) defer();  // others may still spoil the source
  t.stores.wait(static_cast<std::size_t>(pending), [&](const BulkStore& store) {
    if (std::memcmp(store.snapshot.data(), store.src, store.snapshot.size()) != 0)
      fail("shared memory changed while this bulk store was reading it", store.where);
    for_rows(store.map, store.corner, [&](std::uint32_t offset, const unsigned char* row) {
      store_row(t, store, offset, row);
    });
    if (checking_races()) settle(t, *t.block, store.src, store.snapshot.size(), false);
  });
}

}  // namespace subpix::sim
