// Losses over all elements, value and gradient in one pass (s = scale, e = x - target):
//   mse   loss = s * sum e^2                            dx = 2 s e
//   l1    loss = s * sum |e|                            dx = s sign(e), 0 at 0
//   bce   loss = s * sum (max(x,0) - x t + ln(1 + exp(-|x|)))    dx = s (sigmoid(x) - t)
// bce is -(t ln sigmoid(x) + (1 - t) ln(1 - sigmoid(x))) with sigmoid(x) = 1 / (1 + exp(-x)), its
// logarithm's two branches joined so that no exponential overflows; its derivative follows from
// sigmoid' = sigmoid (1 - sigmoid), and uses the same exp(-|x|).
//
// Bytes an element: x and target read, dx written, 12 (fp32) or 6 (bf16); bce without target 8 or
// 4. A dozen operations at most, so all are bound by memory, and small ones by the two launches.
// The scalar is reduced by block_reduce.cuh, in a fixed order.
//
// Variants, slowest first:
//   direct   one element an access.
//   vec4     16 bytes an access, up to eight in flight a thread; the elements after the last full
//            pack are done one by one by the last block.

#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/lanes.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

/// An element's summand of the loss, without the scale, and its gradient with it.
struct Slope {
  float term, gradient;
};

struct SquaredError {
  float scale;
  GPU_DEV Slope operator()(float x, float target) const {
    const float e = x - target;
    return {e * e, 2.0f * scale * e};
  }
};
struct AbsoluteError {
  float scale;
  GPU_DEV Slope operator()(float x, float target) const {
    const float e = x - target;
    const float sign = e > 0.0f ? 1.0f : e < 0.0f ? -1.0f : e;  // a NaN stays one
    return {fabsf(e), scale * sign};
  }
};
struct CrossEntropy {
  float scale, label;
  GPU_DEV Slope operator()(float x) const {
    const float small = expf(-fabsf(x));
    const float sigmoid = (x > 0.0f ? 1.0f : small) / (1.0f + small);
    return {(x > 0.0f ? x : 0.0f) - x * label + log1pf(small), scale * (sigmoid - label)};
  }
};

template <class F, class... In>
GPU_DEV float do_element(Index i, const F& f, float sum, auto* dx, const In*... in) {
  const Slope slope = f(load_value(in[i])...);
  if (dx) store_value(dx + i, slope.gradient);
  return sum + slope.term;
}

/// Block b owns chunks b, b + gridDim.x, ... of kReduceThreads * kUnroll<W> packs of W elements; a
/// thread's packs are kReduceThreads apart, so that each access of a warp is one run of bytes. All
/// loads of a chunk come before the first use. dx may be null.
template <class T, class F, int W, class... In>
__global__ void __launch_bounds__(kReduceThreads)
    loss_kernel(Index count, F f, T* dx, float* partial, float* loss, const In*... in) {
  constexpr int kPacks = kUnroll<W>, kInputs = sizeof...(In);
  const Index packs = count / W, stride = Index{gridDim.x} * (kReduceThreads * kPacks);
  float total = 0.0f;
  for (Index first = Index{blockIdx.x} * (kReduceThreads * kPacks) + threadIdx.x; first < packs;
       first += stride) {
    Lanes<W> x[kPacks][kInputs];
#pragma unroll
    for (int u = 0; u < kPacks; ++u) {
      const Index i = first + u * kReduceThreads;
      if (i >= packs) continue;
      int k = 0;
      ((x[u][k++] = load_lanes<W>(in + i * W)), ...);
    }
    float sum = 0.0f;
#pragma unroll
    for (int u = 0; u < kPacks; ++u) {
      const Index i = first + u * kReduceThreads;
      if (i >= packs) continue;
      Lanes<W> gradient;
#pragma unroll
      for (int e = 0; e < W; ++e) {
        Slope slope;
        if constexpr (kInputs == 1)
          slope = f(x[u][0].v[e]);
        else
          slope = f(x[u][0].v[e], x[u][1].v[e]);
        sum += slope.term;
        gradient.v[e] = slope.gradient;
      }
      if (dx) store_lanes(dx + i * W, gradient);
    }
    total += sum;
  }
  if (W > 1 && blockIdx.x == gridDim.x - 1)
    if (const Index rest = packs * W + threadIdx.x; rest < count)  // fewer than a pack
      total = do_element(rest, f, total, dx, in...);
  store_reduced(ScaledSum{f.scale}, total, partial, loss);
}

/// W elements an access where all tensors are aligned to that, else one.
template <int W, class T, class F, class... In>
void run_loss(Context& ctx, Index count, F f, float* loss, T* dx, const In*... in) {
  if (W > 1 && !(aligned_lanes<W>(dx) && ... && aligned_lanes<W>(in)))
    return run_loss<1>(ctx, count, f, loss, dx, in...);
  void (*kernel)(Index, F, T*, float*, float*, const In*...) = loss_kernel<T, F, W, In...>;
  const Index chunks = gpu::cdiv(count, Index{W * kUnroll<W> * kReduceThreads});
  reduce_in_two_stages(ctx, chunks, ScaledSum{f.scale}, loss,
                       [&](const gpu::LaunchCfg& cfg, float* partial) {
                         gpu::launch(kernel, cfg, count, f, dx, partial, loss, in...);
                       });
}

template <int W, class T, class F>
void run_difference(Context& ctx, const LossProblem& p, const T* x, const T* target, float* loss,
                    T* dx) {
  run_loss<W>(ctx, p.count, F{p.scale}, loss, dx, x, target);
}
template <int W, class T>
void run_cross_entropy(Context& ctx, const LossProblem& p, const T* x, float* loss, T* dx) {
  run_loss<W>(ctx, p.count, CrossEntropy{p.scale, p.target}, loss, dx, x);
}

}  // namespace

template <class T>
void mse_loss_variants(MseLoss<T>& op) {
  op.append({"vec4", nullptr, run_difference<kPack<T>, T, SquaredError>});
  op.append({"direct", nullptr, run_difference<1, T, SquaredError>});
}
template void mse_loss_variants(MseLoss<float>&);
template void mse_loss_variants(MseLoss<bf16>&);

template <class T>
void l1_loss_variants(L1Loss<T>& op) {
  op.append({"vec4", nullptr, run_difference<kPack<T>, T, AbsoluteError>});
  op.append({"direct", nullptr, run_difference<1, T, AbsoluteError>});
}
template void l1_loss_variants(L1Loss<float>&);
template void l1_loss_variants(L1Loss<bf16>&);

template <class T>
void bce_with_logits_variants(BceWithLogits<T>& op) {
  op.append({"vec4", nullptr, run_cross_entropy<kPack<T>, T>});
  op.append({"direct", nullptr, run_cross_entropy<1, T>});
}
template void bce_with_logits_variants(BceWithLogits<float>&);
template void bce_with_logits_variants(BceWithLogits<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
