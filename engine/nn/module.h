#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/core/tensor.h"

/// Note [File order]: weight files hold PyTorch's order (filters OIHW, shuffle channels (c, i, j),
/// the columns of a matrix that takes a flattened picture C,H,W), memory holds what the kernels
/// want (KRSC, (i, j, c), H,W,C). The conversion happens in two functions here and nowhere else.
namespace subpix::engine::nn {

/// How a tensor in memory relates to the one in a weight file (always PyTorch's order there).
struct FileLayout {
  enum class Kind : std::uint8_t {
    AsIs,           ///< vectors and matrices, the same on both sides
    Filter,         ///< memory KRSC, file OIHW
    ShuffleFilter,  ///< the same, and K permuted: memory (i, j, c), file (c, i, j); scale = s
    ShuffleVector,  ///< a bias with K permuted the same way
    DenseChw,       ///< columns: memory (h, w, c), file (c, h, w)
  };
  Kind kind = Kind::AsIs;
  Index scale = 1;            ///< ShuffleFilter, ShuffleVector
  Index c = 0, h = 0, w = 0;  ///< DenseChw
};

/// Values from memory order to file order and back, and the shape a file shows. `shape` is the one
/// in memory. Throws Error where shape, layout and number of values do not fit together.
std::vector<float> to_file(const std::vector<float>& memory, const Shape& shape,
                           const FileLayout& layout);
std::vector<float> from_file(const std::vector<float>& file, const Shape& shape,
                             const FileLayout& layout);
std::vector<Index> file_shape(const Shape& memory_shape, const FileLayout& layout);

struct NamedTensor {
  std::string name;  ///< full name, "blocks.3.conv1.weight"
  Tensor tensor;
  FileLayout layout;
  bool trainable = false;  ///< parameter (true) or buffer (false: running statistics)
};

/// A network part: named parameters, buffers and children. Members hold the tensors; registration
/// gives them names. Not copyable (children are referred to by address).
class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// Parameters and buffers of this module and its children in registration order.
  std::vector<NamedTensor> state() const;
  std::vector<Tensor> parameters() const;  ///< the trainable ones
  Index parameter_count() const;           ///< elements of parameters()

  bool training() const { return training_; }
  void set_training(bool value);       ///< this module and all children
  void set_requires_grad(bool value);  ///< freezes or unfreezes all parameters
  void clear_grad();

 protected:
  /// Each returns its value: weight = add_parameter("weight", Tensor::...). A name is used once and
  /// holds no dot (that separates the levels of state()). Parameters are made to require a
  /// gradient.
  Tensor add_parameter(const std::string& name, const Tensor& value, FileLayout layout = {});
  Tensor add_buffer(const std::string& name, const Tensor& value);
  /// The child must live as long as this module (a member). Its name may hold dots ("blocks.3").
  void add_child(const std::string& name, Module& child);

 private:
  /// A tensor, or a child where `child` is set.
  struct Entry {
    NamedTensor tensor;
    Module* child = nullptr;
  };
  void add(Entry entry);
  void collect(const std::string& prefix, std::vector<NamedTensor>& out) const;
  std::vector<Entry> entries_;  // in the order of registration
  bool training_ = true;
};

/// Writes every tensor of state() as F32 in file order under its name, atomically.
void save_module(const Module& module, const std::string& path,
                 const std::vector<std::pair<std::string, std::string>>& metadata = {});
/// Loads by name: every tensor of state() must be there with the file shape. Missing, superfluous,
/// wrongly shaped or typed tensors are an InputError naming file, tensor, both shapes and the
/// remedy; the module is changed only when the whole file fits.
void load_module(Module& module, const std::string& path);

}  // namespace subpix::engine::nn
