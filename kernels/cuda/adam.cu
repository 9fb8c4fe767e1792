// Adam over a list of tensors (the formula stands at AdamProblem), all in one launch; where a
// tensor has a bf16 copy, it is refreshed on the way.
//
// Bytes an element: w, m, v read and written, g read, 28; with the bf16 copy 30. About 16
// operations with a root and a division: bound by memory. SRGAN's generator has 83 tensors with 1.5
// million elements, its discriminator 26 with 23.6 million; most tensors are biases, slopes and
// statistics of 64 to 512 elements, so a launch for each of them would be bound by launches.
//
// Note [The list travels as a parameter]: the array of AdamTensor lies in host memory and may be
// gone when the kernel runs. A copy to the device would have to wait, or to own pinned memory until
// the stream gets there; kernel parameters are copied at the launch, also into a captured graph. 96
// tensors with their block counts are 5 KiB, above the 4 KiB of CUDA before 12.1 and below the
// 32764 bytes since (compute capability 7.0 and up; the project asks for 12.4). So both networks
// take one launch; longer lists take one for every 96 tensors.
//
// Variants, slowest first:
//   per_tensor  a launch for each tensor, one element a thread.
//   list_vec4   one launch; a block finds its tensor by bisecting the prefix sums of block counts,
//               seven steps on parameters, the same in all threads; 16 bytes an access (8 for the
//               bf16 copy), eight loads in flight a thread.
// step_size and inv_sqrt_bias2 are read from device memory: a captured step is replayed with
// others.

#include "kernels/cuda/lanes.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kThreads = 256;
constexpr int kPacks = 2;  // of four elements, a thread
constexpr int kBlockElements = kThreads * kPacks * 4;
constexpr int kTensors = 96;  // of a launch

struct AdamList {
  AdamTensor tensor[kTensors];
  unsigned first_block[kTensors + 1];  // of each tensor; then the number of blocks
  int count;
};
static_assert(sizeof(AdamList) + 64 <= 32764, "kernel parameters");

struct Step {
  float beta1, beta2, eps, step_size, inv_sqrt_bias2;
  GPU_DEV void operator()(float& w, float g, float& m, float& v) const {
    m = beta1 * m + (1.0f - beta1) * g;
    v = beta2 * v + (1.0f - beta2) * g * g;
    w -= step_size * m / (sqrtf(v) * inv_sqrt_bias2 + eps);
  }
};

GPU_DEV Step make_step(const AdamProblem& p, const float* scalars) {
  return {p.beta1, p.beta2, p.eps, scalars[0], scalars[1]};
}

GPU_DEV void do_element(const Step& step, const AdamTensor& t, Index i) {
  float w = t.w[i], m = t.m[i], v = t.v[i];
  step(w, t.g[i], m, v);
  t.w[i] = w;
  t.m[i] = m;
  t.v[i] = v;
  if (t.w_bf16) t.w_bf16[i] = gpu::to_bf16(w);
}

/// Thread i owns element i.
__global__ void __launch_bounds__(kThreads)
    adam_tensor_kernel(AdamProblem p, AdamTensor t, const float* scalars) {
  const Index i = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (i < t.count) do_element(make_step(p, scalars), t, i);
}

/// Block b owns kBlockElements elements of the tensor k with first_block[k] <= b < first_block[k +
/// 1]: its full packs, a thread's kThreads apart, then, one by one, what is left at the tensor's
/// end, or everything where one of its pointers is not that of a pack.
__global__ void __launch_bounds__(kThreads)
    adam_list_vec4_kernel(AdamProblem p, const __grid_constant__ AdamList list,
                          const float* scalars) {
  int low = 0, high = list.count;  // first_block[low] <= blockIdx.x < first_block[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (list.first_block[middle] <= blockIdx.x ? low : high) = middle;
  }
  AdamTensor t = list.tensor[low];
  const Index begin = Index{blockIdx.x - list.first_block[low]} * kBlockElements;
  t.w += begin;
  t.g += begin;
  t.m += begin;
  t.v += begin;
  if (t.w_bf16) t.w_bf16 += begin;
  const Index left = t.count - begin;
  const int count = left < kBlockElements ? static_cast<int>(left) : kBlockElements;
  const bool packed = aligned_lanes<4>(t.w) && aligned_lanes<4>(t.g) && aligned_lanes<4>(t.m) &&
                      aligned_lanes<4>(t.v) && aligned_lanes<4>(t.w_bf16);
  const int packs = packed ? count / 4 : 0;
  const Step step = make_step(p, scalars);

  Lanes<4> w[kPacks], g[kPacks], m[kPacks], v[kPacks];
#pragma unroll
  for (int u = 0; u < kPacks; ++u) {
    const int i = static_cast<int>(threadIdx.x) + u * kThreads;
    if (i >= packs) continue;
    w[u] = load_lanes<4>(t.w + 4 * i);
    g[u] = load_lanes<4>(t.g + 4 * i);
    m[u] = load_lanes<4>(t.m + 4 * i);
    v[u] = load_lanes<4>(t.v + 4 * i);
  }
#pragma unroll
  for (int u = 0; u < kPacks; ++u) {
    const int i = static_cast<int>(threadIdx.x) + u * kThreads;
    if (i >= packs) continue;
#pragma unroll
    for (int e = 0; e < 4; ++e) step(w[u].v[e], g[u].v[e], m[u].v[e], v[u].v[e]);
    store_lanes(t.w + 4 * i, w[u]);
    store_lanes(t.m + 4 * i, m[u]);
    store_lanes(t.v + 4 * i, v[u]);
    if (t.w_bf16) store_lanes(t.w_bf16 + 4 * i, w[u]);
  }
  for (int i = 4 * packs + static_cast<int>(threadIdx.x); i < count; i += kThreads)
    do_element(step, t, i);
}

void run_per_tensor(Context& ctx, const AdamProblem& p, const AdamTensor* tensors, int count,
                    const float* scalars) {
  for (const AdamTensor* t = tensors; t < tensors + count; ++t)
    if (t->count > 0)
      gpu::launch(
          adam_tensor_kernel,
          {.grid = gpu::grid_for(t->count, kThreads), .block = kThreads, .stream = ctx.stream}, p,
          *t, scalars);
}

void run_list(Context& ctx, const AdamProblem& p, const AdamTensor* tensors, int count,
              const float* scalars) {
  for (int first = 0; first < count; first += kTensors) {
    AdamList list{};
    Index blocks = 0;
    for (const AdamTensor* t = tensors + first; t < tensors + count && list.count < kTensors; ++t) {
      list.tensor[list.count] = *t;
      list.first_block[list.count++] = static_cast<unsigned>(blocks);
      blocks += gpu::cdiv(t->count, Index{kBlockElements});  // none for an empty tensor
    }
    list.first_block[list.count] = static_cast<unsigned>(blocks);
    if (blocks == 0) continue;
    gpu::launch(adam_list_vec4_kernel,
                {.grid = gpu::grid_for(blocks, 1), .block = kThreads, .stream = ctx.stream}, p,
                list, scalars);
  }
}

}  // namespace

void adam_variants(Adam& op) {
  op.append({"list_vec4", nullptr, run_list});
  op.append({"per_tensor", nullptr, run_per_tensor});
}

}  // namespace subpix::kernels::KERNEL_TARGET
