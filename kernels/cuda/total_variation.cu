// Total variation of x [N,H,W,C]: loss = s * sum |d| or s * sum d^2 over the differences d of
// neighbours below and to the right, and its gradient in one pass.
//
// A pixel is part of up to four differences, so with f' = sign or 2 d the gradient is gathered:
//   dx[h,w] = s (f'(x[h,w] - x[h-1,w]) + f'(x[h,w] - x[h,w-1])
//              - f'(x[h+1,w] - x[h,w]) - f'(x[h,w+1] - x[h,w]))
// and nothing is scattered. Each difference enters the sum where it is "below" or "right".
//
// Least traffic: x read and dx written once, 8 bytes an element (fp32) or 4 (bf16) against about
// 16 operations: bound by memory. The neighbours must come from registers and caches. The scalar
// is reduced by block_reduce.cuh, in a fixed order.
//
// Variants, slowest first:
//   direct     one element a thread, five loads; divisions for its row and column.
//   row_strip  a thread owns a 16-byte column of four rows: the rows above and below come from its
//              own registers but for the strip's edges, and the left and right neighbours from the
//              packs beside it, which neighbouring threads have just brought into L1.

#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/lanes.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kRows = 4;      // of a strip
constexpr int kElements = 4;  // of a thread and chunk in the direct kernel

template <bool Squared>
struct Difference {
  static GPU_DEV float term(float d) { return Squared ? d * d : fabsf(d); }
  static GPU_DEV float slope(float d) {
    return Squared ? 2.0f * d : d > 0.0f ? 1.0f : d < 0.0f ? -1.0f : d;  // a NaN stays one
  }
};

/// Adds one neighbour's share: `after` is below or to the right, and only then counts in the sum.
template <bool Squared>
GPU_DEV void meet(bool exists, bool after, float here, float there, float& sum, float& gradient) {
  if (!exists) return;
  const float d = after ? there - here : here - there;
  const float slope = Difference<Squared>::slope(d);
  gradient += after ? -slope : slope;
  if (after) sum += Difference<Squared>::term(d);
}

/// Block b owns chunks b, b + gridDim.x, ... of kReduceThreads * kElements elements; a thread's are
/// kReduceThreads apart. A row of the image has w * c elements, its neighbours lie c apart.
template <class T, bool Squared>
__global__ void __launch_bounds__(kReduceThreads)
    total_variation_direct_kernel(VariationProblem p, const T* x, T* dx, float* partial,
                                  float* loss) {
  const Index row = p.w * p.c, count = p.n * p.h * row;
  const Index stride = Index{gridDim.x} * (kReduceThreads * kElements);
  float total = 0.0f;
  for (Index first = Index{blockIdx.x} * (kReduceThreads * kElements) + threadIdx.x; first < count;
       first += stride) {
    float sum = 0.0f;
#pragma unroll
    for (int u = 0; u < kElements; ++u) {
      const Index i = first + u * kReduceThreads;
      if (i >= count) continue;
      const Index column = i % row, h = i / row % p.h;
      const float here = load_value(x[i]);
      const auto at = [&](bool exists, Index j) { return exists ? load_value(x[j]) : 0.0f; };
      const bool up = h > 0, down = h + 1 < p.h, left = column >= p.c, right = column + p.c < row;
      float gradient = 0.0f;
      meet<Squared>(up, false, here, at(up, i - row), sum, gradient);
      meet<Squared>(down, true, here, at(down, i + row), sum, gradient);
      meet<Squared>(left, false, here, at(left, i - p.c), sum, gradient);
      meet<Squared>(right, true, here, at(right, i + p.c), sum, gradient);
      if (dx) store_value(dx + i, p.scale * gradient);
    }
    total += sum;
  }
  store_reduced(ScaledSum{p.scale}, total, partial, loss);
}

/// Strip t is pack t % row_packs of rows 4 * (t / row_packs % strips) and on of an image; block b
/// owns strips b * kReduceThreads and on, then those a whole grid further. All rows of a strip are
/// loaded before the first difference. Channels: 1 or 3, then an element's neighbour is in its own
/// pack or the next one; or 0: c is a multiple of a pack, and the neighbours of a pack are a pack.
template <class T, bool Squared, int Channels>
__global__ void __launch_bounds__(kReduceThreads)
    total_variation_row_strip_kernel(VariationProblem p, unsigned strips, const T* x, T* dx,
                                     float* partial, float* loss) {
  constexpr int kWidth = kPack<T>;
  static_assert(Channels < kWidth);
  const Index row = p.w * p.c;
  const unsigned row_packs = static_cast<unsigned>(row / kWidth);
  const unsigned image_strips = static_cast<unsigned>(gpu::cdiv(p.h, Index{kRows}));
  // Where the pack with the left and right neighbours begins, seen from the thread's own.
  const Index beside = Channels == 0 ? p.c : Index{kWidth};
  float total = 0.0f;
  for (unsigned t = blockIdx.x * kReduceThreads + threadIdx.x; t < strips;
       t += gridDim.x * kReduceThreads) {
    const Index column = Index{t % row_packs} * kWidth;
    const unsigned strip = t / row_packs;
    const Index h0 = Index{strip % image_strips} * kRows;
    const Index at = (Index{strip / image_strips} * p.h + h0) * row + column;
    const bool left = column >= beside, right = column + beside < row;

    Lanes<kWidth> rows[kRows + 2];  // rows[r] is row h0 + r - 1
#pragma unroll
    for (int r = 0; r < kRows + 2; ++r) {
      const Index h = h0 + r - 1;
      rows[r] = h >= 0 && h < p.h ? load_lanes<kWidth>(x + at + (r - 1) * row) : Lanes<kWidth>{};
    }
    float sum = 0.0f;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (h0 + r >= p.h) continue;
      const Index i = at + r * row;
      const Lanes<kWidth>&up = rows[r], &here = rows[r + 1], &down = rows[r + 2];
      const Lanes<kWidth> before = left ? load_lanes<kWidth>(x + i - beside) : Lanes<kWidth>{};
      const Lanes<kWidth> behind = right ? load_lanes<kWidth>(x + i + beside) : Lanes<kWidth>{};
      Lanes<kWidth> result;
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        const bool left_inside = Channels > 0 && e >= Channels;
        const bool right_inside = Channels > 0 && e + Channels < kWidth;
        const float left_value = left_inside ? here.v[(e - Channels) % kWidth]
                                             : before.v[(e - Channels + kWidth) % kWidth];
        const float right_value = (right_inside ? here : behind).v[(e + Channels) % kWidth];
        float gradient = 0.0f;
        meet<Squared>(h0 + r > 0, false, here.v[e], up.v[e], sum, gradient);
        meet<Squared>(h0 + r + 1 < p.h, true, here.v[e], down.v[e], sum, gradient);
        meet<Squared>(left_inside || left, false, here.v[e], left_value, sum, gradient);
        meet<Squared>(right_inside || right, true, here.v[e], right_value, sum, gradient);
        result.v[e] = p.scale * gradient;
      }
      if (dx) store_lanes(dx + i, result);
    }
    total += sum;
  }
  store_reduced(ScaledSum{p.scale}, total, partial, loss);
}

template <class T>
void run_direct(Context& ctx, const VariationProblem& p, const T* x, float* loss, T* dx) {
  const auto kernel =
      p.squared ? total_variation_direct_kernel<T, true> : total_variation_direct_kernel<T, false>;
  reduce_in_two_stages(ctx, gpu::cdiv(p.count(), Index{kReduceThreads * kElements}),
                       ScaledSum{p.scale}, loss, [&](const gpu::LaunchCfg& cfg, float* partial) {
                         gpu::launch(kernel, cfg, p, x, dx, partial, loss);
                       });
}

template <class T>
Index strips_of(const VariationProblem& p) {
  return p.n * gpu::cdiv(p.h, Index{kRows}) * (p.w * p.c / kPack<T>);
}

/// Packs divide the rows, and a strip's number fits 31 bits with a grid to spare.
template <class T>
bool row_strip_supports(const VariationProblem& p, const DeviceInfo&) {
  return p.w * p.c % kPack<T> == 0 && (p.c == 1 || p.c == 3 || p.c % kPack<T> == 0) &&
         strips_of<T>(p) < (Index{1} << 31);
}

template <class T, int Channels>
void launch_row_strip(Context& ctx, const VariationProblem& p, const T* x, float* loss, T* dx) {
  const auto kernel = p.squared ? total_variation_row_strip_kernel<T, true, Channels>
                                : total_variation_row_strip_kernel<T, false, Channels>;
  const Index strips = strips_of<T>(p);
  reduce_in_two_stages(ctx, gpu::cdiv(strips, Index{kReduceThreads}), ScaledSum{p.scale}, loss,
                       [&](const gpu::LaunchCfg& cfg, float* partial) {
                         gpu::launch(kernel, cfg, p, static_cast<unsigned>(strips), x, dx, partial,
                                     loss);
                       });
}

template <class T>
void run_row_strip(Context& ctx, const VariationProblem& p, const T* x, float* loss, T* dx) {
  if (!packable(x, dx)) return run_direct(ctx, p, x, loss, dx);
  if (p.c == 1) return launch_row_strip<T, 1>(ctx, p, x, loss, dx);
  if (p.c == 3) return launch_row_strip<T, 3>(ctx, p, x, loss, dx);
  launch_row_strip<T, 0>(ctx, p, x, loss, dx);
}

}  // namespace

template <class T>
void total_variation_variants(TotalVariation<T>& op) {
  op.append({"row_strip", row_strip_supports<T>, run_row_strip<T>});
  op.append({"direct", nullptr, run_direct<T>});
}
template void total_variation_variants(TotalVariation<float>&);
template void total_variation_variants(TotalVariation<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
