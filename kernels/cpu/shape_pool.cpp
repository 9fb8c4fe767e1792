#include <cmath>
#include <cstring>

#include "kernels/api/kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/variants.h"

/// Sub-pixel shuffle and 2x2 max pooling over NHWC.
namespace subpix::kernels::cpu {

namespace {

/// Calls move(offset in x, offset in y, count) for every contiguous run of x [N,H,W,f*f*C]: the
/// channels (i, j = 0.., c) of one pixel are f neighbouring pixels of output row h*f + i.
template <class Move>
void for_each_run(const ShuffleProblem& d, Move&& move) {
  const Index f = d.scale, run = f * d.c, row = d.w * run;
  parallel_ranges(d.n * d.h, f * row, [&](Range own) {
    for (Index h = own.begin; h < own.end; ++h)
      for (Index w = 0; w < d.w; ++w)
        for (Index i = 0; i < f; ++i)
          move((h * d.w + w) * f * run + i * run, (h * f + i) * row + w * run, run);
  });
}

template <class T>
void copy_run(const T* from, T* to, Index count) {
  std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(T));
}

template <class T>
void shuffle_forward(Context&, const ShuffleProblem& d, const T* x, T* y) {
  for_each_run(d, [=](Index in, Index out, Index count) { copy_run(x + in, y + out, count); });
}

template <class T>
void shuffle_backward(Context&, const ShuffleProblem& d, const T* dy, T* dx) {
  for_each_run(d, [=](Index in, Index out, Index count) { copy_run(dy + out, dx + in, count); });
}

/// Calls each(first offset of the 2x2 window in x, offset in y, lanes) for registers of channels.
template <class Each>
void for_each_window(const PoolProblem& d, Each&& each) {
  const Index P = d.p(), Q = d.q();
  parallel_ranges(d.n * P, 4 * Q * d.c, [&](Range own) {
    for (Index row = own.begin; row < own.end; ++row) {
      const Index n = row / P, p = row % P;
      for (Index q = 0; q < Q; ++q)
        for (Index c = 0; c < d.c; c += kLanes)
          each(((n * d.h + 2 * p) * d.w + 2 * q) * d.c + c, (row * Q + q) * d.c + c,
               std::min(kLanes, d.c - c));
    }
  });
}

template <class T>
void pool_forward(Context&, const PoolProblem& d, const T* x, T* y, std::uint8_t* which) {
  const Index down = d.w * d.c, right = d.c;
  for_each_window(d, [=](Index in, Index out, Index lanes) {
    Vec best = load(x + in, lanes);
    VecBits place = {};
    std::uint32_t number = 0;
    for (const Index step : {right, down, down + right}) {
      ++number;
      const Vec candidate = load(x + in + step, lanes);
      // A NaN wins, and the first of several: it differs from itself, and nothing is above it.
      const auto wins = (candidate > best) | ((candidate != candidate) & (best == best));
      best = wins ? candidate : best;
      place = wins ? VecBits{} + number : place;
    }
    save(y + out, best, lanes);
    if (which)
      for (Index lane = 0; lane < lanes; ++lane)
        which[out + lane] = static_cast<std::uint8_t>(place[lane]);
  });
}

template <class T>
void pool_backward(Context&, const PoolProblem& d, const T* dy, const std::uint8_t* which, T* dx) {
  const Index down = d.w * d.c, right = d.c;
  // A dropped last row or column belongs to no window.
  if (d.h % 2 != 0 || d.w % 2 != 0) std::fill_n(dx, d.x_count(), T{});
  for_each_window(d, [=](Index in, Index out, Index lanes) {
    const Index steps[4] = {0, right, down, down + right};
    for (std::uint8_t place = 0; place < 4; ++place)
      for (Index lane = 0; lane < lanes; ++lane)
        dx[in + steps[place] + lane] = which[out + lane] == place ? dy[out + lane] : T{};
  });
}

template <class T>
void add_typed(TypedOps<T>& ops) {
  ops.pixel_shuffle_forward.prepend({"openmp", nullptr, shuffle_forward<T>});
  ops.pixel_shuffle_backward.prepend({"openmp", nullptr, shuffle_backward<T>});
  ops.max_pool_forward.prepend({"simd", nullptr, pool_forward<T>});
  ops.max_pool_backward.prepend({"openmp", nullptr, pool_backward<T>});
}

}  // namespace

void add_shape_pool(KernelTable& table) {
  add_typed(table.f32);
  add_typed(table.bf16_ops);
}

}  // namespace subpix::kernels::cpu
