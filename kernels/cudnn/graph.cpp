#include "kernels/cudnn/graph.h"

#include <limits>
#include <utility>
#include <vector>

namespace subpix::kernels::cudnn {

cudnnDataType_t data_type(DType type) {
  switch (type) {
    case DType::F32:
      return CUDNN_DATA_FLOAT;
    case DType::BF16:
      return CUDNN_DATA_BFLOAT16;
    case DType::U8:
      return CUDNN_DATA_UINT8;
  }
  return CUDNN_DATA_FLOAT;
}

namespace {
// What operands of ours have, or are given by a copy: the most that any engine asks for.
constexpr std::int64_t kAlignment = 16;
using Dims = std::array<std::int64_t, 4>;  // n c h w, whatever the order in memory
}  // namespace

class GraphBuilder {
 public:
  Descriptor& tensor(Port port, const Dims& dims, DType type) {
    return tensor(static_cast<std::int64_t>(port), dims, type, false);
  }
  /// A value that never reaches memory.
  Descriptor& virtual_tensor(const Dims& dims) { return tensor(next_++, dims, DType::F32, true); }

  Descriptor& convolution(const Conv2dProblem& d) {
    const std::array<std::int64_t, 2> pads{d.pad, d.pad}, strides{d.stride, d.stride},
        dilations{1, 1};
    return add(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)
        .set(SUBPIX_CUDNN_ATTR(CONVOLUTION_SPATIAL_DIMS), std::int64_t{2})
        .set(SUBPIX_CUDNN_ATTR(CONVOLUTION_COMP_TYPE), CUDNN_DATA_FLOAT)
        .set(SUBPIX_CUDNN_ATTR(CONVOLUTION_CONV_MODE), CUDNN_CROSS_CORRELATION)
        .set(SUBPIX_CUDNN_ATTR(CONVOLUTION_PRE_PADDINGS), pads)
        .set(SUBPIX_CUDNN_ATTR(CONVOLUTION_POST_PADDINGS), pads)
        .set(SUBPIX_CUDNN_ATTR(CONVOLUTION_DILATIONS), dilations)
        .set(SUBPIX_CUDNN_ATTR(CONVOLUTION_FILTER_STRIDES), strides)
        .finalize();
  }

  /// Call finish() on the result when its attributes are set.
  Descriptor& operation(cudnnBackendDescriptorType_t type) {
    Descriptor& op = add(type);
    operations_.push_back(&op);
    return op;
  }

  /// y = x + b, or y = activation(x) where b is null.
  void pointwise(cudnnPointwiseMode_t mode, const Descriptor& x, const Descriptor* b,
                 const Descriptor& y, float slope = 0.0f) {
    Descriptor& how = add(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    how.set(SUBPIX_CUDNN_ATTR(POINTWISE_MODE), mode)
        .set(SUBPIX_CUDNN_ATTR(POINTWISE_MATH_PREC), CUDNN_DATA_FLOAT);
    // cuDNN's own default of the lower slope is 0: plain ReLU.
    if (slope != 0.0f) how.set(SUBPIX_CUDNN_ATTR(POINTWISE_RELU_LOWER_CLIP_SLOPE), slope);
    how.finalize();
    Descriptor& op = operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    op.set(SUBPIX_CUDNN_ATTR(OPERATION_POINTWISE_PW_DESCRIPTOR), how)
        .set(SUBPIX_CUDNN_ATTR(OPERATION_POINTWISE_XDESC), x)
        .set(SUBPIX_CUDNN_ATTR(OPERATION_POINTWISE_YDESC), y);
    if (b) op.set(SUBPIX_CUDNN_ATTR(OPERATION_POINTWISE_BDESC), *b);
    op.finalize();
  }

  OperationGraph finish(std::string key, cudnnHandle_t handle) {
    Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    graph.set(SUBPIX_CUDNN_ATTR(OPERATIONGRAPH_OPS), operations_);
    if (handle) graph.set(SUBPIX_CUDNN_ATTR(OPERATIONGRAPH_HANDLE), handle);
    graph.finalize();
    return OperationGraph(std::move(key), std::move(parts_), std::move(graph));
  }

  Descriptor& add(cudnnBackendDescriptorType_t type) { return parts_.emplace_back(type); }

 private:
  Descriptor& tensor(std::int64_t id, const Dims& dims, DType type, bool is_virtual) {
    const Dims strides{dims[1] * dims[2] * dims[3], 1, dims[3] * dims[1], dims[1]};
    Descriptor& t = add(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    t.set(SUBPIX_CUDNN_ATTR(TENSOR_DATA_TYPE), data_type(type))
        .set(SUBPIX_CUDNN_ATTR(TENSOR_DIMENSIONS), dims)
        .set(SUBPIX_CUDNN_ATTR(TENSOR_STRIDES), strides)
        .set(SUBPIX_CUDNN_ATTR(TENSOR_UNIQUE_ID), id)
        .set(SUBPIX_CUDNN_ATTR(TENSOR_BYTE_ALIGNMENT), kAlignment);
    if (is_virtual) t.set(SUBPIX_CUDNN_ATTR(TENSOR_IS_VIRTUAL), true);
    return t.finalize();
  }

  std::deque<Descriptor> parts_;  // references to its elements stay valid
  std::vector<const Descriptor*> operations_;
  std::int64_t next_ = 100;  // beyond every Port
};

namespace {

Dims x_dims(const Conv2dProblem& d) { return {d.n, d.c, d.h, d.w}; }
Dims w_dims(const Conv2dProblem& d) { return {d.k, d.c, d.r, d.s}; }
Dims y_dims(const Conv2dProblem& d) { return {d.n, d.k, d.p(), d.q()}; }
constexpr float kOne = 1.0f, kZero = 0.0f;

}  // namespace

std::string key_of(const ForwardGraph& g) {
  std::string key = concat("forward/", g.conv.key(), name(g.type), name(g.out), g.bias ? "b" : "",
                           g.statistics ? "s" : "");
  if (g.activation != Activation::None)
    key += concat("a", g.activation == Activation::LeakyRelu ? g.slope : 0.0f);
  return key;
}
std::string key_of(const BackwardDataGraph& g) {
  return concat("backward_data/", g.conv.key(), name(g.type));
}
std::string key_of(const BackwardFilterGraph& g) {
  return concat("backward_filter/", g.conv.key(), name(g.type), name(g.out));
}
std::string key_of(const ChannelSumGraph& g) {
  return concat("channel_sum/", g.n, "x", g.h, "x", g.w, "x", g.c, name(g.type));
}

OperationGraph make_graph(const ForwardGraph& g, cudnnHandle_t handle) {
  const Conv2dProblem& d = g.conv;
  GraphBuilder b;
  Descriptor& x = b.tensor(Port::X, x_dims(d), g.type);
  Descriptor& w = b.tensor(Port::W, w_dims(d), g.type);
  Descriptor& y = b.tensor(Port::Y, y_dims(d), g.out);
  const bool active = g.activation != Activation::None;
  const Descriptor* sum = g.bias || active ? &b.virtual_tensor(y_dims(d)) : &y;
  b.operation(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_FORWARD_X), x)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_FORWARD_W), w)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_FORWARD_Y), *sum)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_FORWARD_CONV_DESC), b.convolution(d))
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_FORWARD_ALPHA), kOne)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_FORWARD_BETA), kZero)
      .finalize();
  if (g.bias) {
    const Descriptor& bias = b.tensor(Port::Bias, {1, d.k, 1, 1}, DType::F32);
    const Descriptor& shifted = active ? b.virtual_tensor(y_dims(d)) : y;
    b.pointwise(CUDNN_POINTWISE_ADD, *sum, &bias, shifted);
    sum = &shifted;
  }
  if (active)
    b.pointwise(CUDNN_POINTWISE_RELU_FWD, *sum, nullptr, y,
                g.activation == Activation::LeakyRelu ? g.slope : 0.0f);
  if (g.statistics) {
    const Descriptor& sums = b.tensor(Port::Sum, {1, d.k, 1, 1}, DType::F32);
    const Descriptor& squares = b.tensor(Port::SquareSum, {1, d.k, 1, 1}, DType::F32);
    b.operation(CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR)
        .set(SUBPIX_CUDNN_ATTR(OPERATION_GENSTATS_MODE), CUDNN_GENSTATS_SUM_SQSUM)
        .set(SUBPIX_CUDNN_ATTR(OPERATION_GENSTATS_MATH_PREC), CUDNN_DATA_FLOAT)
        .set(SUBPIX_CUDNN_ATTR(OPERATION_GENSTATS_XDESC), y)
        .set(SUBPIX_CUDNN_ATTR(OPERATION_GENSTATS_SUMDESC), sums)
        .set(SUBPIX_CUDNN_ATTR(OPERATION_GENSTATS_SQSUMDESC), squares)
        .finalize();
  }
  return b.finish(key_of(g), handle);
}

OperationGraph make_graph(const BackwardDataGraph& g, cudnnHandle_t handle) {
  const Conv2dProblem& d = g.conv;
  GraphBuilder b;
  Descriptor& dx = b.tensor(Port::Dx, x_dims(d), g.type);
  Descriptor& w = b.tensor(Port::W, w_dims(d), g.type);
  Descriptor& dy = b.tensor(Port::Dy, y_dims(d), g.type);
  b.operation(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_BWD_DATA_DX), dx)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_BWD_DATA_W), w)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_BWD_DATA_DY), dy)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC), b.convolution(d))
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_BWD_DATA_ALPHA), kOne)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_BWD_DATA_BETA), kZero)
      .finalize();
  return b.finish(key_of(g), handle);
}

OperationGraph make_graph(const BackwardFilterGraph& g, cudnnHandle_t handle) {
  const Conv2dProblem& d = g.conv;
  GraphBuilder b;
  Descriptor& x = b.tensor(Port::X, x_dims(d), g.type);
  Descriptor& dy = b.tensor(Port::Dy, y_dims(d), g.type);
  Descriptor& dw = b.tensor(Port::Dw, w_dims(d), g.out);
  b.operation(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_BWD_FILTER_X), x)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_BWD_FILTER_DY), dy)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_BWD_FILTER_DW), dw)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC), b.convolution(d))
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_BWD_FILTER_ALPHA), kOne)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_CONVOLUTION_BWD_FILTER_BETA), kZero)
      .finalize();
  return b.finish(key_of(g), handle);
}

OperationGraph make_graph(const ChannelSumGraph& g, cudnnHandle_t handle) {
  GraphBuilder b;
  Descriptor& dy = b.tensor(Port::Dy, {g.n, g.c, g.h, g.w}, g.type);
  Descriptor& sum = b.tensor(Port::Sum, {1, g.c, 1, 1}, DType::F32);
  Descriptor& how = b.add(CUDNN_BACKEND_REDUCTION_DESCRIPTOR)
                        .set(SUBPIX_CUDNN_ATTR(REDUCTION_OPERATOR), CUDNN_REDUCE_TENSOR_ADD)
                        .set(SUBPIX_CUDNN_ATTR(REDUCTION_COMP_TYPE), CUDNN_DATA_FLOAT)
                        .finalize();
  b.operation(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_REDUCTION_XDESC), dy)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_REDUCTION_YDESC), sum)
      .set(SUBPIX_CUDNN_ATTR(OPERATION_REDUCTION_DESC), how)
      .finalize();
  return b.finish(key_of(g), handle);
}

}  // namespace subpix::kernels::cudnn
