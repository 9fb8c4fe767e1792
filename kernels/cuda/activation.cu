// PReLU with a slope per channel or one for all, LeakyReLU and ReLU.
//
//   PReLU     y = x > 0 ? x : a x             x, y [rows, c], a [c] or [1]
//   backward  dx = x > 0 ? dy : a dy          dy/dx is 1 or a
//             da = sum of x dy where x <= 0   dy/da is 0 or x; over all rows, and over all channels
//                                             where they share a
//   LeakyReLU y = x < 0 ? alpha x : x         count elements, alpha >= 0
//   backward  dx = y > 0 ? dy : alpha dy      from the output, whose sign is that of x
//
// A NaN is neither > 0 nor < 0 and comes out as NaN on either side.
// One to three FLOP an element against 8 to 12 bytes (fp32; half of that in bf16): bound by memory.
// The least is 2 tensors forward and 3 backward; dx and da share one pass over x and dy, since a
// pass of its own for da would read both again (5 tensors instead of 3).
//
// Variants, preferred first:
//   packs    (PReLU) 16 bytes an access; a thread keeps to its channels, so slopes stay in
//            registers. Channels must be whole packs: multiples of 4 (fp32) or 8 (bf16).
//   vec4     (LeakyReLU) 16 bytes an access over the flat tensor, four in flight a thread.
//   direct   one element an access, any sizes and alignments.
// The sums behind da have a fixed order: channel_sums.cuh.

#include "kernels/cuda/channel_map.cuh"
#include "kernels/cuda/channel_sums.cuh"
#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

// --- PReLU ---------------------------------------------------------------------------------------

/// The slope of each channel, whether there are c of them or one.
struct Slopes {
  const float* slope;
  bool shared;
  using Channel = float;
  GPU_DEV float channel(Index c) const { return slope[shared ? 0 : c]; }
};

struct PReluValue : Slopes {
  static constexpr int kInputs = 1;
  GPU_DEV float apply(float a, float x, float) const { return x > 0.0f ? x : a * x; }
};
struct PReluInputGradient : Slopes {
  static constexpr int kInputs = 2;
  GPU_DEV float apply(float a, float x, float dy) const { return x > 0.0f ? dy : a * dy; }
};
struct PReluGradients : PReluInputGradient {
  static constexpr int kTerms = 1;
  static constexpr bool kWrites = true;
  GPU_DEV float apply(float a, float x, float dy, float (&sum)[1]) const {
    if (!(x > 0.0f)) sum[0] += x * dy;
    return PReluInputGradient::apply(a, x, dy);
  }
};

template <int V, class T>
void prelu_forward(Context& ctx, const ChannelProblem& p, const T* x, const float* slope, T* y) {
  run_channel_map<V>(ctx, p.rows, p.c, PReluValue{{slope, p.shared}}, x,
                     static_cast<const T*>(nullptr), y);
}

/// Each of dx and dslope may be null; with dx alone there is nothing to add up.
template <int V, class T>
void prelu_backward(Context& ctx, const ChannelProblem& p, const T* x, const T* dy,
                    const float* slope, T* dx, float* dslope) {
  const PReluGradients f{{{slope, p.shared}}};
  if (dslope && p.shared)
    run_channel_sums<V, true>(ctx, p.rows, p.c, f, x, dy, dx, {{dslope}});
  else if (dslope)
    run_channel_sums<V, false>(ctx, p.rows, p.c, f, x, dy, dx, {{dslope}});
  else if (dx)
    run_channel_map<V>(ctx, p.rows, p.c, PReluInputGradient{f}, x, dy, dx);
}

// --- LeakyReLU -----------------------------------------------------------------------------------

constexpr int kThreads = 256;
template <class F>  // packs of a thread: enough bytes in flight to cover memory latency
constexpr int kUnroll = 4 / F::kInputs;

struct LeakyReluValue {
  static constexpr int kInputs = 1;
  float alpha;
  GPU_DEV float operator()(float x, float) const { return x < 0.0f ? alpha * x : x; }
};
struct LeakyReluGradient {
  static constexpr int kInputs = 2;
  float alpha;
  GPU_DEV float operator()(float y, float dy) const { return y > 0.0f ? dy : alpha * dy; }
};

/// Thread i owns element i. `out` may be an input, so nothing is __restrict__.
template <class T, class F>
__global__ void __launch_bounds__(kThreads)
    leaky_relu_direct_kernel(Index count, F f, const T* a, const T* b, T* out) {
  const Index i = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  store_value(out + i, f(gpu::to_float(a[i]), F::kInputs == 2 ? gpu::to_float(b[i]) : 0.0f));
}

/// Block j owns kThreads * kUnroll consecutive packs; a thread's packs are kThreads apart, so that
/// each access of a warp is 512 consecutive bytes. All loads come before the first store. The
/// elements after the last full pack are done one by one by the last block.
template <class T, class F>
__global__ void __launch_bounds__(kThreads)
    leaky_relu_vec4_kernel(Index count, F f, const T* a, const T* b, T* out) {
  const Index packs = count / kPack<T>;
  const Index first = Index{blockIdx.x} * (kThreads * kUnroll<F>)+threadIdx.x;
  Pack<T> pa[kUnroll<F>], pb[kUnroll<F>];
#pragma unroll
  for (int u = 0; u < kUnroll<F>; ++u) {
    const Index i = first + u * kThreads;
    if (i >= packs) continue;
    pa[u] = load_pack(a + i * kPack<T>);
    if constexpr (F::kInputs == 2) pb[u] = load_pack(b + i * kPack<T>);
  }
#pragma unroll
  for (int u = 0; u < kUnroll<F>; ++u) {
    const Index i = first + u * kThreads;
    if (i >= packs) continue;
#pragma unroll
    for (int e = 0; e < kPack<T>; ++e)
      pa[u].v[e] = f(pa[u].v[e], F::kInputs == 2 ? pb[u].v[e] : 0.0f);
    store_pack(out + i * kPack<T>, pa[u]);
  }
  const Index rest = packs * kPack<T> + threadIdx.x;  // fewer than a pack
  if (blockIdx.x == gridDim.x - 1 && rest < count)
    store_value(out + rest,
                f(gpu::to_float(a[rest]), F::kInputs == 2 ? gpu::to_float(b[rest]) : 0.0f));
}

template <class T, class F>
void leaky_relu_direct(Context& ctx, Index count, F f, const T* a, const T* b, T* out) {
  gpu::launch(leaky_relu_direct_kernel<T, F>,
              {.grid = gpu::grid_for(count, kThreads), .block = kThreads, .stream = ctx.stream},
              count, f, a, b, out);
}

template <class T, class F>
void leaky_relu_vec4(Context& ctx, Index count, F f, const T* a, const T* b, T* out) {
  const bool whole = b ? packable(a, b, out) : packable(a, out);
  if (!whole) return leaky_relu_direct(ctx, count, f, a, b, out);
  const Index packs = gpu::cdiv(count, Index{kPack<T>});
  gpu::launch(leaky_relu_vec4_kernel<T, F>,
              {.grid = gpu::grid_for(packs, kThreads * kUnroll<F>),
               .block = kThreads,
               .stream = ctx.stream},
              count, f, a, b, out);
}

template <class T>
bool whole_packs(const ChannelProblem& p, const DeviceInfo&) {
  return rows_of_packs<T>(p.c);
}

}  // namespace

template <class T>
void prelu_forward_variants(PReluForward<T>& op) {
  op.append({"packs", whole_packs<T>,
             [](Context& ctx, const ChannelProblem& p, const T* x, const float* slope, T* y) {
               if (packable(x, y)) return prelu_forward<kPack<T>>(ctx, p, x, slope, y);
               prelu_forward<1>(ctx, p, x, slope, y);
             }});
  op.append({"direct", nullptr, prelu_forward<1, T>});
}
template void prelu_forward_variants(PReluForward<float>&);
template void prelu_forward_variants(PReluForward<bf16>&);

template <class T>
void prelu_backward_variants(PReluBackward<T>& op) {
  op.append({"packs", whole_packs<T>,
             [](Context& ctx, const ChannelProblem& p, const T* x, const T* dy, const float* slope,
                T* dx, float* dslope) {
               if (packable(x, dy, dx))  // null is
                 return prelu_backward<kPack<T>>(ctx, p, x, dy, slope, dx, dslope);
               prelu_backward<1>(ctx, p, x, dy, slope, dx, dslope);
             }});
  op.append({"direct", nullptr, prelu_backward<1, T>});
}
template void prelu_backward_variants(PReluBackward<float>&);
template void prelu_backward_variants(PReluBackward<bf16>&);

template <class T>
void leaky_relu_forward_variants(LeakyReluForward<T>& op) {
  op.append({"vec4", nullptr, [](Context& ctx, const ElementProblem& p, const T* x, T* y) {
               leaky_relu_vec4(ctx, p.count, LeakyReluValue{p.alpha}, x,
                               static_cast<const T*>(nullptr), y);
             }});
  op.append({"direct", nullptr, [](Context& ctx, const ElementProblem& p, const T* x, T* y) {
               leaky_relu_direct(ctx, p.count, LeakyReluValue{p.alpha}, x,
                                 static_cast<const T*>(nullptr), y);
             }});
}
template void leaky_relu_forward_variants(LeakyReluForward<float>&);
template void leaky_relu_forward_variants(LeakyReluForward<bf16>&);

template <class T>
void leaky_relu_backward_variants(LeakyReluBackward<T>& op) {
  op.append(
      {"vec4", nullptr, [](Context& ctx, const ElementProblem& p, const T* y, const T* dy, T* dx) {
         leaky_relu_vec4(ctx, p.count, LeakyReluGradient{p.alpha}, y, dy, dx);
       }});
  op.append({"direct", nullptr,
             [](Context& ctx, const ElementProblem& p, const T* y, const T* dy, T* dx) {
               leaky_relu_direct(ctx, p.count, LeakyReluGradient{p.alpha}, y, dy, dx);
             }});
}
template void leaky_relu_backward_variants(LeakyReluBackward<float>&);
template void leaky_relu_backward_variants(LeakyReluBackward<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
