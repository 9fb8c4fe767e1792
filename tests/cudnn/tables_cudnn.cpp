// The table under test of test_kernels_cudnn: cuDNN's variants on the device of this machine. The
// hand-written ones behind them are test_kernels_cuda's.

#include "kernels/cudnn/table.h"
#include "tests/kernels/cuda_device.h"
#include "tests/kernels/op_case.h"

namespace subpix::tests {
namespace {

/// Only the variants that the cuda table does not have; ops without any keep their last, which
/// takes every problem.
const kernels::KernelTable& rivals() {
  static const kernels::KernelTable instance = [] {
    kernels::KernelTable t = kernels::cudnn::table();
    kernels::for_each_op(t, [](auto& op) {
      auto own = op.variants();
      std::erase_if(own, [](const auto& v) {
        const std::string_view name = v.name;
        return !name.starts_with("cudnn_graph") && !name.starts_with("cublaslt");
      });
      for (const auto& v : op.variants())
        if (own.empty() && !v.supports) own.push_back(v);
      if (own.empty()) own.push_back(op.variants().back());
      op.replace(own);
    });
    return t;
  }();
  return instance;
}

}  // namespace

std::vector<TableUnderTest>& tables_under_test() {
  // Never destroyed: after main the CUDA runtime may be gone, and the driver takes memory and
  // stream back by itself.
  static std::vector<TableUnderTest>& tables = *[] {
    if (const std::string obstacle = kernels::cudnn::obstacle(); !obstacle.empty()) {
      std::printf("no cuDNN on a device: %s\n", obstacle.c_str());
      std::fflush(stdout);
      std::_Exit(kSkipped);
    }
    kernels::DeviceInfo device = kernels::cuda::device_info();
    device.tf32 = true;
    auto ctx = std::make_unique<kernels::Context>(rivals(), device);
    ctx->stream = rivals().streams.create(*ctx);
    auto* all = new std::vector<TableUnderTest>;
    all->push_back({&rivals(), std::move(ctx)});
    return all;
  }();
  return tables;
}

}  // namespace subpix::tests
