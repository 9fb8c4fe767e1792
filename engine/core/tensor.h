#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/core/device.h"
#include "engine/core/error.h"
#include "engine/core/shape.h"
#include "kernels/api/types.h"

namespace subpix::engine {

class Node;

/// Reference-counted bytes on a device, uniquely owned; id is never reused within a process,
/// version counts writes (optimiser, running statistics, uploads) so that cached filters and saved
/// tensors notice them.
class Storage {
 public:
  Storage(std::shared_ptr<Device> device, std::size_t bytes);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  Device& device() const { return *device_; }
  std::uint64_t id() const { return id_; }
  std::uint64_t version() const { return version_; }
  void bump_version() { ++version_; }

 private:
  std::shared_ptr<Device> device_;
  std::shared_ptr<MemoryPool> pool_;
  std::size_t bytes_;
  void* data_;
  std::uint64_t id_;
  std::uint64_t version_ = 1;
};

/// A cheap handle: copies share elements and gradient. Always contiguous. Reshape is a view;
/// everything else copies. An undefined tensor (default) stands for "none".
///
/// Note [Saved tensors]: nodes keep tensors as Saved members (engine/autograd/node.h), which
/// detach: a node that held its own output would keep itself alive. Backward refuses a saved tensor
/// whose storage was written since.
class Tensor {
 public:
  Tensor() = default;
  /// Uninitialised elements.
  static Tensor empty(Device& device, const Shape& shape, DType dtype = DType::F32);
  /// F32 or BF16.
  static Tensor full(Device& device, const Shape& shape, float value, DType dtype = DType::F32);
  static Tensor zeros(Device& device, const Shape& shape, DType dtype = DType::F32) {
    return full(device, shape, 0.0f, dtype);
  }
  /// F32 from host values; values.size() must equal shape.count().
  static Tensor from_host(Device& device, const Shape& shape, std::span<const float> values);
  /// U8 from host bytes.
  static Tensor from_bytes(Device& device, const Shape& shape,
                           std::span<const std::uint8_t> values);

  bool defined() const { return impl_ != nullptr; }
  const Shape& shape() const;
  Index dim(int i) const { return shape()[i]; }
  Index count() const { return shape().count(); }
  DType dtype() const;
  Device& device() const;

  /// Device pointer; T must match dtype(). Taken at the last moment, never stored. Writing through
  /// it calls for bump_version().
  template <class T>
  T* data() const {
    check_dtype(DTypeOf<T>::value);
    return static_cast<T*>(raw());
  }
  void* raw() const;
  /// The tensor as a filter whose packed form a backend may cache.
  template <class T>
  kernels::Filter<T> filter() const {
    return {data<T>(), storage_id(), version()};
  }
  /// Of an F32 tensor: its copy rounded to BF16, made at the first call and again after the tensor
  /// was written. Weights are kept in F32 (the master that the optimiser updates) and read through
  /// this copy by layers that compute in BF16.
  Tensor bf16_copy() const;
  /// The copy if there is one, whatever its age: for whoever writes both (Adam) and says so with
  /// bf16_copy_written() after bump_version().
  Tensor existing_bf16_copy() const;
  void bf16_copy_written() const;
  std::uint64_t storage_id() const;
  std::uint64_t version() const;
  void bump_version() const;
  /// Whether nothing else (copies of this handle, views, saved tensors) refers to the elements.
  bool is_unique() const;

  std::vector<float> to_host() const;                             ///< waits; F32 or BF16
  std::vector<std::uint8_t> to_host_bytes() const;                ///< waits; U8
  float item() const;                                             ///< waits; the one element
  void upload(std::span<const float> values) const;               ///< F32, same count
  void upload_bytes(std::span<const std::uint8_t> values) const;  ///< U8, same count
  void copy_from(const Tensor& other) const;                      ///< same device, dtype and count

  Tensor clone() const;                   ///< own elements, no graph
  Tensor detach() const;                  ///< same elements, no graph
  Tensor view(const Shape& shape) const;  ///< same elements, no graph; same count

  // --- autograd ---
  /// Leaves only: whether backward() shall fill grad().
  const Tensor& set_requires_grad(bool value) const;
  /// True for a leaf that wants a gradient and for the result of an op on such tensors.
  bool requires_grad() const;
  bool is_leaf() const;
  Tensor grad() const;                      ///< undefined until backward() reached this leaf
  void set_grad(const Tensor& grad) const;  ///< same shape; F32, or this tensor's type
  void clear_grad() const { set_grad(Tensor()); }
  const std::shared_ptr<Node>& node() const;  ///< what produced it, or null
  /// Ops only: makes this tensor the output of `node`.
  void set_node(std::shared_ptr<Node> node) const;
  /// Where a gradient of this tensor goes: its node, the accumulator of a leaf, or null.
  std::shared_ptr<Node> gradient_edge() const;

 private:
  struct Impl;
  Impl& impl() const;
  void check_dtype(DType wanted) const;
  explicit Tensor(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<Impl> impl_;
};

}  // namespace subpix::engine
