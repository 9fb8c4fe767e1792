#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/api/types.h"

/// Kernels that exercise each primitive of gpu.cuh, as host functions that queue them. All pointers
/// are device pointers; `stream` null is the default stream. Where a Bug can be named, the kernel
/// is built a second time with that defect planted; the line meant is marked in the source.
#ifndef KERNEL_TARGET
#define KERNEL_TARGET sim
#endif

namespace subpix::kernels::KERNEL_TARGET {

// --- host.cu: gpu/host.cuh for files that do not know CUDA ---------------------------------------
void* device_allocate(std::size_t bytes, void* stream = nullptr);
void device_release(void* data, void* stream = nullptr);
void to_device(void* device, const void* host, std::size_t bytes, void* stream = nullptr);
void to_host(void* host, const void* device, std::size_t bytes, void* stream = nullptr);
void to_host_async(void* host, const void* device, std::size_t bytes, void* stream);
void device_copy(void* to, const void* from, std::size_t bytes, void* stream = nullptr);
void device_fill(void* device, int value, std::size_t bytes, void* stream = nullptr);
void* make_stream();
void drop_stream(void* stream);
void wait_for(void* stream = nullptr);
void wait_for_device();
void* make_event();
void drop_event(void* event);
void record_event(void* event, void* stream);
void wait_event(void* stream, void* event);
void wait_for_event(void* event);
void capture_begin(void* stream);
void* capture_end(void* stream);
void graph_launch(void* graph, void* stream);
void graph_drop(void* graph);

enum class Bug {
  None,
  MissingSync,        // a __syncthreads left out
  MissingWait,        // an asynchronous copy or product is used before its wait
  OutOfBounds,        // one row past the image
  WrongSwizzle,       // the reader's swizzle differs from the writer's
  NoSwizzle,          // neither swizzles: right numbers, bank conflicts
  MissingInitSync,    // an mbarrier is used before its initialisation is visible
  EmptyNotAwaited,    // the producer overwrites a stage without waiting
  FullNotAwaited,     // the consumer reads a stage without waiting
  TooFewBytes,        // fewer bytes announced than copied
  ReleasedEarly,      // a stage is handed back while wgmma reads it
  MissingProxyFence,  // ordinary stores, then an asynchronous read
  EarlyProxyFence,    // the fence between cp.async and its wait does not cover the copy
  MissingStoreWait,   // the thread leaves while its bulk store reads shared memory
  MissingClusterSync,
  NotCooperative,  // own grid barrier without co-residency
  MissingFence,    // __threadfence left out
};

// --- threads.cu ----------------------------------------------------------------------------------
/// out[0] += sum of x [n].
void block_sum(Bug bug, const float* x, int n, float* out, int blocks, void* stream = nullptr);
/// out [3*blocks][24] = block and thread coordinates of a 3-d launch.
void coordinates(int* out, void* stream = nullptr);
/// x [64]; out [7][64]: inclusive scan, sums of 16 by shfl_down, by half-warp masks, broadcast,
/// votes.
void warp_functions(const float* x, float* out, void* stream = nullptr);
/// out [5]: sum, maximum, minimum, number of exchanges that saw 7, sum by compare-and-swap.
void atomics(int* out, void* stream = nullptr);
/// Two warps hand 32 values to two others `rounds` times through named barriers: out [rounds][64].
void named_barriers(int rounds, float* out, void* stream = nullptr);
/// The last of `blocks` blocks adds up everyone's partial sums of x [blocks*64]. scratch [blocks +
/// 1] words, the last one zero.
void last_block_sum(Bug bug, const float* x, float* scratch, float* out, int blocks,
                    void* stream = nullptr);
/// y = x * factor + shift; each thread one element.
void scale_shift(const float* x, float* y, int n, float factor, float shift,
                 void* stream = nullptr);
/// out [6] of x [2]: builtin mathematics.
void mathematics(const float* x, float* out, void* stream = nullptr);
/// y[i] = x[i] for bytes and for bf16, neighbours written by different threads.
void copy_bytes(const std::uint8_t* x, std::uint8_t* y, const bf16* a, bf16* b, int n,
                void* stream = nullptr);

// --- conv_fp32.cu --------------------------------------------------------------------------------
/// 3x3, pad 1, NHWC: x [n][h][w][c], w [9][c][k], y [n][h][w][k]; c a multiple of 16, k of 64.
void conv_fp32(Bug bug, const float* x, const float* w, const float* bias, float* y, int n, int h,
               int wd, int c, int k, void* stream = nullptr);

// --- conv_mma.cu ---------------------------------------------------------------------------------
/// The same for 64 channels in bf16; w [9][64 cout][64 cin].
void conv_mma(Bug bug, const bf16* x, const bf16* w, bf16* y, int n, int h, int wd,
              void* stream = nullptr);
/// One warp: d [16][8] = a [16][8] * b [8][8].
void product_tf32(const float* a, const float* b, float* d, void* stream = nullptr);
/// One warp: d [32][16] = a [32][16] * b [16][16]^T in tiles.
void product_tiles(const bf16* a, const bf16* b, float* d, void* stream = nullptr);
/// out [128] = x [128], through 4-, 8- and 16-byte copies; elements from `valid` on become zero.
void small_copies(const float* x, float* out, int valid, void* stream = nullptr);

// --- hopper.cu -----------------------------------------------------------------------------------
/// d [m][64] = a [m][k] * b [64][k]^T: TMA, mbarriers, a producer warp and a wgmma warpgroup.
void gemm_wgmma(Bug bug, const bf16* a, const bf16* b, float* d, int m, int k,
                void* stream = nullptr);
/// conv_mma's convolution through TMA im2col, fp32 result; w [64 cout][9*64].
void conv_im2col(const bf16* x, const bf16* w, float* y, int n, int h, int wd,
                 void* stream = nullptr);
/// Fills each 32x32 tile of a [32][32*blocks] tensor with its thread numbers + add, by TMA stores.
void tma_store_tiles(Bug bug, float* y, float add, int blocks, void* stream = nullptr);
/// Copies the box at `corner` of a tensor of `rank` dims to out through shared memory, by TMA load
/// and TMA store into y (same shape as x). element: 1, 2 or 4 bytes; swizzle: 0, 32, 64, 128.
struct TmaBox {
  int rank;
  int dims[5], box[5], corner[5];
  int element, swizzle;
};
void tma_round_trip(const TmaBox& b, const void* x, void* out, void* y, void* stream = nullptr);
/// out [n] = x [n] by a bulk copy; n a multiple of 4.
void bulk_copy(const float* x, float* out, int n, void* stream = nullptr);

// --- planes.cu -----------------------------------------------------------------------------------
/// 3x3 convolution of 64 channels on images of width 24, the patch in planes of 8 channels; w
/// [9][8 cin/8][64 cout][8]; fp32 result.
void strip_forward(Bug bug, const bf16* x, const bf16* w, float* y, int n, int h,
                   void* stream = nullptr);
/// Its weight gradient, one image at a time: dw [n][9][64 cout][64 cin].
void strip_backward_filter(const bf16* x, const bf16* dy, float* dw, int n, int h,
                           void* stream = nullptr);

// --- wgmma.cu ------------------------------------------------------------------------------------
/// d [64][n] (+)= a [64][64] * b [n][64]^T, a and b laid out in shared memory as asked.
struct WgmmaLayout {
  int n = 64;
  int swizzle = 128;  ///< bytes: 0, 32, 64, 128
  bool mn_major_a = false, mn_major_b = false;
  bool a_registers = false;
};
/// Which n are built: all of tools/generate_wgmma.py for the K-major form with swizzle 128.
bool wgmma_supported(const WgmmaLayout& layout);
void wgmma_product(const WgmmaLayout& layout, const bf16* a, const bf16* b, float* d,
                   bool accumulate, void* stream = nullptr);
/// Two accumulators, groups left pending: d [2][64][64] = a * b^T and a * a^T, a and b [64][64].
void wgmma_groups(const bf16* a, const bf16* b, float* d, void* stream = nullptr);

// --- cluster.cu ----------------------------------------------------------------------------------
/// out[i] = sum of x [4*64] of cluster i, gathered by its first block.
void cluster_sum(Bug bug, const float* x, float* out, int clusters, void* stream = nullptr);
/// y = reverse of (x + 1), in two phases of a cooperative grid: grid_sync, or an own counter
/// (zeroed).
void reverse_cooperative(float* x, float* y, int n, void* stream = nullptr);
void reverse_counter(Bug bug, float* x, float* y, std::uint32_t* counter, int n,
                     void* stream = nullptr);

// --- bugs.cu: small kernels with one defect each; out [64] ---------------------------------------
void run_bug(const char* name, float* out, void* stream = nullptr);

}  // namespace subpix::kernels::KERNEL_TARGET
