#pragma once

// Every kernel source includes this, and nvcc parses it three times for each: so it stays light,
// and what few sources need stands in context_objects.h.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/api/error.h"

namespace subpix::kernels {

struct KernelTable;

/// What a variant may ask before it says "supported".
struct DeviceInfo {
  std::string name = "host";
  int threads = 1;                           ///< compute threads of a host backend
  int compute_major = 0, compute_minor = 0;  ///< CUDA compute capability, 0.0 on the host
  int multiprocessors = 0;
  std::size_t memory_bytes = 0;
  bool tf32 = false;  ///< fp32 convolutions may round their operands to TF32 (10 explicit bits)
};

/// The state kernels run with: device, stream, scratch memory, cached library objects and the
/// choice of variants. One Context per device; not thread-safe (one thread computes). Kernels keep
/// no state.
class Context {
 public:
  Context(const KernelTable& table, DeviceInfo device);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  /// The table this context runs: composed ops call their parts through it.
  const KernelTable& table() const { return *table_; }
  const DeviceInfo& device() const { return device_; }
  /// Whether variants may round fp32 operands to TF32 (DeviceInfo::tf32).
  void allow_tf32(bool value) { device_.tf32 = value; }

  /// Forces a variant by name for an op (`Op::name()`); an empty variant takes the force away.
  /// A forced variant that does not support a problem is an InputError at the call.
  void override_variant(const std::string& op, const std::string& variant);
  /// Plan entries: (op, problem key) to variant; overrides win over the plan, the plan over list
  /// order.
  void plan_variant(const std::string& op, const std::string& key, const std::string& variant);
  bool has_choices() const;
  /// Name forced or planned for this call, or null.
  const std::string* chosen(std::string_view op, const std::string& key, bool* forced) const;

  /// Whether somebody listens to kernel calls: set_trace() of context_objects.h.
  bool traced() const;
  void trace(const char* op, const char* variant, const std::string& key) const;

  /// Forgets what was derived from a storage, when it dies: derived() of context_objects.h.
  void forget(std::uint64_t storage_id);

  /// Choices, listener and library objects: context_objects.h.
  struct Objects;
  Objects& objects() { return *objects_; }

  std::size_t workspace_bytes() const;
  /// The scratch memory of a context. A captured graph keeps the one it was captured with: its
  /// kernels know the addresses.
  struct Arena {
    struct Chunk {
      std::byte* data;
      std::size_t size, used;
    };
    std::vector<Chunk> chunks;
    std::size_t peak = 0;  ///< most bytes in use at once so far
  };
  /// Exchanges the arena in use with `other`. No Workspace may be open.
  void swap_arena(Arena& other);
  void release_arena(Arena& arena);
  /// Gives the scratch arena back, when a phase with smaller needs begins. No Workspace may be
  /// open.
  void trim_workspace();

  void* stream = nullptr;

 private:
  friend class Workspace;
  void* workspace_take(std::size_t bytes);

  const KernelTable* table_;
  DeviceInfo device_;
  Objects* objects_;  // owned
  Arena arena_;
  int workspace_depth_ = 0;
};

/// Scratch device memory for the time of one kernel call. Memory comes from an arena that grows to
/// the largest need and stays, so that a training step soon allocates nothing. Scopes nest: only
/// the innermost one gives out memory, and pointers die with their scope.
///   Workspace ws(ctx); float* partial = ws.take<float>(blocks * c);   // 64-byte aligned,
///   uninitialised
class Workspace {
 public:
  explicit Workspace(Context& ctx);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <class T>
  T* take(std::size_t count) {
    return static_cast<T*>(take_bytes(count, sizeof(T)));
  }

 private:
  void* take_bytes(std::size_t count, std::size_t size);

  Context& ctx_;
  int depth_;
  std::vector<std::size_t> mark_;  // bytes used in each chunk when the scope opened
};

}  // namespace subpix::kernels
