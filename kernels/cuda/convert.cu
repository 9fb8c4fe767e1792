#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {

template <class T>
void from_bytes_variants(FromBytes<T>&) {}
template void from_bytes_variants(FromBytes<float>&);
template void from_bytes_variants(FromBytes<bf16>&);
template <class T>
void to_bytes_variants(ToBytes<T>&) {}
template void to_bytes_variants(ToBytes<float>&);
template void to_bytes_variants(ToBytes<bf16>&);
void cast_to_bf16_variants(CastToBf16&) {}
void cast_to_float_variants(CastToFloat&) {}

}  // namespace subpix::kernels::KERNEL_TARGET
