#include <limits>
#include <set>

#include "kernels/api/kernels.h"
#include "kernels/api/problem.h"
#include "tests/support/catch.h"
#include "tests/support/problems.h"

namespace subpix::tests {

namespace {

using namespace kernels;
using Catch::Matchers::Contains;

constexpr Index kHuge = Index{1} << 40;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// The sentence that validate() throws, empty where the problem is valid.
template <class Problem>
std::string sentence(const Problem& problem) {
  try {
    problem.validate();
  } catch (const InputError& error) {
    return error.what();
  }
  return {};
}

Conv2dProblem conv() { return {1, 24, 24, 64, 64, 3, 3, 1, 1}; }

}  // namespace

TEST_CASE("Conv2dProblem knows its sizes, work and key", "[kernels][problem]") {
  const Conv2dProblem d = conv();
  CHECK(d.key() == "n1h24w24c64k64r3s3st1p1");
  CHECK(d.p() == 24);
  CHECK(d.q() == 24);
  CHECK(d.flops() == 2.0 * 24 * 24 * 64 * 64 * 9);
  CHECK(d.bytes(4) == 4.0 * (24 * 24 * 64 * 2 + 64 * 9 * 64));
  const Conv2dProblem halved{2, 5, 8, 3, 7, 3, 5, 2, 1};
  CHECK(halved.p() == 3);
  CHECK(halved.q() == 3);
  CHECK(halved.x_count() == 2 * 5 * 8 * 3);
  CHECK(halved.w_count() == 7 * 3 * 5 * 3);
  CHECK(halved.y_count() == 2 * 3 * 3 * 7);
  CHECK(halved.bytes(2) == 2.0 * (240 + 315 + 126));
}

TEST_CASE("every listed problem is valid and has its own key", "[kernels][problem]") {
  std::set<std::string> keys;
  const auto check = [&](const auto& list) {
    keys.clear();
    for (const auto& problem : list) {
      INFO(problem.key());
      CHECK(sentence(problem) == "");
      CHECK(keys.insert(problem.key()).second);
      CHECK(problem.bytes(4) > 0.0);
      CHECK(problem.flops() >= 0.0);
    }
  };
  std::vector<Conv2dProblem> convs = conv2d_edge_problems();
  for (const Conv2dProblem& d : conv2d_srgan_problems()) convs.push_back(d);
  check(convs);
  check(norm_problems());
  check(channel_problems());
  check(shuffle_problems());
  check(pool_problems());
  check(dense_problems());
  check(variation_problems(false));
  check(variation_problems(true));
}

TEST_CASE("Conv2dProblem rejects what it cannot be, by name", "[kernels][problem]") {
  const auto with = [](auto&& change) {
    Conv2dProblem d = conv();
    change(d);
    return sentence(d);
  };
  CHECK(with([](auto&) {}) == "");
  CHECK(with([](auto& d) { d.n = 0; }) ==
        "conv2d n0h24w24c64k64r3s3st1p1: batch n is 0, it must be at least 1");
  CHECK_THAT(with([](auto& d) { d.h = -3; }), Contains("height h is -3"));
  CHECK_THAT(with([](auto& d) { d.w = 0; }), Contains("width w is 0"));
  CHECK_THAT(with([](auto& d) { d.c = 0; }), Contains("input channels c is 0"));
  CHECK_THAT(with([](auto& d) { d.k = -1; }), Contains("output channels k is -1"));
  for (const Index size : {-1, 0, 2, 4, 10, 11}) {
    CHECK_THAT(with([&](auto& d) { d.r = size; }), Contains("kernel height r is"));
    CHECK_THAT(with([&](auto& d) { d.s = size; }), Contains("kernel width s is"));
  }
  for (const Index stride : {-1, 0, 3})
    CHECK_THAT(with([&](auto& d) { d.stride = stride; }), Contains("it must be 1 or 2"));
  CHECK_THAT(with([](auto& d) { d.pad = -1; }), Contains("padding is -1, it must be 0 to 2"));
  CHECK_THAT(with([](auto& d) { d.pad = 3; }), Contains("padding is 3, it must be 0 to 2"));
  CHECK_THAT(with([](auto& d) { d.s = 1; }), Contains("it must be 0 to 0 for a 3x1 kernel"));
  // Division rounds towards zero, so an empty output must not pass as one pixel.
  CHECK_THAT(with([](auto& d) { d.h = 2, d.pad = 0, d.stride = 2; }),
             Contains("the output is empty, a 3x3 kernel does not fit into 2x24 padded by 0"));
  CHECK_THAT(with([](auto& d) { d.w = 1, d.pad = 0; }), Contains("the output is empty"));
}

TEST_CASE("counts beyond 2^40 are errors, not overflows", "[kernels][problem]") {
  Conv2dProblem d = conv();
  d.h = d.w = Index{1} << 21;
  CHECK_THAT(sentence(d), Contains("the input has more than 2^40 elements"));
  d.h = d.w = std::numeric_limits<Index>::max();
  CHECK_THAT(sentence(d), Contains("the input has more than 2^40 elements"));
  d = conv();
  d.c = d.k = Index{1} << 20;
  CHECK_THAT(sentence(d), Contains("the filter has more than 2^40 elements"));
  d = {1, 1 << 16, 1 << 16, 1, 1 << 10, 1, 1, 1, 0};
  CHECK_THAT(sentence(d), Contains("the output has more than 2^40 elements"));
  CHECK_THAT(sentence(ChannelProblem{kHuge, 2}), Contains("2^40"));
  CHECK_THAT(sentence(NormProblem{.rows = 2, .c = kHuge}), Contains("2^40"));
  CHECK_THAT(sentence(ElementProblem{kHuge + 1}), Contains("2^40"));
  CHECK(sentence(ElementProblem{kHuge}) == "");
  CHECK_THAT(sentence(ShuffleProblem{1, 1 << 10, 1 << 10, 1 << 10, 1 << 10}), Contains("2^40"));
  CHECK_THAT(sentence(PoolProblem{kHuge, 2, 2, 1}), Contains("2^40"));
  CHECK_THAT(sentence(DenseProblem{1, kHuge, 2}), Contains("the weight has more than 2^40"));
  CHECK_THAT(sentence(VariationProblem{kHuge, 2, 1, 1, 1.0f}), Contains("2^40"));
  CHECK_THAT(sentence(ReduceProblem{kHuge + 1}), Contains("2^40"));
  CHECK_THAT(sentence(RandomProblem{.count = kHuge + 1, .seed = 0}), Contains("2^40"));
}

TEST_CASE("the other problems reject sizes below 1 and scalars out of range",
          "[kernels][problem]") {
  CHECK_THAT(sentence(ChannelProblem{0, 3}), Contains("rows is 0"));
  CHECK_THAT(sentence(ChannelProblem{3, 0}), Contains("channels c is 0"));
  CHECK_THAT(sentence(NormProblem{.rows = 0, .c = 3}), Contains("rows is 0"));
  CHECK_THAT(sentence(NormProblem{.rows = 1, .c = -1}), Contains("channels c is -1"));
  CHECK_THAT(sentence(NormProblem{.rows = 1, .c = 1, .eps = 0}), Contains("eps is 0"));
  CHECK_THAT(sentence(NormProblem{.rows = 1, .c = 1, .eps = kNan}), Contains("eps is nan"));
  CHECK_THAT(sentence(NormProblem{.rows = 1, .c = 1, .momentum = 1.5f}),
             Contains("momentum is 1.5"));
  CHECK_THAT(sentence(ElementProblem{0}), Contains("count is 0"));
  CHECK_THAT(sentence(ShuffleProblem{1, 1, 1, 1, 0}), Contains("scale is 0"));
  CHECK_THAT(sentence(ShuffleProblem{1, 0, 1, 1, 2}), Contains("height h is 0"));
  CHECK_THAT(sentence(PoolProblem{0, 2, 2, 1}), Contains("batch n is 0"));
  CHECK_THAT(sentence(PoolProblem{1, 1, 5, 1}), Contains("the output is empty"));
  CHECK_THAT(sentence(DenseProblem{1, 0, 1}), Contains("inputs is 0"));
  CHECK_THAT(sentence(DenseProblem{1, 1, 0}), Contains("outputs is 0"));
  CHECK_THAT(sentence(LossProblem{.count = 1, .scale = kNan}), Contains("scale is nan"));
  CHECK_THAT(sentence(LossProblem{.count = 1, .scale = 1, .target = 2}), Contains("target is 2"));
  CHECK_THAT(sentence(VariationProblem{1, 1, 0, 1, 1.0f}), Contains("width w is 0"));
  CHECK_THAT(sentence(ReduceProblem{-1}), Contains("count is -1"));
  CHECK_THAT(sentence(RandomProblem{.count = 1, .seed = 0, .low = kNan}), Contains("low is nan"));
  CHECK_THAT(sentence(AdamProblem{.count = 1, .beta1 = 1.0f}), Contains("beta1 is 1"));
  CHECK_THAT(sentence(AdamProblem{.count = 1, .beta2 = -0.1f}), Contains("beta2 is -0.1"));
  CHECK_THAT(sentence(AdamProblem{.count = 1, .eps = -1}), Contains("eps is -1"));
  CHECK_THAT(sentence(Conv2dActivationProblem{conv(), Activation::LeakyRelu, kNan}),
             Contains("slope is nan"));
}

TEST_CASE("keys hold what a library object is built with", "[kernels][problem]") {
  CHECK(Conv2dActivationProblem{conv(), Activation::Relu}.key() == "n1h24w24c64k64r3s3st1p1relu");
  CHECK(Conv2dActivationProblem{conv(), Activation::LeakyRelu, 0.2f}.key() ==
        "n1h24w24c64k64r3s3st1p1leaky0.2");
  CHECK(Conv2dActivationProblem{conv(), Activation::None}.key() != conv().key());
  CHECK(ChannelProblem{576, 64, false}.key() == "rows576c64");
  CHECK(ChannelProblem{576, 64, true}.key() == "rows576c64shared");
  CHECK(NormProblem{.rows = 576, .c = 64}.key() == "rows576c64");
  CHECK(NormProblem{.rows = 576, .c = 64, .eps = 1e-3f}.key() == "rows576c64eps0.001");
  CHECK(ShuffleProblem{1, 24, 24, 64, 2}.key() == "n1h24w24c64x2");
  CHECK(DenseProblem{16, 18432, 1024}.key() == "n16in18432out1024");
  CHECK(ReduceProblem{5, Reduction::MaxAbs}.key() == "count5max_abs");
}

}  // namespace subpix::tests
