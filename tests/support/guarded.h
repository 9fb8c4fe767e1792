#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/api/kernels.h"
#include "tests/support/fill.h"

/// Device buffers between guard bands, filled with poison. They go through the table's memory
/// functions only, so they serve host and device backends alike.
namespace subpix::tests {

/// 0xFFA5 in every 16 bits: a NaN in fp32 and bf16, and no byte an op writes by habit. So a result
/// that was never written, or that was made from memory beside a buffer, is NaN.
inline void poison(std::vector<std::byte>& bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::byte(i % 2 == 0 ? 0xA5 : 0xFF);
}

/// Bytes on the device with guard_bytes poisoned bytes before and after.
class GuardedBytes {
 public:
  /// A multiple of 64, which keeps the alignment of the data; 0 where the backend's own memory
  /// watches its borders (the simulator's red zones, which name the line).
  static inline std::size_t guard_bytes = 256;

  GuardedBytes(kernels::Context& ctx, std::size_t size)
      : ctx_(ctx), size_(size), before_(size + 2 * guard_) {
    poison(before_);
    base_ = static_cast<std::byte*>(memory().allocate(ctx_, before_.size()));
    memory().copy_to_device(ctx_, base_, before_.data(), before_.size());
  }
  ~GuardedBytes() { memory().release(ctx_, base_, before_.size()); }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;

  std::byte* data() const { return base_ + guard_; }
  std::size_t size() const { return size_; }

  void write(const void* bytes) {
    std::memcpy(before_.data() + guard_, bytes, size_);
    memory().copy_to_device(ctx_, base_, before_.data(), before_.size());
  }
  /// The data as it is now.
  std::vector<std::byte> read() const {
    const std::vector<std::byte> all = read_all();
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(guard_);
    return {begin, begin + static_cast<std::ptrdiff_t>(size_)};
  }
  /// Names the first damaged guard byte, or the first changed byte of an input; else empty.
  std::string damage(bool is_input) const {
    const std::vector<std::byte> now = read_all();
    for (std::size_t i = 0; i < now.size(); ++i) {
      if (now[i] == before_[i]) continue;
      if (i < guard_) return concat("byte ", guard_ - i, " before the buffer was overwritten");
      if (i >= guard_ + size_)
        return concat("byte ", i - guard_ - size_, " behind the buffer was overwritten");
      if (is_input) return concat("byte ", i - guard_, " of an input was changed");
    }
    return {};
  }

 private:
  const kernels::MemoryOps& memory() const { return ctx_.table().memory; }
  std::vector<std::byte> read_all() const {
    std::vector<std::byte> all(before_.size());
    memory().synchronize(ctx_);
    memory().copy_to_host(ctx_, all.data(), base_, all.size());
    return all;
  }

  kernels::Context& ctx_;
  std::size_t guard_ = guard_bytes, size_;
  std::vector<std::byte> before_;  // what was written, guards included
  std::byte* base_ = nullptr;
};

/// The buffers of one kernel call. in() are inputs that must not change, out() are poisoned
/// outputs, inout() start with values. An empty list or a count of 0 stands for a null argument.
class Buffers {
 public:
  explicit Buffers(kernels::Context& ctx) : ctx_(ctx) {}

  template <class T>
  const T* in(const char* what, const Values& values) {
    return values.empty() ? nullptr : upload<T>(what, values, true);
  }
  template <class T>
  T* inout(const char* what, const Values& values) {
    return values.empty() ? nullptr : upload<T>(what, values, false);
  }
  template <class T>
  T* out(const char* what, Index count) {
    if (count == 0) return nullptr;
    entries_.push_back(
        {what, false,
         std::make_unique<GuardedBytes>(ctx_, static_cast<std::size_t>(count) * sizeof(T))});
    return reinterpret_cast<T*>(entries_.back().bytes->data());
  }
  /// The elements of a buffer given out above; none for null.
  template <class T>
  Values read(const T* data) const {
    Values values;
    for (const Entry& entry : entries_) {
      if (reinterpret_cast<const std::byte*>(data) != entry.bytes->data()) continue;
      const std::vector<std::byte> bytes = entry.bytes->read();
      values.resize(bytes.size() / sizeof(T));
      for (std::size_t i = 0; i < values.size(); ++i) {
        T element;
        std::memcpy(&element, bytes.data() + i * sizeof(T), sizeof(T));
        values[i] = value_of(element);
      }
    }
    return values;
  }
  /// Sentences about damaged guard bands and changed inputs.
  std::vector<std::string> damages() const {
    std::vector<std::string> all;
    for (const Entry& entry : entries_)
      if (const std::string damage = entry.bytes->damage(entry.is_input); !damage.empty())
        all.push_back(concat(entry.what, ": ", damage));
    return all;
  }

 private:
  struct Entry {
    const char* what;
    bool is_input;
    std::unique_ptr<GuardedBytes> bytes;
  };
  static double value_of(float v) { return static_cast<double>(v); }
  static double value_of(bf16 v) { return static_cast<double>(to_float(v)); }
  static double value_of(std::uint8_t v) { return v; }

  template <class T>
  T* upload(const char* what, const Values& values, bool is_input) {
    std::vector<T> host(values.size());
    for (std::size_t i = 0; i < host.size(); ++i) host[i] = store<T>(values[i]);
    entries_.push_back(
        {what, is_input, std::make_unique<GuardedBytes>(ctx_, host.size() * sizeof(T))});
    entries_.back().bytes->write(host.data());
    return reinterpret_cast<T*>(entries_.back().bytes->data());
  }

  kernels::Context& ctx_;
  std::vector<Entry> entries_;
};

/// Fills the context's whole scratch arena with poison, so that a kernel that trusts old scratch
/// fails.
inline void poison_workspace(kernels::Context& ctx) {
  {
    kernels::Workspace touch(ctx);  // an arena that grew comes back in one piece
    touch.take<std::byte>(1);
  }
  static const std::vector<std::byte> block = [] {
    std::vector<std::byte> bytes(std::size_t{1} << 20);
    poison(bytes);
    return bytes;
  }();
  const std::size_t size = ctx.workspace_bytes();
  kernels::Workspace ws(ctx);
  std::byte* data = ws.take<std::byte>(size);
  for (std::size_t at = 0; at < size; at += block.size())
    ctx.table().memory.copy_to_device(ctx, data + at, block.data(),
                                      std::min(block.size(), size - at));
}

}  // namespace subpix::tests
