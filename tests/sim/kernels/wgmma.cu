// wgmma in every operand layout: the operands are written to shared memory element by element, by
// the formulas of the PTX ISA ("Shared memory matrix layout"), and multiplied in four steps of 16.

#include "kernels/cuda/gpu/gpu.cuh"
#include "tests/sim/kernels/dispatch.cuh"
#include "tests/sim/kernels/kernels.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kDepth = 64;

struct alignas(1024) LayoutShared {
  unsigned char a[64 * kDepth * 2];
  unsigned char b[256 * kDepth * 2];
};

/// One operand of `rows` x 64 in shared memory.
struct Operand {
  int rows, swizzle;
  bool mn_major;

  GPU_DEV int offset(int row, int k) const {
    const int chunk = mn_major ? row % 8 * 2 : k % 8 * 2;  // bytes inside 16
    if (swizzle == 0)
      return chunk + (mn_major ? (row / 8 * kDepth + k) * 16 : (k / 8 * rows + row) * 16);
    // Panels of rows of `swizzle` bytes: along k, or along the rows if MN-major.
    const int along = mn_major ? row : k, across = mn_major ? k : row;
    const int lines = mn_major ? kDepth : rows, width = swizzle / 2;
    const int linear = (along / width * lines + across) * swizzle + along % width * 2;
    return linear ^ (linear >> 7 & (swizzle / 16 - 1)) << 4;
  }
  /// For k-step kk of 16.
  GPU_DEV std::uint64_t descriptor(const unsigned char* p, int kk) const {
    const std::uint32_t at = gpu::smem_addr(p);
    const auto bytes = [](int v) { return static_cast<std::uint32_t>(v); };
    if (swizzle == 0 && !mn_major)
      return gpu::desc_plain(at + bytes(kk * 2 * rows * 16), bytes(rows * 16), 128);
    if (swizzle == 0) return gpu::desc_plain(at + bytes(kk * 256), 128, kDepth * 16);
    const gpu::Swizzle code = swizzle == 128  ? gpu::Swizzle::B128
                              : swizzle == 64 ? gpu::Swizzle::B64
                                              : gpu::Swizzle::B32;
    if (mn_major)
      return gpu::desc_swizzled(at + bytes(kk * 16 * swizzle), bytes(kDepth * swizzle),
                                bytes(8 * swizzle), code);
    const int width = swizzle / 2, k = kk * 16;
    return gpu::desc_swizzled(at + bytes(k / width * rows * swizzle + k % width * 2), 16,
                              bytes(8 * swizzle), code);
  }
};

GPU_DEV void fill(unsigned char* to, const Operand& o, const bf16* from) {
  for (int i = static_cast<int>(threadIdx.x); i < o.rows * kDepth; i += 128)
    *reinterpret_cast<std::uint16_t*>(to + o.offset(i / kDepth, i % kDepth)) = from[i].bits;
}

template <int N, int TransposeA, int TransposeB, bool Registers>
__global__ void __launch_bounds__(128)
    wgmma_product_kernel(const bf16* a, const bf16* b, float* d, int swizzle, bool accumulate) {
  auto& s = gpu::smem<LayoutShared>();
  const int t = static_cast<int>(threadIdx.x), lane = t % 32;
  const int row = t / 32 * 16 + lane / 4, column = lane % 4 * 2;
  const Operand oa{64, swizzle, TransposeA != 0}, ob{N, swizzle, TransposeB != 0};
  if (!Registers) fill(s.a, oa, a);
  fill(s.b, ob, b);
  gpu::fence_proxy_async();
  __syncthreads();
  float sum[N / 2];
#pragma unroll
  for (int j = 0; j < N / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      sum[j * 4 + e] = accumulate ? d[(row + e / 2 * 8) * N + j * 8 + column + e % 2] : 0.0f;
  std::uint32_t registers[4][4];
  if constexpr (Registers)
#pragma unroll
    for (int kk = 0; kk < 4; ++kk)
#pragma unroll
      for (int h = 0; h < 4; ++h)
        registers[kk][h] = *reinterpret_cast<const std::uint32_t*>(a + (row + h % 2 * 8) * kDepth +
                                                                   kk * 16 + h / 2 * 8 + column);
  // Branches between wgmma would make ptxas serialise them.
  std::uint64_t at_a[4], at_b[4];
#pragma unroll
  for (int kk = 0; kk < 4; ++kk) {
    at_a[kk] = oa.descriptor(s.a, kk);
    at_b[kk] = ob.descriptor(s.b, kk);
  }
  gpu::wgmma_fence();
#pragma unroll
  for (int kk = 0; kk < 4; ++kk) {
    const bool add = accumulate || kk > 0;
    if constexpr (Registers)
      gpu::wgmma_bf16_rs<N, TransposeB>(sum, registers[kk], at_b[kk], add);
    else
      gpu::wgmma_bf16<N, TransposeA, TransposeB>(sum, at_a[kk], at_b[kk], add);
  }
  gpu::wgmma_commit();
  gpu::wgmma_wait<0>(sum);
#pragma unroll
  for (int j = 0; j < N / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) d[(row + e / 2 * 8) * N + j * 8 + column + e % 2] = sum[j * 4 + e];
}

struct alignas(1024) GroupsShared {
  unsigned char a[64 * kDepth * 2], b[64 * kDepth * 2];
};

__global__ void __launch_bounds__(128) wgmma_groups_kernel(const bf16* a, const bf16* b, float* d) {
  auto& s = gpu::smem<GroupsShared>();
  const int t = static_cast<int>(threadIdx.x), lane = t % 32;
  const Operand o{64, 128, false};
  fill(s.a, o, a);
  fill(s.b, o, b);
  gpu::fence_proxy_async();
  __syncthreads();
  float first[32], second[32];
  gpu::wgmma_fence();
#pragma unroll
  for (int kk = 0; kk < 4; ++kk)
    gpu::wgmma_bf16<64>(first, o.descriptor(s.a, kk), o.descriptor(s.b, kk), kk > 0);
  gpu::wgmma_commit();
#pragma unroll
  for (int kk = 0; kk < 4; ++kk)
    gpu::wgmma_bf16<64>(second, o.descriptor(s.a, kk), o.descriptor(s.a, kk), kk > 0);
  gpu::wgmma_commit();
  const auto store = [&](const float(&sum)[32], float* to) {
#pragma unroll
    for (int j = 0; j < 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        to[(t / 32 * 16 + lane / 4 + e / 2 * 8) * 64 + j * 8 + lane % 4 * 2 + e % 2] =
            sum[j * 4 + e];
  };
  gpu::wgmma_wait<1>(first);
  store(first, d);
  gpu::wgmma_wait<0>(second);
  store(second, d + 64 * 64);
}

template <int N, int TransposeA, int TransposeB, bool Registers>
void launch_product(const WgmmaLayout& l, const bf16* a, const bf16* b, float* d, bool accumulate,
                    void* stream) {
  gpu::launch(wgmma_product_kernel<N, TransposeA, TransposeB, Registers>,
              {.block = 128, .smem = sizeof(LayoutShared), .stream = stream}, a, b, d, l.swizzle,
              accumulate);
}

using Launch = void (*)(const WgmmaLayout&, const bf16*, const bf16*, float*, bool, void*);

template <int N>
Launch k_major(bool registers) {
  return registers ? launch_product<N, 0, 0, true> : launch_product<N, 0, 0, false>;
}

/// Null where the combination is not built.
Launch find(const WgmmaLayout& l) {
  if (l.n == 64) {
    if (l.a_registers)
      return l.mn_major_b ? launch_product<64, 0, 1, true> : launch_product<64, 0, 0, true>;
    if (l.mn_major_a)
      return l.mn_major_b ? launch_product<64, 1, 1, false> : launch_product<64, 1, 0, false>;
    return l.mn_major_b ? launch_product<64, 0, 1, false> : launch_product<64, 0, 0, false>;
  }
  if (l.mn_major_a || l.mn_major_b) return nullptr;
  switch (l.n) {
    case 8:
      return k_major<8>(l.a_registers);
    case 16:
      return k_major<16>(l.a_registers);
    case 24:
      return k_major<24>(l.a_registers);
    case 32:
      return k_major<32>(l.a_registers);
    case 48:
      return k_major<48>(l.a_registers);
    case 72:
      return k_major<72>(l.a_registers);
    case 80:
      return k_major<80>(l.a_registers);
    case 96:
      return k_major<96>(l.a_registers);
    case 128:
      return k_major<128>(l.a_registers);
    case 144:
      return k_major<144>(l.a_registers);
    case 168:
      return k_major<168>(l.a_registers);
    case 192:
      return k_major<192>(l.a_registers);
    case 256:
      return k_major<256>(l.a_registers);
    default:
      return nullptr;
  }
}

}  // namespace

bool wgmma_supported(const WgmmaLayout& layout) { return find(layout) != nullptr; }

void wgmma_product(const WgmmaLayout& layout, const bf16* a, const bf16* b, float* d,
                   bool accumulate, void* stream) {
  find(layout)(layout, a, b, d, accumulate, stream);
}

void wgmma_groups(const bf16* a, const bf16* b, float* d, void* stream) {
  gpu::launch(wgmma_groups_kernel, {.block = 128, .smem = sizeof(GroupsShared), .stream = stream},
              a, b, d);
}

}  // namespace subpix::kernels::KERNEL_TARGET
