// Convolutions of stride 1 with the batch norms around them, on the kernel on halo tiles
// (conv2d_halo_mma.cuh): what a residual block does between two products never touches memory.
//
//   conv2d_norm_forward         y = conv(act(scale x + shift)), and the statistics of y
//   conv2d_norm_backward_data   v = backward_data(dy) (+ skip), dx = v act'(scale x + shift), and
//                               the sums of batch norm's and PReLU's gradients
//
// Trunk layer (64>64, 3x3, 24x24, batch 16): 0.68 GFLOP; forward x, y, w: 2.4 MB. The plain ops
// between two products read and write a map of 1.2 MB five times more (activation 2, normalisation
// 2, statistics 1; most of it in L2) in three or four launches; here one small launch remains. What
// is added to the product: form each patch once a tile (1.5 times each pixel, with the halo), and
// pass over a finished tile that is in shared memory.
//
// forward    form: in the patch, see Note [Fusion]; statistics: of the staged tile. Two launches.
// backward   x and skip are loaded beside the staged tile, all of a thread's at once. Two launches.
//
// conv2d_norm.cuh has the ends of both, conv2d_norm_merge.cu the second launch.

#include "kernels/api/composed.h"
#include "kernels/cuda/conv2d_fused.cuh"
#include "kernels/cuda/conv2d_halo_mma.cuh"
#include "kernels/cuda/conv2d_norm.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace halo {

struct Swizzle128 {
  GPU_DEV static int at(int row, int pack) { return gpu::swz128(row, pack); }
};
template <class B>
using FinishedTile = NormTile<B::kThreads, B::kRows, kFilters / 8, Swizzle128>;
template <class B>
GPU_DEV FinishedTile<B> finished(const Result& r) {
  return {r.rows, r.target, r.first_pixel(), r.at.k, r.d.out};
}

/// Fusions, see the note.
struct NormForward {
  static constexpr bool kForms = true;
  using Channels = NormForm::Channels;
  template <class B>
  using Scratch = StatisticsScratch<FinishedTile<B>>;

  NormForm input;
  TileStatistics statistics;

  GPU_DEV bool forms() const { return input.scale != nullptr; }
  GPU_DEV Channels channels(int c) const { return input.channels(c); }
  GPU_DEV static uint4 form(const Channels& k, uint4 values) { return NormForm::form(k, values); }
  GPU_DEV static Conv2dEpilogue epilogue() { return {}; }
  template <class B>
  GPU_DEV void finish(const Result& r, Scratch<B>& s, bf16* y) const {
    FinishedTile<B> tile = finished<B>(r);
    tile.first = 0;  // y begins there
    store_with_statistics(tile, s, r.at.tile, r.pixels(), y, statistics);
  }
};

struct NormBackwardData {
  static constexpr bool kForms = false;
  template <class B>
  using Scratch = NormBackwardScratch<FinishedTile<B>>;

  NormBackward backward;
  bf16* dx;

  GPU_DEV static Conv2dEpilogue epilogue() { return {}; }
  template <class B>
  GPU_DEV void finish(const Result& r, Scratch<B>& s, bf16*) const {
    store_norm_gradient(finished<B>(r), s, r.at.tile, dx, backward);
  }
};

}  // namespace halo

bool supports_norm_forward_halo_mma(const Conv2dNormProblem& d, const DeviceInfo&) {
  return halo::supports(d.conv, false);
}
bool supports_norm_backward_data_halo_mma(const Conv2dNormBackwardProblem& d, const DeviceInfo&) {
  return halo::supports(d.conv, true);
}

template <class T>
void conv2d_norm_forward_halo_mma(Context& ctx, const Conv2dNormProblem& d, const T* x,
                                  NormInput in, Filter<T> w, T* y, NormOutput out) {
  const NormForm form = NormForm::of(d.form, d.slope, in);
  if (!packable(x, w.data, y) || !form.packs())
    return composed::conv2d_norm_forward(ctx, d, x, in, w, y, out);
  const halo::Plan plan = halo::plan(d.conv, false, ctx.device().multiprocessors);
  Workspace ws(ctx);
  const auto partial = TileStatistics::take(ws, plan.tiles(), d.conv.k);
  halo::run<false>(ctx, plan, x, w.data, halo::NormForward{form, partial}, y);
  merge_statistics(ctx, d, plan.tiles(), partial, out);
}
template void conv2d_norm_forward_halo_mma(Context&, const Conv2dNormProblem&, const bf16*,
                                           NormInput, Filter<bf16>, bf16*, NormOutput);

template <class T>
void conv2d_norm_backward_data_halo_mma(Context& ctx, const Conv2dNormBackwardProblem& d,
                                        const T* dy, Filter<T> w, const T* skip, const T* x,
                                        NormInput in, const float* mean, const float* inv_std,
                                        T* dx, NormGradients sums) {
  const NormForm form = NormForm::of(d.form, d.slope, in);
  if (!d.skip) skip = nullptr;
  if (d.form == InputForm::Plain) x = nullptr;
  if (!packable(dy, w.data, skip, x, dx, mean) || !form.packs())
    return composed::conv2d_norm_backward_data(ctx, d, dy, w, skip, x, in, mean, inv_std, dx, sums);
  const halo::Plan plan = halo::plan(d.conv, true, ctx.device().multiprocessors);
  Workspace ws(ctx);
  float* partial =
      x ? ws.take<float>(static_cast<std::size_t>(plan.tiles() * 3 * d.conv.c)) : nullptr;
  halo::run<true>(ctx, plan, dy, w.data,
                  halo::NormBackwardData{{skip, x, form, mean, inv_std, partial}, dx}, dx);
  merge_norm_gradient(ctx, d, plan.tiles(), halo::kFilters, partial, sums);
}
template void conv2d_norm_backward_data_halo_mma(Context&, const Conv2dNormBackwardProblem&,
                                                 const bf16*, Filter<bf16>, const bf16*,
                                                 const bf16*, NormInput, const float*, const float*,
                                                 bf16*, NormGradients);

}  // namespace subpix::kernels::KERNEL_TARGET
