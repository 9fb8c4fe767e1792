// y = a number made of all elements of x: their sum, the sum of their squares, the largest absolute
// value, or how many are not finite.
//
// Each element is read once: 4 bytes (fp32) or 2 (bf16) against one to three operations, so the
// bound is bytes / bandwidth; small tensors are bound by the two launches. The stages and their
// order are those of block_reduce.cuh.
//
// Variants, slowest first:
//   direct   one element an access.
//   vec4     16 bytes an access; the elements after the last full pack are merged by the last
//   block.
// In both a thread has four independent accesses (direct: sixteen) in flight.
//
// A NaN makes the first three NaN: sums by arithmetic; the maximum because it is taken of the bits
// of |v|, whose order as whole numbers is that of the values, with NaN above infinity. Counts are
// whole numbers: exact up to 2^64, rounded once.

#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/lanes.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

struct SumOf : ScaledSum {
  static GPU_DEV float add(float sum, float v) { return sum + v; }
};
struct SumSquaresOf : ScaledSum {
  static GPU_DEV float add(float sum, float v) { return sum + v * v; }
};
struct MaxAbsOf {
  using Sum = std::uint32_t;
  static GPU_DEV Sum identity() { return 0; }
  static GPU_DEV Sum merge(Sum a, Sum b) { return max(a, b); }
  static GPU_DEV Sum add(Sum sum, float v) { return max(sum, __float_as_uint(v) & 0x7FFFFFFFu); }
  GPU_DEV float finish(Sum all) const { return __uint_as_float(all); }
};
struct CountNonFiniteOf {
  using Sum = std::uint64_t;
  static GPU_DEV Sum identity() { return 0; }
  static GPU_DEV Sum merge(Sum a, Sum b) { return a + b; }
  static GPU_DEV Sum add(Sum sum, float v) {
    constexpr std::uint32_t kExponent = 0x7F800000u;
    return sum + ((__float_as_uint(v) & kExponent) == kExponent ? 1 : 0);
  }
  GPU_DEV float finish(Sum all) const { return static_cast<float>(all); }
};

/// Accesses of a thread in flight: 64 bytes in packs.
template <int W>
inline constexpr int kAccesses = W == 1 ? 16 : 4;

/// Block b owns chunks b, b + gridDim.x, ... of kReduceThreads * kAccesses packs of W elements; a
/// thread's packs are kReduceThreads apart, so that each access of a warp is one run of bytes.
template <class T, class R, int W>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_kernel(Index count, R r, const T* x, typename R::Sum* partial, float* y) {
  constexpr int kEach = kAccesses<W>;
  const Index packs = count / W, stride = Index{gridDim.x} * (kReduceThreads * kEach);
  typename R::Sum total = R::identity();
  for (Index first = Index{blockIdx.x} * (kReduceThreads * kEach) + threadIdx.x; first < packs;
       first += stride) {
    Lanes<W> v[kEach];
#pragma unroll
    for (int u = 0; u < kEach; ++u) {
      const Index i = first + u * kReduceThreads;
      v[u] = i < packs ? load_lanes<W>(x + i * W) : Lanes<W>{};  // a 0 changes none of the four
    }
    typename R::Sum sum = R::identity();
#pragma unroll
    for (int u = 0; u < kEach; ++u)
#pragma unroll
      for (int e = 0; e < W; ++e) sum = R::add(sum, v[u].v[e]);
    total = R::merge(total, sum);
  }
  if (W > 1 && blockIdx.x == gridDim.x - 1)
    if (const Index rest = packs * W + threadIdx.x; rest < count)  // fewer than a pack
      total = R::add(total, load_value(x[rest]));
  store_reduced(r, total, partial, y);
}

template <int W, class T, class R>
void run_reduction(Context& ctx, Index count, const R& r, const T* x, float* y) {
  const Index chunks = gpu::cdiv(count, Index{W * kAccesses<W> * kReduceThreads});
  reduce_in_two_stages(ctx, chunks, r, y, [&](const gpu::LaunchCfg& cfg, auto* partial) {
    gpu::launch(reduce_kernel<T, R, W>, cfg, count, r, x, partial, y);
  });
}

template <int W, class T>
void run_reduce(Context& ctx, const ReduceProblem& p, const T* x, float* y) {
  if (W > 1 && !aligned_lanes<W>(x)) return run_reduce<1>(ctx, p, x, y);
  switch (p.reduction) {
    case Reduction::Sum:
      return run_reduction<W>(ctx, p.count, SumOf{{1.0f}}, x, y);
    case Reduction::SumSquares:
      return run_reduction<W>(ctx, p.count, SumSquaresOf{{1.0f}}, x, y);
    case Reduction::MaxAbs:
      return run_reduction<W>(ctx, p.count, MaxAbsOf{}, x, y);
    case Reduction::CountNonFinite:
      return run_reduction<W>(ctx, p.count, CountNonFiniteOf{}, x, y);
  }
}

}  // namespace

template <class T>
void reduce_variants(Reduce<T>& op) {
  op.append({"vec4", nullptr, run_reduce<kPack<T>, T>});
  op.append({"direct", nullptr, run_reduce<1, T>});
}
template void reduce_variants(Reduce<float>&);
template void reduce_variants(Reduce<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
