// Operation graphs of every convolution in both types, finalised without a device.

#include <string>
#include <vector>

#include "kernels/cudnn/graph.h"
#include "tests/cudnn/cudnn_library.h"
#include "tests/support/catch.h"
#include "tests/support/problems.h"

namespace subpix::tests {
namespace {

template <class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

using namespace kernels::cudnn;
using kernels::Activation;

std::vector<Conv2dProblem> all_problems() {
  std::vector<Conv2dProblem> list = conv2d_edge_problems();
  for (const Conv2dProblem& d : conv2d_srgan_problems()) list.push_back(d);
  return list;
}

TEST_CASE("every convolution's operation graph is finalised without a device", "[cudnn]") {
  need_cudnn();
  for (const Conv2dProblem& d : all_problems())
    for (const DType type : {DType::F32, DType::BF16}) {
      INFO(d.key() << " " << name(type));
      CHECK_NOTHROW(make_graph(ForwardGraph{.conv = d, .type = type, .out = type}, nullptr));
      CHECK_NOTHROW(make_graph(BackwardDataGraph{.conv = d, .type = type}, nullptr));
      CHECK_NOTHROW(
          make_graph(BackwardFilterGraph{.conv = d, .type = type, .out = DType::F32}, nullptr));
      CHECK_NOTHROW(make_graph(
          ChannelSumGraph{.n = d.n, .h = d.p(), .w = d.q(), .c = d.k, .type = type}, nullptr));
    }
}

TEST_CASE("fused graphs are finalised without a device", "[cudnn]") {
  need_cudnn();
  for (const Conv2dProblem& d : conv2d_srgan_problems())
    for (const DType type : {DType::F32, DType::BF16})
      for (const bool bias : {false, true}) {
        INFO(d.key() << " " << name(type));
        for (const Activation a : {Activation::None, Activation::Relu, Activation::LeakyRelu})
          CHECK_NOTHROW(make_graph(ForwardGraph{.conv = d,
                                                .type = type,
                                                .out = type,
                                                .bias = bias,
                                                .activation = a,
                                                .slope = 0.2f},
                                   nullptr));
        CHECK_NOTHROW(make_graph(
            ForwardGraph{.conv = d, .type = type, .out = type, .bias = bias, .statistics = true},
            nullptr));
      }
}

TEST_CASE("graphs that differ have keys that differ", "[cudnn]") {
  need_cudnn();
  const Conv2dProblem d = conv2d_srgan_problems().front();
  const auto key = [&](ForwardGraph g) {
    g.conv = d;
    return make_graph(g, nullptr).key();
  };
  const ForwardGraph plain{.conv = d, .type = DType::BF16, .out = DType::BF16};
  ForwardGraph biased = plain, wide = plain, relu = plain, leaky = plain, counted = plain;
  biased.bias = true;
  wide.out = DType::F32;
  relu.activation = Activation::Relu;
  leaky.activation = Activation::LeakyRelu;
  leaky.slope = 0.2f;
  counted.statistics = true;
  const std::vector<std::string> keys = {key(plain), key(biased), key(wide),
                                         key(relu),  key(leaky),  key(counted)};
  for (std::size_t i = 0; i < keys.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) CHECK(keys[i] != keys[j]);
}

TEST_CASE("a refused descriptor names its attribute or its kind and the status", "[cudnn]") {
  need_cudnn();
  Descriptor tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  const std::string wrong =
      message_of([&] { tensor.set(SUBPIX_CUDNN_ATTR(CONVOLUTION_SPATIAL_DIMS), std::int64_t{2}); });
  CHECK(wrong.find("CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS of TENSOR") != wrong.npos);
  CHECK(wrong.find("CUDNN_STATUS_") != wrong.npos);
  const std::string unfinished = message_of([&] { tensor.finalize(); });
  CHECK(unfinished.find("finalising TENSOR") != unfinished.npos);
  CHECK(tensor.try_finalize().find("CUDNN_STATUS_") != std::string::npos);
}

TEST_CASE("a convolution without output is refused when its graph is made", "[cudnn]") {
  need_cudnn();
  Conv2dProblem d = conv2d_srgan_problems().front();
  d.pad = -d.h;  // the output's height would be negative
  CHECK_THROWS_AS(make_graph(BackwardDataGraph{.conv = d, .type = DType::F32}, nullptr),
                  StatusError);
}

}  // namespace
}  // namespace subpix::tests
