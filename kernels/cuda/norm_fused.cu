// What the fused graph still does to whole maps around a batch norm, once the convolution before it
// has added up the statistics and the one behind it the gradient's sums. x, y [rows, c]:
//
//   norm_activation_forward   y = act(scale x + shift)            scale = gamma / deviation,
//   norm_add_forward          y = scale x + shift + skip          shift = beta - mean scale
//   norm_backward_apply       dx = gamma s (dy - dbeta / rows - xhat dgamma / rows)
//                             (batchnorm.cu derives it; s = 1 / deviation, xhat = (x - mean) s)
//
// The normalised value is one fma, as the convolutions that take their input in a form compute it,
// so that a map is the same whether it was made explicit or not; activation and skip follow in
// fp32, and the result is rounded once. The composition of plain ops rounds twice and moves two
// tensors more.
//
// Two to eight FLOP an element against 2 tensors (activation) or 3: bound by memory.
//
// Variants, preferred first:
//   packs    16 bytes an access; a thread keeps to its channels, so that coefficients stay in
//            registers (channel_map.cuh). Channels must be whole packs: multiples of 4 (fp32) or 8
//            (bf16). Views that begin elsewhere go element by element.
//   (composed, which table.cu appends, takes the rest: no layer has such channels.)

#include "kernels/cuda/batchnorm.cuh"
#include "kernels/cuda/channel_map.cuh"
#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/norm_form.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

struct NormAdd {
  static constexpr int kInputs = 2;
  const float *scale, *shift;
  using Channel = ScaleShift;
  GPU_DEV Channel channel(Index c) const { return {scale[c], shift[c]}; }
  GPU_DEV static float apply(const Channel& k, float x, float skip) { return k(x) + skip; }
};

struct NormActivation : NormForm {
  static constexpr int kInputs = 1;
  GPU_DEV static float apply(const Channel& k, float x, float) {
    return activate(k.norm(x), k.slope);
  }
};

template <class T, class Problem>
bool whole_packs(const Problem& p, const DeviceInfo&) {
  return rows_of_packs<T>(p.c);
}

template <class T, class F>
void run_packs(Context& ctx, Index rows, Index c, F f, const T* a, const T* b, T* y) {
  const auto run = packable(a, b, y) ? run_channel_map<kPack<T>, T, F>  // null is
                                     : run_channel_map<1, T, F>;
  run(ctx, rows, c, f, a, b, y);
}

}  // namespace

template <class T>
void norm_backward_apply_variants(NormBackwardApply<T>& op) {
  op.append(
      {"packs", whole_packs<T, NormProblem>,
       [](Context& ctx, const NormProblem& p, const T* x, const T* dy, const float* gamma,
          const float* mean, const float* inv_std, const float* dgamma, const float* dbeta, T* dx) {
         run_packs(ctx, p.rows, p.c,
                   NormBackwardMap{mean, inv_std, gamma, dgamma, dbeta, inverse_rows(p)}, x, dy,
                   dx);
       }});
}
template void norm_backward_apply_variants(NormBackwardApply<float>&);
template void norm_backward_apply_variants(NormBackwardApply<bf16>&);

template <class T>
void norm_add_forward_variants(NormAddForward<T>& op) {
  op.append({"packs", whole_packs<T, ChannelProblem>,
             [](Context& ctx, const ChannelProblem& p, const T* x, const float* scale,
                const float* shift, const T* skip, T* y) {
               run_packs(ctx, p.rows, p.c, NormAdd{scale, shift}, x, skip, y);
             }});
}
template void norm_add_forward_variants(NormAddForward<float>&);
template void norm_add_forward_variants(NormAddForward<bf16>&);

template <class T>
void norm_activation_forward_variants(NormActivationForward<T>& op) {
  op.append({"packs", whole_packs<T, NormActivationProblem>,
             [](Context& ctx, const NormActivationProblem& p, const T* x, NormInput in, T* y) {
               run_packs(ctx, p.rows, p.c, NormActivation{NormForm::of(p.form, p.slope, in)}, x,
                         static_cast<const T*>(nullptr), y);
             }});
}
template void norm_activation_forward_variants(NormActivationForward<float>&);
template void norm_activation_forward_variants(NormActivationForward<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
