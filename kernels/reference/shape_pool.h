#pragma once

#include "kernels/api/problem.h"
#include "kernels/reference/number.h"

/// Sub-pixel shuffle (Shi et al., arXiv 1609.05158, eq. 4) and 2x2 max pooling.
namespace subpix::kernels::reference {

/// Calls move(index in x, index in y) for every element of x [N,H,W,scale*scale*C].
template <class Move>
void for_each_shuffled(const ShuffleProblem& d, Move&& move) {
  const Index f = d.scale;
  for (Index n = 0; n < d.n; ++n)
    for (Index h = 0; h < d.h; ++h)
      for (Index w = 0; w < d.w; ++w)
        for (Index i = 0; i < f; ++i)
          for (Index j = 0; j < f; ++j)
            for (Index c = 0; c < d.c; ++c) {
              const Index from = ((n * d.h + h) * d.w + w) * f * f * d.c + (i * f + j) * d.c + c;
              const Index to = ((n * d.h * f + h * f + i) * d.w * f + w * f + j) * d.c + c;
              move(from, to);
            }
}

template <class T>
void pixel_shuffle_forward(const ShuffleProblem& d, const T* x, T* y) {
  for_each_shuffled(d, [&](Index from, Index to) { y[to] = x[from]; });
}

template <class T>
void pixel_shuffle_backward(const ShuffleProblem& d, const T* dy, T* dx) {
  for_each_shuffled(d, [&](Index from, Index to) { dx[from] = dy[to]; });
}

/// which [N,P,Q,C] or null: 2*row + column of the maximum, the first on ties; a NaN wins.
template <class T>
void max_pool_forward(const PoolProblem& d, const T* x, T* y, std::uint8_t* which) {
  const Index P = d.p(), Q = d.q();
  for (Index n = 0; n < d.n; ++n)
    for (Index p = 0; p < P; ++p)
      for (Index q = 0; q < Q; ++q)
        for (Index c = 0; c < d.c; ++c) {
          std::uint8_t winner = 0;
          T best{};
          for (std::uint8_t place = 0; place < 4; ++place) {
            const Index h = 2 * p + place / 2, w = 2 * q + place % 2;
            const T candidate = x[((n * d.h + h) * d.w + w) * d.c + c];
            const bool wins = load(candidate) > load(best) ||
                              (std::isnan(load(candidate)) && !std::isnan(load(best)));
            if (place == 0 || wins) {
              best = candidate;
              winner = place;
            }
          }
          const Index out = ((n * P + p) * Q + q) * d.c + c;
          y[out] = best;
          if (which) which[out] = winner;
        }
}

/// dx is zero everywhere except at the maxima, also in a dropped last row or column.
template <class T>
void max_pool_backward(const PoolProblem& d, const T* dy, const std::uint8_t* which, T* dx) {
  const Index P = d.p(), Q = d.q();
  for (Index i = 0; i < d.x_count(); ++i) dx[i] = T{};
  for (Index n = 0; n < d.n; ++n)
    for (Index p = 0; p < P; ++p)
      for (Index q = 0; q < Q; ++q)
        for (Index c = 0; c < d.c; ++c) {
          const Index out = ((n * P + p) * Q + q) * d.c + c;
          const Index h = 2 * p + which[out] / 2, w = 2 * q + which[out] % 2;
          dx[((n * d.h + h) * d.w + w) * d.c + c] = dy[out];
        }
}

}  // namespace subpix::kernels::reference
