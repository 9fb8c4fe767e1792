// Our own runtime behind g++ -fsanitize=thread: the kernels of the check flavour are compiled with
// that flag and linked without it, so the calls that g++ inserts before every load and store come
// here.

#include <cstddef>
#include <cstdint>

#include "kernels/sim/engine.h"

namespace subpix::sim {
extern bool instrumented;

namespace {
/// On the host (launchers share files with kernels) nothing is watched.
inline void see(const void* p, std::size_t bytes, bool write, bool aligned, const void* caller) {
  if (current) plain_access(p, bytes, write, aligned, reinterpret_cast<std::uintptr_t>(caller));
}
}  // namespace
}  // namespace subpix::sim

#define SUBPIX_SEE(bytes, write, aligned) \
  subpix::sim::see(p, bytes, write, aligned, __builtin_return_address(0))
#define SUBPIX_ENTRY(size)                                                      \
  void __tsan_read##size(void* p) { SUBPIX_SEE(size, false, true); }            \
  void __tsan_write##size(void* p) { SUBPIX_SEE(size, true, true); }            \
  void __tsan_unaligned_read##size(void* p) { SUBPIX_SEE(size, false, false); } \
  void __tsan_unaligned_write##size(void* p) { SUBPIX_SEE(size, true, false); }

// Atomics of host code that shares a file with kernels: shared_ptr, function-local statics. Kernels
// use CUDA's atomics, which do not come this way.
#define SUBPIX_ATOMIC(bits, Type)                                                                  \
  Type __tsan_atomic##bits##_load(const volatile Type* p, int) {                                   \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                \
  void __tsan_atomic##bits##_store(volatile Type* p, Type v, int) {                                \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                \
  Type __tsan_atomic##bits##_exchange(volatile Type* p, Type v, int) {                             \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                            \
  }                                                                                                \
  Type __tsan_atomic##bits##_fetch_add(volatile Type* p, Type v, int) {                            \
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  Type __tsan_atomic##bits##_fetch_sub(volatile Type* p, Type v, int) {                            \
    return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  bool __tsan_atomic##bits##_compare_exchange_strong(volatile Type* p, Type* expected, Type v,     \
                                                     int, int) {                                   \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                                \
  bool __tsan_atomic##bits##_compare_exchange_weak(volatile Type* p, Type* expected, Type v, int,  \
                                                   int) {                                          \
    return __atomic_compare_exchange_n(p, expected, v, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);  \
  }

extern "C" {
SUBPIX_ATOMIC(8, std::uint8_t)
SUBPIX_ATOMIC(32, std::uint32_t)
SUBPIX_ATOMIC(64, std::uint64_t)
SUBPIX_ENTRY(1)
SUBPIX_ENTRY(2)
SUBPIX_ENTRY(4)
SUBPIX_ENTRY(8)
SUBPIX_ENTRY(16)
void __tsan_read_range(void* p, std::size_t bytes) { SUBPIX_SEE(bytes, false, false); }
void __tsan_write_range(void* p, std::size_t bytes) { SUBPIX_SEE(bytes, true, false); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_init() { subpix::sim::instrumented = true; }
}
