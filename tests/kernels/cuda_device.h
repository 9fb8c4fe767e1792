#pragma once

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "kernels/cuda/table.h"

/// The device of this machine for tests, with a stream of its own.
namespace subpix::tests {

/// CTest's SKIP_RETURN_CODE: the build cannot know whether a device will answer.
inline constexpr int kSkipped = 77;

/// Where no device answers this says so and ends the program, which CTest then counts as skipped.
inline std::unique_ptr<kernels::Context> make_cuda_context() {
  if (const std::string obstacle = kernels::cuda::obstacle(); !obstacle.empty()) {
    std::printf("no CUDA device: %s\n", obstacle.c_str());
    std::fflush(stdout);
    std::_Exit(kSkipped);
  }
  const kernels::KernelTable& table = kernels::cuda::table();
  kernels::DeviceInfo device = kernels::cuda::device_info();
  device.tf32 = true;
  auto ctx = std::make_unique<kernels::Context>(table, device);
  ctx->stream = table.streams.create(*ctx);
  return ctx;
}

}  // namespace subpix::tests
