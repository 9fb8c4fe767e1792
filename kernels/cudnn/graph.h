#pragma once

#include <array>
#include <deque>
#include <string>

#include "kernels/api/problem.h"
#include "kernels/api/types.h"
#include "kernels/cudnn/descriptor.h"

/// Operation graphs: what is to be computed, in cuDNN's terms. They need no device.
namespace subpix::kernels::cudnn {

/// The tensors of a graph that have memory.
enum class Port : std::int64_t { X = 1, W, Y, Bias, Dy, Dx, Dw, Sum, SquareSum };

/// A pointer for a port at run time.
struct Binding {
  Port port;
  const void* data;
};

/// Our operands have element types of ours; cuDNN computes with fp32 sums in all of them.
cudnnDataType_t data_type(DType type);

/// Operations and their tensors, then the finalised graph. Descriptors refer to each other, so all
/// of them are kept.
class OperationGraph {
 public:
  OperationGraph(OperationGraph&&) = default;

  const Descriptor& descriptor() const { return graph_; }
  /// Names the graph among others: problem, types and what is fused.
  const std::string& key() const { return key_; }

 private:
  friend class GraphBuilder;
  OperationGraph(std::string key, std::deque<Descriptor> parts, Descriptor graph)
      : key_(std::move(key)), parts_(std::move(parts)), graph_(std::move(graph)) {}

  std::string key_;
  std::deque<Descriptor> parts_;
  Descriptor graph_;
};

// key_of() names a graph without making it. In each of them the handle is null on a machine without
// a device: the graph is then finalised without one.

/// y = conv(x, w), then + bias, then the activation, where they are asked for. Sums, bias and
/// activation stay fp32 up to the one rounding of y.
struct ForwardGraph {
  Conv2dProblem conv;
  DType type;  ///< of x and w
  DType out;   ///< of y
  bool bias = false;
  Activation activation = Activation::None;
  float slope = 0.0f;
  bool statistics = false;  ///< also the sums of y and y*y for each channel, fp32
};
std::string key_of(const ForwardGraph& g);
OperationGraph make_graph(const ForwardGraph& g, cudnnHandle_t handle);

/// dx from dy and w.
struct BackwardDataGraph {
  Conv2dProblem conv;
  DType type;
};
std::string key_of(const BackwardDataGraph& g);
OperationGraph make_graph(const BackwardDataGraph& g, cudnnHandle_t handle);

/// dw from x and dy.
struct BackwardFilterGraph {
  Conv2dProblem conv;
  DType type;  ///< of x and dy
  DType out;   ///< of dw
};
std::string key_of(const BackwardFilterGraph& g);
OperationGraph make_graph(const BackwardFilterGraph& g, cudnnHandle_t handle);

/// The sum of dy over all pixels of each channel, fp32: a bias' gradient.
struct ChannelSumGraph {
  Index n, h, w, c;
  DType type;
};
std::string key_of(const ChannelSumGraph& g);
OperationGraph make_graph(const ChannelSumGraph& g, cudnnHandle_t handle);

}  // namespace subpix::kernels::cudnn
