#include "kernels/api/composed.h"
#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

// The table of cuda and of sim: the variants that the other files name, and behind a fused op's own
// its composition of plain ones.
namespace subpix::kernels::KERNEL_TARGET {

const KernelTable& table() {
  static const KernelTable instance = [] {
    KernelTable t;
    t.name = gpu::kBackend;
    t.memory = memory_ops();
    t.streams = stream_ops();
#define SUBPIX_APPEND(member, Type) \
  member##_variants(t.f32.member);  \
  member##_variants(t.bf16_ops.member);
    SUBPIX_TYPED_OPS(SUBPIX_APPEND)
#undef SUBPIX_APPEND
#define SUBPIX_APPEND(member, Type) member##_variants(t.member);
    SUBPIX_UNTYPED_OPS(SUBPIX_APPEND)
#undef SUBPIX_APPEND
    composed::append(t);
    return t;
  }();
  return instance;
}

}  // namespace subpix::kernels::KERNEL_TARGET
