#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {

template <class T>
void pixel_shuffle_forward_variants(PixelShuffleForward<T>&) {}
template void pixel_shuffle_forward_variants(PixelShuffleForward<float>&);
template void pixel_shuffle_forward_variants(PixelShuffleForward<bf16>&);
template <class T>
void pixel_shuffle_backward_variants(PixelShuffleBackward<T>&) {}
template void pixel_shuffle_backward_variants(PixelShuffleBackward<float>&);
template void pixel_shuffle_backward_variants(PixelShuffleBackward<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
