#pragma once

// The machinery of ops whose every output element depends on the same element of their inputs:
// y[i] = f(in0[i], in1[i]) with up to two inputs, whose types may differ from each other and from
// y's (bytes, bf16, fp32). The ops are in elementwise.cu, map.cu and convert.cu; each is a function
// object f over fp32 values, rounded once when it is stored:
//
//   float operator()(float in0, float in1) const;   as many arguments as the op has inputs
//   auto begin(Index i) const;                      optional: what is called for elements i, i + 1,
//                                                   ... in that order, where f needs more than them
//
// One or two operations an element against 2 to 12 bytes: bound by memory, time = bytes / bandwidth
// and the only thing to win is to keep enough loads in flight.
//   direct   one element a thread, coalesced.
//   vec4     a pack a thread and access: as many elements as make 16 bytes of the widest type, so
//            that narrower ones travel in 4 or 8 bytes and a warp's accesses stay contiguous in
//            every tensor; two or four packs in flight. The elements after the last full pack are
//            done one by one by the last block.
// y may be one of the inputs: an element is read by the thread that writes it, before it does.

#include "kernels/api/kernels.h"
#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/lanes.cuh"

namespace subpix::kernels::KERNEL_TARGET {

inline constexpr int kElementThreads = 256;

template <class F>
GPU_DEV auto begin_at(const F& f, Index i) {
  if constexpr (requires { f.begin(i); })
    return f.begin(i);
  else
    return f;
}

/// Element i alone.
template <class Out, class F, class... In>
GPU_DEV void do_element(Index i, const F& f, Out* y, const In*... in) {
  auto g = begin_at(f, i);
  store_value(y + i, g(load_value(in[i])...));
}

/// Thread i owns element i. No barriers: threads behind the end leave.
template <class Out, class F, class... In>
__global__ void __launch_bounds__(kElementThreads)
    elementwise_direct_kernel(Index count, F f, Out* y, const In*... in) {
  const Index i = Index{blockIdx.x} * kElementThreads + threadIdx.x;
  if (i < count) do_element(i, f, y, in...);
}

/// Block j owns kElementThreads * kPacks consecutive packs; a thread's packs are
/// kElementThreads apart, so that each access of a warp is one run of bytes. All loads come before
/// the first use. The host has checked that the pointers are aligned to their packs.
template <class Out, class F, class... In>
__global__ void __launch_bounds__(kElementThreads)
    elementwise_vec4_kernel(Index count, F f, Out* y, const In*... in) {
  constexpr int kWidth = kLanes<Out, In...>, kPacks = kUnroll<kWidth>, kInputs = sizeof...(In);
  const Index packs = count / kWidth;
  const Index first = Index{blockIdx.x} * (kElementThreads * kPacks) + threadIdx.x;
  Lanes<kWidth> x[kPacks][kInputs + 1];  // one more: no array is empty
#pragma unroll
  for (int u = 0; u < kPacks; ++u) {
    const Index i = first + u * kElementThreads;
    if (i >= packs) continue;
    int k = 0;
    ((x[u][k++] = load_lanes<kWidth>(in + i * kWidth)), ...);
    static_cast<void>(k);
  }
#pragma unroll
  for (int u = 0; u < kPacks; ++u) {
    const Index i = first + u * kElementThreads;
    if (i >= packs) continue;
    auto g = begin_at(f, i * kWidth);
    Lanes<kWidth> result;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      if constexpr (kInputs == 0)
        result.v[e] = g();
      else if constexpr (kInputs == 1)
        result.v[e] = g(x[u][0].v[e]);
      else
        result.v[e] = g(x[u][0].v[e], x[u][1].v[e]);
    }
    store_lanes(y + i * kWidth, result);
  }
  const Index rest = packs * kWidth + threadIdx.x;  // fewer than a pack
  if (blockIdx.x == gridDim.x - 1 && rest < count) do_element(rest, f, y, in...);
}

template <class Out, class F, class... In>
void run_elementwise_direct(Context& ctx, Index count, F f, Out* y, const In*... in) {
  void (*kernel)(Index, F, Out*, const In*...) = elementwise_direct_kernel<Out, F, In...>;
  gpu::launch(kernel,
              {.grid = gpu::grid_for(count, kElementThreads),
               .block = kElementThreads,
               .stream = ctx.stream},
              count, f, y, in...);
}

/// Views whose address is not that of a pack go element by element.
template <class Out, class F, class... In>
void run_elementwise_vec4(Context& ctx, Index count, F f, Out* y, const In*... in) {
  constexpr int kWidth = kLanes<Out, In...>;
  if (!(aligned_lanes<kWidth>(y) && ... && aligned_lanes<kWidth>(in)))
    return run_elementwise_direct(ctx, count, f, y, in...);
  void (*kernel)(Index, F, Out*, const In*...) = elementwise_vec4_kernel<Out, F, In...>;
  gpu::launch(
      kernel,
      {.grid = gpu::grid_for(gpu::cdiv(count, Index{kWidth}), kElementThreads * kUnroll<kWidth>),
       .block = kElementThreads,
       .stream = ctx.stream},
      count, f, y, in...);
}

}  // namespace subpix::kernels::KERNEL_TARGET
