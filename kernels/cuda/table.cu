#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

// The table of cuda and of sim: nothing but the variants that the other files name.
namespace subpix::kernels::KERNEL_TARGET {

const KernelTable& table() {
  static const KernelTable instance = [] {
    KernelTable t;
    t.name = gpu::kBackend;
    t.memory = memory_ops();
#define SUBPIX_APPEND(member, Type) \
  member##_variants(t.f32.member);  \
  member##_variants(t.bf16_ops.member);
    SUBPIX_TYPED_OPS(SUBPIX_APPEND)
#undef SUBPIX_APPEND
#define SUBPIX_APPEND(member, Type) member##_variants(t.member);
    SUBPIX_UNTYPED_OPS(SUBPIX_APPEND)
#undef SUBPIX_APPEND
    return t;
  }();
  return instance;
}

}  // namespace subpix::kernels::KERNEL_TARGET
