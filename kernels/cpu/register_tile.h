#pragma once

#include <array>
#include <utility>

#include "kernels/cpu/simd.h"

/// The inner loop of matrix products: a tile of kTileRows x kTileVectors sums stays in registers
/// while the common index runs. A step costs kTileVectors loads and kTileRows broadcasts for the
/// full product of multiply-adds, which keeps both multiply-add units busy.
namespace subpix::kernels::cpu {

inline constexpr int kTileRows = 6;
inline constexpr int kTileVectors = kLanes == 16 ? 4 : 2;  // 6 x 4 of 32 registers, 6 x 2 of 16
inline constexpr Index kTileChannels = kTileVectors * kLanes;

/// sum[i][j] = sum over t < count of a[i * a_row + t * a_step] * b[t * b_step + j].
struct Product {
  const float* a;
  Index a_row, a_step;
  const float* b;
  Index b_step;
  Index count;
};

namespace detail {

template <int Rows, int Vectors, bool Add>
void product(const Product& p, float* to, Index to_row) {
  Vec sum[Rows][Vectors] = {};
  const float* a = p.a;
  const float* b = p.b;
  for (Index t = 0; t < p.count; ++t, a += p.a_step, b += p.b_step) {
    Vec row[Vectors];
    for (int v = 0; v < Vectors; ++v) row[v] = load(b + v * kLanes);
    for (int i = 0; i < Rows; ++i)
      for (int v = 0; v < Vectors; ++v) sum[i][v] += a[i * p.a_row] * row[v];
  }
  for (int i = 0; i < Rows; ++i)
    for (int v = 0; v < Vectors; ++v) {
      float* at = to + i * to_row + v * kLanes;
      save(at, Add ? load(at) + sum[i][v] : sum[i][v]);
    }
}

template <bool Add>
void dispatch(int rows, int vectors, const Product& p, float* to, Index to_row) {
  using Run = void (*)(const Product&, float*, Index);
  static constexpr auto kRuns = []<int... I>(std::integer_sequence<int, I...>) {
    return std::array<Run, sizeof...(I)>{
        product<I / kTileVectors + 1, I % kTileVectors + 1, Add>...};
  }
  (std::make_integer_sequence<int, kTileRows * kTileVectors>{});
  kRuns[static_cast<std::size_t>((rows - 1) * kTileVectors + vectors - 1)](p, to, to_row);
}

}  // namespace detail

/// to[i * to_row + j] = the product for 1 to kTileRows rows i and 1 to kTileVectors registers of j.
inline void store_product(int rows, int vectors, const Product& p, float* to, Index to_row) {
  detail::dispatch<false>(rows, vectors, p, to, to_row);
}

/// The same, added to what is there.
inline void add_product(int rows, int vectors, const Product& p, float* to, Index to_row) {
  detail::dispatch<true>(rows, vectors, p, to, to_row);
}

}  // namespace subpix::kernels::cpu
