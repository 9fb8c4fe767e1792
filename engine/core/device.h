#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/api/kernels.h"

namespace subpix::engine {

/// What the caching allocator holds; bytes, rounded up to size classes. "in_use" is what tensors
/// own now, "reserved" includes the cached free blocks, "peak" is the largest in_use since the last
/// reset_peak().
struct MemoryStats {
  std::size_t in_use = 0, reserved = 0, peak = 0;
  std::size_t allocations = 0;  ///< calls to the backend's allocate (cache misses)
  std::size_t requests = 0;     ///< tensors asked for
};

class Device;

/// Device memory that one captured graph owns: blocks that its tensors use, and its scratch arena.
/// A graph's kernels know addresses, so nobody else may be given this memory while it lives.
class MemoryPool {
 public:
  explicit MemoryPool(std::shared_ptr<Device> device);
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;
  /// When the graph is gone: gives back what no tensor uses. What some still use follows when they
  /// die and the pool with them.
  void trim() noexcept;

 private:
  friend class Device;
  friend class PoolScope;
  std::shared_ptr<Device> device_;
  std::unordered_map<std::size_t, std::vector<void*>> free_;  // by size class
  kernels::Context::Arena arena_;
};

/// A backend opened on one device: kernel table, context and caching allocator. Tensors keep their
/// device alive. One thread computes on a device.
///
/// Note [Caching allocator]: freed blocks are kept by size class (eight classes per power of two,
/// so at most 1/8 is wasted) and handed out again to the same class: a training step that repeats
/// its shapes asks the backend for nothing. Work whose shapes never repeat (pictures of all sizes)
/// would let the cache grow without end, so it is emptied when the free blocks pass twice the
/// largest use so far.
class Device : public std::enable_shared_from_this<Device> {
 public:
  /// backend: "auto" (cuda if a device answers, else cpu, else reference) or a name of
  /// available_backends(). threads: compute threads of a host backend, 0 for all processors; the
  /// setting belongs to the backend, so the last open() of it counts.
  /// Throws InputError naming the backends of this build, or why this one cannot run here (no
  /// driver, a device that is too old).
  static std::shared_ptr<Device> open(const std::string& backend = "auto", int threads = 0);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const std::string& backend() const { return backend_; }
  /// Lets fp32 convolutions round their operands to TF32. False where the backend has no such
  /// thing.
  bool allow_tf32();
  std::string description() const;  ///< "cpu (oneDNN 2.6.3, 2 threads)"
  kernels::Context& context() { return *context_; }
  const kernels::KernelTable& table() const { return *table_; }

  /// Raw device memory of at least `bytes` (rounded up to a size class), from the cache if
  /// possible. When the backend has no more, the cache is given back and the request tried again;
  /// then InputError.
  void* allocate(std::size_t bytes);
  /// pool: the one that was current when the memory was asked for, or null.
  void release(void* data, std::size_t bytes, MemoryPool* pool) noexcept;
  /// Where allocate() takes memory from within a PoolScope, else null.
  const std::shared_ptr<MemoryPool>& pool() const { return pool_; }
  /// Gives the cached free blocks back to the backend.
  void trim() noexcept;
  const MemoryStats& memory() const { return stats_; }
  void reset_peak() { stats_.peak = stats_.in_use; }
  /// Limit on bytes in use: passing it is an InputError that names size, limit and use. Cached
  /// blocks are given back rather than let `reserved` pass it. 0: none.
  void set_memory_limit(std::size_t bytes) { limit_ = bytes; }
  std::size_t memory_limit() const { return limit_; }
  void synchronize();

 private:
  Device(std::string backend, std::string library, const kernels::KernelTable& table,
         kernels::DeviceInfo info);
  void* allocate_from_backend(std::size_t size);
  friend class MemoryPool;
  friend class PoolScope;
  struct Cache;
  std::string backend_, library_;
  const kernels::KernelTable* table_;
  std::unique_ptr<kernels::Context> context_;
  std::unique_ptr<Cache> cache_;
  std::shared_ptr<MemoryPool> pool_;
  MemoryStats stats_;
  std::size_t largest_use_ = 0;
  std::size_t limit_ = 0;
};

/// For its lifetime, tensors and scratch memory of a device come from a pool.
class PoolScope {
 public:
  explicit PoolScope(const std::shared_ptr<MemoryPool>& pool);
  ~PoolScope();
  PoolScope(const PoolScope&) = delete;
  PoolScope& operator=(const PoolScope&) = delete;

 private:
  Device& device_;
};

/// Bytes the allocator takes for a request: the request rounded up to its size class.
std::size_t size_class(std::size_t bytes);

/// Names this build can open here, best first: {"cpu", "reference", "sim"}.
std::vector<std::string> available_backends();

}  // namespace subpix::engine
