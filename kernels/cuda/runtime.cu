// The memory functions of the backend, on the stream of the context, and the device it runs on.

#include <array>
#include <cstring>
#include <memory>
#include <utility>

#include "kernels/api/context_objects.h"
#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

void* allocate(Context& ctx, std::size_t bytes) { return gpu::allocate(bytes, ctx.stream); }
void release(Context& ctx, void* data, std::size_t) { gpu::release(data, ctx.stream); }

/// Pinned buffers that uploads pass through, so that the caller may go on at once and the copy
/// still runs beside what the host does next. A slot is used again after its copy: with a handful
/// of uploads a step the host is then at most two steps ahead of the device.
class Staging {
 public:
  Staging() = default;
  ~Staging() {
    for (Slot& slot : slots_) {
      if (slot.event) gpu::destroy_event(slot.event);
      if (slot.host) gpu::release_pinned(slot.host);
    }
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  void upload(void* device, const void* host, std::size_t bytes, void* stream) {
    Slot& slot = slots_[next_++ % kSlots];
    if (slot.used) gpu::synchronize_event(slot.event);
    if (!slot.event) slot.event = gpu::create_event();
    if (slot.size < bytes) {
      if (slot.host) gpu::release_pinned(std::exchange(slot.host, nullptr));
      slot.size = 0;
      slot.host = gpu::allocate_pinned(bytes);
      slot.size = bytes;
    }
    std::memcpy(slot.host, host, bytes);
    gpu::copy_to_device_async(device, slot.host, bytes, stream);
    gpu::record(slot.event, stream);
    slot.used = true;
  }

 private:
  static constexpr std::size_t kSlots = 8;
  struct Slot {
    void* host = nullptr;
    void* event = nullptr;
    std::size_t size = 0;
    bool used = false;
  };
  std::array<Slot, kSlots> slots_;
  std::size_t next_ = 0;
};

// Larger ones (weights at the start) go through the driver's own staging.
constexpr std::size_t kMostStaged = std::size_t{8} << 20;

void copy_to_device(Context& ctx, void* device, const void* host, std::size_t bytes) {
  if (bytes == 0) return;
  if (bytes > kMostStaged) return gpu::copy_to_device(device, host, bytes, ctx.stream);
  cached<Staging>(ctx, "staging", [] {
    return std::make_shared<Staging>();
  }).upload(device, host, bytes, ctx.stream);
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

StreamOps stream_ops() {
  return {.create = [](Context&) { return gpu::create_stream(); },
          .destroy = gpu::destroy_stream,
          .begin_capture = [](Context& ctx) { gpu::begin_capture(ctx.stream); },
          .end_capture = [](Context& ctx) { return gpu::end_capture(ctx.stream); },
          .launch_graph = [](Context& ctx, void* graph) { gpu::launch_graph(graph, ctx.stream); },
          .destroy_graph = gpu::destroy_graph};
}

// mma.sync on bf16 and cp.async came with 8.0.
constexpr int kLeastMajor = 8;

std::string obstacle() {
  if (std::string reason = gpu::device_obstacle(); !reason.empty()) return reason;
  const gpu::DeviceProperties p = gpu::device_properties();
  if (p.compute_major < kLeastMajor)
    return concat(p.name, " has compute capability ", p.compute_major, ".", p.compute_minor,
                  ", the kernels need 8.0 or later (Ampere); use --backend cpu");
  return {};
}

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
