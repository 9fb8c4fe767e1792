#pragma once

#include "kernels/api/kernels.h"

namespace subpix::kernels {

/// The op of a table from a pointer to its member, typed or not.
template <class T, class Op>
const Op& op_of(const KernelTable& table, Op TypedOps<T>::*member) {
  return table.typed<T>().*member;
}
template <class Op>
const Op& op_of(const KernelTable& table, Op KernelTable::*member) {
  return table.*member;
}

}  // namespace subpix::kernels
