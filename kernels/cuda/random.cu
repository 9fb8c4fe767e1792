// Philox4x32-10 (Salmon et al., SC'11): ten rounds of two 32x32-bit multiplications and four
// exclusive ors turn a 128-bit counter and a 64-bit key into four words, hence four elements. An
// element depends on seed, stream, offset and its index alone: the formulas stand at RandomProblem.
//
// 4 bytes written an element; about 80 integer instructions for four elements, 20 of them wide
// multiplications, which take as long as writing 16 bytes does: bound by both alike. philox_normal
// adds two logarithms, roots and sine-cosine pairs for four elements. These ops run when weights
// are made, not in a training step.
//
// philox_uniform must give equal bits on every backend: each operation is rounded on its own, with
// the intrinsics that nvcc never contracts into a multiply-add. philox_normal is accurate to a few
// units in the last place; sincospi is exact in its argument, where sin(2 pi f) would round it.
//
// Variants, slowest first:
//   direct   one element a thread; three of four words are thrown away.
//   vec4     one block of words a thread, stored with 16 bytes.

#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kThreads = 256;
constexpr float kUlp = 0x1p-24f;

/// The words of elements 4 * block to 4 * block + 3.
GPU_DEV uint4 philox_block(const RandomProblem& p, Index block) {
  constexpr std::uint32_t kMultiply0 = 0xD2511F53, kMultiply1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  const std::uint64_t position = p.offset + static_cast<std::uint64_t>(block);
  uint4 x =
      make_uint4(static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32),
                 static_cast<std::uint32_t>(p.stream), static_cast<std::uint32_t>(p.stream >> 32));
  std::uint32_t key0 = static_cast<std::uint32_t>(p.seed);
  std::uint32_t key1 = static_cast<std::uint32_t>(p.seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{kMultiply0} * x.x, b = std::uint64_t{kMultiply1} * x.z;
    x = make_uint4(static_cast<std::uint32_t>(b >> 32) ^ x.y ^ key0, static_cast<std::uint32_t>(b),
                   static_cast<std::uint32_t>(a >> 32) ^ x.w ^ key1, static_cast<std::uint32_t>(a));
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return x;
}

/// 24 bits as a number in [0, 1), exactly.
GPU_DEV float fraction(std::uint32_t word) {
  return __fmul_rn(static_cast<float>(word >> 8), kUlp);
}

struct Uniform {
  GPU_DEV float4 operator()(const RandomProblem& p, uint4 words) const {
    const float width = __fsub_rn(p.high, p.low);
    const auto place = [&](std::uint32_t word) {
      return __fadd_rn(p.low, __fmul_rn(width, fraction(word)));
    };
    return make_float4(place(words.x), place(words.y), place(words.z), place(words.w));
  }
};

/// Box-Muller on the two pairs of words.
struct Normal {
  static GPU_DEV float2 pair(const RandomProblem& p, std::uint32_t a, std::uint32_t b) {
    const float radius = sqrtf(-2.0f * logf(__fadd_rn(fraction(a), kUlp)));  // of (0, 1], exactly
    float sine, cosine;
    sincospif(2.0f * fraction(b), &sine, &cosine);
    return make_float2(p.low + p.high * (radius * cosine), p.low + p.high * (radius * sine));
  }
  GPU_DEV float4 operator()(const RandomProblem& p, uint4 words) const {
    const float2 first = pair(p, words.x, words.y), second = pair(p, words.z, words.w);
    return make_float4(first.x, first.y, second.x, second.y);
  }
};

/// Thread i owns element i.
template <class F>
__global__ void __launch_bounds__(kThreads) philox_direct_kernel(RandomProblem p, F f, float* y) {
  const Index i = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= p.count) return;
  const float4 v = f(p, philox_block(p, i / 4));
  const int word = static_cast<int>(i % 4);
  y[i] = word == 0 ? v.x : word == 1 ? v.y : word == 2 ? v.z : v.w;
}

/// Thread i owns elements 4 i to 4 i + 3; y is 16-byte aligned. The last thread may own fewer.
template <class F>
__global__ void __launch_bounds__(kThreads) philox_vec4_kernel(RandomProblem p, F f, float* y) {
  const Index block = Index{blockIdx.x} * kThreads + threadIdx.x, i = 4 * block;
  if (i >= p.count) return;
  const float4 v = f(p, philox_block(p, block));
  if (i + 4 <= p.count) {
    *reinterpret_cast<float4*>(y + i) = v;
    return;
  }
  y[i] = v.x;
  if (i + 1 < p.count) y[i + 1] = v.y;
  if (i + 2 < p.count) y[i + 2] = v.z;
}

template <class F>
void run_direct(Context& ctx, const RandomProblem& p, float* y) {
  gpu::launch(philox_direct_kernel<F>,
              {.grid = gpu::grid_for(p.count, kThreads), .block = kThreads, .stream = ctx.stream},
              p, F{}, y);
}

template <class F>
void run_vec4(Context& ctx, const RandomProblem& p, float* y) {
  if (!packable(y)) return run_direct<F>(ctx, p, y);
  gpu::launch(philox_vec4_kernel<F>,
              {.grid = gpu::grid_for(gpu::cdiv(p.count, Index{4}), kThreads),
               .block = kThreads,
               .stream = ctx.stream},
              p, F{}, y);
}

}  // namespace

void philox_uniform_variants(PhiloxUniform& op) {
  op.append({"vec4", nullptr, run_vec4<Uniform>});
  op.append({"direct", nullptr, run_direct<Uniform>});
}

void philox_normal_variants(PhiloxNormal& op) {
  op.append({"vec4", nullptr, run_vec4<Normal>});
  op.append({"direct", nullptr, run_direct<Normal>});
}

}  // namespace subpix::kernels::KERNEL_TARGET
