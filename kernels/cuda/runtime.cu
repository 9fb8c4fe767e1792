// The memory functions of the backend, on the stream of the context, and the device it runs on.

#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

void* allocate(Context& ctx, std::size_t bytes) { return gpu::allocate(bytes, ctx.stream); }
void release(Context& ctx, void* data, std::size_t) { gpu::release(data, ctx.stream); }

void copy_to_device(Context& ctx, void* device, const void* host, std::size_t bytes) {
  if (bytes > 0) gpu::copy_to_device(device, host, bytes, ctx.stream);
}
void copy_to_host(Context& ctx, void* host, const void* device, std::size_t bytes) {
  if (bytes > 0) gpu::copy_to_host(host, device, bytes, ctx.stream);
}
void copy(Context& ctx, void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) gpu::copy(to, from, bytes, ctx.stream);
}
void synchronize(Context& ctx) { gpu::synchronize(ctx.stream); }

}  // namespace

MemoryOps memory_ops() {
  return {.allocate = allocate,
          .release = release,
          .copy_to_device = copy_to_device,
          .copy_to_host = copy_to_host,
          .copy = copy,
          .synchronize = synchronize};
}

bool available() { return gpu::device_count() > 0; }

DeviceInfo device_info() {
  const gpu::DeviceProperties p = gpu::device_properties();
  DeviceInfo info;
  info.name = p.name;
  info.compute_major = p.compute_major;
  info.compute_minor = p.compute_minor;
  info.multiprocessors = p.multiprocessors;
  info.memory_bytes = p.memory_bytes;
  return info;
}

}  // namespace subpix::kernels::KERNEL_TARGET
