#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {

template <class T>
void scale_variants(Scale<T>&) {}
template void scale_variants(Scale<float>&);
template void scale_variants(Scale<bf16>&);
template <class T>
void fill_variants(Fill<T>&) {}
template void fill_variants(Fill<float>&);
template void fill_variants(Fill<bf16>&);
template <class T>
void channel_affine_variants(ChannelAffine<T>&) {}
template void channel_affine_variants(ChannelAffine<float>&);
template void channel_affine_variants(ChannelAffine<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
