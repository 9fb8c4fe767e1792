#pragma once

#include "kernels/api/kernels.h"

/// What each source prepends to the table; table.cpp calls them all.
namespace subpix::kernels::cudnn {

void add_conv2d(KernelTable& table);
void add_dense(KernelTable& table);

/// The sum of dy [n,h,w,c] for each channel, by a graph; false where cuDNN has no plan.
struct ChannelSums {
  Index n, h, w, c;
};
template <class T>
bool channel_sums(Context& ctx, const ChannelSums& d, const T* dy, float* sums);

}  // namespace subpix::kernels::cudnn
