#pragma once

// Included by gpu.cuh. What host code needs besides a launch: memory, copies, streams, events,
// graphs. Streams, events and graphs are opaque pointers on both sides; the null stream is the
// default stream. Each function throws Error (allocate: InputError when memory is short).

#include <string>

namespace subpix::gpu {
inline namespace KERNEL_TARGET {

/// Device memory, 256-byte aligned; ordered after the work already queued on `stream`.
void* allocate(std::size_t bytes, void* stream);
void release(void* data, void* stream);
/// The host buffer may be reused when the call returns.
void copy_to_device(void* device, const void* host, std::size_t bytes, void* stream);
/// Queued; `host` is pinned memory and must stay as it is until the stream was waited for.
void copy_to_device_async(void* device, const void* host, std::size_t bytes, void* stream);
/// Returns when the bytes have arrived.
void copy_to_host(void* host, const void* device, std::size_t bytes, void* stream);
/// Queued; `host` is pinned memory and holds nothing useful before the stream was waited for.
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
void record(void* event, void* stream);  ///< marks the work queued so far
void wait(void* stream, void* event);    ///< later work of `stream` waits for that mark
void synchronize_event(void* event);

/// Everything queued on `stream` (and on streams that wait for its events) until end_capture() is
/// recorded and not run. Allocation, release and waiting by the host are refused meanwhile.
void begin_capture(void* stream);
void* end_capture(void* stream);
void launch_graph(void* graph, void* stream);
void destroy_graph(void* graph);

struct DeviceProperties {
  std::string name;
  int compute_major = 0, compute_minor = 0;
  int multiprocessors = 0;
  std::size_t memory_bytes = 0;
};
/// Why no device can be used, with the remedy; empty where one can.
std::string device_obstacle();
/// Of the current device.
DeviceProperties device_properties();

#if defined(__CUDACC__)

namespace detail {

inline void check(cudaError_t status, const char* expression, const char* file, int line) {
  if (status == cudaSuccess) return;
  throw Error(concat("CUDA: ", cudaGetErrorString(status), " [", expression, " failed at ", file,
                     ":", line, "]"));
}
#define SUBPIX_CUDA_CHECK(expression) \
  ::subpix::gpu::detail::check((expression), #expression, __FILE__, __LINE__)

inline void check_launch(cudaError_t status, const void* kernel) {
  if (status == cudaSuccess) return;
  const char* name = nullptr;
  if (cudaFuncGetName(&name, kernel) != cudaSuccess || !name) name = "a kernel";
  throw Error(concat("CUDA: launching ", name, ": ", cudaGetErrorString(status)));
}

/// A function of the driver library, which is not linked: cuTensorMapEncode* are found at run time.
template <class Function>
Function driver_function(const char* name) {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found{};
  SUBPIX_CUDA_CHECK(
      cudaGetDriverEntryPointByVersion(name, &entry, 12000, cudaEnableDefault, &found));
  SUBPIX_REQUIRE(found == cudaDriverEntryPointSuccess && entry, "the CUDA driver has no ", name,
                 "; TMA needs a driver of CUDA 12 or later");
  return reinterpret_cast<Function>(entry);
}

inline cudaStream_t native(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace detail

inline void* allocate(std::size_t bytes, void* stream) {
  void* data = nullptr;
  const cudaError_t status = cudaMallocAsync(&data, bytes ? bytes : 1, detail::native(stream));
  if (status == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());  // the failure is reported here; later calls start clean
    std::size_t free_bytes = 0, total = 0;
    static_cast<void>(cudaMemGetInfo(&free_bytes, &total));
    throw InputError(concat("out of device memory: ", bytes, " bytes asked, ", free_bytes, " of ",
                            total, " bytes free; use a smaller batch, crop or tile"));
  }
  SUBPIX_CUDA_CHECK(status);
  return data;
}
inline void release(void* data, void* stream) {
  SUBPIX_CUDA_CHECK(cudaFreeAsync(data, detail::native(stream)));
}
inline void copy_to_device(void* device, const void* host, std::size_t bytes, void* stream) {
  copy_to_device_async(device, host, bytes, stream);  // pageable memory is staged by the driver
}
inline void copy_to_device_async(void* device, const void* host, std::size_t bytes, void* stream) {
  SUBPIX_CUDA_CHECK(
      cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, detail::native(stream)));
}
inline void copy_to_host(void* host, const void* device, std::size_t bytes, void* stream) {
  copy_to_host_async(host, device, bytes, stream);
  synchronize(stream);
}
inline void copy_to_host_async(void* host, const void* device, std::size_t bytes, void* stream) {
  SUBPIX_CUDA_CHECK(
      cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, detail::native(stream)));
}
inline void copy(void* to, const void* from, std::size_t bytes, void* stream) {
  SUBPIX_CUDA_CHECK(
      cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, detail::native(stream)));
}
inline void fill_bytes(void* device, int value, std::size_t bytes, void* stream) {
  SUBPIX_CUDA_CHECK(cudaMemsetAsync(device, value, bytes, detail::native(stream)));
}
inline void* allocate_pinned(std::size_t bytes) {
  void* host = nullptr;
  SUBPIX_CUDA_CHECK(cudaMallocHost(&host, bytes ? bytes : 1));
  return host;
}
inline void release_pinned(void* host) { SUBPIX_CUDA_CHECK(cudaFreeHost(host)); }

inline void* create_stream() {
  cudaStream_t stream = nullptr;
  SUBPIX_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}
inline void destroy_stream(void* stream) {
  SUBPIX_CUDA_CHECK(cudaStreamDestroy(detail::native(stream)));
}
inline void synchronize(void* stream) {
  SUBPIX_CUDA_CHECK(cudaStreamSynchronize(detail::native(stream)));
}
inline void synchronize_device() { SUBPIX_CUDA_CHECK(cudaDeviceSynchronize()); }

inline void* create_event() {
  cudaEvent_t event = nullptr;
  SUBPIX_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return event;
}
inline void destroy_event(void* event) {
  SUBPIX_CUDA_CHECK(cudaEventDestroy(static_cast<cudaEvent_t>(event)));
}
inline void record(void* event, void* stream) {
  SUBPIX_CUDA_CHECK(cudaEventRecord(static_cast<cudaEvent_t>(event), detail::native(stream)));
}
inline void wait(void* stream, void* event) {
  SUBPIX_CUDA_CHECK(
      cudaStreamWaitEvent(detail::native(stream), static_cast<cudaEvent_t>(event), 0));
}
inline void synchronize_event(void* event) {
  SUBPIX_CUDA_CHECK(cudaEventSynchronize(static_cast<cudaEvent_t>(event)));
}

inline void begin_capture(void* stream) {
  SUBPIX_CUDA_CHECK(
      cudaStreamBeginCapture(detail::native(stream), cudaStreamCaptureModeThreadLocal));
}
inline void* end_capture(void* stream) {
  cudaGraph_t graph = nullptr;
  SUBPIX_CUDA_CHECK(cudaStreamEndCapture(detail::native(stream), &graph));
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  static_cast<void>(cudaGraphDestroy(graph));
  SUBPIX_CUDA_CHECK(status);
  return executable;
}
inline void launch_graph(void* graph, void* stream) {
  SUBPIX_CUDA_CHECK(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), detail::native(stream)));
}
inline void destroy_graph(void* graph) {
  SUBPIX_CUDA_CHECK(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)));
}

inline std::string device_obstacle() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return {};
  static_cast<void>(cudaGetLastError());  // reported here; later calls start clean
  if (status == cudaSuccess || status == cudaErrorNoDevice)
    return "the CUDA driver sees no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES, or use "
           "--backend cpu";
  int driver = 0, runtime = 0;
  static_cast<void>(cudaDriverGetVersion(&driver));
  static_cast<void>(cudaRuntimeGetVersion(&runtime));
  if (driver == 0)
    return "no NVIDIA driver is installed; install one (Debian: nvidia-driver), or use --backend "
           "cpu";
  const auto version = [](int v) { return concat(v / 1000, ".", v % 1000 / 10); };
  if (status == cudaErrorInsufficientDriver)
    return concat("the NVIDIA driver is for CUDA ", version(driver), ", this program needs ",
                  version(runtime), "; update the driver, or use --backend cpu");
  return concat("CUDA: ", cudaGetErrorString(status), "; use --backend cpu");
}
inline DeviceProperties device_properties() {
  int device = 0;
  SUBPIX_CUDA_CHECK(cudaGetDevice(&device));
  cudaDeviceProp p{};
  SUBPIX_CUDA_CHECK(cudaGetDeviceProperties(&p, device));
  return {p.name, p.major, p.minor, p.multiProcessorCount, p.totalGlobalMem};
}

inline TmaMap make_tma_map(const TmaTiled& t) {
  detail::check(t);
  static const auto encode =
      detail::driver_function<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  TmaMap map;
  const cuuint32_t steps[5] = {1, 1, 1, 1, 1};
  const CUresult status =
      encode(&map.map, detail::native(t.element), static_cast<cuuint32_t>(t.rank),
             const_cast<void*>(t.base), t.dims, t.strides, t.box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, detail::native(t.swizzle),
             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  SUBPIX_REQUIRE(status == CUDA_SUCCESS, "cuTensorMapEncodeTiled gave error ",
                 static_cast<int>(status));
  return map;
}

inline TmaMap make_tma_map(const TmaIm2col& t) {
  detail::check(t);
  static const auto encode =
      detail::driver_function<decltype(&cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col");
  TmaMap map;
  const std::uint64_t e = size_of(t.element);
  const cuuint64_t dims[4] = {t.c, t.w, t.h, t.n};
  const cuuint64_t strides[3] = {t.c * e, t.w * t.c * e, t.h * t.w * t.c * e};
  const int lower[2] = {t.lower_w, t.lower_h}, upper[2] = {t.upper_w, t.upper_h};
  const cuuint32_t steps[4] = {1, 1, 1, 1};
  const CUresult status = encode(
      &map.map, detail::native(t.element), 4, const_cast<void*>(t.base), dims, strides, lower,
      upper, t.channels, t.pixels, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, detail::native(t.swizzle),
      CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  SUBPIX_REQUIRE(status == CUDA_SUCCESS, "cuTensorMapEncodeIm2col gave error ",
                 static_cast<int>(status));
  return map;
}

#else  // the simulator's twins are ordinary functions of kernels/sim/runtime.h

inline void* allocate(std::size_t bytes, void* stream) {
  return ::subpix::sim::allocate(bytes, stream);
}
inline void release(void* data, void* stream) { ::subpix::sim::release(data, stream); }
inline void copy_to_device(void* device, const void* host, std::size_t bytes, void* stream) {
  ::subpix::sim::copy_to_device(device, host, bytes, stream);
}
inline void copy_to_device_async(void* device, const void* host, std::size_t bytes, void* stream) {
  ::subpix::sim::copy_to_device_async(device, host, bytes, stream);
}
inline void copy_to_host(void* host, const void* device, std::size_t bytes, void* stream) {
  ::subpix::sim::copy_to_host_async(host, device, bytes, stream);
  ::subpix::sim::synchronize(stream);
}
inline void copy_to_host_async(void* host, const void* device, std::size_t bytes, void* stream) {
  ::subpix::sim::copy_to_host_async(host, device, bytes, stream);
}
inline void copy(void* to, const void* from, std::size_t bytes, void* stream) {
  ::subpix::sim::copy(to, from, bytes, stream);
}
inline void fill_bytes(void* device, int value, std::size_t bytes, void* stream) {
  ::subpix::sim::fill_bytes(device, value, bytes, stream);
}
inline void* allocate_pinned(std::size_t bytes) { return ::subpix::sim::allocate_pinned(bytes); }
inline void release_pinned(void* host) { ::subpix::sim::release_pinned(host); }
inline void* create_stream() { return ::subpix::sim::create_stream(); }
inline void destroy_stream(void* stream) { ::subpix::sim::destroy_stream(stream); }
inline void synchronize(void* stream) { ::subpix::sim::synchronize(stream); }
inline void synchronize_device() { ::subpix::sim::synchronize_device(); }
inline void* create_event() { return ::subpix::sim::create_event(); }
inline void destroy_event(void* event) { ::subpix::sim::destroy_event(event); }
inline void record(void* event, void* stream) { ::subpix::sim::record(event, stream); }
inline void wait(void* stream, void* event) { ::subpix::sim::wait(stream, event); }
inline void synchronize_event(void* event) { ::subpix::sim::synchronize_event(event); }
inline void begin_capture(void* stream) { ::subpix::sim::begin_capture(stream); }
inline void* end_capture(void* stream) { return ::subpix::sim::end_capture(stream); }
inline void launch_graph(void* graph, void* stream) { ::subpix::sim::launch_graph(graph, stream); }
inline void destroy_graph(void* graph) { ::subpix::sim::destroy_graph(graph); }
inline std::string device_obstacle() { return {}; }
inline DeviceProperties device_properties() {
  return {"simulated GPU of compute capability 9.0", 9, 0, 132, 0};
}

inline TmaMap make_tma_map(const TmaTiled& t) {
  detail::check(t);
  ::subpix::sim::TensorMap m;
  m.base = static_cast<const unsigned char*>(t.base);
  m.element_size = size_of(t.element);
  m.swizzle_bytes = detail::swizzle_bytes(t.swizzle);
  m.rank = t.rank;
  m.strides[0] = m.element_size;
  for (int i = 0; i < t.rank; ++i) {
    m.dims[i] = static_cast<std::int64_t>(t.dims[i]);
    if (i > 0) m.strides[i] = static_cast<std::int64_t>(t.strides[i - 1]);
    m.box[i] = static_cast<int>(t.box[i]);
  }
  return {m};
}

inline TmaMap make_tma_map(const TmaIm2col& t) {
  detail::check(t);
  ::subpix::sim::TensorMap m;
  m.base = static_cast<const unsigned char*>(t.base);
  m.element_size = size_of(t.element);
  m.swizzle_bytes = detail::swizzle_bytes(t.swizzle);
  m.im2col = true;
  m.rank = 4;
  const std::uint64_t dims[4] = {t.c, t.w, t.h, t.n};
  std::int64_t stride = m.element_size;
  for (int i = 0; i < 4; ++i) {
    m.dims[i] = static_cast<std::int64_t>(dims[i]);
    m.strides[i] = stride;
    stride *= m.dims[i];
  }
  m.box[0] = static_cast<int>(t.channels);
  m.box[1] = static_cast<int>(t.pixels);
  m.lower[0] = t.lower_w;
  m.lower[1] = t.lower_h;
  m.upper[0] = t.upper_w;
  m.upper[1] = t.upper_h;
  return {m};
}

#endif

}  // namespace KERNEL_TARGET
}  // namespace subpix::gpu
