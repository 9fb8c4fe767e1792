#pragma once

#include <omp.h>

#include <algorithm>

#include "kernels/api/problem.h"

/// Note [Parts]
/// Work is cut into parts of contiguous elements; their number and bounds depend on the problem and
/// on the thread count in force alone. A reduction keeps one partial result per part and adds them
/// in the order of the parts, so equal thread counts give equal bits, even where OpenMP grants
/// fewer threads than asked for. Small problems get fewer parts: starting a team costs about as
/// much as working through a few tens of kilobytes.
namespace subpix::kernels::cpu {

struct Range {
  Index begin, end;
  Index size() const { return end - begin; }
};

/// Elements that are worth a part of their own.
inline constexpr Index kGrain = 16384;

/// In how many parts to cut `count` units of `weight` elements each.
inline int part_count(Index count, Index weight = 1) {
  const Index worth = (count * weight + kGrain - 1) / kGrain;
  return static_cast<int>(
      std::clamp<Index>(std::min<Index>(worth, count), 1, omp_get_max_threads()));
}

/// The part's share of [0, count), bounds rounded to multiples of `align`.
inline Range part_range(Index count, int part, int parts, Index align = 1) {
  const Index blocks = (count + align - 1) / align;
  return {std::min(blocks * part / parts * align, count),
          std::min(blocks * (part + 1) / parts * align, count)};
}

/// Calls body(part) for every part, in parallel.
template <class Body>
void parallel_parts(int parts, Body&& body) {
  if (parts == 1) return body(0);
#pragma omp parallel for schedule(static) num_threads(parts)
  for (int part = 0; part < parts; ++part) body(part);
}

/// Calls body(range) for every part of [0, count) units of `weight` elements.
template <class Body>
void parallel_ranges(Index count, Index weight, Body&& body) {
  const int parts = part_count(count, weight);
  parallel_parts(parts, [&](int part) { body(part_range(count, part, parts)); });
}

}  // namespace subpix::kernels::cpu
