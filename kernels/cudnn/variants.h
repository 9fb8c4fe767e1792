#pragma once

#include "kernels/api/kernels.h"

/// What each source prepends to the table; table.cpp calls them all.
namespace subpix::kernels::cudnn {

void add_conv2d(KernelTable& table);

}  // namespace subpix::kernels::cudnn
