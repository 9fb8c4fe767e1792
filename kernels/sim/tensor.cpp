#include "kernels/sim/tensor.h"

#include <cstring>

#include "kernels/sim/engine.h"

/// ldmatrix and mma.sync. Sums are formed in order of k, starting from the accumulator, each step
/// rounded to fp32; the hardware's order and truncation differ in the last bits.
namespace subpix::sim {
namespace {

struct MatrixSlot {
  const unsigned char* row;
  std::uint32_t* r;
};

/// Register j of lane l holds elements (l % 4)*2 and +1 of row l / 4 of matrix j.
void load_matrices(void** slots, std::uint32_t) {
  auto** lanes = reinterpret_cast<MatrixSlot**>(slots);
  for (int l = 0; l < 32; ++l)
    for (int j = 0; j < 4; ++j)
      std::memcpy(&lanes[l]->r[j], lanes[j * 8 + l / 4]->row + l % 4 * 4, 4);
}

/// Transposed: elements (l % 4)*2 and +1 of column l / 4.
void load_matrices_transposed(void** slots, std::uint32_t) {
  auto** lanes = reinterpret_cast<MatrixSlot**>(slots);
  for (int l = 0; l < 32; ++l)
    for (int j = 0; j < 4; ++j) {
      std::uint16_t low, high;
      std::memcpy(&low, lanes[j * 8 + l % 4 * 2]->row + l / 4 * 2, 2);
      std::memcpy(&high, lanes[j * 8 + l % 4 * 2 + 1]->row + l / 4 * 2, 2);
      lanes[l]->r[j] = low | std::uint32_t{high} << 16;
    }
}

struct MmaSlot {
  float* d;
  const std::uint32_t *a, *b;
  int m, n;
  Mma kind;
};

using Row = float __attribute__((vector_size(32)));  // the 8 columns of a tile

/// d += a * b for one 16 x 8 tile; a [16][16], b [k] rows of 8, d [16] rows of 8.
SUBPIX_SIM_VECTOR void multiply_tile(Row* d, const float (*a)[16], const Row* b, int k) {
  for (int r = 0; r < 16; ++r) {
    Row sum = d[r];
    for (int i = 0; i < k; ++i) sum += a[r][i] * b[i];
    d[r] = sum;
  }
}

// Fragments (PTX ISA, "Matrix fragments for mma.m16n8k16" and ".m16n8k8" of tf32): with g = lane /
// 4 and t = lane % 4, A's registers hold rows g and g + 8, B's columns g, D's rows g, g + 8,
// columns 2t, 2t+1.

void gather_a(MmaSlot** lanes, int i, float (*a)[16]) {
  for (int l = 0; l < 32; ++l) {
    const int g = l / 4, t = l % 4;
    const std::uint32_t* r = lanes[l]->a + i * 4;
    for (int h = 0; h < 4; ++h) {
      const int row = g + h % 2 * 8;
      if (lanes[0]->kind == Mma::Bf16) {
        const int k = h / 2 * 8 + 2 * t;
        a[row][k] = bf16_value(r[h] & 0xFFFFu);
        a[row][k + 1] = bf16_value(r[h] >> 16);
      } else {
        a[row][h / 2 * 4 + t] = tf32_value(r[h]);
      }
    }
  }
}

void gather_b(MmaSlot** lanes, int j, Row* b) {
  for (int l = 0; l < 32; ++l) {
    const int g = l / 4, t = l % 4;
    const std::uint32_t* r = lanes[l]->b + j * 2;
    for (int h = 0; h < 2; ++h) {
      if (lanes[0]->kind == Mma::Bf16) {
        b[h * 8 + 2 * t][g] = bf16_value(r[h] & 0xFFFFu);
        b[h * 8 + 2 * t + 1][g] = bf16_value(r[h] >> 16);
      } else {
        b[h * 4 + t][g] = tf32_value(r[h]);
      }
    }
  }
}

void multiply(void** slots, std::uint32_t) {
  auto** lanes = reinterpret_cast<MmaSlot**>(slots);
  const int m = lanes[0]->m, n = lanes[0]->n;
  const int k = lanes[0]->kind == Mma::Bf16 ? 16 : 8;
  totals.mma += static_cast<std::uint64_t>(m) * static_cast<std::uint64_t>(n);
  Row b[16], d[16];
  alignas(32) float a[16][16];
  for (int j = 0; j < n; ++j) {
    gather_b(lanes, j, b);
    for (int i = 0; i < m; ++i) {
      gather_a(lanes, i, a);
      for (int l = 0; l < 32; ++l) {
        const float* r = lanes[l]->d + (i * n + j) * 4;
        for (int h = 0; h < 4; ++h) d[l / 4 + h / 2 * 8][l % 4 * 2 + h % 2] = r[h];
      }
      multiply_tile(d, a, b, k);
      for (int l = 0; l < 32; ++l) {
        float* r = lanes[l]->d + (i * n + j) * 4;
        for (int h = 0; h < 4; ++h) r[h] = d[l / 4 + h / 2 * 8][l % 4 * 2 + h % 2];
      }
    }
  }
}

}  // namespace

void ldmatrix_x4(std::uint32_t* r, const void* row, bool transposed, Where where) {
  Thread& t = *current;
  if (!t.block->contains(row, 16))
    fail("ldmatrix: the row is outside the block's shared memory", where);
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0)
    fail("ldmatrix: the row is not aligned to 16 bytes", where);
  const Site site = site_of(where);
  count_access(t, AccessKind::SharedLoad, row, 16, site);
  if (checking_races()) shared_access(*t.block, row, 16, false, as_thread(t, site));
  if (t.lane == 0) ++totals.ldmatrix;
  MatrixSlot slot{static_cast<const unsigned char*>(row), r};
  warp_collective(~0u, &slot, transposed ? load_matrices_transposed : load_matrices, "ldmatrix",
                  true, where);
}

void mma(Mma kind, float* d, const std::uint32_t* a, const std::uint32_t* b, int m, int n,
         Where where) {
  MmaSlot slot{d, a, b, m, n, kind};
  warp_collective(~0u, &slot, multiply, "mma", true, where);
}

}  // namespace subpix::sim
