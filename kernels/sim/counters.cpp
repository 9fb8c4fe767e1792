#include "kernels/sim/counters.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <map>
#include <tuple>

#include "kernels/sim/engine.h"
#include "kernels/sim/symbols.h"

namespace subpix::sim {

Stats totals;

namespace {

struct LineCounter {
  std::uint64_t requests = 0, lanes = 0, bytes = 0, units = 0, ideal = 0;
};
std::unordered_map<std::uint64_t, LineCounter> lines;  // by site and kind

std::uint64_t key_of(Site site, AccessKind kind) {
  return std::uint64_t{site} << 2 | static_cast<std::uint64_t>(kind);
}

/// Distinct values of items[0..n), which it sorts.
template <class T>
int distinct(T* items, int n) {
  std::sort(items, items + n);
  return static_cast<int>(std::unique(items, items + n) - items);
}

/// 32-byte sectors.
void evaluate_global(const LineLog::Request& r, LineCounter& c) {
  std::uintptr_t sectors[64], starts[32];
  int n = 0, addresses = 0;
  for (std::uint32_t m = r.mask; m; m &= m - 1) {
    const auto a = reinterpret_cast<std::uintptr_t>(r.addresses[std::countr_zero(m)]);
    starts[addresses++] = a;
    sectors[n++] = a / 32;
    if ((a + r.bytes - 1) / 32 != a / 32) sectors[n++] = (a + r.bytes - 1) / 32;
  }
  c.units += static_cast<std::uint64_t>(distinct(sectors, n));
  c.ideal += (static_cast<std::uint64_t>(distinct(starts, addresses)) * r.bytes + 31) / 32;
}

/// Wavefronts: each serves one 4-byte word of every bank. 8-byte accesses go by half-warps, 16-byte
/// ones by quarters; lanes that read the same word share it.
void evaluate_shared(const LineLog::Request& r, LineCounter& c) {
  const int lanes = r.bytes <= 4 ? 32 : r.bytes == 8 ? 16 : 8;
  for (int first = 0; first < 32; first += lanes) {
    std::uintptr_t words[32 * 4];
    int n = 0;
    for (int l = first; l < first + lanes; ++l) {
      if (!(r.mask >> l & 1)) continue;
      const auto a = reinterpret_cast<std::uintptr_t>(r.addresses[l]);
      for (std::uintptr_t w = a / 4; w <= (a + r.bytes - 1) / 4 && n < 128; ++w) words[n++] = w;
    }
    n = distinct(words, n);
    int banks[32] = {}, most = 0;
    for (int i = 0; i < n; ++i) most = std::max(most, ++banks[words[i] % 32]);
    c.units += static_cast<std::uint64_t>(most);
    c.ideal += static_cast<std::uint64_t>((n + 31) / 32);
  }
}

void evaluate(std::uint64_t key, const LineLog::Request& r) {
  LineCounter& c = lines[key];
  const auto kind = static_cast<AccessKind>(key & 3);
  ++c.requests;
  c.lanes += static_cast<std::uint64_t>(std::popcount(r.mask));
  c.bytes += static_cast<std::uint64_t>(std::popcount(r.mask)) * r.bytes;
  if (kind == AccessKind::GlobalLoad || kind == AccessKind::GlobalStore)
    evaluate_global(r, c);
  else
    evaluate_shared(r, c);
}

void add(AccessCounter& to, const LineCounter& c) {
  to.requests += c.requests;
  to.lanes += c.lanes;
  to.bytes += c.bytes;
  to.units += c.units;
  to.ideal += c.ideal;
}

}  // namespace

void count_access(const Thread& t, AccessKind kind, const void* p, std::uint32_t bytes, Site site) {
  if (!config().count) return;
  if (bytes > 16) bytes = 16;  // a copy of a larger struct: counted by its beginning
  LineLog& log = t.block->logs[t.warp][key_of(site, kind)];
  const std::uint32_t i = log.executed[t.lane]++;
  if (i >= log.requests.size()) log.requests.resize(i + 1);
  LineLog::Request& r = log.requests[i];
  r.mask |= 1u << t.lane;
  r.bytes = std::max(r.bytes, bytes);
  r.addresses[t.lane] = p;
}

void flush_counters(Block& block) {
  for (WarpLog& warp : block.logs)
    for (auto& [key, log] : warp) {
      for (const LineLog::Request& r : log.requests)
        if (r.mask) evaluate(key, r);
      log.requests.clear();
      std::fill(std::begin(log.executed), std::end(log.executed), 0u);
    }
}

Stats stats() {
  Stats s = totals;
  std::map<std::tuple<std::string, int, AccessKind>, AccessCounter> named;
  for (const auto& [key, counter] : lines) {
    const Where where = where_of(static_cast<Site>(key >> 2));
    const auto kind = static_cast<AccessKind>(key & 3);
    const std::string file = base_name(where.file);
    AccessCounter& c =
        named.try_emplace({file, where.line, kind}, AccessCounter{kind, file, where.line})
            .first->second;
    add(c, counter);
  }
  for (auto& [key, counter] : named) s.accesses.push_back(counter);
  return s;
}

void reset_stats() {
  totals = {};
  lines.clear();
}

AccessCounter Stats::at(AccessKind kind, const std::string& file, int line) const {
  AccessCounter sum{kind, file, line};
  for (const AccessCounter& c : accesses)
    if (c.kind == kind && c.line == line && c.file == file)
      add(sum, {c.requests, c.lanes, c.bytes, c.units, c.ideal});
  return sum;
}

AccessCounter Stats::total(AccessKind kind) const {
  AccessCounter sum{kind, "", 0};
  for (const AccessCounter& c : accesses)
    if (c.kind == kind) add(sum, {c.requests, c.lanes, c.bytes, c.units, c.ideal});
  return sum;
}

const char* name(AccessKind k) {
  switch (k) {
    case AccessKind::GlobalLoad:
      return "global load";
    case AccessKind::GlobalStore:
      return "global store";
    case AccessKind::SharedLoad:
      return "shared load";
    case AccessKind::SharedStore:
      return "shared store";
  }
  return "";
}

std::string report(const Stats& s) {
  std::string text =
      concat("launches ", s.launches, ", graphs ", s.graph_launches, ", copies ", s.copies, " (",
             s.copied_bytes, " bytes), allocations ", s.allocations, "\nblocks ", s.blocks,
             ", threads ", s.threads, ", block barriers ", s.block_barriers, ", warp collectives ",
             s.warp_collectives, ", atomics ", s.atomics, "\ncp.async ", s.cp_async,
             ", bulk copies ", s.bulk_copies, ", bulk stores ", s.bulk_stores, " (", s.bulk_bytes,
             " bytes), ldmatrix ", s.ldmatrix, ", mma ", s.mma, ", wgmma ", s.wgmma, "\n");
  char line[256];
  for (const AccessCounter& c : s.accesses) {
    const bool global = c.kind == AccessKind::GlobalLoad || c.kind == AccessKind::GlobalStore;
    const auto per_request = [&](std::uint64_t v) {
      return static_cast<double>(v) / static_cast<double>(std::max<std::uint64_t>(c.requests, 1));
    };
    std::snprintf(line, sizeof line,
                  "%-12s %-28s requests %8llu  lanes %5.1f  bytes %10llu  %s %8llu "
                  "(%.2f a request, ideal %.2f)\n",
                  name(c.kind), concat(c.file, ":", c.line).c_str(),
                  static_cast<unsigned long long>(c.requests), per_request(c.lanes),
                  static_cast<unsigned long long>(c.bytes), global ? "sectors   " : "wavefronts",
                  static_cast<unsigned long long>(c.units), per_request(c.units),
                  per_request(c.ideal));
    text += line;
  }
  return text;
}

}  // namespace subpix::sim
