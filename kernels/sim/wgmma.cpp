#include "kernels/sim/wgmma.h"

#include <algorithm>
#include <cstring>

#include "kernels/sim/engine.h"
#include "kernels/sim/tensor.h"

/// wgmma m64nNk16 with bf16 operands. An operation is collected from the 128 threads of a
/// warpgroup; its operands are copied when the last of them has issued it and compared when
/// somebody waits for it.
namespace subpix::sim {
namespace {

constexpr int kRows = 64, kDepth = 16;

// --- operands ------------------------------------------------------------------------------------

/// Byte offset in shared memory of element (row, k) of an operand; row runs along M or N. The
/// canonical layouts of the PTX ISA ("Shared memory matrix layout") for 16-bit elements.
std::uint32_t element_offset(std::uint64_t descriptor, bool mn_major, int row, int k, Where where) {
  const auto field = [&](int bit) {
    return static_cast<std::uint32_t>(descriptor >> bit & 0x3FFF) << 4;
  };
  const std::uint32_t start = field(0), lbo = field(16), sbo = field(32);
  const int code = static_cast<int>(descriptor >> 62);
  if (descriptor >> 49 & 7) fail("wgmma: the descriptor's base offset is not modelled", where);
  // 16-byte columns of a swizzled row, and the bits that the swizzle takes from the row.
  const auto columns = std::uint32_t{code == 0 ? 1u : code == 1 ? 8u : code == 2 ? 4u : 2u};
  const std::uint32_t mask = columns - 1;
  if (start >> 7 & mask)
    fail(
        "wgmma: a swizzled operand starts inside a swizzle pattern; that needs the base offset, "
        "which is not modelled",
        where);
  const auto r = static_cast<std::uint32_t>(row), d = static_cast<std::uint32_t>(k);
  std::uint32_t offset;
  if (!mn_major && code == 0)
    offset = r % 8 * 16 + r / 8 * sbo + d % 8 * 2 + d / 8 * lbo;
  else if (!mn_major)
    offset = r % 8 * 16 * columns + r / 8 * sbo + d * 2;
  else if (code == 0)
    offset = r % 8 * 2 + r / 8 * sbo + d % 8 * 16 + d / 8 * lbo;
  else
    offset = r % (8 * columns) * 2 + r / (8 * columns) * lbo + d % 8 * 16 * columns + d / 8 * sbo;
  offset += start;
  return offset ^ (offset >> 7 & mask) << 4;
}

/// visit(row, k, address) for each 16-byte chunk: 8 elements along k, or along the rows if
/// MN-major.
template <class Visit>
void for_chunks(Block& b, std::uint64_t descriptor, bool mn_major, int rows, Where where,
                Visit&& visit) {
  const int row_step = mn_major ? 8 : 1, k_step = mn_major ? 1 : 8;
  for (int row = 0; row < rows; row += row_step)
    for (int k = 0; k < kDepth; k += k_step) {
      const std::uint32_t offset = element_offset(descriptor, mn_major, row, k, where);
      if (offset + 16 > b.smem_bytes)
        fail(concat("wgmma: an operand reaches byte ", offset + 16, " of ", b.smem_bytes,
                    " bytes of shared memory"),
             where);
      visit(row, k, b.smem + offset);
    }
}

void gather(Block& b, std::uint64_t descriptor, bool mn_major, int rows, Where where,
            std::uint16_t* out) {
  for_chunks(b, descriptor, mn_major, rows, where, [&](int row, int k, const unsigned char* p) {
    std::uint16_t chunk[8];
    std::memcpy(chunk, p, 16);
    for (int i = 0; i < 8; ++i)
      out[(row + (mn_major ? i : 0)) * kDepth + k + (mn_major ? 0 : i)] = chunk[i];
  });
}

std::vector<std::uint16_t> operands(Block& b, const WgmmaOperation& op) {
  std::vector<std::uint16_t> out(static_cast<std::size_t>((kRows + op.n) * kDepth));
  if (op.registers) {
    for (int t = 0; t < kWarpgroup; ++t)
      for (int h = 0; h < 4; ++h) {  // mma.sync's A fragment, 16 rows a warp
        const int row = t / 32 * 16 + t % 32 / 4 + h % 2 * 8, k = h / 2 * 8 + t % 4 * 2;
        const std::uint32_t pair = op.a_registers[static_cast<std::size_t>(t * 4 + h)];
        out[static_cast<std::size_t>(row * kDepth + k)] = static_cast<std::uint16_t>(pair);
        out[static_cast<std::size_t>(row * kDepth + k + 1)] =
            static_cast<std::uint16_t>(pair >> 16);
      }
  } else {
    gather(b, op.a, op.transpose_a, kRows, op.where, out.data());
  }
  gather(b, op.b, op.transpose_b, op.n, op.where, out.data() + kRows * kDepth);
  return out;
}

/// The reads, as far as the calling thread knows their order.
void check_operands(Thread& t, const WgmmaOperation& op, std::uint64_t number) {
  Block& b = *t.block;
  const Accessor by{&t.knowledge, gang.warpgroup_agent(t), static_cast<std::uint32_t>(number) + 1,
                    site_of(op.where), kAsyncProxy};
  const auto read = [&](int, int, const unsigned char* p) { shared_access(b, p, 16, false, by); };
  if (!op.registers) for_chunks(b, op.a, op.transpose_a, kRows, op.where, read);
  for_chunks(b, op.b, op.transpose_b, op.n, op.where, read);
}

// --- accumulators --------------------------------------------------------------------------------

/// visit(register, index into [64][n]) for the accumulators of thread t of the warpgroup.
template <class Visit>
void for_registers(int t, int n, Visit&& visit) {
  const int row = t / 32 * 16 + t % 32 / 4, column = t % 4 * 2;
  for (int j = 0; j < n / 8; ++j)
    for (int h = 0; h < 4; ++h) visit(j * 4 + h, (row + h / 2 * 8) * n + j * 8 + column + h % 2);
}

/// From the thread's registers into the accumulator; poison stays behind.
void hide(Accumulator& x, float* registers, int t) {
  for_registers(t, x.n, [&](int r, int i) { x.d[static_cast<std::size_t>(i)] = registers[r]; });
  std::memset(registers, 0xFF, static_cast<std::size_t>(x.n) / 2 * sizeof(float));
}
void reveal(const Accumulator& x, float* registers, int t) {
  for_registers(t, x.n, [&](int r, int i) { registers[r] = x.d[static_cast<std::size_t>(i)]; });
}

/// d [64][n] += a [64][16] * b [16][n], in order of k.
SUBPIX_SIM_VECTOR void multiply(float* __restrict__ d, const float* __restrict__ a,
                                const float* __restrict__ b, int n) {
  for (int r = 0; r < kRows; ++r)
    for (int k = 0; k < kDepth; ++k) {
      const float value = a[r * kDepth + k];
      for (int c = 0; c < n; ++c) d[r * n + c] += value * b[k * n + c];
    }
}

void compute(Block& b, WgmmaOperation& op) {
  if (operands(b, op) != op.operands)
    fail("wgmma: an operand in shared memory changed between issue and completion", op.where);
  static thread_local float a[kRows * kDepth], bt[kDepth * 256];
  for (int i = 0; i < kRows * kDepth; ++i)
    a[i] = bf16_value(op.operands[static_cast<std::size_t>(i)]);
  for (int r = 0; r < op.n; ++r)
    for (int k = 0; k < kDepth; ++k)
      bt[k * op.n + r] =
          bf16_value(op.operands[static_cast<std::size_t>((kRows + r) * kDepth + k)]);
  std::vector<float>& d = op.accumulator->d;
  if (!op.accumulate) std::fill(d.begin(), d.end(), 0.0f);
  multiply(d.data(), a, bt, op.n);
}

/// The operation that this thread issues now; the first thread to come describes it.
WgmmaOperation& join_operation(Warpgroup& group, std::uint64_t number, const WgmmaOperation& mine) {
  const std::uint64_t i = number - group.computed;
  if (i == group.operations.size()) {
    group.operations.push_back(mine);
    if (mine.registers) group.operations.back().a_registers.resize(kWarpgroup * 4);
  }
  WgmmaOperation& op = group.operations[i];
  if (op.a != mine.a || op.b != mine.b || op.n != mine.n || op.accumulate != mine.accumulate ||
      op.registers != mine.registers || op.where.line != mine.where.line)
    fail("wgmma: the threads of the warpgroup disagree about the operation", mine.where);
  return op;
}

}  // namespace

void wgmma_fence() { current->wgmma.fenced = true; }

void wgmma(float* d, int n, std::uint64_t a, std::uint64_t b, bool transpose_a, bool transpose_b,
           const std::uint32_t* a_registers, bool accumulate, Where where) {
  Thread& t = *current;
  Block& block = *t.block;
  const std::uint32_t g = t.linear / kWarpgroup;
  if (block.thread_count < (g + 1) * kWarpgroup)
    fail("wgmma needs all 128 threads of a warpgroup; the block ends before", where);
  if (!t.wgmma.fenced)
    fail("wgmma without a wgmma_fence since the accumulators were last touched", where);
  Warpgroup& group = block.warpgroups[g];
  const std::uint64_t number = t.wgmma.issued++;
  WgmmaOperation mine;
  mine.a = a;
  mine.b = b;
  mine.n = n;
  mine.transpose_a = transpose_a;
  mine.transpose_b = transpose_b;
  mine.accumulate = accumulate;
  mine.registers = a_registers != nullptr;
  mine.where = where;
  WgmmaOperation& op = join_operation(group, number, mine);

  // The thread's registers may be hidden by an earlier operation of the same chain.
  auto& hidden = t.wgmma.hidden;
  auto chain = std::find_if(hidden.begin(), hidden.end(),
                            [&](const WgmmaThread::Hidden& h) { return h.registers == d; });
  const int lane = static_cast<int>(t.linear % kWarpgroup);
  if (!op.accumulator)
    op.accumulator = chain != hidden.end() ? chain->accumulator : std::make_shared<Accumulator>();
  Accumulator& x = *op.accumulator;
  if (x.d.empty()) {
    x.n = n;
    x.d.resize(static_cast<std::size_t>(kRows * n));
  }
  if (x.n != n || (chain != hidden.end() && chain->accumulator != op.accumulator))
    fail("wgmma: the threads of the warpgroup disagree about the accumulators", where);
  if (chain == hidden.end()) {
    hide(x, d, lane);
    hidden.push_back({d, op.accumulator, 0});
    chain = hidden.end() - 1;
  }
  chain->last = number + 1;

  if (a_registers)
    std::memcpy(&op.a_registers[static_cast<std::size_t>(lane) * 4], a_registers, 16);
  if (checking_races() && t.lane == 0) check_operands(t, op, number);
  if (++op.threads < kWarpgroup) return;
  ++totals.wgmma;
  op.operands = operands(block, op);
  group.complete = number + 1;
  for (Thread* w : group.waiting) make_ready(*w);
  group.waiting.clear();
}

void wgmma_commit() { current->wgmma.groups.push_back(current->wgmma.issued); }

void wgmma_wait(int pending, Where where) {
  Thread& t = *current;
  WgmmaThread& mine = t.wgmma;
  mine.fenced = false;
  const std::size_t groups = mine.groups.size();
  if (groups <= static_cast<std::size_t>(pending)) return;
  const std::size_t finished = groups - static_cast<std::size_t>(pending);
  if (finished < mine.groups_done) return;
  mine.groups_done = finished;
  const std::uint64_t target = mine.groups[finished - 1];
  Block& block = *t.block;
  Warpgroup& group = block.warpgroups[t.linear / kWarpgroup];
  while (group.complete < target) {
    group.waiting.push_back(&t);
    park("wgmma_wait (for the other threads of the warpgroup to issue)", where);
  }
  if (group.computed < target) defer();  // others may still spoil the operands
  for (; group.computed < target; ++group.computed) {
    compute(block, group.operations.front());
    group.operations.pop_front();
  }
  std::erase_if(mine.hidden, [&](const WgmmaThread::Hidden& h) {
    if (h.last > target) return false;
    reveal(*h.accumulator, h.registers, static_cast<int>(t.linear % kWarpgroup));
    return true;
  });
  if (checking_races()) {
    // The warpgroup's reads up to here are over as far as this thread knows.
    Clock& seen = t.knowledge.seen;
    const std::uint32_t agent = gang.warpgroup_agent(t);
    if (seen.size() <= agent) seen.resize(agent + 1, 0);
    seen[agent] = std::max(seen[agent], static_cast<std::uint32_t>(target));
  }
}

}  // namespace subpix::sim
