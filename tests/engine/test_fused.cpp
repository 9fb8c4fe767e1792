// The fused layers against the plain ops that they stand for: values, running statistics and the
// gradient of every argument. Networks take them only where a backend has kernels of its own, so
// they are called here directly.

#include <cmath>
#include <functional>
#include <map>

#include "engine/autograd/node.h"
#include "engine/core/random.h"
#include "engine/ops/fused.h"
#include "kernels/api/context_objects.h"
#include "tests/engine/backends.h"

using namespace subpix;
using namespace subpix::engine;
using namespace subpix::tests;

namespace {

/// Named leaves with the same values for both forms.
class Leaves {
 public:
  explicit Leaves(Device& device) : device_(device) {}
  Tensor make(const std::string& name, const Shape& shape, float low = -1.0f, float high = 1.0f) {
    Philox random(std::hash<std::string>{}(name));
    std::vector<float> values(static_cast<std::size_t>(shape.count()));
    for (float& v : values) v = random.uniform(low, high);
    const Tensor t = Tensor::from_host(device_, shape, values);
    t.set_requires_grad(true);
    all_[name] = t;
    return t;
  }
  ops::BatchNormParameters norm(const std::string& name, Index c) {
    return {make(name + ".gamma", {c}, 0.5f, 1.5f),
            make(name + ".beta", {c}),
            buffer(name + ".mean", c, 0.0f),
            buffer(name + ".var", c, 1.0f),
            0.1f,
            1e-5f};
  }
  std::map<std::string, std::vector<float>> results() const {
    std::map<std::string, std::vector<float>> r;
    for (const auto& [name, t] : all_) {
      INFO(name);
      REQUIRE(t.grad().defined());
      r["grad " + name] = t.grad().to_host();
    }
    for (const auto& [name, t] : buffers_) r[name] = t.to_host();
    return r;
  }

 private:
  Tensor buffer(const std::string& name, Index c, float value) {
    const Tensor t = Tensor::full(device_, {c}, value);
    buffers_[name] = t;
    return t;
  }
  Device& device_;
  std::map<std::string, Tensor> all_, buffers_;
};

Tensor plain_norm(const Tensor& x, const ops::BatchNormParameters& n) {
  return ops::batch_norm(x, n.gamma, n.beta, n.running_mean, n.running_var, n.momentum, n.eps);
}

/// Runs a network twice, plain and fused, and compares all that comes out; tolerance: relative to a
/// tensor's largest value.
void same(Device& device, const std::function<Tensor(Leaves&, bool fused)>& network,
          double tolerance = 2e-4) {
  std::map<std::string, std::vector<float>> outcome[2];
  for (const bool fused : {false, true}) {
    Leaves leaves(device);
    const Tensor y = network(leaves, fused);
    Philox random(7);
    std::vector<float> target(static_cast<std::size_t>(y.count()));
    for (float& v : target) v = random.uniform(-1.0f, 1.0f);
    backward(ops::mse_loss(y, Tensor::from_host(device, y.shape(), target), 1.0f));
    outcome[fused] = leaves.results();
    outcome[fused]["y"] = y.to_host();
  }
  REQUIRE(outcome[0].size() == outcome[1].size());
  for (const auto& [name, want] : outcome[0]) {
    const std::vector<float>& got = outcome[1].at(name);
    REQUIRE(got.size() == want.size());
    double size = 0.0;
    for (const float v : want) size = std::max(size, std::fabs(double{v}));
    for (std::size_t i = 0; i < want.size(); ++i) {
      INFO(name << "[" << i << "]: " << got[i] << " instead of " << want[i]);
      REQUIRE(std::fabs(double{got[i]} - want[i]) <= tolerance * (size + 1e-3));
    }
  }
}

}  // namespace

TEST_CASE("a fused residual block is the plain one", "[engine][fused]") {
  on_each_backend([](Device& device) {
    const bool shared = GENERATE(false, true);
    same(device, [&](Leaves& l, bool fused) {
      const Tensor in = l.make("x", {2, 5, 4, 4}),
                   slope = l.make("slope", {shared ? 1 : 4}, 0.1f, 0.4f);
      const Tensor w0 = l.make("w0", {4, 1, 1, 4});
      const Tensor w1 = l.make("w1", {4, 3, 3, 4}), w2 = l.make("w2", {4, 3, 3, 4});
      const auto n1 = l.norm("bn1", 4), n2 = l.norm("bn2", 4);
      const Tensor x =
          ops::conv2d(in, w0, Tensor(), 1, 0);  // no leaf: its gradient has two sources
      if (!fused)
        return ops::add(
            x, plain_norm(ops::conv2d(
                              ops::prelu(plain_norm(ops::conv2d(x, w1, Tensor(), 1, 1), n1), slope),
                              w2, Tensor(), 1, 1),
                          n2));
      const ops::Normed first = ops::conv2d_norm(ops::plain(x), w1, n1, 1);
      return ops::norm_add(ops::conv2d_norm(ops::with_prelu(first, slope), w2, n2, 1), x);
    });
  });
}

TEST_CASE("fused layers of a discriminator are the plain ones", "[engine][fused]") {
  on_each_backend([](Device& device) {
    same(device, [&](Leaves& l, bool fused) {
      const Tensor x = l.make("x", {3, 8, 6, 3});
      const Tensor w1 = l.make("w1", {4, 3, 3, 3}), w2 = l.make("w2", {5, 3, 3, 4});
      const auto n1 = l.norm("bn1", 4), n2 = l.norm("bn2", 5);
      if (!fused) {
        const Tensor a = ops::leaky_relu(plain_norm(ops::conv2d(x, w1, Tensor(), 2, 1), n1), 0.2f);
        return ops::leaky_relu(plain_norm(ops::conv2d(a, w2, Tensor(), 1, 1), n2), 0.2f);
      }
      const auto a = ops::with_leaky_relu(ops::conv2d_norm(ops::plain(x), w1, n1, 2), 0.2f);
      return ops::norm_activation(ops::with_leaky_relu(ops::conv2d_norm(a, w2, n2, 1), 0.2f));
    });
    same(device, [&](Leaves& l, bool fused) {
      const Tensor x = l.make("x", {2, 4, 5, 3}), w = l.make("w", {4, 3, 3, 3});
      const Tensor slope = l.make("slope", {4}, 0.1f, 0.4f);
      const auto n = l.norm("bn", 4);
      if (!fused) return ops::prelu(plain_norm(ops::conv2d(x, w, Tensor(), 1, 1), n), slope);
      return ops::norm_activation(ops::with_prelu(ops::conv2d_norm(ops::plain(x), w, n, 1), slope));
    });
  });
}

TEST_CASE("fused shuffle and pooling are the plain ones", "[engine][fused]") {
  on_each_backend([](Device& device) {
    same(device, [&](Leaves& l, bool fused) {
      const Tensor x = l.make("x", {2, 3, 4, 3}), w = l.make("w", {8, 3, 3, 3});
      const Tensor bias = l.make("bias", {8}), slope = l.make("slope", {2}, 0.1f, 0.4f);
      if (!fused) return ops::prelu(ops::pixel_shuffle(ops::conv2d(x, w, bias, 1, 1), 2), slope);
      return ops::conv2d_shuffle_prelu(x, w, bias, slope);
    });
    same(device, [&](Leaves& l, bool fused) {
      const Tensor x = l.make("x", {2, 5, 6, 3}), w = l.make("w", {4, 3, 3, 3});
      const Tensor bias = l.make("bias", {4});
      if (!fused)
        return ops::max_pool2(ops::conv2d_activation(x, w, bias, 1, 1, ops::Activation::Relu));
      return ops::conv2d_relu_pool(x, w, bias);
    });
  });
}

TEST_CASE("in bf16 the kernels of cuda are taken and give what the plain ops give",
          "[engine][fused]") {
  on_each_backend([](Device& device) {
    if (device.backend() != "sim" && device.backend() != "cuda") return;
    const double tolerance = 0.02;  // maps are rounded to 2^-9 on both ways, at different places
    same(
        device,
        [&](Leaves& l, bool fused) {
          const Tensor x = ops::cast(l.make("x", {1, 5, 6, 64}), DType::BF16);
          const Tensor w = l.make("w", {256, 3, 3, 64}, -0.1f, 0.1f), bias = l.make("bias", {256});
          const Tensor slope = l.make("slope", {64}, 0.1f, 0.4f);
          REQUIRE(ops::prefers_fused_shuffle(x, w, slope));
          const Tensor y =
              fused ? ops::conv2d_shuffle_prelu(x, w, bias, slope)
                    : ops::prelu(ops::pixel_shuffle(ops::conv2d(x, w, bias, 1, 1), 2), slope);
          return ops::cast(y, DType::F32);
        },
        tolerance);
    same(
        device,
        [&](Leaves& l, bool fused) {
          const Tensor x = ops::cast(l.make("x", {2, 7, 6, 64}), DType::BF16);
          const Tensor w = l.make("w", {64, 3, 3, 64}, -0.1f, 0.1f), bias = l.make("bias", {64});
          REQUIRE(ops::prefers_fused_pool(x, w));
          const Tensor y =
              fused
                  ? ops::conv2d_relu_pool(x, w, bias)
                  : ops::max_pool2(ops::conv2d_activation(x, w, bias, 1, 1, ops::Activation::Relu));
          return ops::cast(y, DType::F32);
        },
        tolerance);
    // The filter's gradient of a convolution behind a norm.
    same(
        device,
        [&](Leaves& l, bool fused) {
          const Tensor x = ops::cast(l.make("x", {2, 6, 7, 64}), DType::BF16);
          const Tensor w1 = l.make("w1", {64, 3, 3, 64}, -0.1f, 0.1f),
                       w2 = l.make("w2", {72, 3, 3, 64}, -0.1f, 0.1f);
          const auto n1 = l.norm("bn1", 64), n2 = l.norm("bn2", 72);
          Tensor y;
          if (fused) {
            const auto a = ops::with_leaky_relu(ops::conv2d_norm(ops::plain(x), w1, n1, 1), 0.2f);
            y = ops::norm_activation(ops::with_leaky_relu(ops::conv2d_norm(a, w2, n2, 2), 0.2f));
          } else {
            const Tensor a =
                ops::leaky_relu(plain_norm(ops::conv2d(x, w1, Tensor(), 1, 1), n1), 0.2f);
            y = ops::leaky_relu(plain_norm(ops::conv2d(a, w2, Tensor(), 2, 1), n2), 0.2f);
          }
          return ops::cast(y, DType::F32);
        },
        tolerance);
  });
}

TEST_CASE("filter gradients that are put off are one launch and add up as others do",
          "[engine][fused]") {
  on_each_backend([](Device& device) {
    const bool own = device.backend() == "sim" || device.backend() == "cuda";
    std::map<std::string, std::vector<float>> outcome[2];
    for (const bool defer : {false, true}) {
      std::map<std::string, int> calls;
      Leaves l(device);
      const Tensor x = l.make("x", {2, 6, 7, 64});
      const Tensor w1 = l.make("w1", {64, 3, 3, 64}, -0.1f, 0.1f),
                   w2 = l.make("w2", {64, 3, 3, 64}, -0.1f, 0.1f),
                   slope = l.make("slope", {64}, 0.1f, 0.4f);
      const auto n1 = l.norm("bn1", 64), n2 = l.norm("bn2", 64), n3 = l.norm("bn3", 64);
      kernels::set_trace(device.context(),
                         [&](const char* op, const char*, const std::string&) { ++calls[op]; });
      for (int pass = 0; pass < 2; ++pass) {  // the second adds to the gradients of the first
        const Tensor in = ops::cast(x, DType::BF16);
        const ops::Normed first = ops::conv2d_norm(ops::plain(in), w1, n1, 1, defer);
        const ops::Formed between = ops::with_prelu(first, slope);
        const Tensor y = ops::norm_add(ops::conv2d_norm(between, w2, n2, 1, defer), in);
        // w1 again: two gradients of one leaf in one group.
        const Tensor z = ops::norm_add(ops::conv2d_norm(ops::plain(y), w1, n3, 1, defer), y);
        const Tensor target = Tensor::full(device, z.shape(), 0.5f);
        backward(ops::mse_loss(ops::cast(z, DType::F32), target, 0.01f));
      }
      kernels::set_trace(device.context(), {});
      outcome[defer] = l.results();
      CHECK(calls["conv2d_backward_filter_group/bf16"] == (defer && own ? 2 : 0));
      CHECK(calls["conv2d_norm_backward_filter/bf16"] == (defer && own ? 0 : 6));
    }
    for (const auto& [name, want] : outcome[0]) {
      const std::vector<float>& got = outcome[1].at(name);
      double size = 0.0;
      for (const float v : want) size = std::max(size, std::fabs(double{v}));
      for (std::size_t i = 0; i < want.size(); ++i) {
        INFO(name << "[" << i << "]: " << got[i] << " instead of " << want[i]);
        REQUIRE(std::fabs(double{got[i]} - want[i]) <= 1e-5 * size);
      }
    }
  });
}

TEST_CASE("a wide convolution keeps what bf16 would round", "[engine][fused]") {
  on_each_backend([](Device& device) {
    const Tensor x = Tensor::full(device, {1, 2, 2, 2}, 1.0f, DType::BF16);
    const Tensor w =
        Tensor::from_host(device, {1, 1, 1, 2}, std::vector<float>{1.0f, 0.001953125f});
    w.set_requires_grad(true);
    const Tensor y = ops::conv2d_wide(x, w, Tensor(), 1, 0);
    CHECK(y.dtype() == DType::F32);
    CHECK(y.to_host() == std::vector<float>(4, 1.001953125f));  // 1 + 2^-9 has no bf16
    backward(ops::mse_loss(y, Tensor::zeros(device, y.shape()), 0.125f));
    CHECK(w.grad().dtype() == DType::F32);
    CHECK(w.grad().to_host() == std::vector<float>(2, 1.0f));  // 4 * bf16(0.25 * 1.00195)
  });
}
