// The table under test of test_kernels_cuda: the CUDA kernels on the device of this machine.

#include "tests/kernels/cuda_device.h"
#include "tests/kernels/op_case.h"

namespace subpix::tests {

std::vector<TableUnderTest>& tables_under_test() {
  // Never destroyed: after main the CUDA runtime may be gone, and the driver takes memory and
  // stream back by itself.
  static std::vector<TableUnderTest>& tables = *[] {
    auto* all = new std::vector<TableUnderTest>;
    all->push_back({&kernels::cuda::table(), make_cuda_context()});
    return all;
  }();
  return tables;
}

}  // namespace subpix::tests
