// Sub-pixel shuffle (Shi et al., arXiv 1609.05158, eq. 4), forward and backward.
//
//   y[n, h*f + i, w*f + j, c] = x[n, h, w, (i*f + j)*C + c]          f = scale
//
// For fixed (n, h, w, i) the f*C elements over (j, c) are neighbours in x and in y. With L = f*C
// the op is therefore a transposition of two small axes of whole runs:
//
//   x [N*H, W, f, L]  ->  y [N*H, f, W, L]          forward:  rows W, columns f
//
// and backward, its inverse (each element of x goes to one place), is the same with rows f and
// columns W. One kernel serves both.
//
// No arithmetic: 2 * sizeof(T) bytes an element, bound by memory. With C = 64 and f = 2 a run is
// 256 bytes in bf16, so whole sectors are read and written whatever the order.
//
// Variants, slowest first:
//   direct   one element a thread in the order of the output.
//   vec4     16 bytes a thread and access, four in flight, 32-bit index arithmetic; runs must be
//            whole packs (f*C a multiple of 4 floats or 8 bf16). Values are moved as bits.

#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 4;  // packs of a thread: enough bytes in flight to cover memory latency

/// from [.., rows, columns, run] to [.., columns, rows, run], `total` items of 1 or kPack elements.
template <class I>
struct RunTransposition {
  I total, rows, columns, run;

  /// Where the item `to` of the result comes from.
  GPU_DEV I source(I to) const {
    const I item = to % run, t = to / run;
    const I row = t % rows, u = t / rows;
    const I column = u % columns, outer = u / columns;
    return ((outer * rows + row) * columns + column) * run + item;
  }
};

/// Thread i owns element i of the result: stores are coalesced, loads are within a run.
template <class T>
__global__ void __launch_bounds__(kThreads)
    pixel_shuffle_direct_kernel(RunTransposition<Index> move, const T* from, T* to) {
  const Index i = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (i < move.total) to[i] = from[move.source(i)];
}

/// Block j owns kThreads * kUnroll consecutive packs of the result; a thread's packs are kThreads
/// apart, so that a warp stores 512 consecutive bytes at a time. All loads come before the first
/// store.
__global__ void __launch_bounds__(kThreads)
    pixel_shuffle_vec4_kernel(RunTransposition<std::uint32_t> move, const uint4* from, uint4* to) {
  const std::uint32_t first = blockIdx.x * (kThreads * kUnroll) + threadIdx.x;
  uint4 pack[kUnroll];
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const std::uint32_t i = first + u * kThreads;
    if (i < move.total) pack[u] = from[move.source(i)];
  }
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const std::uint32_t i = first + u * kThreads;
    if (i < move.total) to[i] = pack[u];
  }
}

template <class T>
void run_direct(Context& ctx, const ShuffleProblem& p, Index rows, Index columns, const T* from,
                T* to) {
  const RunTransposition<Index> move{p.count(), rows, columns, p.scale * p.c};
  gpu::launch(
      pixel_shuffle_direct_kernel<T>,
      {.grid = gpu::grid_for(move.total, kThreads), .block = kThreads, .stream = ctx.stream}, move,
      from, to);
}

/// Whole packs, few enough for 32-bit indices (64 GiB of them are more than any device holds
/// twice).
template <class T>
bool takes_packs(const ShuffleProblem& p, const DeviceInfo&) {
  return p.scale * p.c % kPack<T> == 0 && p.count() / kPack<T> < Index{1} << 31;
}

template <class T>
void run_vec4(Context& ctx, const ShuffleProblem& p, Index rows, Index columns, const T* from,
              T* to) {
  if (!packable(from, to)) return run_direct(ctx, p, rows, columns, from, to);
  const auto narrow = [](Index i) { return static_cast<std::uint32_t>(i); };
  const RunTransposition<std::uint32_t> move{narrow(p.count() / kPack<T>), narrow(rows),
                                             narrow(columns), narrow(p.scale * p.c / kPack<T>)};
  gpu::launch(pixel_shuffle_vec4_kernel,
              {.grid = gpu::grid_for(move.total, kThreads * kUnroll),
               .block = kThreads,
               .stream = ctx.stream},
              move, reinterpret_cast<const uint4*>(from), reinterpret_cast<uint4*>(to));
}

}  // namespace

template <class T>
void pixel_shuffle_forward_variants(PixelShuffleForward<T>& op) {
  op.append({"vec4", takes_packs<T>, [](Context& ctx, const ShuffleProblem& p, const T* x, T* y) {
               run_vec4(ctx, p, p.w, p.scale, x, y);
             }});
  op.append({"direct", nullptr, [](Context& ctx, const ShuffleProblem& p, const T* x, T* y) {
               run_direct(ctx, p, p.w, p.scale, x, y);
             }});
}
template void pixel_shuffle_forward_variants(PixelShuffleForward<float>&);
template void pixel_shuffle_forward_variants(PixelShuffleForward<bf16>&);

template <class T>
void pixel_shuffle_backward_variants(PixelShuffleBackward<T>& op) {
  op.append({"vec4", takes_packs<T>, [](Context& ctx, const ShuffleProblem& p, const T* dy, T* dx) {
               run_vec4(ctx, p, p.scale, p.w, dy, dx);
             }});
  op.append({"direct", nullptr, [](Context& ctx, const ShuffleProblem& p, const T* dy, T* dx) {
               run_direct(ctx, p, p.scale, p.w, dy, dx);
             }});
}
template void pixel_shuffle_backward_variants(PixelShuffleBackward<float>&);
template void pixel_shuffle_backward_variants(PixelShuffleBackward<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
