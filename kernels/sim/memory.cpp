#include "kernels/sim/memory.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>

#include "kernels/sim/engine.h"

namespace subpix::sim {
namespace {

constexpr std::size_t kAlignment = 256;  // as cudaMalloc's
constexpr std::size_t kRedZone = 256;    // on either side

std::map<const unsigned char*, Allocation> allocations;
std::size_t live_bytes = 0;

/// The last allocation found for an address of each page, modulo the size of the table.
std::array<Allocation*, 256> recent;
Allocation*& recent_for(const void* p) {
  return recent[reinterpret_cast<std::uintptr_t>(p) >> 12 & (recent.size() - 1)];
}

struct Range {
  const unsigned char* data;
  std::size_t bytes;
};
/// The last few released, for messages.
std::array<Range, 64> released;
std::size_t released_count = 0;

/// NaN as fp32 and bf16, wherever an aligned value begins; not the value that poison has.
unsigned char zone_byte(const unsigned char* p) {
  return reinterpret_cast<std::uintptr_t>(p) & 1 ? 0xFF : 0xFD;
}

bool intact(const unsigned char* zone) {
  return first_damage(zone, zone + kRedZone) == zone + kRedZone;
}

}  // namespace

void mark_red_zone(unsigned char* zone, std::size_t bytes) {
  for (unsigned char* p = zone; p < zone + bytes; ++p) *p = zone_byte(p);
}

const unsigned char* first_damage(const unsigned char* zone, const unsigned char* end) {
  while (zone < end && *zone == zone_byte(zone)) ++zone;
  return zone;
}

unsigned char* allocate_device(std::size_t bytes) {
  bytes = std::max<std::size_t>(bytes, 1);
  // AddressSanitizer surrounds allocations itself, and exactly: without zones of ours it names
  // them.
  const std::size_t zone = address_sanitizer() ? 0 : kRedZone;
  void* p = nullptr;
  if (bytes > (std::size_t{1} << 46) || posix_memalign(&p, kAlignment, bytes + 2 * zone) != 0)
    throw InputError(concat("out of simulated device memory: ", bytes, " bytes asked, ", live_bytes,
                            " in use; use a smaller batch, crop or tile"));
  auto* data = static_cast<unsigned char*>(p) + zone;
  std::memset(data, kPoison, bytes);
  mark_red_zone(data - zone, zone);
  mark_red_zone(data + bytes, zone);
  allocations[data] = {data, bytes, nullptr};
  live_bytes += bytes;
  ++totals.allocations;
  return data;
}

void release_device(void* data) {
  const auto it = allocations.find(static_cast<const unsigned char*>(data));
  if (it == allocations.end())
    throw Error(concat("release of ", data, ", ", describe_address(data)));
  const Allocation& a = it->second;
  const std::size_t zone = address_sanitizer() ? 0 : kRedZone;
  std::memset(a.data, kPoison, a.bytes);  // for those who still hold a pointer
  released[released_count++ % released.size()] = {a.data, a.bytes};
  live_bytes -= a.bytes;
  recent.fill(nullptr);
  std::free(a.data - zone);
  allocations.erase(it);
}

Allocation* find_allocation(const void* p) {
  Allocation*& slot = recent_for(p);
  if (slot && slot->contains(p)) return slot;
  auto it = allocations.upper_bound(static_cast<const unsigned char*>(p));
  if (it == allocations.begin()) return nullptr;
  Allocation& a = (--it)->second;
  if (!a.contains(p)) return nullptr;
  slot = &a;
  return &a;
}

std::string describe_address(const void* p) {
  const auto* address = static_cast<const unsigned char*>(p);
  if (!p) return "a null pointer";
  if (current && gang.in_arena(p)) return "in shared memory";
  if (const Allocation* a = find_allocation(p))
    return concat("at byte ", address - a->data, " of an allocation of ", a->bytes, " bytes");
  // A neighbour's red zone, then what used to be here.
  const auto above = allocations.upper_bound(address);
  if (above != allocations.begin()) {
    const Allocation& a = std::prev(above)->second;
    const std::ptrdiff_t past = address - (a.data + a.bytes) + 1;
    if (past <= static_cast<std::ptrdiff_t>(kRedZone))
      return concat(past, " bytes behind the last of an allocation of ", a.bytes, " bytes");
  }
  if (above != allocations.end() &&
      above->second.data - address <= static_cast<std::ptrdiff_t>(kRedZone))
    return concat(above->second.data - address, " bytes before an allocation of ",
                  above->second.bytes, " bytes");
  for (const Range& r : released)
    if (r.data && address >= r.data && address < r.data + r.bytes)
      return concat("in memory of ", r.bytes, " bytes that was released");
  return "outside every device allocation";
}

std::string damaged_red_zone() {
  if (address_sanitizer()) return "";
  for (auto& [data, a] : allocations) {
    const bool front = intact(a.data - kRedZone), back = intact(a.data + a.bytes);
    if (front && back) continue;
    mark_red_zone(a.data - kRedZone, kRedZone);
    mark_red_zone(a.data + a.bytes, kRedZone);
    return concat("something was written just ", front ? "past the end" : "before the beginning",
                  " of an allocation of ", a.bytes,
                  " bytes; the check flavour of the simulator names the line");
  }
  return "";
}

MemoryUse memory_use() { return {allocations.size(), live_bytes}; }

}  // namespace subpix::sim
