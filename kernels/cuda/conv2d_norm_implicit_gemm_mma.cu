// Convolutions with the batch norms around them on the implicit GEMM (conv2d_mma.cuh), for what the
// kernel on halo tiles does not take: stride 2, where the discriminator halves its maps, and few
// channels. The formulas and the reasons stand in conv2d_norm_halo_mma.cu.
//
// D's layer 64>64, 3x3, 96x96 to 48x48, batch 16: 2.7 GFLOP, x, y, w: 23.7 MB. The plain ops would
// read and write x twice and y three times more, 94 MB.
//
// forward    A pixel is gathered by 9/4 taps, for each 64 filters, and formed each time: by the
//            thread that copied it, in the stage that has arrived. Per step and thread eight chunks
//            of eight values, beside 512 clocks of products: the tensor cores wait for it in part.
//            What it saves is a map's way through memory. Two launches.
// backward   The four phases have tiles of their own; the end is the same. Two launches.
//
// conv2d_norm.cuh has the ends of both, conv2d_norm_merge.cu the second launch.

#include "kernels/api/composed.h"
#include "kernels/cuda/conv2d_fused.cuh"
#include "kernels/cuda/conv2d_mma_passes.cuh"
#include "kernels/cuda/conv2d_norm.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace mma {

/// Forming takes registers beside the accumulators: one block fewer on a multiprocessor than
/// LargeTile, and one stage more.
using FormingTile = Tile<128, 64, 2, 4, 2>;

template <int N>
struct StagedPacks {
  GPU_DEV static int at(int row, int pack) { return place_of_pack<bf16, N>(row, pack); }
};
template <class Tile>
using FinishedTile = NormTile<kThreads, Tile::kM, Tile::kN / 8, StagedPacks<Tile::kN>>;
template <class Tile>
GPU_DEV FinishedTile<Tile> finished(const Result& r) {
  return {r.rows, r.out, 0, r.n0, r.g.out_c};
}
template <class Scratch, class Tile>
GPU_DEV Scratch& scratch_of(const Result& r) {
  static_assert(sizeof(Scratch) <= sizeof(Shared<Tile>::b));
  return *reinterpret_cast<Scratch*>(r.scratch);
}

/// Fusions, see the note.
struct NormForward {
  static constexpr bool kForms = true;
  using Channels = NormForm::Channels;

  NormForm input;
  TileStatistics statistics;

  GPU_DEV bool forms() const { return input.scale != nullptr; }
  GPU_DEV Channels channels(int c) const { return input.channels(c); }
  GPU_DEV static uint4 form(const Channels& k, uint4 values) { return NormForm::form(k, values); }
  GPU_DEV static Conv2dEpilogue epilogue() { return {}; }
  template <class Tile>
  GPU_DEV static void absent(const Result&) {}  // the forward pass has one phase: no such block
  template <class Tile>
  GPU_DEV void finish(const Result& r, bf16* y) const {
    store_with_statistics(finished<Tile>(r),
                          scratch_of<StatisticsScratch<FinishedTile<Tile>>, Tile>(r), r.part,
                          r.pixels, y, statistics);
  }
};

struct NormBackwardData {
  static constexpr bool kForms = false;

  NormBackward backward;

  GPU_DEV static Conv2dEpilogue epilogue() { return {}; }
  template <class Tile>
  GPU_DEV void absent(const Result& r) const {
    store_no_gradient<FinishedTile<Tile>>(r.part, r.n0, r.g.out_c, backward);
  }
  template <class Tile>
  GPU_DEV void finish(const Result& r, bf16* dx) const {
    store_norm_gradient(finished<Tile>(r),
                        scratch_of<NormBackwardScratch<FinishedTile<Tile>>, Tile>(r), r.part, dx,
                        backward);
  }
};

bool supports_norm(const Conv2dProblem& d, const DeviceInfo& device) {
  return device.compute_major >= 8 && d.c % kPack<bf16> == 0 && d.k % kPack<bf16> == 0 &&
         pixels_fit(d);
}

}  // namespace mma

bool supports_norm_forward_implicit_gemm_mma(const Conv2dNormProblem& d, const DeviceInfo& device) {
  return mma::supports_norm(d.conv, device);
}
bool supports_norm_backward_data_implicit_gemm_mma(const Conv2dNormBackwardProblem& d,
                                                   const DeviceInfo& device) {
  return mma::supports_norm(d.conv, device);
}

template <class T>
void conv2d_norm_forward_implicit_gemm_mma(Context& ctx, const Conv2dNormProblem& d, const T* x,
                                           NormInput in, Filter<T> w, T* y, NormOutput out) {
  const NormForm form = NormForm::of(d.form, d.slope, in);
  if (!packable(x, w.data, y) || !form.packs())
    return composed::conv2d_norm_forward(ctx, d, x, in, w, y, out);
  const mma::ImplicitGemm g = mma::forward_gemm(d.conv, true);
  const Index pixels = d.conv.n * d.conv.p() * d.conv.q();
  mma::with_tile<mma::FormingTile>(ctx, g, pixels, 1, [&]<class Tile>(Tile) {
    const Index tiles = gpu::cdiv(pixels, Index{Tile::kM});
    Workspace ws(ctx);
    const auto partial = TileStatistics::take(ws, tiles, d.conv.k);
    mma::launch_tile<T, Tile, mma::Forward>(ctx, g, pixels, 1, x, w.data,
                                            mma::NormForward{form, partial}, y);
    merge_statistics(ctx, d, tiles, partial, out);
  });
}
template void conv2d_norm_forward_implicit_gemm_mma(Context&, const Conv2dNormProblem&, const bf16*,
                                                    NormInput, Filter<bf16>, bf16*, NormOutput);

template <class T>
void conv2d_norm_backward_data_implicit_gemm_mma(Context& ctx, const Conv2dNormBackwardProblem& d,
                                                 const T* dy, Filter<T> w, const T* skip,
                                                 const T* x, NormInput in, const float* mean,
                                                 const float* inv_std, T* dx, NormGradients sums) {
  const NormForm form = NormForm::of(d.form, d.slope, in);
  if (!d.skip) skip = nullptr;
  if (d.form == InputForm::Plain) x = nullptr;
  if (!packable(dy, w.data, skip, x, dx, mean) || !form.packs())
    return composed::conv2d_norm_backward_data(ctx, d, dy, w, skip, x, in, mean, inv_std, dx, sums);
  const mma::ImplicitGemm g = mma::backward_data_gemm(d.conv, d.conv.c, true);
  const Index pixels = mma::largest_phase(d.conv);
  const int phases = static_cast<int>(d.conv.stride * d.conv.stride);
  mma::with_tile<mma::LargeTile<T>>(ctx, g, pixels, phases, [&]<class Tile>(Tile) {
    const Index tiles = gpu::cdiv(pixels, Index{Tile::kM}) * phases;
    Workspace ws(ctx);
    float* partial = x ? ws.take<float>(static_cast<std::size_t>(tiles * 3 * d.conv.c)) : nullptr;
    mma::launch_tile<T, Tile, mma::BackwardData>(
        ctx, g, pixels, phases, dy, w.data,
        mma::NormBackwardData{{skip, x, form, mean, inv_std, partial}}, dx);
    merge_norm_gradient(ctx, d, tiles, Tile::kN, partial, sums);
  });
}
template void conv2d_norm_backward_data_implicit_gemm_mma(Context&,
                                                          const Conv2dNormBackwardProblem&,
                                                          const bf16*, Filter<bf16>, const bf16*,
                                                          const bf16*, NormInput, const float*,
                                                          const float*, bf16*, NormGradients);

}  // namespace subpix::kernels::KERNEL_TARGET
