#include "kernels/reference/random.h"

#include "kernels/api/kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/variants.h"

/// The reference's loops on shares of whole Philox blocks: an element depends on its index alone,
/// so every thread count gives the reference's bits.
namespace subpix::kernels::cpu {

namespace {

template <void (*Loop)(const RandomProblem&, float*)>
void in_parts(Context&, const RandomProblem& d, float* y) {
  constexpr Index kBlock = 4;  // elements of one Philox block
  const int parts = part_count(d.count, kBlock);
  parallel_parts(parts, [&](int part) {
    const Range own = part_range(d.count, part, parts, kBlock);
    if (own.size() == 0) return;
    RandomProblem share = d;
    share.count = own.size();
    share.offset = d.offset + static_cast<std::uint64_t>(own.begin / kBlock);
    Loop(share, y + own.begin);
  });
}

}  // namespace

void add_random(KernelTable& table) {
  table.philox_uniform.prepend({"openmp", nullptr, in_parts<reference::philox_uniform<float>>});
  table.philox_normal.prepend({"openmp", nullptr, in_parts<reference::philox_normal<float>>});
}

}  // namespace subpix::kernels::cpu
