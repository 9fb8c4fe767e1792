#pragma once

#include "kernels/api/kernels.h"

/// One function for each op, defined in the op's file: appends its variants, preferred first.
/// table.cu calls them all, so a forgotten one is a link error.
namespace subpix::kernels::KERNEL_TARGET {

#define SUBPIX_DECLARE(member, Type) \
  template <class T>                 \
  void member##_variants(Type<T>& op);
SUBPIX_TYPED_OPS(SUBPIX_DECLARE)
#undef SUBPIX_DECLARE
#define SUBPIX_DECLARE(member, Type) void member##_variants(Type& op);
SUBPIX_UNTYPED_OPS(SUBPIX_DECLARE)
#undef SUBPIX_DECLARE

MemoryOps memory_ops();
StreamOps stream_ops();

}  // namespace subpix::kernels::KERNEL_TARGET
