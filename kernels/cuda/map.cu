// Ops on each element alone that need something besides it: scale y = alpha * s * x with s a number
// in device memory, fill y = alpha, channel_affine y[row,c] = x[row,c] * scale[c] + shift[c].
//
// Bytes an element: 8 (fp32) or 4 (bf16), fill half of it; at most 2 FLOP. All are bound by memory.
// The scales and shifts are 8 c bytes in all and come from the L1 cache.
//
// Variants, slowest first; direct and vec4 are the kernels of elementwise.cuh:
//   direct        one element a thread.
//   vec4          16 bytes a thread and access. In channel_affine the channel of a pack's first
//                 element costs one division, the others are counted on from it: any c will do,
//                 but with many channels the lanes of a warp gather scales 16 or 32 bytes apart,
//                 up to eight wavefronts for each element of a pack.
//   channel_pack  channel_affine where the packs of a row divide the block: the stride of a thread
//                 then keeps its channels, whose scales and shifts stay in registers.

#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

struct TimesScalar {
  float alpha;
  const float* s;  // null counts as 1
  struct Times {
    float factor;
    GPU_DEV float operator()(float x) const { return factor * x; }
  };
  GPU_DEV Times begin(Index) const { return {s ? alpha * *s : alpha}; }
};

struct Constant {
  float alpha;
  GPU_DEV float operator()() const { return alpha; }
};

struct ChannelLine {
  const float *scale, *shift;  // [c]; shift may be null
  Index c;
  struct Walk {  // along the elements of a row, and on to the next
    const float *scale, *shift;
    Index c, channel;
    GPU_DEV float operator()(float x) {
      const float y = x * scale[channel] + (shift ? shift[channel] : 0.0f);
      channel = channel + 1 == c ? 0 : channel + 1;
      return y;
    }
  };
  GPU_DEV Walk begin(Index i) const { return {scale, shift, c, i % c}; }
};

/// kElementThreads * kPack<T> is a multiple of c, and c of kPack<T>: thread t of every block owns
/// channels (t * kPack<T>) % c and on, in packs that lie kElementThreads apart.
template <class T>
__global__ void __launch_bounds__(kElementThreads)
    channel_affine_pack_kernel(Index packs, unsigned row_packs, const T* x, const float* scale,
                               const float* shift, T* y) {
  constexpr int kWidth = kPack<T>, kPacks = kUnroll<kWidth>;
  const Index first = Index{blockIdx.x} * (kElementThreads * kPacks) + threadIdx.x;
  Pack<T> value[kPacks];
#pragma unroll
  for (int u = 0; u < kPacks; ++u)
    if (const Index i = first + u * kElementThreads; i < packs)
      value[u] = load_pack(x + i * kWidth);
  const unsigned channel = threadIdx.x % row_packs * kWidth;
  Lanes<4> a[kWidth / 4], b[kWidth / 4];
#pragma unroll
  for (int k = 0; k < kWidth / 4; ++k) {
    a[k] = load_lanes<4>(scale + channel + 4 * k);
    b[k] = shift ? load_lanes<4>(shift + channel + 4 * k) : Lanes<4>{};
  }
#pragma unroll
  for (int u = 0; u < kPacks; ++u) {
    const Index i = first + u * kElementThreads;
    if (i >= packs) continue;
#pragma unroll
    for (int e = 0; e < kWidth; ++e)
      value[u].v[e] = value[u].v[e] * a[e / 4].v[e % 4] + b[e / 4].v[e % 4];
    store_pack(y + i * kWidth, value[u]);
  }
}

template <class T>
bool channel_pack_supports(const ChannelProblem& p, const DeviceInfo&) {
  return p.c % kPack<T> == 0 && kElementThreads * kPack<T> % p.c == 0;
}

template <class T>
void run_channel_pack(Context& ctx, const ChannelProblem& p, const T* x, const float* scale,
                      const float* shift, T* y) {
  if (!packable(x, scale, shift, y))
    return run_elementwise_vec4(ctx, p.count(), ChannelLine{scale, shift, p.c}, y, x);
  const Index packs = p.count() / kPack<T>;
  gpu::launch(channel_affine_pack_kernel<T>,
              {.grid = gpu::grid_for(packs, kElementThreads * kUnroll<kPack<T>>),
               .block = kElementThreads,
               .stream = ctx.stream},
              packs, static_cast<unsigned>(p.c / kPack<T>), x, scale, shift, y);
}

}  // namespace

template <class T>
void scale_variants(Scale<T>& op) {
  op.append({"vec4", nullptr,
             [](Context& ctx, const ElementProblem& p, const T* x, const float* s, T* y) {
               run_elementwise_vec4(ctx, p.count, TimesScalar{p.alpha, s}, y, x);
             }});
  op.append({"direct", nullptr,
             [](Context& ctx, const ElementProblem& p, const T* x, const float* s, T* y) {
               run_elementwise_direct(ctx, p.count, TimesScalar{p.alpha, s}, y, x);
             }});
}
template void scale_variants(Scale<float>&);
template void scale_variants(Scale<bf16>&);

template <class T>
void fill_variants(Fill<T>& op) {
  op.append({"vec4", nullptr, [](Context& ctx, const ElementProblem& p, T* y) {
               run_elementwise_vec4(ctx, p.count, Constant{p.alpha}, y);
             }});
  op.append({"direct", nullptr, [](Context& ctx, const ElementProblem& p, T* y) {
               run_elementwise_direct(ctx, p.count, Constant{p.alpha}, y);
             }});
}
template void fill_variants(Fill<float>&);
template void fill_variants(Fill<bf16>&);

template <class T>
void channel_affine_variants(ChannelAffine<T>& op) {
  op.append({"channel_pack", channel_pack_supports<T>, run_channel_pack<T>});
  op.append({"vec4", nullptr,
             [](Context& ctx, const ChannelProblem& p, const T* x, const float* scale,
                const float* shift, T* y) {
               run_elementwise_vec4(ctx, p.count(), ChannelLine{scale, shift, p.c}, y, x);
             }});
  op.append({"direct", nullptr,
             [](Context& ctx, const ChannelProblem& p, const T* x, const float* scale,
                const float* shift, T* y) {
               run_elementwise_direct(ctx, p.count(), ChannelLine{scale, shift, p.c}, y, x);
             }});
}
template void channel_affine_variants(ChannelAffine<float>&);
template void channel_affine_variants(ChannelAffine<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
