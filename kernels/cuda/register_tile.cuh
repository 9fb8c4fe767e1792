#pragma once

// The heart of the fp32 matrix products: a block keeps M x N sums in the registers of its threads
// and multiplies slices of kTileDepth of the reduction, which lie in shared memory with the
// reduction index first: a[kTileDepth][M], b[kTileDepth][N].
//
// A thread with 8 x 8 sums reads 16 values for 64 multiply-adds, all in 16-byte accesses. Its rows
// are groups of 4, M / groups apart, and so its columns: the lanes of a quarter warp then read 128
// consecutive bytes of b, or one broadcast of a, and no two of them the same bank.

#include "kernels/cuda/gpu/gpu.cuh"

namespace subpix::kernels::KERNEL_TARGET {

constexpr int kTileDepth = 16;

/// Vec consecutive elements of a tensor as fp32, one access: Vec is 1 or 4.
template <int Vec>
struct Elements {
  float v[Vec] = {};
};
template <int Vec>
GPU_DEV Elements<Vec> load_elements(const float* p) {
  if constexpr (Vec == 1) {
    return {{*p}};
  } else {
    // [load elements]
    const float4 x = *reinterpret_cast<const float4*>(p);
    return {{x.x, x.y, x.z, x.w}};
  }
}
template <int Vec>
GPU_DEV Elements<Vec> load_elements(const bf16* p) {
  if constexpr (Vec == 1) {
    return {{gpu::to_float(*p)}};
  } else {
    const uint2 x = *reinterpret_cast<const uint2*>(p);
    const float2 a = gpu::unpack_bf16(x.x), b = gpu::unpack_bf16(x.y);
    return {{a.x, a.y, b.x, b.y}};
  }
}
GPU_DEV void store_elements(float* p, const Elements<4>& x) {
  // [store elements]
  *reinterpret_cast<float4*>(p) = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
}
GPU_DEV void store_elements(float* p, const Elements<1>& x) { *p = x.v[0]; }
GPU_DEV void store_elements(bf16* p, const Elements<4>& x) {
  *reinterpret_cast<uint2*>(p) =
      make_uint2(gpu::pack_bf16(x.v[0], x.v[1]), gpu::pack_bf16(x.v[2], x.v[3]));
}

/// Where row `depth` of an operand begins to count: columns are stored at (column ^ at(depth)).
/// A multiple of 4, so that 16-byte reads stay whole.
struct Straight {
  GPU_FN static constexpr int at(int) { return 0; }
};
/// For operands that are contiguous along the reduction and are transposed on their way into shared
/// memory. A warp stores kTileDepth / Vec chunks of 2 * Vec columns: with Vec = 4 the swizzle puts
/// the four chunks into different banks; single elements meet two-way conflicts.
template <int Vec, int Width>
struct Transposed {
  GPU_FN static constexpr int at(int depth) {
    return (Vec == 4 ? depth / 4 % 4 * 8 : depth % 8 * 4) & (Width - 1);
  }
};

template <int M, int N, int ThreadM, int ThreadN>
struct RegisterTile {
  static_assert(ThreadM % 4 == 0 && ThreadN % 4 == 0 && M % ThreadM == 0 && N % ThreadN == 0);
  // A swizzle, below 32, stays within a group.
  static_assert(ThreadM == 4 || M / (ThreadM / 4) % 32 == 0);
  static_assert(ThreadN == 4 || N / (ThreadN / 4) % 32 == 0);
  static constexpr int kM = M, kN = N, kThreadM = ThreadM, kThreadN = ThreadN;
  static constexpr int kThreadsN = N / ThreadN, kThreads = M / ThreadM * kThreadsN;
  // Blocks that must fit an SM: 168 registers a thread for 64 sums, 128 for fewer.
  static constexpr int kBlocks = (ThreadM * ThreadN >= 64 ? 384 : 512) / kThreads;

  int m, n;  // first row and column of this thread
  float sum[ThreadM][ThreadN] = {};

  GPU_DEV explicit RegisterTile(int thread)
      : m(thread / kThreadsN * 4), n(thread % kThreadsN * 4) {}

  /// Row i of this thread within the tile; column j likewise.
  GPU_DEV int row(int i) const { return m + i / 4 * (M / (ThreadM / 4)) + i % 4; }
  GPU_DEV int column(int j) const { return n + j / 4 * (N / (ThreadN / 4)) + j % 4; }

  /// sum += a^T b over one slice, in the order of the reduction.
  template <class LayoutA, class LayoutB>
  GPU_DEV void multiply(const float (&a)[kTileDepth][M], const float (&b)[kTileDepth][N]) {
#pragma unroll
    for (int e = 0; e < kTileDepth; ++e) {
      float u[ThreadM], v[ThreadN];
#pragma unroll
      for (int i = 0; i < ThreadM; i += 4)
        read4(u + i, &a[e][(m ^ LayoutA::at(e)) + i / 4 * (M / (ThreadM / 4))]);
#pragma unroll
      for (int j = 0; j < ThreadN; j += 4)
        read4(v + j, &b[e][(n ^ LayoutB::at(e)) + j / 4 * (N / (ThreadN / 4))]);
#pragma unroll
      for (int i = 0; i < ThreadM; ++i)
#pragma unroll
        for (int j = 0; j < ThreadN; ++j) sum[i][j] += u[i] * v[j];
    }
  }

 private:
  GPU_DEV static void read4(float* to, const float* from) {
    // [tile read]
    const float4 x = *reinterpret_cast<const float4*>(from);
    to[0] = x.x;
    to[1] = x.y;
    to[2] = x.z;
    to[3] = x.w;
  }
};

/// How the threads of a block bring a slice of an operand from rows that are contiguous along the
/// reduction (pixels by channel, filters by tap and channel): thread t takes chunk `depth` of rows
/// row, row + kStep, ...
template <int Rows, int Vec, int Threads>
struct TransposingCopy {
  static constexpr int kChunks = kTileDepth / Vec, kStep = Threads / kChunks;
  static constexpr int kPasses = gpu::cdiv(Rows, kStep);
  int depth, row;
  Elements<Vec> staged[kPasses];

  GPU_DEV explicit TransposingCopy(int thread)
      : depth(thread % kChunks * Vec), row(thread / kChunks) {}
  GPU_DEV int row_of(int pass) const { return row + pass * kStep; }
  /// False for threads that a small operand leaves idle.
  GPU_DEV bool busy(int pass) const { return Rows % kStep == 0 || row_of(pass) < Rows; }

  GPU_DEV void store(float (&to)[kTileDepth][Rows]) const {
#pragma unroll
    for (int i = 0; i < kPasses; ++i)
      if (busy(i))
#pragma unroll
        for (int j = 0; j < Vec; ++j)
          // [tile transpose]
          to[depth + j][row_of(i) ^ Transposed<Vec, Rows>::at(depth + j)] = staged[i].v[j];
  }
};

/// The same from rows that are contiguous across the reduction: thread t takes the chunks at
/// columns column, column + Threads * Vec, ... of slices depth, depth + kStep, ...
template <int Columns, int Vec, int Threads>
struct StraightCopy {
  static constexpr int kChunks = Columns / Vec;
  static constexpr int kWide = kChunks > Threads ? kChunks / Threads : 1;
  static constexpr int kStep = kChunks > Threads ? 1 : Threads / kChunks;
  static constexpr int kPasses = gpu::cdiv(kTileDepth, kStep);
  int depth, column;
  Elements<Vec> staged[kPasses][kWide];

  GPU_DEV explicit StraightCopy(int thread)
      : depth(kWide > 1 ? 0 : thread / kChunks),
        column((kWide > 1 ? thread : thread % kChunks) * Vec) {}
  GPU_DEV int depth_of(int pass) const { return depth + pass * kStep; }
  GPU_DEV int column_of(int wide) const { return column + wide * Threads * Vec; }
  GPU_DEV bool busy() const { return kStep <= kTileDepth || depth < kTileDepth; }

  GPU_DEV void store(float (&to)[kTileDepth][Columns]) const {
    if (!busy()) return;
#pragma unroll
    for (int i = 0; i < kPasses; ++i)
#pragma unroll
      for (int j = 0; j < kWide; ++j) store_elements(&to[depth_of(i)][column_of(j)], staged[i][j]);
  }
};

}  // namespace subpix::kernels::KERNEL_TARGET
