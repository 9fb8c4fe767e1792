#pragma once

#include "kernels/api/kernels.h"

/// What each source file of this backend puts in front of the reference's variants.
namespace subpix::kernels::cpu {

void add_conv2d(KernelTable& table);
void add_conv2d_bordered(KernelTable& table);
void add_conv2d_backward_filter(KernelTable& table);
void add_conv2d_winograd(KernelTable& table);
void add_conv2d_columns(KernelTable& table);
void add_norm(KernelTable& table);
void add_activation(KernelTable& table);
void add_shape_pool(KernelTable& table);
void add_dense(KernelTable& table);
void add_elementwise(KernelTable& table);
void add_loss(KernelTable& table);
void add_adam(KernelTable& table);
void add_random(KernelTable& table);

}  // namespace subpix::kernels::cpu
