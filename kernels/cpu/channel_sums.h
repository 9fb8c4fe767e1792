#pragma once

#include <array>

#include "kernels/api/context.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

/// Sums over the rows of [rows, c] matrices, channel by channel.
namespace subpix::kernels::cpu {

/// total[t * c + j] = sum over the rows i of the t-th of the Terms values that
/// terms(i * c + j, j, lanes) gives for channels j .. j + lanes - 1; what it gives for lanes beyond
/// that is dropped. Runs of rows are added in float registers and the runs in double, so the error
/// does not grow with the number of rows.
template <int Terms, class Each>
void channel_sums(Workspace& ws, Index rows, Index c, double* total, Each&& terms) {
  constexpr Index kRun = 128;    // rows added in float
  constexpr Index kVectors = 4;  // independent chains, so that additions overlap
  const Index stride = (c + kLanes - 1) / kLanes * kLanes;
  const int parts = part_count(rows, c);
  const Index part_size = Terms * stride;
  double* partial = ws.take<double>(static_cast<std::size_t>(parts * part_size));
  parallel_parts(parts, [&](int part) {
    const Range own = part_range(rows, part, parts);
    double* sums = partial + part * part_size;
    std::fill_n(sums, part_size, 0.0);
    const auto add_block = [&](Index begin, Index end, Index channel, auto vectors) {
      constexpr Index kCount = decltype(vectors)::value;
      Vec sum[kCount][Terms] = {};
      const Index last_lanes = std::min(kLanes, c - channel - (kCount - 1) * kLanes);
      for (Index i = begin; i < end; ++i)
        for (Index v = 0; v < kCount; ++v) {
          const Index j = channel + v * kLanes;
          const std::array<Vec, Terms> values =
              terms(i * c + j, j, v + 1 == kCount ? last_lanes : kLanes);
          for (int t = 0; t < Terms; ++t) sum[v][t] += values[t];
        }
      for (Index v = 0; v < kCount; ++v)
        for (int t = 0; t < Terms; ++t)
          for (Index lane = 0; lane < kLanes; ++lane)
            sums[t * stride + channel + v * kLanes + lane] += static_cast<double>(sum[v][t][lane]);
    };
    for (Index begin = own.begin; begin < own.end; begin += kRun) {
      const Index end = std::min(begin + kRun, own.end);
      Index channel = 0;
      for (; channel + kVectors * kLanes <= c; channel += kVectors * kLanes)
        add_block(begin, end, channel, std::integral_constant<Index, kVectors>{});
      for (; channel < c; channel += kLanes)
        add_block(begin, end, channel, std::integral_constant<Index, 1>{});
    }
  });
  for (int t = 0; t < Terms; ++t)
    for (Index j = 0; j < c; ++j) {
      double sum = 0.0;
      for (int part = 0; part < parts; ++part) sum += partial[part * part_size + t * stride + j];
      total[t * c + j] = sum;
    }
}

/// sum[j] = the sum of x [rows, c] over its rows.
template <class T>
void channel_sum(Workspace& ws, Index rows, Index c, const T* x, float* sum) {
  double* total = ws.take<double>(static_cast<std::size_t>(c));
  channel_sums<1>(ws, rows, c, total,
                  [x](Index i, Index, Index lanes) { return std::array{load(x + i, lanes)}; });
  for (Index j = 0; j < c; ++j) sum[j] = static_cast<float>(total[j]);
}

/// Calls each(i * c + j, j, lanes) for every register of a [rows, c] matrix, in parallel.
template <class Each>
void for_each_channel(Index rows, Index c, Each&& each) {
  parallel_ranges(rows, c, [&](Range own) {
    for (Index i = own.begin; i < own.end; ++i) {
      Index j = 0;
      for (; j + kLanes <= c; j += kLanes) each(i * c + j, j, kLanes);
      if (j < c) each(i * c + j, j, c - j);
    }
  });
}

/// Calls each(i, lanes) for every register of `count` elements, in parallel.
template <class Each>
void for_each_register(Index count, Each&& each) {
  const int parts = part_count(count);
  parallel_parts(parts, [&](int part) {
    const Range own = part_range(count, part, parts, kLanes);
    Index i = own.begin;
    for (; i + kLanes <= own.end; i += kLanes) each(i, kLanes);
    if (i < own.end) each(i, own.end - i);
  });
}

}  // namespace subpix::kernels::cpu
