// The dense layer on tensor cores, bf16 (dense.cu holds the formulas, the bounds and the other
// variants): the weights stream once from memory straight into the fragments of mma.m16n8k16.
//
// Operands take no detour through shared memory. A sum does not care in which order its terms are
// numbered, nor a product in which order its rows are, so the numbering is chosen to make what a
// lane needs lie side by side in memory. With g = lane / 4 and t = lane % 4, a lane of mma holds
//
//   a[0] = A[g][2t, 2t+1]   a[1] = A[g+8][2t, 2t+1]   a[2] = A[g][2t+8, 2t+9]   a[3] = A[g+8][2t+8,
//   ..] b[0] = B[2t, 2t+1][g]   b[1] = B[2t+8, 2t+9][g]                     (rows, then the
//   reduction) d[0], d[1] = D[g][2t, 2t+1]   d[2], d[3] = D[g+8][2t, 2t+1]
//
//   forward          A = w, B = x, both contiguous along the reduction: a lane loads 8 neighbours,
//   k
//                    to k + 7, of its row; they are the pairs of two instructions, of which lane t
//                    numbers its own 2t, 2t+1, 2t+8, 2t+9 in both operands.
//   backward_data    A = w transposed, B = dy. A pair of A joins two rows of w: a lane loads 8
//   backward_filter  columns of four rows, and interleaving their halves gives pairs for eight rows
//                    of A, that is for four instructions. (backward_filter: A = x transposed, and B
//                    = dy is paired in the same way.) A lane's results are then neighbours, too:
//                    they leave in 16 bytes.
//
// With n = 16 an instruction works for 16 x 16 weights and 8 rows: 18.9 M weights are 147 k
// instructions, 1.1 k a multiprocessor, nothing against 9 us. Up to about 128 rows the stream of
// weights is the bound.
//
// Rows, outputs and columns beyond the end are loaded as zeros and not stored.

#include "kernels/cuda/dense.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

/// Halves of two words: (low of a, low of b) and (high of a, high of b). prmt on the GPU.
GPU_DEV std::uint32_t low_halves(std::uint32_t a, std::uint32_t b) {
  return (a & 0xFFFFu) | b << 16;
}
GPU_DEV std::uint32_t high_halves(std::uint32_t a, std::uint32_t b) {
  return a >> 16 | (b & 0xFFFF0000u);
}
GPU_DEV uint4 load_eight(const bf16* p, bool there) {
  return there ? *reinterpret_cast<const uint4*>(p) : make_uint4(0, 0, 0, 0);
}
/// Four values of which the first `there` exist; one access if they all do and p is 8-byte aligned.
GPU_DEV uint2 load_four(const bf16* p, Index there, bool aligned) {
  if (aligned && there >= 4) return *reinterpret_cast<const uint2*>(p);
  const auto one = [&](int i) { return i < there ? std::uint32_t{p[i].bits} : 0u; };
  return make_uint2(one(0) | one(1) << 16, one(2) | one(3) << 16);
}

// --- forward -------------------------------------------------------------------------------------

constexpr int kOutputWarps = 2, kReductionWarps = 4;
constexpr int kForwardOutputs = 32;  // of a warp
constexpr int kForwardStep = 64;     // of the reduction, a warp at a time: whole 128-byte lines

template <int kTiles>
struct ForwardShared {
  // The sums of all but the first of the warps that share outputs.
  float sum[kReductionWarps - 1][2 * kTiles * 4][kOutputWarps * 32];
};

/// A block owns 64 outputs of 8 * kTiles rows: two warps side by side, and four that take turns
/// along the reduction. A warp has 8 loads of 16 bytes of weights in flight, which are 128 bytes of
/// 32 rows; x comes from L1 and L2. Then the first of the four adds up what the others left in
/// shared memory, in order.
template <int kTiles>
__global__ void __launch_bounds__(256, kTiles < 8 ? 2 : 1)
    dense_forward_split_k_mma_kernel(Index rows, Index in, Index out, Index length, Index chunks,
                                     const bf16* x, const bf16* w, SplitSums<bf16> sums) {
  auto& s = gpu::smem<ForwardShared<kTiles>>();
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int side = threadIdx.x / 32 % kOutputWarps, turn = threadIdx.x / 32 / kOutputWarps;
  const Index n0 = blockIdx.x % chunks * (8 * kTiles);
  const Index o0 = (blockIdx.x / chunks * kOutputWarps + side) * kForwardOutputs;
  const Index begin = blockIdx.y * length, end = min(begin + length, in);
  const bf16* weights = w + (o0 + g) * in;
  const bf16* values = x + (n0 + g) * in;
  const int outputs_left = static_cast<int>(min(out - o0 - g, Index{kForwardOutputs}));
  const int rows_left = static_cast<int>(min(rows - n0 - g, Index{8 * kTiles}));
  float d[2][kTiles][4] = {};
#pragma unroll 1
  for (Index k = begin + turn * kForwardStep + t * 8; k - t * 8 < end;
       k += kReductionWarps * kForwardStep) {
    uint4 row[2][4];
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int r = 0; r < 4; ++r)
        row[h][r] =
            load_eight(weights + 8 * r * in + k + 32 * h, 8 * r < outputs_left && k + 32 * h < end);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      uint4 column[kTiles];
#pragma unroll
      for (int j = 0; j < kTiles; ++j)
        column[j] =
            load_eight(values + 8 * j * in + k + 32 * h, 8 * j < rows_left && k + 32 * h < end);
      std::uint32_t a[2][4], b[kTiles][2];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const uint4 upper = row[h][2 * m], lower = row[h][2 * m + 1];
        a[m][0] = upper.x, a[m][1] = lower.x, a[m][2] = upper.y, a[m][3] = lower.y;
      }
#pragma unroll
      for (int j = 0; j < kTiles; ++j) b[j][0] = column[j].x, b[j][1] = column[j].y;
      gpu::mma_tile_bf16(d, a, b);
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const uint4 upper = row[h][2 * m], lower = row[h][2 * m + 1];
        a[m][0] = upper.z, a[m][1] = lower.z, a[m][2] = upper.w, a[m][3] = lower.w;
      }
#pragma unroll
      for (int j = 0; j < kTiles; ++j) b[j][0] = column[j].z, b[j][1] = column[j].w;
      gpu::mma_tile_bf16(d, a, b);
    }
  }
  const int slot = side * 32 + lane;
  if (turn > 0)
#pragma unroll
    for (int i = 0; i < 2 * kTiles * 4; ++i)
      s.sum[turn - 1][i][slot] = d[i / (kTiles * 4)][i / 4 % kTiles][i % 4];
  __syncthreads();  // the other warps' sums are there
  if (turn > 0) return;
#pragma unroll
  for (int m = 0; m < 2; ++m)
#pragma unroll
    for (int j = 0; j < kTiles; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        float sum = d[m][j][e];
#pragma unroll
        for (int other = 0; other < kReductionWarps - 1; ++other)
          sum += s.sum[other][(m * kTiles + j) * 4 + e][slot];
        const Index o = o0 + 16 * m + g + e / 2 * 8, n = n0 + 8 * j + 2 * t + e % 2;
        if (o < out && n < rows) sums.put(n, o, blockIdx.y, sum);
      }
}

template <int kTiles>
void forward(Context& ctx, const DenseProblem& p, const bf16* x, const bf16* w, const float* bias,
             bf16* y) {
  const Index chunks = gpu::cdiv(p.n, 8 * kTiles);
  const Index tiles = chunks * gpu::cdiv(p.out, kOutputWarps * kForwardOutputs);
  const Split split = split_reduction(ctx, p.in, kReductionWarps * kForwardStep, tiles);
  with_split_sums(ctx, split, p.n, p.out, bias, y, [&](const SplitSums<bf16>& sums) {
    gpu::launch(dense_forward_split_k_mma_kernel<kTiles>,
                {.grid = split_grid(tiles, split),
                 .block = 256,
                 .smem = sizeof(ForwardShared<kTiles>),
                 .stream = ctx.stream},
                p.n, p.in, p.out, split.length, chunks, x, w, sums);
  });
}

// --- backward_data -------------------------------------------------------------------------------

constexpr int kDataWarps = 4;
constexpr int kDataColumns = 64;  // of a block
constexpr int kDataStep = 32;     // of the reduction, a warp at a time

template <int kTiles>
struct DataShared {
  float sum[kDataWarps - 1][4 * kTiles * 4][32];
};

/// A block owns 64 columns of dx for 8 * kTiles rows; its four warps take turns along the outputs
/// o, 32 at a time. A warp has 8 loads of weights in flight, each 128 bytes of 4 rows. The first
/// warp adds up the sums in order and stores 16 bytes a lane. quads: rows of dy are 8-byte aligned.
template <int kTiles>
__global__ void __launch_bounds__(kDataWarps * 32, 3)
    dense_backward_data_split_k_mma_kernel(Index rows, Index in, Index out, Index length,
                                           Index chunks, bool quads, const bf16* dy, const bf16* w,
                                           SplitSums<bf16> sums) {
  auto& s = gpu::smem<DataShared<kTiles>>();
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, warp = threadIdx.x / 32;
  const Index n0 = blockIdx.x % chunks * (8 * kTiles);
  const Index i0 = blockIdx.x / chunks * kDataColumns + 8 * g;  // of this lane's 8 columns
  const Index begin = blockIdx.y * length, end = min(begin + length, out);
  const bf16* weights = w + i0;
  const bf16* gradients = dy + (n0 + g) * out;
  const int rows_left = static_cast<int>(min(rows - n0 - g, Index{8 * kTiles}));
  float d[4][kTiles][4] = {};
#pragma unroll 1
  for (Index o = begin + warp * kDataStep + 4 * t; o - 4 * t < end; o += kDataWarps * kDataStep) {
    uint4 row[2][4];
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int r = 0; r < 4; ++r)
        row[h][r] = load_eight(weights + (o + 16 * h + r) * in, o + 16 * h + r < end && i0 < in);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      std::uint32_t b[kTiles][2];
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        const Index there = 8 * j < rows_left ? end - o - 16 * h : 0;
        const uint2 four = load_four(gradients + 8 * j * out + o + 16 * h, there, quads);
        b[j][0] = four.x, b[j][1] = four.y;
      }
      const uint4* r = row[h];
      const std::uint32_t word[4][4] = {{r[0].x, r[1].x, r[2].x, r[3].x},
                                        {r[0].y, r[1].y, r[2].y, r[3].y},
                                        {r[0].z, r[1].z, r[2].z, r[3].z},
                                        {r[0].w, r[1].w, r[2].w, r[3].w}};
      std::uint32_t a[4][4];  // instruction q: row g is column 2q of this lane, row g + 8 is 2q + 1
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        a[q][0] = low_halves(word[q][0], word[q][1]);
        a[q][1] = high_halves(word[q][0], word[q][1]);
        a[q][2] = low_halves(word[q][2], word[q][3]);
        a[q][3] = high_halves(word[q][2], word[q][3]);
      }
      gpu::mma_tile_bf16(d, a, b);
    }
  }
  if (warp > 0)
#pragma unroll
    for (int i = 0; i < 4 * kTiles * 4; ++i)
      s.sum[warp - 1][i][lane] = d[i / (kTiles * 4)][i / 4 % kTiles][i % 4];
  __syncthreads();  // the other warps' sums are there
  if (warp > 0) return;
#pragma unroll
  for (int other = 0; other < kDataWarps - 1; ++other)
#pragma unroll
    for (int i = 0; i < 4 * kTiles * 4; ++i)
      d[i / (kTiles * 4)][i / 4 % kTiles][i % 4] += s.sum[other][i][lane];
  if (i0 >= in) return;
#pragma unroll
  for (int j = 0; j < kTiles; ++j)
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const Index n = n0 + 8 * j + 2 * t + c;
      if (n >= rows) continue;
      const Pack<bf16> eight = {{d[0][j][c], d[0][j][2 + c], d[1][j][c], d[1][j][2 + c], d[2][j][c],
                                 d[2][j][2 + c], d[3][j][c], d[3][j][2 + c]}};
      if (!sums.partial) {
        store_pack(sums.y + n * in + i0, eight);
        continue;
      }
      float* partial = sums.partial + blockIdx.y * sums.count + n * in + i0;
      store_pack(partial, {{eight.v[0], eight.v[1], eight.v[2], eight.v[3]}});
      store_pack(partial + 4, {{eight.v[4], eight.v[5], eight.v[6], eight.v[7]}});
    }
}

template <int kTiles>
void backward_data(Context& ctx, const DenseProblem& p, const bf16* dy, const bf16* w, bf16* dx) {
  const Index chunks = gpu::cdiv(p.n, 8 * kTiles);
  const Index tiles = chunks * gpu::cdiv(p.in, kDataColumns);
  const Split split = split_reduction(ctx, p.out, kDataWarps * kDataStep, tiles);
  const bool quads = p.out % 4 == 0 && packable(dy);
  const float* no_bias = nullptr;
  with_split_sums(ctx, split, p.n, p.in, no_bias, dx, [&](const SplitSums<bf16>& sums) {
    gpu::launch(dense_backward_data_split_k_mma_kernel<kTiles>,
                {.grid = split_grid(tiles, split),
                 .block = kDataWarps * 32,
                 .smem = sizeof(DataShared<kTiles>),
                 .stream = ctx.stream},
                p.n, p.in, p.out, split.length, chunks, quads, dy, w, sums);
  });
}

// --- backward_filter -----------------------------------------------------------------------------

constexpr int kColumnWarps = 2;
constexpr int kFilterColumns = 64, kFilterOutputs = 32;  // of a warp

/// A block owns 128 columns x 128 outputs of dw, 2 x 4 warps of 64 x 32; nobody waits for anybody.
/// A step takes 16 rows: a lane loads 2 x 4 columns of x and 4 outputs of dy from each of its four
/// rows, so that four neighbouring columns of dw end in one lane and a warp stores 128 bytes of 4
/// rows at a time. The warps of the first columns also have all of dy: they add up db.
__global__ void __launch_bounds__(256, 2)
    dense_backward_filter_tiled_mma_kernel(Index rows, Index in, Index out, Index column_tiles,
                                           bool quads, const bf16* x, const bf16* dy, float* dw,
                                           float* db) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, warp = threadIdx.x / 32;
  const Index i0 =
      (blockIdx.x % column_tiles * kColumnWarps + warp % kColumnWarps) * kFilterColumns;
  const Index o0 =
      (blockIdx.x / column_tiles * (8 / kColumnWarps) + warp / kColumnWarps) * kFilterOutputs;
  const Index column = i0 + 4 * g, output = o0 + 4 * g;  // of this lane's loads
  const bool owns_bias = db && i0 == 0;
  float bias[4] = {};
  float d[4][4][4] = {};
#pragma unroll 1
  for (Index n = 4 * t; n - 4 * t < rows; n += 16) {
    uint2 left[4], right[4], gradient[4];
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const bool there = n + r < rows;
      const bf16* values = x + (n + r) * in + column;
      left[r] = load_four(values, there ? in - column : 0, true);
      right[r] = load_four(values + 32, there ? in - column - 32 : 0, true);
      gradient[r] = load_four(dy + (n + r) * out + output, there ? out - output : 0, quads);
    }
    if (owns_bias)
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const float2 first = gpu::unpack_bf16(gradient[r].x);
        const float2 second = gpu::unpack_bf16(gradient[r].y);
        bias[0] += first.x, bias[1] += first.y, bias[2] += second.x, bias[3] += second.y;
      }
    const auto pairs = [](std::uint32_t(&a)[4], std::uint32_t w0, std::uint32_t w1,
                          std::uint32_t w2, std::uint32_t w3) {
      a[0] = low_halves(w0, w1), a[1] = high_halves(w0, w1);
      a[2] = low_halves(w2, w3), a[3] = high_halves(w2, w3);
    };
    std::uint32_t a[4][4], c[2][4];
    pairs(a[0], left[0].x, left[1].x, left[2].x, left[3].x);
    pairs(a[1], left[0].y, left[1].y, left[2].y, left[3].y);
    pairs(a[2], right[0].x, right[1].x, right[2].x, right[3].x);
    pairs(a[3], right[0].y, right[1].y, right[2].y, right[3].y);
    pairs(c[0], gradient[0].x, gradient[1].x, gradient[2].x, gradient[3].x);
    pairs(c[1], gradient[0].y, gradient[1].y, gradient[2].y, gradient[3].y);
    const std::uint32_t b[4][2] = {
        {c[0][0], c[0][2]}, {c[0][1], c[0][3]}, {c[1][0], c[1][2]}, {c[1][1], c[1][3]}};
    gpu::mma_tile_bf16(d, a, b);
  }
  if (owns_bias) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {  // over the four lanes that share outputs
      bias[j] += __shfl_xor_sync(~0u, bias[j], 1);
      bias[j] += __shfl_xor_sync(~0u, bias[j], 2);
      if (t == 0 && output + j < out) db[output + j] = bias[j];
    }
  }
  // Column c of instruction j was output 4c + j; rows g, g + 8 of instruction q were columns 2q and
  // 2q + 1 of four, the third and fourth instruction 32 columns further.
#pragma unroll
  for (int j = 0; j < 4; ++j)
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const Index o = o0 + 4 * (2 * t + c) + j;
      if (o >= out) continue;
#pragma unroll
      for (int h = 0; h < 2; ++h)
        if (column + 32 * h < in)
          store_pack(dw + o * in + column + 32 * h, {{d[2 * h][j][c], d[2 * h][j][2 + c],
                                                      d[2 * h + 1][j][c], d[2 * h + 1][j][2 + c]}});
    }
}

}  // namespace

void dense_forward_mma(Context& ctx, const DenseProblem& p, const bf16* x, const bf16* w,
                       const float* bias, bf16* y) {
  const auto run = p.n <= 8    ? forward<1>
                   : p.n <= 16 ? forward<2>
                   : p.n <= 32 ? forward<4>
                               : forward<8>;
  run(ctx, p, x, w, bias, y);
}

void dense_backward_data_mma(Context& ctx, const DenseProblem& p, const bf16* dy, const bf16* w,
                             bf16* dx) {
  const auto run = p.n <= 8 ? backward_data<1> : p.n <= 16 ? backward_data<2> : backward_data<4>;
  run(ctx, p, dy, w, dx);
}

void dense_backward_filter_mma(Context& ctx, const DenseProblem& p, const bf16* x, const bf16* dy,
                               float* dw, float* db) {
  const Index column_tiles = gpu::cdiv(p.in, kColumnWarps * kFilterColumns);
  const Index tiles = column_tiles * gpu::cdiv(p.out, 8 / kColumnWarps * kFilterOutputs);
  gpu::launch(dense_backward_filter_tiled_mma_kernel,
              {.grid = gpu::grid_for(tiles, 1), .block = 256, .stream = ctx.stream}, p.n, p.in,
              p.out, column_tiles, p.out % 4 == 0 && packable(dy), x, dy, dw, db);
}

}  // namespace subpix::kernels::KERNEL_TARGET
