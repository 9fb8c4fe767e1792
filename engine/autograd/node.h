#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/core/tensor.h"

namespace subpix::engine {

class Saved;

/// A gradient that its node puts off to the end of the walk, where it is computed in one go with
/// the others of its kind: nothing in the walk needs the gradients of weights. Until then it holds
/// the tensors that it is computed from.
class Deferred {
 public:
  Deferred() = default;
  virtual ~Deferred() = default;
  Deferred(const Deferred&) = delete;
  Deferred& operator=(const Deferred&) = delete;
  /// Those of equal kind are of one class and are computed together.
  virtual std::string kind() const = 0;
  /// The gradients of all in `group`, this one first, in its order.
  virtual std::vector<Tensor> run(std::span<Deferred* const> group) = 0;
};

/// One step of the backward graph. Each op of engine/ops defines `struct XNode final : Node` beside
/// its forward function, with the tensors it needs as named Saved members. Graph rules:
///  - one output per node; edges() say where the gradients of the op's tensor arguments go, in
///  their
///    order, null if none is wanted;
///  - nodes are numbered in the order of creation, which is a topological order;
///  - backward() returns one gradient per edge (undefined where needs(i) is false) of the
///  argument's
///    shape and type, or F32 (weight gradients); it never writes into dy, which others may share:
///    the walker accumulates, checks shapes and frees;
///  - backward() runs without recording: first order only.
class Node {
 public:
  explicit Node(std::initializer_list<Tensor> inputs);
  explicit Node(std::span<const Tensor> inputs);
  /// Takes a graph of any depth down without recursion.
  virtual ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  virtual const char* name() const = 0;
  virtual std::vector<Tensor> backward(const Tensor& dy) = 0;
  /// The argument (-1: none) whose gradient this node adds to what others have sent there so far:
  /// the walker hands that over as take_joined() and takes the sum as the node's result.
  virtual int joins() const { return -1; }
  void set_joined(Tensor gradient) { joined_ = std::move(gradient); }
  /// What backward() has just put off for argument i, where it returned no gradient though one is
  /// wanted. See may_defer(i).
  virtual std::unique_ptr<Deferred> take_deferred(std::size_t /*i*/) { return nullptr; }
  /// The tensor whose grad() this node fills; undefined for all but the accumulators of leaves.
  virtual Tensor leaf() const { return {}; }

  bool needs(std::size_t i) const { return edges_[i] != nullptr; }
  const std::vector<std::shared_ptr<Node>>& edges() const { return edges_; }
  std::uint64_t sequence() const { return sequence_; }

  /// Shape and type of what the op returned.
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  void set_output(const Shape& shape, DType dtype) { shape_ = shape, dtype_ = dtype; }

  /// Lets go of saved tensors and edges; the walker calls it after backward().
  void free();
  bool freed() const { return freed_; }
  std::size_t saved_bytes() const;

 protected:
  /// Whether the gradient of argument i may be put off: it is wanted, and by a leaf.
  bool may_defer(std::size_t i) const { return needs(i) && edges_[i]->leaf().defined(); }
  /// What others sent to the argument of joins(), or undefined.
  Tensor take_joined() { return std::exchange(joined_, Tensor()); }

 private:
  friend class Saved;
  void drop_edges();
  Tensor joined_;
  std::vector<std::shared_ptr<Node>> edges_;
  std::vector<Saved*> saved_;  // members of the derived node
  Shape shape_;
  DType dtype_ = DType::F32;
  std::uint64_t sequence_;
  bool freed_ = false;
};

/// A tensor kept for backward under a name, with the version it had: get() refuses one that was
/// written since. A member of the node that owns it; an undefined tensor saves nothing.
class Saved {
 public:
  Saved(Node& owner, const char* label, const Tensor& t);
  Saved(const Saved&) = delete;
  Saved& operator=(const Saved&) = delete;
  const Tensor& get() const;
  bool defined() const { return tensor_.defined(); }

 private:
  friend class Node;
  const Node& owner_;
  const char* label_;
  Tensor tensor_;
  std::uint64_t version_ = 0;
};

/// True when ops shall record: grad mode is on and one of the inputs requires a gradient.
bool recording(std::initializer_list<Tensor> inputs);
bool recording(std::span<const Tensor> inputs);

/// Switches recording off for its lifetime (this thread).
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool before_;
};

/// Walks the graph from `root` to the leaves and accumulates into their grad(). seed: dLoss/dRoot,
/// of root's shape; may be left out when root has one element (then 1). The graph is freed on the
/// way unless retain; walking a freed graph again throws Error. First order only.
void backward(const Tensor& root, const Tensor& seed = Tensor(), bool retain = false);

/// The graph behind `root` as text, one node a line, last first: for debugging and tests.
///   "#7 conv2d [1,4,4,8] saves 1152 bytes <- #3 #5 -"    (- : no gradient wanted)
///   "#3 leaf [1,4,4,2]"
std::string dump_graph(const Tensor& root);

/// The node that adds gradients into leaf.grad(); Tensor::gradient_edge() makes one per leaf.
std::shared_ptr<Node> make_accumulator(const Tensor& leaf);

}  // namespace subpix::engine
