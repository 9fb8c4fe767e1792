#include "kernels/cuda/gpu/gpu.cuh"
#include "tests/sim/kernels/kernels.h"

namespace subpix::kernels::KERNEL_TARGET {

void* device_allocate(std::size_t bytes, void* stream) { return gpu::allocate(bytes, stream); }
void device_release(void* data, void* stream) { gpu::release(data, stream); }
void to_device(void* device, const void* host, std::size_t bytes, void* stream) {
  gpu::copy_to_device(device, host, bytes, stream);
}
void to_host(void* host, const void* device, std::size_t bytes, void* stream) {
  gpu::copy_to_host(host, device, bytes, stream);
}
void to_host_async(void* host, const void* device, std::size_t bytes, void* stream) {
  gpu::copy_to_host_async(host, device, bytes, stream);
}
void device_copy(void* to, const void* from, std::size_t bytes, void* stream) {
  gpu::copy(to, from, bytes, stream);
}
void device_fill(void* device, int value, std::size_t bytes, void* stream) {
  gpu::fill_bytes(device, value, bytes, stream);
}
void* make_stream() { return gpu::create_stream(); }
void drop_stream(void* stream) { gpu::destroy_stream(stream); }
void wait_for(void* stream) { gpu::synchronize(stream); }
void wait_for_device() { gpu::synchronize_device(); }
void* make_event() { return gpu::create_event(); }
void drop_event(void* event) { gpu::destroy_event(event); }
void record_event(void* event, void* stream) { gpu::record(event, stream); }
void wait_event(void* stream, void* event) { gpu::wait(stream, event); }
void wait_for_event(void* event) { gpu::synchronize_event(event); }
void capture_begin(void* stream) { gpu::begin_capture(stream); }
void* capture_end(void* stream) { return gpu::end_capture(stream); }
void graph_launch(void* graph, void* stream) { gpu::launch_graph(graph, stream); }
void graph_drop(void* graph) { gpu::destroy_graph(graph); }

}  // namespace subpix::kernels::KERNEL_TARGET
