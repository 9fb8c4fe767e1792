#include <algorithm>
#include <array>
#include <utility>

#include "kernels/api/kernels.h"
#include "kernels/cpu/channel_sums.h"
#include "kernels/cpu/variants.h"

/// Dense layers on plain row-major weights [out, in]. The discriminator's first one holds most of
/// its parameters, so all three directions are bound by one pass over the weights (or their
/// gradient): they are read or written once, in long runs, and never copied to another layout. What
/// is reused (x, dy, sums) is cut into chunks of inputs that stay in the cache. Registers hold
/// tiles of outputs x samples (forward), samples x inputs (backward_data) or outputs x inputs
/// (backward_filter).
namespace subpix::kernels::cpu {

namespace {

constexpr Index kChunk = 2048;  // inputs worked on together
constexpr int kTile = 4;        // samples, or outputs, of a register tile
constexpr int kTileWide = kLanes == 16 ? 4 : 2;

/// Calls f(std::integral_constant<int, n>) for n = 1 .. Most given at run time.
template <int Most, class F>
void with_constant(Index n, F&& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) {
    ((n == I + 1 ? f(std::integral_constant<int, I + 1>{}) : void()), ...);
  }
  (std::make_integer_sequence<int, Most>{});
}

float horizontal_sum(Vec v) {
  float sum = 0.0f;
  for (Index lane = 0; lane < kLanes; ++lane) sum += v[lane];
  return sum;
}

/// sums[o * n_total + n] += x[n, ..] . w[o, ..] over `count` inputs; rows are `in` apart.
template <int Outputs, int Samples, class T>
void add_dots(const T* x, const T* w, Index in, Index count, double* sums, Index n_total) {
  Vec sum[Outputs][Samples] = {};
  const auto step = [&](Index i, Index lanes) {
    Vec row[Outputs];
    for (int o = 0; o < Outputs; ++o) row[o] = load(w + o * in + i, lanes);
    for (int n = 0; n < Samples; ++n) {
      const Vec sample = load(x + n * in + i, lanes);
      for (int o = 0; o < Outputs; ++o) sum[o][n] += row[o] * sample;
    }
  };
  Index i = 0;
  for (; i + kLanes <= count; i += kLanes) step(i, kLanes);
  if (i < count) step(i, count - i);
  for (int o = 0; o < Outputs; ++o)
    for (int n = 0; n < Samples; ++n)
      sums[o * n_total + n] += static_cast<double>(horizontal_sum(sum[o][n]));
}

template <class T>
void forward(Context& ctx, const DenseProblem& d, const T* x, Filter<T> filter, const float* bias,
             T* y) {
  Workspace ws(ctx);
  double* sums = ws.take<double>(static_cast<std::size_t>(d.out * d.n));
  const T* w = filter.data;
  parallel_ranges(d.out, d.in * (d.n + 1), [&](Range own) {
    std::fill_n(sums + own.begin * d.n, own.size() * d.n, 0.0);
    for (Index i = 0; i < d.in; i += kChunk) {
      const Index count = std::min(kChunk, d.in - i);
      for (Index o = own.begin; o < own.end; o += kTileWide)
        for (Index n = 0; n < d.n; n += kTile)
          with_constant<kTileWide>(std::min<Index>(kTileWide, own.end - o), [&](auto outputs) {
            with_constant<kTile>(std::min<Index>(kTile, d.n - n), [&](auto samples) {
              add_dots<outputs(), samples()>(x + n * d.in + i, w + o * d.in + i, d.in, count,
                                             sums + o * d.n + n, d.n);
            });
          });
    }
    for (Index n = 0; n < d.n; ++n)
      for (Index o = own.begin; o < own.end; ++o)
        y[n * d.out + o] = store<T>(sums[o * d.n + n] + static_cast<double>(bias ? bias[o] : 0.0f));
  });
}

/// sums[n, 0..lanes of Vectors registers) += sum over `outputs` rows of dy[n, o] * w[o, ..].
template <int Samples, int Vectors, class T>
void add_rows(const T* dy, const T* w, Index out, Index in, Index outputs, float* sums,
              Index last_lanes) {
  Vec sum[Samples][Vectors];
  for (int n = 0; n < Samples; ++n)
    for (int v = 0; v < Vectors; ++v) sum[n][v] = load(sums + n * kChunk + v * kLanes);
  for (Index o = 0; o < outputs; ++o) {
    Vec row[Vectors];
    for (int v = 0; v < Vectors; ++v)
      row[v] = load(w + o * in + v * kLanes, v + 1 == Vectors ? last_lanes : kLanes);
    for (int n = 0; n < Samples; ++n) {
      const float gradient = to_float(dy[n * out + o]);
      for (int v = 0; v < Vectors; ++v) sum[n][v] += gradient * row[v];
    }
  }
  for (int n = 0; n < Samples; ++n)
    for (int v = 0; v < Vectors; ++v) save(sums + n * kChunk + v * kLanes, sum[n][v]);
}

template <class T>
void backward_data(Context& ctx, const DenseProblem& d, const T* dy, Filter<T> filter, T* dx) {
  constexpr Index kOutputs = 8;  // rows of w that stay in the first-level cache
  Workspace ws(ctx);
  const int parts = part_count(d.in, d.out * (d.n + 1));
  const Index block = d.n * kChunk;
  float* all_sums = ws.take<float>(static_cast<std::size_t>(parts * block));
  const T* w = filter.data;
  parallel_parts(parts, [&](int part) {
    const Range own = part_range(d.in, part, parts, kTileWide * kLanes);
    float* sums = all_sums + part * block;
    for (Index i = own.begin; i < own.end; i += kChunk) {
      const Index count = std::min(kChunk, own.end - i);
      std::fill_n(sums, block, 0.0f);
      for (Index o = 0; o < d.out; o += kOutputs) {
        const Index outputs = std::min(kOutputs, d.out - o);
        for (Index n = 0; n < d.n; n += kTile)
          for (Index j = 0; j < count; j += kTileWide * kLanes) {
            const Index lanes = std::min<Index>(kTileWide * kLanes, count - j);
            const Index vectors = (lanes + kLanes - 1) / kLanes;
            with_constant<kTile>(std::min<Index>(kTile, d.n - n), [&](auto samples) {
              with_constant<kTileWide>(vectors, [&](auto wide) {
                add_rows<samples(), wide()>(dy + n * d.out + o, w + o * d.in + i + j, d.out, d.in,
                                            outputs, sums + n * kChunk + j,
                                            lanes - (vectors - 1) * kLanes);
              });
            });
          }
      }
      for (Index n = 0; n < d.n; ++n)
        for (Index j = 0; j < count; ++j) dx[n * d.in + i + j] = store<T>(sums[n * kChunk + j]);
    }
  });
}

/// dw[o, 0..lanes of Vectors registers) = sum over the samples of dy[n, o] * x[n, ..].
template <int Outputs, int Vectors, class T>
void outer_products(const T* dy, const T* x, const DenseProblem& d, float* dw, Index last_lanes) {
  Vec sum[Outputs][Vectors] = {};
  for (Index n = 0; n < d.n; ++n) {
    Vec row[Vectors];
    for (int v = 0; v < Vectors; ++v)
      row[v] = load(x + n * d.in + v * kLanes, v + 1 == Vectors ? last_lanes : kLanes);
    for (int o = 0; o < Outputs; ++o) {
      const float gradient = to_float(dy[n * d.out + o]);
      for (int v = 0; v < Vectors; ++v) sum[o][v] += gradient * row[v];
    }
  }
  for (int o = 0; o < Outputs; ++o)
    for (int v = 0; v < Vectors; ++v)
      save(dw + o * d.in + v * kLanes, sum[o][v], v + 1 == Vectors ? last_lanes : kLanes);
}

template <class T>
void backward_filter(Context& ctx, const DenseProblem& d, const T* x, const T* dy, float* dw,
                     float* db) {
  parallel_ranges(d.out, d.in * (d.n + 1), [&](Range own) {
    for (Index i = 0; i < d.in; i += kChunk) {
      const Index count = std::min(kChunk, d.in - i);
      for (Index o = own.begin; o < own.end; o += kTile)
        for (Index j = 0; j < count; j += kTileWide * kLanes) {
          const Index lanes = std::min<Index>(kTileWide * kLanes, count - j);
          const Index vectors = (lanes + kLanes - 1) / kLanes;
          with_constant<kTile>(std::min<Index>(kTile, own.end - o), [&](auto outputs) {
            with_constant<kTileWide>(vectors, [&](auto wide) {
              outer_products<outputs(), wide()>(dy + o, x + i + j, d, dw + o * d.in + i + j,
                                                lanes - (vectors - 1) * kLanes);
            });
          });
        }
    }
  });
  if (!db) return;
  Workspace ws(ctx);
  channel_sum(ws, d.n, d.out, dy, db);
}

template <class T>
void add_typed(TypedOps<T>& ops) {
  ops.dense_forward.prepend({"simd", nullptr, forward<T>});
  ops.dense_backward_data.prepend({"simd", nullptr, backward_data<T>});
  ops.dense_backward_filter.prepend({"simd", nullptr, backward_filter<T>});
}

}  // namespace

void add_dense(KernelTable& table) {
  add_typed(table.f32);
  add_typed(table.bf16_ops);
}

}  // namespace subpix::kernels::cpu
