#pragma once

// Included by gpu.cuh under the host compiler: CUDA's built-in functions and the twins of ptx.cuh,
// which documents them. Each call carries its source line into the simulator (entry.h).

#define SUBPIX_INLINE inline __attribute__((always_inline))

// --- CUDA's built-in functions -------------------------------------------------------------------

SUBPIX_INLINE void __syncthreads(SUBPIX_WHERE) { ::subpix::sim::block_barrier(where); }
SUBPIX_INLINE void __syncwarp(std::uint32_t mask = ~0u, SUBPIX_WHERE) {
  ::subpix::sim::warp_barrier(mask, where);
}
SUBPIX_INLINE void __threadfence() { ::subpix::sim::thread_fence(); }

namespace subpix::sim {
template <class T>
SUBPIX_INLINE std::uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <class T>
SUBPIX_INLINE T from_bits(std::uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
}  // namespace subpix::sim

#define SUBPIX_SHUFFLE(name, kind, argument)                                                       \
  template <class T>                                                                               \
  SUBPIX_INLINE T name(std::uint32_t mask, T value, int argument, int width = 32, SUBPIX_WHERE) {  \
    return ::subpix::sim::from_bits<T>(::subpix::sim::shuffle(mask, ::subpix::sim::to_bits(value), \
                                                              ::subpix::sim::Shuffle::kind,        \
                                                              argument, width, where));            \
  }
SUBPIX_SHUFFLE(__shfl_sync, Index, source)
SUBPIX_SHUFFLE(__shfl_up_sync, Up, delta)
SUBPIX_SHUFFLE(__shfl_down_sync, Down, delta)
SUBPIX_SHUFFLE(__shfl_xor_sync, Xor, lane_mask)
#undef SUBPIX_SHUFFLE

SUBPIX_INLINE std::uint32_t __ballot_sync(std::uint32_t mask, bool p, SUBPIX_WHERE) {
  return ::subpix::sim::ballot(mask, p, where);
}
SUBPIX_INLINE bool __any_sync(std::uint32_t mask, bool p, SUBPIX_WHERE) {
  return ::subpix::sim::ballot(mask, p, where) != 0;
}
SUBPIX_INLINE bool __all_sync(std::uint32_t mask, bool p, SUBPIX_WHERE) {
  return ::subpix::sim::ballot(mask, p, where) == mask;
}

template <class T>
SUBPIX_INLINE T __ldg(const T* p) {
  return *p;
}
SUBPIX_INLINE int __popc(std::uint32_t x) { return __builtin_popcount(x); }
SUBPIX_INLINE int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
SUBPIX_INLINE int __ffs(int x) { return __builtin_ffs(x); }
SUBPIX_INLINE std::uint32_t __umulhi(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::uint32_t>((std::uint64_t{a} * b) >> 32);
}
SUBPIX_INLINE int __float_as_int(float v) { return __builtin_bit_cast(int, v); }
SUBPIX_INLINE std::uint32_t __float_as_uint(float v) {
  return __builtin_bit_cast(std::uint32_t, v);
}
SUBPIX_INLINE float __int_as_float(int v) { return __builtin_bit_cast(float, v); }
SUBPIX_INLINE float __uint_as_float(std::uint32_t v) { return __builtin_bit_cast(float, v); }
// Rounded on their own: nvcc never contracts these into a fused multiply-add, and the simulator's
// flavours are compiled without contraction.
SUBPIX_INLINE float __fadd_rn(float a, float b) { return a + b; }
SUBPIX_INLINE float __fsub_rn(float a, float b) { return a - b; }
SUBPIX_INLINE float __fmul_rn(float a, float b) { return a * b; }
SUBPIX_INLINE float __fdiv_rn(float a, float b) { return a / b; }
SUBPIX_INLINE float __fsqrt_rn(float a) { return std::sqrt(a); }
SUBPIX_INLINE float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
SUBPIX_INLINE float __expf(float x) { return std::exp(x); }
SUBPIX_INLINE float __logf(float x) { return std::log(x); }
SUBPIX_INLINE float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
/// sin(pi x) and cos(pi x), rounded once; x is small enough for pi x to be accurate in double.
SUBPIX_INLINE void sincospif(float x, float* sine, float* cosine) {
  const double angle = 3.14159265358979323846 * static_cast<double>(x);
  *sine = static_cast<float>(std::sin(angle));
  *cosine = static_cast<float>(std::cos(angle));
}

#define SUBPIX_MIN_MAX(type)                                                 \
  SUBPIX_INLINE constexpr type min(type a, type b) { return b < a ? b : a; } \
  SUBPIX_INLINE constexpr type max(type a, type b) { return a < b ? b : a; }
SUBPIX_MIN_MAX(int)
SUBPIX_MIN_MAX(unsigned)
SUBPIX_MIN_MAX(long)
SUBPIX_MIN_MAX(unsigned long)
SUBPIX_MIN_MAX(long long)
SUBPIX_MIN_MAX(unsigned long long)
#undef SUBPIX_MIN_MAX
// As in CUDA, min and max of floating-point numbers pass over a NaN.
SUBPIX_INLINE float min(float a, float b) { return std::fmin(a, b); }
SUBPIX_INLINE float max(float a, float b) { return std::fmax(a, b); }
SUBPIX_INLINE double min(double a, double b) { return std::fmin(a, b); }
SUBPIX_INLINE double max(double a, double b) { return std::fmax(a, b); }

namespace subpix::sim {
/// Not instrumented: atomic_access() has told the checkers already.
template <class T, class Update>
__attribute__((no_sanitize("thread"), noinline)) T read_modify_write(T* p, Update update,
                                                                     Where where) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  atomic_access(p, sizeof(T), where);
  T old;
  std::memcpy(&old, p, sizeof old);
  const T value = update(old);
  std::memcpy(p, &value, sizeof value);
  return old;
}
}  // namespace subpix::sim

template <class T>
SUBPIX_INLINE T atomicAdd(T* p, std::type_identity_t<T> v, SUBPIX_WHERE) {
  return ::subpix::sim::read_modify_write(
      p, [v](T old) { return static_cast<T>(old + v); }, where);
}
template <class T>
SUBPIX_INLINE T atomicMax(T* p, std::type_identity_t<T> v, SUBPIX_WHERE) {
  static_assert(std::is_integral_v<T>, "CUDA has no atomicMax for this type");
  return ::subpix::sim::read_modify_write(
      p, [v](T old) { return old < v ? v : old; }, where);
}
template <class T>
SUBPIX_INLINE T atomicMin(T* p, std::type_identity_t<T> v, SUBPIX_WHERE) {
  static_assert(std::is_integral_v<T>, "CUDA has no atomicMin for this type");
  return ::subpix::sim::read_modify_write(
      p, [v](T old) { return v < old ? v : old; }, where);
}
template <class T>
SUBPIX_INLINE T atomicExch(T* p, std::type_identity_t<T> v, SUBPIX_WHERE) {
  return ::subpix::sim::read_modify_write(
      p, [v](T) { return v; }, where);
}
template <class T>
SUBPIX_INLINE T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> v,
                          SUBPIX_WHERE) {
  return ::subpix::sim::read_modify_write(
      p, [expected, v](T old) { return old == expected ? v : old; }, where);
}

// Refused by name: CUDA has them, no kernel of the project uses them, so nothing models them.
namespace subpix::sim {
template <class...>
inline constexpr bool modelled = false;
}
#define SUBPIX_REFUSE(name, remedy)                                   \
  template <class... Arguments>                                       \
  int name(Arguments...) {                                            \
    static_assert(::subpix::sim::modelled<Arguments...>,              \
                  "the simulator does not model " #name ": " remedy); \
    return 0;                                                         \
  }
SUBPIX_REFUSE(__activemask, "name the lanes of a mask yourself")
SUBPIX_REFUSE(__match_any_sync, "model it in kernels/sim/warp.cpp together with its first user")
SUBPIX_REFUSE(__match_all_sync, "model it in kernels/sim/warp.cpp together with its first user")
SUBPIX_REFUSE(__reduce_add_sync, "use shuffles, or model it in kernels/sim/warp.cpp")
SUBPIX_REFUSE(__syncthreads_count, "use votes and shared memory, or model it in barrier.cpp")
SUBPIX_REFUSE(__syncthreads_and, "use votes and shared memory, or model it in barrier.cpp")
SUBPIX_REFUSE(__syncthreads_or, "use votes and shared memory, or model it in barrier.cpp")
SUBPIX_REFUSE(__threadfence_block, "use __syncthreads, __syncwarp or __threadfence")
SUBPIX_REFUSE(__threadfence_system, "kernels do not talk to the host while they run")
SUBPIX_REFUSE(__nanosleep, "use gpu::wait_acquire_ge, a raw loop would never let others run")
SUBPIX_REFUSE(clock64, "the simulator has no notion of time")
SUBPIX_REFUSE(atomicInc, "use atomicAdd, or add it to kernels/sim/sim.cuh")
SUBPIX_REFUSE(atomicDec, "use atomicAdd, or add it to kernels/sim/sim.cuh")
SUBPIX_REFUSE(atomicAnd, "add it to kernels/sim/sim.cuh together with its first user")
SUBPIX_REFUSE(atomicOr, "add it to kernels/sim/sim.cuh together with its first user")
SUBPIX_REFUSE(atomicXor, "add it to kernels/sim/sim.cuh together with its first user")
#undef SUBPIX_REFUSE

// --- the project's primitives, twins of ptx.cuh --------------------------------------------------

namespace subpix::gpu {
inline namespace KERNEL_TARGET {

template <class T>
SUBPIX_INLINE T& smem(SUBPIX_WHERE) {
  static_assert(sizeof(T) <= 227 * 1024, "a block has at most 227 KiB of shared memory");
  static_assert(alignof(T) <= 1024, "shared memory is aligned to 1024 bytes");
  return *static_cast<T*>(::subpix::sim::shared_memory(sizeof(T), alignof(T), where));
}
/// Here an offset into the block's shared memory, so that arithmetic on it is exact.
SUBPIX_INLINE std::uint32_t smem_addr(const void* p, SUBPIX_WHERE) {
  return ::subpix::sim::shared_address(p, where);
}
SUBPIX_INLINE std::uint32_t lane_id() { return ::subpix::sim::lane(); }

SUBPIX_INLINE float to_float(float v) { return v; }
SUBPIX_INLINE float to_float(bf16 v) { return ::subpix::to_float(v); }
SUBPIX_INLINE bf16 to_bf16(float v) { return ::subpix::to_bf16(v); }
SUBPIX_INLINE std::uint32_t pack_bf16(float low, float high) {
  return std::uint32_t{::subpix::to_bf16(low).bits} | std::uint32_t{::subpix::to_bf16(high).bits}
                                                          << 16;
}
SUBPIX_INLINE float2 unpack_bf16(std::uint32_t pair) {
  return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xFFFF0000u));
}

SUBPIX_INLINE void named_bar_sync(int id, int count, SUBPIX_WHERE) {
  ::subpix::sim::named_barrier(id, count, true, where);
}
SUBPIX_INLINE void named_bar_arrive(int id, int count, SUBPIX_WHERE) {
  ::subpix::sim::named_barrier(id, count, false, where);
}
SUBPIX_INLINE void grid_sync(SUBPIX_WHERE) { ::subpix::sim::grid_barrier(where); }
SUBPIX_INLINE void red_release_add(std::uint32_t* p, std::uint32_t value, SUBPIX_WHERE) {
  ::subpix::sim::release_add(p, value, where);
}
SUBPIX_INLINE void wait_acquire_ge(const std::uint32_t* p, std::uint32_t value, SUBPIX_WHERE) {
  ::subpix::sim::wait_acquire_ge(p, value, where);
}
SUBPIX_INLINE std::uint32_t cluster_rank(SUBPIX_WHERE) {
  return ::subpix::sim::cluster_rank(where);
}
SUBPIX_INLINE void cluster_sync(SUBPIX_WHERE) { ::subpix::sim::cluster_barrier(where); }
template <class T>
SUBPIX_INLINE T* cluster_map(T* p, std::uint32_t rank, SUBPIX_WHERE) {
  return static_cast<T*>(::subpix::sim::cluster_map(p, rank, where));
}

template <int Bytes>
SUBPIX_INLINE void cp_async(void* dst, const void* src, bool valid = true, SUBPIX_WHERE) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  ::subpix::sim::cp_async(dst, src, Bytes, valid, where);
}
SUBPIX_INLINE void cp_async_commit() { ::subpix::sim::cp_async_commit(); }
template <int N>
SUBPIX_INLINE void cp_async_wait(SUBPIX_WHERE) {
  ::subpix::sim::cp_async_wait(N, where);
}

using MBar = std::uint64_t;
SUBPIX_INLINE void mbar_init(MBar* bar, int arrivals, SUBPIX_WHERE) {
  ::subpix::sim::mbarrier_init(bar, arrivals, where);
}
SUBPIX_INLINE void mbar_arrive(MBar* bar, SUBPIX_WHERE) {
  ::subpix::sim::mbarrier_arrive(bar, 0, where);
}
SUBPIX_INLINE void mbar_arrive_tx(MBar* bar, int bytes, SUBPIX_WHERE) {
  ::subpix::sim::mbarrier_arrive(bar, bytes, where);
}
SUBPIX_INLINE void mbar_wait(MBar* bar, std::uint32_t parity, SUBPIX_WHERE) {
  ::subpix::sim::mbarrier_wait(bar, parity, where);
}
SUBPIX_INLINE void fence_mbar_init() {}  // the barrier after it is what the race checker asks for
SUBPIX_INLINE void fence_proxy_async() { ::subpix::sim::fence_proxy_async(); }

struct alignas(128) TmaMap {
  ::subpix::sim::TensorMap map;
};
SUBPIX_INLINE void bulk_load(void* dst, const void* src, int bytes, MBar* bar, SUBPIX_WHERE) {
  ::subpix::sim::bulk_load(dst, src, bytes, bar, where);
}
#define SUBPIX_TMA(rank, parameters, ...)                                                    \
  SUBPIX_INLINE void tma_load_##rank##d(void* dst, const TmaMap* map, MBar* bar, parameters, \
                                        SUBPIX_WHERE) {                                      \
    const int corner[] = {__VA_ARGS__};                                                      \
    ::subpix::sim::tma_load(dst, map->map, bar, corner, rank, where);                        \
  }                                                                                          \
  SUBPIX_INLINE void tma_store_##rank##d(const TmaMap* map, const void* src, parameters,     \
                                         SUBPIX_WHERE) {                                     \
    const int corner[] = {__VA_ARGS__};                                                      \
    ::subpix::sim::tma_store(map->map, src, corner, rank, where);                            \
  }
#define SUBPIX_COMMA ,
SUBPIX_TMA(1, int c0, c0)
SUBPIX_TMA(2, int c0 SUBPIX_COMMA int c1, c0, c1)
SUBPIX_TMA(3, int c0 SUBPIX_COMMA int c1 SUBPIX_COMMA int c2, c0, c1, c2)
SUBPIX_TMA(4, int c0 SUBPIX_COMMA int c1 SUBPIX_COMMA int c2 SUBPIX_COMMA int c3, c0, c1, c2, c3)
SUBPIX_TMA(5,
           int c0 SUBPIX_COMMA int c1 SUBPIX_COMMA int c2 SUBPIX_COMMA int c3 SUBPIX_COMMA int c4,
           c0, c1, c2, c3, c4)
#undef SUBPIX_COMMA
#undef SUBPIX_TMA
SUBPIX_INLINE void tma_load_im2col(void* dst, const TmaMap* map, MBar* bar, int c, int w, int h,
                                   int n, std::uint16_t offset_w, std::uint16_t offset_h,
                                   SUBPIX_WHERE) {
  const int corner[] = {c, w, h, n};
  ::subpix::sim::tma_load_im2col(dst, map->map, bar, corner, offset_w, offset_h, where);
}
SUBPIX_INLINE void bulk_commit() { ::subpix::sim::bulk_commit(); }
template <int N>
SUBPIX_INLINE void bulk_wait(SUBPIX_WHERE) {
  ::subpix::sim::bulk_wait(N, where);
}

SUBPIX_INLINE void ldmatrix_x4(std::uint32_t (&r)[4], const void* row, SUBPIX_WHERE) {
  ::subpix::sim::ldmatrix_x4(r, row, false, where);
}
SUBPIX_INLINE void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row, SUBPIX_WHERE) {
  ::subpix::sim::ldmatrix_x4(r, row, true, where);
}
SUBPIX_INLINE void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                            SUBPIX_WHERE) {
  ::subpix::sim::mma(::subpix::sim::Mma::Bf16, d, a, b, 1, 1, where);
}
SUBPIX_INLINE void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                            SUBPIX_WHERE) {
  ::subpix::sim::mma(::subpix::sim::Mma::Tf32, d, a, b, 1, 1, where);
}
template <int M, int N>
SUBPIX_INLINE void mma_tile_bf16(float (&d)[M][N][4], const std::uint32_t (&a)[M][4],
                                 const std::uint32_t (&b)[N][2], SUBPIX_WHERE) {
  ::subpix::sim::mma(::subpix::sim::Mma::Bf16, &d[0][0][0], &a[0][0], &b[0][0], M, N, where);
}
template <int M, int N>
SUBPIX_INLINE void mma_tile_tf32(float (&d)[M][N][4], const std::uint32_t (&a)[M][4],
                                 const std::uint32_t (&b)[N][2], SUBPIX_WHERE) {
  ::subpix::sim::mma(::subpix::sim::Mma::Tf32, &d[0][0][0], &a[0][0], &b[0][0], M, N, where);
}

SUBPIX_INLINE void wgmma_fence() { ::subpix::sim::wgmma_fence(); }
SUBPIX_INLINE void wgmma_commit() { ::subpix::sim::wgmma_commit(); }
template <int N, int Registers>
SUBPIX_INLINE void wgmma_wait(float (&)[Registers], SUBPIX_WHERE) {
  ::subpix::sim::wgmma_wait(N, where);
}
template <int N, int TransposeA = 0, int TransposeB = 0>
SUBPIX_INLINE void wgmma_bf16(float (&d)[N / 2], std::uint64_t a, std::uint64_t b, bool accumulate,
                              SUBPIX_WHERE) {
  static_assert(N % 8 == 0 && N >= 8 && N <= 256);
  ::subpix::sim::wgmma(d, N, a, b, TransposeA, TransposeB, nullptr, accumulate, where);
}
template <int N, int TransposeB = 0>
SUBPIX_INLINE void wgmma_bf16_rs(float (&d)[N / 2], const std::uint32_t (&a)[4], std::uint64_t b,
                                 bool accumulate, SUBPIX_WHERE) {
  static_assert(N % 8 == 0 && N >= 8 && N <= 256);
  ::subpix::sim::wgmma(d, N, 0, b, false, TransposeB, a, accumulate, where);
}
template <int N>
SUBPIX_INLINE void setmaxnreg_inc() {}
template <int N>
SUBPIX_INLINE void setmaxnreg_dec() {}

}  // namespace KERNEL_TARGET
}  // namespace subpix::gpu
