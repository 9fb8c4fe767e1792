// Ops on each element alone: y = a + b, y = alpha * x + beta * y.
//
// One or two floating-point operations an element against 8 to 12 bytes (fp32; half of that in
// bf16): all of them are bound by memory, so the bound is bytes / bandwidth and the only thing to
// win is to keep enough loads in flight. For add in fp32: 12 bytes an element, 1 FLOP.
//
// Variants, slowest first:
//   direct   one element a thread, coalesced.
//   vec4     16 bytes a thread and access (four floats, eight bf16), four independent ones in
//   flight;
//            the elements after the last full pack are done one by one by the last block.
// Arithmetic is fp32 with one rounding to T at the end.

#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 4;  // packs of a thread: enough bytes in flight to cover memory latency

// What an op does with one element. `before` is the old y, read only where kReadsOutput.
struct AddElements {
  static constexpr bool kReadsOutput = false;
  GPU_DEV float operator()(float a, float b, float) const { return a + b; }
};
struct ScaleElements {  // axpby with beta = 0: y may hold anything, a NaN too
  static constexpr bool kReadsOutput = false;
  float alpha;
  GPU_DEV float operator()(float a, float, float) const { return alpha * a; }
};
struct AxpbyElements {
  static constexpr bool kReadsOutput = true;
  float alpha, beta;
  GPU_DEV float operator()(float a, float, float before) const { return alpha * a + beta * before; }
};

/// Thread i owns element i. b may be null; y may be a or b, so nothing is __restrict__.
template <class T, class F>
__global__ void __launch_bounds__(kThreads)
    elementwise_direct_kernel(Index count, F f, const T* a, const T* b, T* y) {
  const Index i = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const float before = F::kReadsOutput ? gpu::to_float(y[i]) : 0.0f;
  store_value(y + i, f(gpu::to_float(a[i]), b ? gpu::to_float(b[i]) : 0.0f, before));
}

/// Block j owns kThreads * kUnroll consecutive packs; a thread's packs are kThreads apart, so that
/// each access of a warp is 512 consecutive bytes. All loads come before the first use.
template <class T, class F>
__global__ void __launch_bounds__(kThreads)
    elementwise_vec4_kernel(Index count, F f, const T* a, const T* b, T* y) {
  const Index packs = count / kPack<T>;
  const Index first = Index{blockIdx.x} * (kThreads * kUnroll) + threadIdx.x;
  Pack<T> pa[kUnroll], pb[kUnroll], py[kUnroll];
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const Index i = first + u * kThreads;
    if (i >= packs) continue;
    pa[u] = load_pack(a + i * kPack<T>);
    if (b) pb[u] = load_pack(b + i * kPack<T>);
    if (F::kReadsOutput) py[u] = load_pack(y + i * kPack<T>);
  }
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const Index i = first + u * kThreads;
    if (i >= packs) continue;
#pragma unroll
    for (int e = 0; e < kPack<T>; ++e)
      pa[u].v[e] = f(pa[u].v[e], b ? pb[u].v[e] : 0.0f, F::kReadsOutput ? py[u].v[e] : 0.0f);
    store_pack(y + i * kPack<T>, pa[u]);
  }
  const Index rest = packs * kPack<T> + threadIdx.x;  // fewer than a pack
  if (blockIdx.x == gridDim.x - 1 && rest < count) {
    const float before = F::kReadsOutput ? gpu::to_float(y[rest]) : 0.0f;
    store_value(y + rest, f(gpu::to_float(a[rest]), b ? gpu::to_float(b[rest]) : 0.0f, before));
  }
}

template <class T, class F>
void run_direct(Context& ctx, Index count, F f, const T* a, const T* b, T* y) {
  gpu::launch(elementwise_direct_kernel<T, F>,
              {.grid = gpu::grid_for(count, kThreads), .block = kThreads, .stream = ctx.stream},
              count, f, a, b, y);
}

template <class T, class F>
void run_vec4(Context& ctx, Index count, F f, const T* a, const T* b, T* y) {
  if (!packable(a, b, y)) return run_direct(ctx, count, f, a, b, y);
  const Index packs = gpu::cdiv(count, Index{kPack<T>});
  gpu::launch(
      elementwise_vec4_kernel<T, F>,
      {.grid = gpu::grid_for(packs, kThreads * kUnroll), .block = kThreads, .stream = ctx.stream},
      count, f, a, b, y);
}

/// Calls run(f) with the function that axpby's scalars ask for.
template <class Run>
void with_axpby(const ElementProblem& p, Run&& run) {
  if (p.beta == 0.0f)
    run(ScaleElements{p.alpha});
  else
    run(AxpbyElements{p.alpha, p.beta});
}

}  // namespace

template <class T>
void add_variants(Add<T>& op) {
  op.append(
      {"vec4", nullptr, [](Context& ctx, const ElementProblem& p, const T* a, const T* b, T* y) {
         run_vec4(ctx, p.count, AddElements{}, a, b, y);
       }});
  op.append(
      {"direct", nullptr, [](Context& ctx, const ElementProblem& p, const T* a, const T* b, T* y) {
         run_direct(ctx, p.count, AddElements{}, a, b, y);
       }});
}
template void add_variants(Add<float>&);
template void add_variants(Add<bf16>&);

template <class T>
void axpby_variants(Axpby<T>& op) {
  op.append({"vec4", nullptr, [](Context& ctx, const ElementProblem& p, const T* x, T* y) {
               with_axpby(p, [&](auto f) {
                 run_vec4(ctx, p.count, f, x, static_cast<const T*>(nullptr), y);
               });
             }});
  op.append({"direct", nullptr, [](Context& ctx, const ElementProblem& p, const T* x, T* y) {
               with_axpby(p, [&](auto f) {
                 run_direct(ctx, p.count, f, x, static_cast<const T*>(nullptr), y);
               });
             }});
}
template void axpby_variants(Axpby<float>&);
template void axpby_variants(Axpby<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
