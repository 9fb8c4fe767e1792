#pragma once

// Included by gpu.cuh under nvcc: every line of inline PTX of the project. Each function is one to
// three instructions; kernels/sim/sim.cuh has its twin. Sections follow the PTX ISA's chapters.
//
// Note [Two architectures]: sources are compiled for sm_80 and for sm_90a. Hopper's instructions
// exist only in the latter, so on sm_80 their wrappers trap; supports() of a variant keeps them
// from running.

#include <cuda_bf16.h>

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SUBPIX_HOPPER(...) __VA_ARGS__
#else
#define SUBPIX_HOPPER(...) __trap()
#endif

namespace subpix::gpu {
inline namespace KERNEL_TARGET {

// --- shared memory, bf16 -------------------------------------------------------------------------

// 1024 bytes: the alignment of a 128-byte swizzle pattern.
extern __shared__ __align__(1024) unsigned char dynamic_shared_memory[];

template <class T>
GPU_DEV T& smem() {
  static_assert(sizeof(T) <= 227 * 1024, "a block has at most 227 KiB of shared memory");
  static_assert(alignof(T) <= 1024, "shared memory is aligned to 1024 bytes");
  return *reinterpret_cast<T*>(dynamic_shared_memory);
}
/// The 32-bit address that descriptors hold.
GPU_DEV std::uint32_t smem_addr(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}
GPU_DEV std::uint32_t lane_id() {
  std::uint32_t lane;
  asm("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}

GPU_DEV float to_float(float v) { return v; }
GPU_DEV float to_float(bf16 v) { return __uint_as_float(std::uint32_t{v.bits} << 16); }
/// Round to nearest even.
GPU_DEV bf16 to_bf16(float v) { return bf16{__bfloat16_as_ushort(__float2bfloat16_rn(v))}; }
/// Two values as one word, `low` in the lower half (the lower address).
GPU_DEV std::uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}
GPU_DEV float2 unpack_bf16(std::uint32_t pair) {
  return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xFFFF0000u));
}

// --- barriers ------------------------------------------------------------------------------------

/// id 1 to 15; count: threads that take part, a multiple of 32.
GPU_DEV void named_bar_sync(int id, int count) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(count) : "memory");
}
GPU_DEV void named_bar_arrive(int id, int count) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(count) : "memory");
}

/// Own barriers between co-resident blocks: add with release, wait with acquire until *p >= value
/// (modulo 2^32).
GPU_DEV void red_release_add(std::uint32_t* p, std::uint32_t value) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(p), "r"(value) : "memory");
}
GPU_DEV void wait_acquire_ge(const std::uint32_t* p, std::uint32_t value) {
  std::uint32_t seen;
  do {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(p) : "memory");
  } while (static_cast<std::int32_t>(seen - value) < 0);
}

GPU_DEV std::uint32_t cluster_rank() {
  std::uint32_t rank = 0;
  SUBPIX_HOPPER(asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank)));
  return rank;
}
GPU_DEV void cluster_sync() {
  SUBPIX_HOPPER(asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::
                                 : "memory"));
}
/// The same shared variable in the block of that rank of the cluster.
template <class T>
GPU_DEV T* cluster_map(T* p, std::uint32_t rank) {
  std::uint64_t mapped = 0;
  SUBPIX_HOPPER(asm("mapa.u64 %0, %1, %2;" : "=l"(mapped) : "l"(p), "r"(rank)));
  return reinterpret_cast<T*>(mapped);
}

// --- cp.async ------------------------------------------------------------------------------------

/// Bytes: 4, 8 or 16, both addresses so aligned. valid = false writes zeros and reads nothing.
template <int Bytes>
GPU_DEV void cp_async(void* dst, const void* src, bool valid = true) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  const int n = valid ? Bytes : 0;
  if constexpr (Bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem_addr(dst)), "l"(src),
                 "r"(n)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(smem_addr(dst)), "l"(src),
                 "r"(n), "n"(Bytes)
                 : "memory");
}
GPU_DEV void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most N of this thread's groups are unfinished.
template <int N>
GPU_DEV void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// --- mbarrier ------------------------------------------------------------------------------------

using MBar = std::uint64_t;

GPU_DEV void mbar_init(MBar* bar, int arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(smem_addr(bar)), "r"(arrivals)
               : "memory");
}
GPU_DEV void mbar_arrive(MBar* bar) {
  asm volatile(
      "{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(smem_addr(bar))
      : "memory");
}
/// Arrives and announces `bytes` of bulk copies for this phase.
GPU_DEV void mbar_arrive_tx(MBar* bar, int bytes) {
  SUBPIX_HOPPER(asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(smem_addr(bar)), "r"(bytes)
      : "memory"));
}
/// Waits until the phase of that parity (0 for the first) is complete.
GPU_DEV void mbar_wait(MBar* bar, std::uint32_t parity) {
  SUBPIX_HOPPER({
    std::uint32_t done;
    do {
      asm volatile(
          "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
          "selp.u32 %0, 1, 0, p;\n}"
          : "=r"(done)
          : "r"(smem_addr(bar)), "r"(parity)
          : "memory");
    } while (!done);
  });
}
/// Makes initialised mbarriers visible to the other blocks of a cluster and to bulk copies.
GPU_DEV void fence_mbar_init() {
  SUBPIX_HOPPER(asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"));
}
/// Orders this thread's ordinary shared-memory accesses before asynchronous ones (TMA, wgmma).
GPU_DEV void fence_proxy_async() {
  SUBPIX_HOPPER(asm volatile("fence.proxy.async.shared::cta;" ::: "memory"));
}

// --- bulk copies and TMA -------------------------------------------------------------------------

struct alignas(128) TmaMap {
  CUtensorMap map;
};
namespace detail {
inline CUtensorMapDataType native(TmaElement e) {
  return e == TmaElement::F32    ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32
         : e == TmaElement::BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                 : CU_TENSOR_MAP_DATA_TYPE_UINT8;
}
inline CUtensorMapSwizzle native(Swizzle s) {
  return s == Swizzle::None  ? CU_TENSOR_MAP_SWIZZLE_NONE
         : s == Swizzle::B32 ? CU_TENSOR_MAP_SWIZZLE_32B
         : s == Swizzle::B64 ? CU_TENSOR_MAP_SWIZZLE_64B
                             : CU_TENSOR_MAP_SWIZZLE_128B;
}
}  // namespace detail

/// `bytes` (a multiple of 16) from global memory; counts them down on `bar`.
GPU_DEV void bulk_load(void* dst, const void* src, int bytes, MBar* bar) {
  SUBPIX_HOPPER(asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(smem_addr(dst)),
      "l"(src), "r"(bytes), "r"(smem_addr(bar))
      : "memory"));
}

// One box of a tensor, its corner at the coordinates (innermost first); dst 128-byte aligned (1024
// where swizzled), the box's bytes are counted down on `bar`.
#define SUBPIX_TMA_LOAD(rank, coordinates, ...)                                                  \
  SUBPIX_HOPPER(asm volatile("cp.async.bulk.tensor." #rank                                       \
                             "d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], " \
                             "[%1, {" coordinates "}], [%2];" ::"r"(smem_addr(dst)),             \
                             "l"(map), "r"(smem_addr(bar)), __VA_ARGS__                          \
                             : "memory"))
GPU_DEV void tma_load_1d(void* dst, const TmaMap* map, MBar* bar, int c0) {
  SUBPIX_TMA_LOAD(1, "%3", "r"(c0));
}
GPU_DEV void tma_load_2d(void* dst, const TmaMap* map, MBar* bar, int c0, int c1) {
  SUBPIX_TMA_LOAD(2, "%3, %4", "r"(c0), "r"(c1));
}
GPU_DEV void tma_load_3d(void* dst, const TmaMap* map, MBar* bar, int c0, int c1, int c2) {
  SUBPIX_TMA_LOAD(3, "%3, %4, %5", "r"(c0), "r"(c1), "r"(c2));
}
GPU_DEV void tma_load_4d(void* dst, const TmaMap* map, MBar* bar, int c0, int c1, int c2, int c3) {
  SUBPIX_TMA_LOAD(4, "%3, %4, %5, %6", "r"(c0), "r"(c1), "r"(c2), "r"(c3));
}
GPU_DEV void tma_load_5d(void* dst, const TmaMap* map, MBar* bar, int c0, int c1, int c2, int c3,
                         int c4) {
  SUBPIX_TMA_LOAD(5, "%3, %4, %5, %6, %7", "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4));
}
#undef SUBPIX_TMA_LOAD

/// im2col rows of an NHWC tensor: the window's corner starts at (n, h, w), the tap is the offset.
GPU_DEV void tma_load_im2col(void* dst, const TmaMap* map, MBar* bar, int c, int w, int h, int n,
                             std::uint16_t offset_w, std::uint16_t offset_h) {
  SUBPIX_HOPPER(asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%3, %4, %5, %6}], [%2], {%7, %8};" ::"r"(smem_addr(dst)),
      "l"(map), "r"(smem_addr(bar)), "r"(c), "r"(w), "r"(h), "r"(n), "h"(offset_w), "h"(offset_h)
      : "memory"));
}

// A box from shared memory to global memory; elements outside the tensor are dropped. The source
// stays untouched until bulk_wait.
#define SUBPIX_TMA_STORE(rank, coordinates, ...)                                       \
  SUBPIX_HOPPER(asm volatile("cp.async.bulk.tensor." #rank                             \
                             "d.global.shared::cta.tile.bulk_group [%0, {" coordinates \
                             "}], [%1];" ::"l"(map),                                   \
                             "r"(smem_addr(src)), __VA_ARGS__                          \
                             : "memory"))
GPU_DEV void tma_store_1d(const TmaMap* map, const void* src, int c0) {
  SUBPIX_TMA_STORE(1, "%2", "r"(c0));
}
GPU_DEV void tma_store_2d(const TmaMap* map, const void* src, int c0, int c1) {
  SUBPIX_TMA_STORE(2, "%2, %3", "r"(c0), "r"(c1));
}
GPU_DEV void tma_store_3d(const TmaMap* map, const void* src, int c0, int c1, int c2) {
  SUBPIX_TMA_STORE(3, "%2, %3, %4", "r"(c0), "r"(c1), "r"(c2));
}
GPU_DEV void tma_store_4d(const TmaMap* map, const void* src, int c0, int c1, int c2, int c3) {
  SUBPIX_TMA_STORE(4, "%2, %3, %4, %5", "r"(c0), "r"(c1), "r"(c2), "r"(c3));
}
GPU_DEV void tma_store_5d(const TmaMap* map, const void* src, int c0, int c1, int c2, int c3,
                          int c4) {
  SUBPIX_TMA_STORE(5, "%2, %3, %4, %5, %6", "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4));
}
#undef SUBPIX_TMA_STORE

GPU_DEV void bulk_commit() {
  SUBPIX_HOPPER(asm volatile("cp.async.bulk.commit_group;" ::: "memory"));
}
/// Waits until at most N of this thread's store groups are unfinished.
template <int N>
GPU_DEV void bulk_wait() {
  SUBPIX_HOPPER(asm volatile("cp.async.bulk.wait_group %0;" ::"n"(N) : "memory"));
}

// --- ldmatrix, mma.sync --------------------------------------------------------------------------

/// Four 8x8 matrices of 16-bit values; lane i names row i % 8 of matrix i / 8 (16 bytes, aligned).
GPU_DEV void ldmatrix_x4(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(smem_addr(row))
               : "memory");
}
GPU_DEV void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(smem_addr(row))
               : "memory");
}
/// d += a * b, m16n8k16.
GPU_DEV void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/// d += a * b, m16n8k8; operands are fp32 bits of which the tensor core ignores the low 13.
GPU_DEV void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/// M x N of them: one rendezvous of the warp under the simulator instead of M*N.
template <int M, int N>
GPU_DEV void mma_tile_bf16(float (&d)[M][N][4], const std::uint32_t (&a)[M][4],
                           const std::uint32_t (&b)[N][2]) {
#pragma unroll
  for (int i = 0; i < M; ++i)
#pragma unroll
    for (int j = 0; j < N; ++j) mma_bf16(d[i][j], a[i], b[j]);
}
template <int M, int N>
GPU_DEV void mma_tile_tf32(float (&d)[M][N][4], const std::uint32_t (&a)[M][4],
                           const std::uint32_t (&b)[N][2]) {
#pragma unroll
  for (int i = 0; i < M; ++i)
#pragma unroll
    for (int j = 0; j < N; ++j) mma_tf32(d[i][j], a[i], b[j]);
}

// --- wgmma ---------------------------------------------------------------------------------------

/// Needed before the first wgmma and whenever the accumulators were touched since the last wait.
GPU_DEV void wgmma_fence() {
  SUBPIX_HOPPER(asm volatile("wgmma.fence.sync.aligned;" ::: "memory"));
}
GPU_DEV void wgmma_commit() {
  SUBPIX_HOPPER(asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"));
}
/// Waits until at most N groups are unfinished; d is one of the accumulators (call once for each).
template <int N, int Registers>
GPU_DEV void wgmma_wait(float (&d)[Registers]) {
  SUBPIX_HOPPER(asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"));
#pragma unroll
  for (int i = 0; i < Registers; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

namespace detail {
template <int N>
struct Wgmma {
  static_assert(N < 0, "this width is not in tools/generate_wgmma.py: add it there");
};
#include "kernels/cuda/gpu/wgmma.inc"
}  // namespace detail

/// D[64 x N] = A[64 x 16] * B[N x 16]^T (+ D where accumulate), bf16 operands in shared memory by
/// descriptor. TransposeA/B = 1: that operand is MN-major. Thread t of the warpgroup holds rows
/// t/32*16 + t%32/4 (+8), columns j*8 + t%4*2 (+1) in d[j*4 + 2*(upper row) + (odd column)].
template <int N, int TransposeA = 0, int TransposeB = 0>
GPU_DEV void wgmma_bf16(float (&d)[N / 2], std::uint64_t a, std::uint64_t b, bool accumulate) {
  SUBPIX_HOPPER(
      (detail::Wgmma<N>::template shared<TransposeA, TransposeB>(d, a, b, accumulate ? 1 : 0)));
}
/// The same with A in registers, in mma_bf16's layout: warp w of the warpgroup holds rows 16w to
/// 16w+15.
template <int N, int TransposeB = 0>
GPU_DEV void wgmma_bf16_rs(float (&d)[N / 2], const std::uint32_t (&a)[4], std::uint64_t b,
                           bool accumulate) {
  SUBPIX_HOPPER((detail::Wgmma<N>::template registers<TransposeB>(d, a, b, accumulate ? 1 : 0)));
}

/// Hands registers between the warpgroups of a warp-specialised kernel.
template <int N>
GPU_DEV void setmaxnreg_inc() {
  SUBPIX_HOPPER(asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)));
}
template <int N>
GPU_DEV void setmaxnreg_dec() {
  SUBPIX_HOPPER(asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)));
}

}  // namespace KERNEL_TARGET
}  // namespace subpix::gpu
