// 2x2 max pooling with stride 2, NHWC, forward and backward.
//
//   y[n,p,q,c] = max over a, b in {0, 1} of x[n, 2p+a, 2q+b, c],   which = 2a + b of the first
//   maximum dx[n, 2p+a, 2q+b, c] = dy[n,p,q,c] where which[n,p,q,c] = 2a + b, else 0
//
// The windows do not overlap, so backward writes each element of dx once and needs no accumulation;
// a last row or column of an odd image belongs to no window and gets zeros. A NaN is greater than
// everything: the first one of a window wins.
//
// Three comparisons for an output against 5 elements and a byte of traffic: bound by memory (bf16:
// 11 bytes an output forward, 11 backward).
//
// Variants, slowest first:
//   direct   one output (forward) or one element of dx (backward) a thread, coalesced along C.
//   vec4     16 bytes along C a thread and access: a thread owns a window of 4 or 8 channels, so
//            its four loads (forward) or stores (backward) are independent; `which` travels as 4 or
//            8 bytes at once. C must be a multiple of the pack.
//
// max_pool_relu_backward (variants in shape_fused.cu) is the same pass with a gate: ReLU and
// maximum commute, so y > 0 tells of the pooled map what it would tell of the map before.

#include "kernels/cuda/pool.cuh"

#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kThreads = 256;

/// Window `i` of an image of P x Q windows with C items (elements or packs) each; I is the index
/// type. Backward counts the windows that the image cuts off, too.
template <class I>
struct Windows {
  I total, h, w, c, p, q;

  struct Place {
    I n, row, column, item;  // the window's upper left element is (2*row, 2*column)
  };
  GPU_DEV Place place(I i) const {
    const I t = i / c, u = t / q;
    return {u / p, u % p, t % q, i % c};
  }
  /// Index in x of the window's element (a, b).
  GPU_DEV I index(const Place& at, int a, int b) const {
    return ((at.n * h + 2 * at.row + a) * w + 2 * at.column + b) * c + at.item;
  }
};

// --- forward -------------------------------------------------------------------------------------

/// Thread i owns output i. which may be null.
template <class T>
__global__ void __launch_bounds__(kThreads)
    max_pool_forward_direct_kernel(Windows<Index> windows, const T* x, T* y, std::uint8_t* which) {
  const Index i = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= windows.total) return;
  const auto at = windows.place(i);
  float best = gpu::to_float(x[windows.index(at, 0, 0)]);
  int winner = 0;
#pragma unroll
  for (int k = 1; k < 4; ++k)
    choose(gpu::to_float(x[windows.index(at, k / 2, k % 2)]), k, best, winner);
  store_value(y + i, best);
  if (which) which[i] = static_cast<std::uint8_t>(winner);
}

/// Thread i owns pack i of the output: four independent loads of 16 bytes, one store, one of
/// `which`. Neighbouring threads hold neighbouring packs of a pixel, so each load of a warp covers
/// whole pixels of every other column. supports(): whole packs, 32-bit indices.
template <class T>
__global__ void __launch_bounds__(kThreads)
    max_pool_forward_vec4_kernel(Windows<std::uint32_t> windows, const T* x, T* y,
                                 typename Places<T>::Word* which) {
  const std::uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= windows.total) return;
  const auto at = windows.place(i);
  Pack<T> candidates[4];
#pragma unroll
  for (int k = 0; k < 4; ++k)
    candidates[k] = load_pack(x + Index{windows.index(at, k / 2, k % 2)} * kPack<T>);
  Pack<T> best = candidates[0];
  int winner[kPack<T>] = {};
#pragma unroll
  for (int k = 1; k < 4; ++k)
#pragma unroll
    for (int e = 0; e < kPack<T>; ++e) choose(candidates[k].v[e], k, best.v[e], winner[e]);
  store_pack(y + Index{i} * kPack<T>, best);
  if (which) which[i] = Places<T>::store(winner);
}

// --- backward ------------------------------------------------------------------------------------

// gate may be null; where it is not, gradients pass where gate > 0.

/// Thread i owns element i of dx; windows describes the whole ones (total: elements of dx).
template <class T>
__global__ void __launch_bounds__(kThreads)
    max_pool_backward_direct_kernel(Windows<Index> windows, const T* gate, const T* dy,
                                    const std::uint8_t* which, T* dx) {
  const Index i = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= windows.total) return;
  const Index c = i % windows.c, t = i / windows.c;
  const Index column = t % windows.w, u = t / windows.w;
  const Index row = u % windows.h, n = u / windows.h;
  float value = 0.0f;
  if (row / 2 < windows.p && column / 2 < windows.q) {
    const Index out = ((n * windows.p + row / 2) * windows.q + column / 2) * windows.c + c;
    if (which[out] == row % 2 * 2 + column % 2 && (!gate || gpu::to_float(gate[out]) > 0.0f))
      value = gpu::to_float(dy[out]);
  }
  store_value(dx + i, value);
}

/// Thread i owns a window's pack of dx, of windows that cover the whole image (p and q rounded up):
/// one load of dy, one of `which`, four independent stores. Cut-off windows store zeros to what
/// there is of them. whole_p, whole_q: the whole windows, which dy has.
template <class T>
__global__ void __launch_bounds__(kThreads)
    max_pool_backward_vec4_kernel(Windows<std::uint32_t> windows, std::uint32_t whole_p,
                                  std::uint32_t whole_q, const T* gate, const T* dy,
                                  const typename Places<T>::Word* which, T* dx) {
  const std::uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= windows.total) return;
  const auto at = windows.place(i);
  const bool whole = at.row < whole_p && at.column < whole_q;
  Pack<T> gradient{};
  typename Places<T>::Word places{};
  if (whole) {
    const std::uint32_t out =
        ((at.n * whole_p + at.row) * whole_q + at.column) * windows.c + at.item;
    gradient = load_pack(dy + Index{out} * kPack<T>);
    places = which[out];
    if (gate) {
      const Pack<T> open = load_pack(gate + Index{out} * kPack<T>);
#pragma unroll
      for (int e = 0; e < kPack<T>; ++e)
        if (!(open.v[e] > 0.0f)) gradient.v[e] = 0.0f;
    }
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (2 * at.row + k / 2 >= windows.h || 2 * at.column + k % 2 >= windows.w) continue;
    Pack<T> share;
#pragma unroll
    for (int e = 0; e < kPack<T>; ++e)
      share.v[e] = whole && Places<T>::get(places, e) == k ? gradient.v[e] : 0.0f;
    store_pack(dx + Index{windows.index(at, k / 2, k % 2)} * kPack<T>, share);
  }
}

// --- host ----------------------------------------------------------------------------------------

/// Whole packs, and few enough for 32-bit indices.
template <class T>
bool takes_packs(const PoolProblem& p, const DeviceInfo&) {
  return p.c % kPack<T> == 0 && p.x_count() / kPack<T> < Index{1} << 31;
}

/// total: items of work; items: elements or packs of a pixel; rows, columns: windows.
template <class I>
Windows<I> windows_of(const PoolProblem& p, Index total, Index items, Index rows, Index columns) {
  const auto as = [](Index i) { return static_cast<I>(i); };
  return {as(total), as(p.h), as(p.w), as(items), as(rows), as(columns)};
}

template <class Word>
bool aligned(const std::uint8_t* p) {
  return reinterpret_cast<std::uintptr_t>(p) % sizeof(Word) == 0;
}

template <class T>
void forward_direct(Context& ctx, const PoolProblem& p, const T* x, T* y, std::uint8_t* which) {
  gpu::launch(
      max_pool_forward_direct_kernel<T>,
      {.grid = gpu::grid_for(p.y_count(), kThreads), .block = kThreads, .stream = ctx.stream},
      windows_of<Index>(p, p.y_count(), p.c, p.p(), p.q()), x, y, which);
}

template <class T>
void forward_vec4(Context& ctx, const PoolProblem& p, const T* x, T* y, std::uint8_t* which) {
  using Word = typename Places<T>::Word;
  if (!packable(x, y) || !aligned<Word>(which)) return forward_direct(ctx, p, x, y, which);
  const Index packs = p.y_count() / kPack<T>;
  gpu::launch(max_pool_forward_vec4_kernel<T>,
              {.grid = gpu::grid_for(packs, kThreads), .block = kThreads, .stream = ctx.stream},
              windows_of<std::uint32_t>(p, packs, p.c / kPack<T>, p.p(), p.q()), x, y,
              reinterpret_cast<Word*>(which));
}

}  // namespace

template <class T>
bool max_pool_takes_packs(const PoolProblem& p, const DeviceInfo& device) {
  return takes_packs<T>(p, device);
}
template bool max_pool_takes_packs<float>(const PoolProblem&, const DeviceInfo&);
template bool max_pool_takes_packs<bf16>(const PoolProblem&, const DeviceInfo&);

template <class T>
void max_pool_backward_direct(Context& ctx, const PoolProblem& p, const T* gate, const T* dy,
                              const std::uint8_t* which, T* dx) {
  gpu::launch(
      max_pool_backward_direct_kernel<T>,
      {.grid = gpu::grid_for(p.x_count(), kThreads), .block = kThreads, .stream = ctx.stream},
      windows_of<Index>(p, p.x_count(), p.c, p.p(), p.q()), gate, dy, which, dx);
}
template void max_pool_backward_direct(Context&, const PoolProblem&, const float*, const float*,
                                       const std::uint8_t*, float*);
template void max_pool_backward_direct(Context&, const PoolProblem&, const bf16*, const bf16*,
                                       const std::uint8_t*, bf16*);

template <class T>
void max_pool_backward_vec4(Context& ctx, const PoolProblem& p, const T* gate, const T* dy,
                            const std::uint8_t* which, T* dx) {
  using Word = typename Places<T>::Word;
  if (!packable(gate, dy, dx) || !aligned<Word>(which))  // null is
    return max_pool_backward_direct(ctx, p, gate, dy, which, dx);
  const Index rows = gpu::cdiv(p.h, 2), columns = gpu::cdiv(p.w, 2);
  const Index items = p.c / kPack<T>, total = p.n * rows * columns * items;
  gpu::launch(max_pool_backward_vec4_kernel<T>,
              {.grid = gpu::grid_for(total, kThreads), .block = kThreads, .stream = ctx.stream},
              windows_of<std::uint32_t>(p, total, items, rows, columns),
              static_cast<std::uint32_t>(p.p()), static_cast<std::uint32_t>(p.q()), gate, dy,
              reinterpret_cast<const Word*>(which), dx);
}
template void max_pool_backward_vec4(Context&, const PoolProblem&, const float*, const float*,
                                     const std::uint8_t*, float*);
template void max_pool_backward_vec4(Context&, const PoolProblem&, const bf16*, const bf16*,
                                     const std::uint8_t*, bf16*);

template <class T>
void max_pool_forward_variants(MaxPoolForward<T>& op) {
  op.append({"vec4", takes_packs<T>, forward_vec4<T>});
  op.append({"direct", nullptr, forward_direct<T>});
}
template void max_pool_forward_variants(MaxPoolForward<float>&);
template void max_pool_forward_variants(MaxPoolForward<bf16>&);

template <class T>
void max_pool_backward_variants(MaxPoolBackward<T>& op) {
  op.append({"vec4", takes_packs<T>,
             [](Context& ctx, const PoolProblem& p, const T* dy, const std::uint8_t* which, T* dx) {
               max_pool_backward_vec4(ctx, p, static_cast<const T*>(nullptr), dy, which, dx);
             }});
  op.append({"direct", nullptr,
             [](Context& ctx, const PoolProblem& p, const T* dy, const std::uint8_t* which, T* dx) {
               max_pool_backward_direct(ctx, p, static_cast<const T*>(nullptr), dy, which, dx);
             }});
}
template void max_pool_backward_variants(MaxPoolBackward<float>&);
template void max_pool_backward_variants(MaxPoolBackward<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
