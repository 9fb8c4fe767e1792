#pragma once

// Included by gpu.cuh. The host side of a launch.

#include <string>
#include <tuple>
#include <utility>

namespace subpix::gpu {
inline namespace KERNEL_TARGET {

/// gpu::launch(axpby_kernel<float>, {.grid = blocks, .block = 256, .stream = ctx.stream}, n, x, y);
struct LaunchCfg {
  dim3 grid = dim3(1), block = dim3(1);
  unsigned smem = 0;       ///< bytes of shared memory: sizeof of the kernel's struct
  void* stream = nullptr;  ///< Context::stream; null is the default stream
  unsigned cluster = 1;    ///< blocks of a cluster along x
  bool coop = false;       ///< cooperative: all blocks resident at once, grid_sync allowed
};

/// A one-dimensional grid with a block for every `per_block` of `count` items.
inline dim3 grid_for(std::int64_t count, int per_block) {
  const std::int64_t blocks = cdiv(count, per_block);
  SUBPIX_REQUIRE(blocks >= 1 && blocks <= 0x7fffffff, "a grid of ", blocks, " blocks");
  return dim3(static_cast<unsigned>(blocks));
}

/// Queues a kernel on a stream. Throws Error when the launch is refused; what goes wrong inside the
/// kernel is reported by a later call that waits.
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), const LaunchCfg& cfg, Args&&... args) {
  static_assert(sizeof...(Params) == sizeof...(Args), "wrong number of kernel arguments");
  static_assert((std::is_trivially_copyable_v<std::remove_cvref_t<Params>> && ...),
                "kernel parameters are copied as bytes");
#if defined(__CUDACC__)
  cudaLaunchConfig_t config{};
  config.gridDim = cfg.grid;
  config.blockDim = cfg.block;
  config.dynamicSmemBytes = cfg.smem;
  config.stream = static_cast<cudaStream_t>(cfg.stream);
  cudaLaunchAttribute attributes[2];
  unsigned count = 0;
  if (cfg.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim.x = cfg.cluster;
    attributes[count].val.clusterDim.y = 1;
    attributes[count].val.clusterDim.z = 1;
    ++count;
  }
  if (cfg.coop) {
    attributes[count].id = cudaLaunchAttributeCooperative;
    attributes[count].val.cooperative = 1;
    ++count;
  }
  config.attrs = attributes;
  config.numAttrs = count;
  const void* id = reinterpret_cast<const void*>(kernel);
  // Above 48 KiB a kernel must ask for its shared memory.
  if (cfg.smem > 48u * 1024u)
    detail::check_launch(cudaFuncSetAttribute(id, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                              static_cast<int>(cfg.smem)),
                         id);
  detail::check_launch(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...), id);
#else
  using Arguments = std::tuple<std::remove_cvref_t<Params>...>;
  ::subpix::sim::LaunchRequest request;
  request.kernel = reinterpret_cast<const void*>(kernel);
  request.invoke = [](const void* function, const void* arguments) {
    std::apply(reinterpret_cast<void (*)(Params...)>(const_cast<void*>(function)),
               *static_cast<const Arguments*>(arguments));
  };
  request.arguments = std::make_shared<const Arguments>(static_cast<Params>(args)...);
  request.arguments_size = sizeof(Arguments);
  request.grid = cfg.grid;
  request.block = cfg.block;
  request.smem = cfg.smem;
  request.cluster = cfg.cluster;
  request.coop = cfg.coop;
  ::subpix::sim::launch(std::move(request), cfg.stream);
#endif
}

}  // namespace KERNEL_TARGET
}  // namespace subpix::gpu
