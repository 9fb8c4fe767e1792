#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/sim/types.cuh"

/// What kernel code calls: one function for each modelled primitive. sim.cuh gives them CUDA's and
/// the project's names. All but fail() may only be called by a simulated thread.
namespace subpix::sim {

/// A line of a kernel source. As the default of a parameter it is the caller's line.
struct Where {
  const char* file = "";
  int line = 0;
  static constexpr Where here(const char* f = __builtin_FILE(), int l = __builtin_LINE()) {
    return {f, l};
  }
};
#define SUBPIX_WHERE ::subpix::sim::Where where = ::subpix::sim::Where::here()

/// Ends the launch: the call that waits for it throws Error with this message, the line and the
/// thread.
[[noreturn]] void fail(const std::string& message, Where where);

[[noreturn]] void fail_assertion(const char* condition, Where where);

// Constant while a thread runs, so the compiler may keep the results; out of line, so that the
// reads of the simulator's own data are not instrumented.
[[gnu::const]] uint3 thread_index() noexcept;
[[gnu::const]] uint3 block_index() noexcept;
[[gnu::const]] dim3 block_dim() noexcept;
[[gnu::const]] dim3 grid_dim() noexcept;
[[gnu::const]] std::uint32_t lane() noexcept;

void* shared_memory(std::size_t bytes, std::size_t alignment, Where where);
std::uint32_t shared_address(const void* p, Where where);

// --- barriers (barrier.cpp) ----------------------------------------------------------------------
void block_barrier(Where where);
void named_barrier(int id, int count, bool wait, Where where);
void grid_barrier(Where where);
void cluster_barrier(Where where);
std::uint32_t cluster_rank(Where where);
void* cluster_map(void* p, std::uint32_t rank, Where where);
void release_add(std::uint32_t* p, std::uint32_t value, Where where);
void wait_acquire_ge(const std::uint32_t* p, std::uint32_t value, Where where);

// --- warp collectives (warp.cpp) -----------------------------------------------------------------
enum class Shuffle : std::uint8_t { Index, Up, Down, Xor };
void warp_barrier(std::uint32_t mask, Where where);
std::uint64_t shuffle(std::uint32_t mask, std::uint64_t value, Shuffle kind, int argument,
                      int width, Where where);
std::uint32_t ballot(std::uint32_t mask, bool predicate, Where where);

// --- memory order (race.cpp) ---------------------------------------------------------------------
/// Called before the read-modify-write itself.
void atomic_access(const void* p, std::uint32_t bytes, Where where);
void thread_fence();
void fence_proxy_async();

// --- asynchronous copies (copy.cpp, mbarrier.cpp, tma.cpp) ---------------------------------------
void cp_async(void* dst, const void* src, int bytes, bool valid, Where where);
void cp_async_commit();
void cp_async_wait(int pending, Where where);

void mbarrier_init(std::uint64_t* bar, int arrivals, Where where);
void mbarrier_arrive(std::uint64_t* bar, int expect_bytes, Where where);
void mbarrier_wait(std::uint64_t* bar, std::uint32_t parity, Where where);

/// The simulator's TMA descriptor; gpu/tma_map.cuh explains the fields.
struct TensorMap {
  const unsigned char* base = nullptr;
  std::uint32_t element_size = 0, swizzle_bytes = 0;
  int rank = 0;
  bool im2col = false;
  std::int64_t dims[5] = {}, strides[5] = {};  ///< strides in bytes; strides[0] is the element
  int box[5] = {1, 1, 1, 1, 1};                ///< im2col: box[0] channels, box[1] pixels
  int lower[2] = {}, upper[2] = {};            ///< im2col corners of w and h
};
void bulk_load(void* dst, const void* src, int bytes, std::uint64_t* bar, Where where);
void tma_load(void* dst, const TensorMap& map, std::uint64_t* bar, const int* corner, int corners,
              Where where);
void tma_load_im2col(void* dst, const TensorMap& map, std::uint64_t* bar, const int* corner,
                     int offset_w, int offset_h, Where where);
void tma_store(const TensorMap& map, const void* src, const int* corner, int corners, Where where);
void bulk_commit();
void bulk_wait(int pending, Where where);

// --- tensor cores (tensor.cpp, wgmma.cpp) --------------------------------------------------------
void ldmatrix_x4(std::uint32_t* r, const void* row, bool transposed, Where where);
enum class Mma : std::uint8_t { Bf16, Tf32 };
/// m x n tiles: d [m][n][4], a [m][4], b [n][2].
void mma(Mma kind, float* d, const std::uint32_t* a, const std::uint32_t* b, int m, int n,
         Where where);
void wgmma_fence();
/// a_registers [4], or null with A described by `a`.
void wgmma(float* d, int n, std::uint64_t a, std::uint64_t b, bool transpose_a, bool transpose_b,
           const std::uint32_t* a_registers, bool accumulate, Where where);
void wgmma_commit();
void wgmma_wait(int pending, Where where);

}  // namespace subpix::sim
