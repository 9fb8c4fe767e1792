#pragma once

/// The one include of every kernel source, and the only folder that knows which compiler is at
/// work.
///
/// A kernel source (kernels/cuda/*.cu) is compiled twice: by nvcc for GPUs, and by the host
/// compiler against the simulator in kernels/sim, which runs it on the CPU and watches it
/// (docs/simulator.md). Everything sits in `namespace subpix::kernels::KERNEL_TARGET`, which is
/// `cuda` or `sim`, so that both can live in one program.
///
///   gpu/gpu.cuh        this file: picks the side, plus helpers that are plain C++ on both
///   gpu/launch.cuh     LaunchCfg and gpu::launch(); the host side of a launch
///   gpu/host.cuh       memory, copies, streams, events, graphs
///   gpu/tma_map.cuh    descriptions of tensors for TMA and their documented limits
///   gpu/ptx.cuh        nvcc: every line of inline PTX of the project (wgmma.inc is generated)
///   ../../sim/sim.cuh  host compiler: the same names, executed by fibers
///
/// Rules for kernel sources, each checked by a test or by the compiler:
///   1. Include this file, headers of kernels/cuda and of kernels/api; no asm, no <<<>>>, no CUDA
///   header.
///   2. Shared memory is one struct: `auto& s = gpu::smem<S>();`, launched with smem = sizeof(S).
///   3. Launch only through gpu::launch(kernel, cfg, args...). Parameters are trivially copyable.
///   4. No lockstep assumptions; masks are exact; no thread leaves before a barrier that counts it.
///   5. No spinning on memory: gpu::wait_acquire_ge in a cooperative launch.
///   6. bf16 values travel in memory as subpix::bf16; pairs are moved as uint32_t or uint4.
///   7. No __CUDACC__, __CUDA_ARCH__ or other compiler switches outside this folder: otherwise the
///      tested code is not the shipped code.
///
/// What a kernel may use (docs/simulator.md lists the exact semantics):
// clang-format off: a table
///   CUDA's own  threadIdx blockIdx blockDim gridDim, __syncthreads, __syncwarp, __shfl_sync,
///               __shfl_up_sync, __shfl_down_sync, __shfl_xor_sync, __ballot_sync, __any_sync,
///               __all_sync, __threadfence, atomicAdd/Max/Min/Exch/CAS, __ldg, __popc, __ffs,
///               __clz,
///               __umulhi, __float_as_int and relatives, __fadd_rn/__fmul_rn/__fmaf_rn, __expf,
///               rsqrtf, sincospif, min, max, the functions of math.h, float2/4, int2/4, uint2/4
///               and their make_ functions
///   memory      smem<T>, smem_addr, to_float, to_bf16, pack_bf16, unpack_bf16
///   barriers    named_bar_sync/arrive, grid_sync (grid.cuh), cluster_sync/rank/map,
///               red_release_add, wait_acquire_ge
///   cp.async    cp_async<Bytes>, cp_async_commit, cp_async_wait<N>
///   mbarrier    MBar, mbar_init/arrive/arrive_tx/wait, fence_mbar_init, fence_proxy_async
///   bulk, TMA   bulk_load, tma_load_1d..5d, tma_load_im2col, tma_store_1d..5d, bulk_commit,
///               bulk_wait<N>
///   tensor      ldmatrix_x4[_trans], mma_bf16, mma_tf32, mma_tile_bf16, mma_tile_tf32
///   wgmma       wgmma_fence, wgmma_bf16<N,TA,TB>, wgmma_bf16_rs<N,TB>, wgmma_commit,
///               wgmma_wait<N>(acc), desc_plain, desc_swizzled, desc_sw128, swz128,
///               setmaxnreg_inc/dec<N>
///   other       lane_id
// clang-format on
/// The simulator refuses the rest by name; a primitive is added there together with its first user.

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/api/error.h"
#include "kernels/api/types.h"

#if defined(__CUDACC__)
#ifndef KERNEL_TARGET
#define KERNEL_TARGET cuda
#endif
#define GPU_FN __host__ __device__ __forceinline__  // host and device
#define GPU_DEV __device__ __forceinline__          // device only
#include <cuda.h>                                   // CUtensorMap
#include <cuda_runtime.h>
#else
#ifndef KERNEL_TARGET
#define KERNEL_TARGET sim
#endif
#define GPU_FN inline
#define GPU_DEV inline
#include "kernels/sim/keywords.cuh"
#endif

#define SUBPIX_TEXT_OF(x) #x
#define SUBPIX_TEXT(x) SUBPIX_TEXT_OF(x)

namespace subpix::gpu {
inline namespace KERNEL_TARGET {

/// "cuda" or "sim".
inline constexpr const char* kBackend = SUBPIX_TEXT(KERNEL_TARGET);

template <class A, class B>
GPU_FN constexpr std::common_type_t<A, B> cdiv(A a, B b) {
  return (a + b - 1) / b;
}

/// Byte offset of 16-byte chunk `chunk` (0..7) of 128-byte row `row` in the 128-byte swizzle of TMA
/// and wgmma: the chunk index is xored with the row modulo 8. The buffer is 1024-byte aligned.
GPU_FN constexpr int swz128(int row, int chunk) { return row * 128 + ((chunk ^ (row & 7)) << 4); }

/// How TMA and wgmma permute 16-byte chunks: None, or within rows of 32, 64 or 128 bytes.
enum class Swizzle : std::uint8_t { None, B32, B64, B128 };

/// A wgmma shared-memory descriptor (PTX ISA, "Matrix-descriptor format"). addr: gpu::smem_addr of
/// the operand; lbo, sbo: leading and stride byte offsets, multiples of 16 below 2^18.
GPU_FN constexpr std::uint64_t desc_swizzled(std::uint32_t addr, std::uint32_t lbo,
                                             std::uint32_t sbo, Swizzle swizzle) {
  const std::uint64_t code = swizzle == Swizzle::None   ? 0
                             : swizzle == Swizzle::B128 ? 1
                             : swizzle == Swizzle::B64  ? 2
                                                        : 3;
  return ((addr & 0x3FFFFu) >> 4) | std::uint64_t{(lbo & 0x3FFFFu) >> 4} << 16 |
         std::uint64_t{(sbo & 0x3FFFFu) >> 4} << 32 | code << 62;
}
/// 128-byte swizzle, groups of 8 rows 1024 bytes apart: K-major tiles of 64 bf16 a row, or MN-major
/// tiles of 64 bf16 a row with the next 8 of K 1024 bytes further.
GPU_FN constexpr std::uint64_t desc_sw128(std::uint32_t addr) {
  return desc_swizzled(addr, 16, 1024, Swizzle::B128);
}
/// No swizzle: core matrices of 8 x 16 bytes, contiguous. K-major: the next 8 of K lie lbo further,
/// the next 8 rows sbo. MN-major: the next 8 of K lie lbo further, the next 8 of MN sbo.
GPU_FN constexpr std::uint64_t desc_plain(std::uint32_t addr, std::uint32_t lbo,
                                          std::uint32_t sbo) {
  return desc_swizzled(addr, lbo, sbo, Swizzle::None);
}

}  // namespace KERNEL_TARGET
}  // namespace subpix::gpu

// Each of the following takes its side by __CUDACC__.
#include "kernels/cuda/gpu/tma_map.cuh"
#if defined(__CUDACC__)
#include "kernels/cuda/gpu/ptx.cuh"
#else
#include "kernels/sim/sim.cuh"
#endif
#include "kernels/cuda/gpu/host.cuh"
#include "kernels/cuda/gpu/launch.cuh"
