#pragma once

#include <cstddef>
#include <memory>

#include "kernels/sim/types.cuh"

/// The host side of the simulator: what gpu/host.cuh and gpu/launch.cuh call. Note [Streams]: work
/// is queued, nothing runs before the host waits for something. What then runs, and in which order,
/// depends on the schedule (sim.h), within the order that streams and events demand. A host that
/// reads without waiting, or a stream that uses another one's results without an event, meets
/// poison.
namespace subpix::sim {

struct LaunchRequest {
  const void* kernel = nullptr;
  void (*invoke)(const void* kernel, const void* arguments) = nullptr;
  std::shared_ptr<const void> arguments;
  std::size_t arguments_size = 0;
  dim3 grid, block;
  unsigned smem = 0, cluster = 1;
  bool coop = false;
};
/// Throws Error for a shape that no device takes; everything else is reported when it runs.
void launch(LaunchRequest request, void* stream);

void* allocate(std::size_t bytes, void* stream);
void release(void* data, void* stream);
void copy_to_device(void* device, const void* host, std::size_t bytes, void* stream);
void copy_to_device_async(void* device, const void* host, std::size_t bytes, void* stream);
void copy_to_host_async(void* host, const void* device, std::size_t bytes, void* stream);
void copy(void* to, const void* from, std::size_t bytes, void* stream);
void fill_bytes(void* device, int value, std::size_t bytes, void* stream);
void* allocate_pinned(std::size_t bytes);
void release_pinned(void* host);

void* create_stream();
void destroy_stream(void* stream);
void synchronize(void* stream);
void synchronize_device();
void* create_event();
void destroy_event(void* event);
void record(void* event, void* stream);
void wait(void* stream, void* event);
void synchronize_event(void* event);

void begin_capture(void* stream);
void* end_capture(void* stream);
void launch_graph(void* graph, void* stream);
void destroy_graph(void* graph);

}  // namespace subpix::sim
