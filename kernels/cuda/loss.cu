#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {

template <class T>
void mse_loss_variants(MseLoss<T>&) {}
template void mse_loss_variants(MseLoss<float>&);
template void mse_loss_variants(MseLoss<bf16>&);
template <class T>
void l1_loss_variants(L1Loss<T>&) {}
template void l1_loss_variants(L1Loss<float>&);
template void l1_loss_variants(L1Loss<bf16>&);
template <class T>
void bce_with_logits_variants(BceWithLogits<T>&) {}
template void bce_with_logits_variants(BceWithLogits<float>&);
template void bce_with_logits_variants(BceWithLogits<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
