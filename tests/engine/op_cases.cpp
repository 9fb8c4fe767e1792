#include "tests/engine/op_cases.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "engine/ops/ops.h"
#include "kernels/reference/activation.h"
#include "kernels/reference/conv2d.h"
#include "kernels/reference/dense.h"
#include "kernels/reference/elementwise.h"
#include "kernels/reference/loss.h"
#include "kernels/reference/norm.h"
#include "kernels/reference/shape_pool.h"
#include "tests/support/catch.h"

namespace subpix::tests {
namespace {

namespace ops = engine::ops;
namespace ref = kernels::reference;
using engine::Shape;
using engine::Tensor;
using kernels::Activation;
using Tensors = std::vector<Tensor>;
using Arguments = std::vector<Values>;

constexpr bool kExact = true, kUniform = true;

Values sized(Index count) { return Values(static_cast<std::size_t>(count)); }

OpArgument vector(const char* name, Index count, Data data = Data::Integers,
                  bool differentiable = true) {
  return {name, {count}, data, differentiable, false};
}

OpArgument constant(const char* name, const Shape& shape, Data data = Data::Integers) {
  return {name, shape, data, false, true};
}

OpCase conv2d(const std::string& key, const kernels::Conv2dProblem& p, bool bias) {
  OpCase c{"conv2d", key,      {{"x", {p.n, p.h, p.w, p.c}}, {"w", {p.k, p.r, p.s, p.c}}},
           kExact,   kUniform, nullptr,
           nullptr};
  if (bias) c.arguments.push_back(vector("bias", p.k));
  c.run = [p, bias](const Tensors& t) {
    return ops::conv2d(t[0], t[1], bias ? t[2] : Tensor(), p.stride, p.pad);
  };
  c.oracle = [p, bias](const Arguments& a) {
    Values y = sized(p.y_count());
    ref::conv2d_forward<double>(p, a[0].data(), a[1].data(), bias ? a[2].data() : nullptr,
                                y.data());
    return y;
  };
  return c;
}

OpCase conv2d_activation(const std::string& key, Activation activation, float slope) {
  const kernels::Conv2dActivationProblem p{{2, 4, 3, 2, 3, 3, 3, 1, 1}, activation, slope};
  const kernels::Conv2dProblem& v = p.conv;
  return {
      "conv2d_activation",
      key,
      {{"x", {v.n, v.h, v.w, v.c}}, {"w", {v.k, v.r, v.s, v.c}}, vector("bias", v.k, Data::Halves)},
      kExact,
      kUniform,
      [p](const Tensors& t) {
        return ops::conv2d_activation(t[0], t[1], t[2], 1, 1, p.activation, p.slope);
      },
      [p](const Arguments& a) {
        Values y = sized(p.conv.y_count());
        ref::conv2d_activation_forward<double>(p, a[0].data(), a[1].data(), a[2].data(), y.data());
        return y;
      }};
}

OpCase batch_norm(const std::string& key, bool running) {
  const kernels::NormProblem p{2 * 3 * 2, 3};
  OpCase c{"batch_norm",
           key,
           {{"x", {2, 3, 2, 3}}, vector("gamma", 3, Data::Positive), vector("beta", 3)},
           !kExact,
           kUniform,
           nullptr,
           nullptr};
  c.run = [running](const Tensors& t) {
    Tensor mean, var;
    if (running) {
      mean = Tensor::zeros(t[0].device(), {3});
      var = Tensor::full(t[0].device(), {3}, 1.0f);
    }
    return ops::batch_norm(t[0], t[1], t[2], mean, var, 0.1f, 1e-5f);
  };
  c.oracle = [p](const Arguments& a) {
    Values y = sized(p.count()), mean = sized(p.c), inv_std = sized(p.c);
    ref::batchnorm_forward<double>(p, a[0].data(), a[1].data(), a[2].data(), y.data(), mean.data(),
                                   inv_std.data(), nullptr, nullptr);
    return y;
  };
  return c;
}

OpCase batch_norm_inference() {
  const kernels::NormProblem p{2 * 3 * 2, 3};
  return {"batch_norm_inference",
          "",
          {{"x", {2, 3, 2, 3}},
           vector("gamma", 3, Data::Positive, false),
           vector("beta", 3, Data::Integers, false),
           vector("running_mean", 3, Data::Integers, false),
           vector("running_var", 3, Data::Positive, false)},
          !kExact,
          kUniform,
          [](const Tensors& t) {
            return ops::batch_norm_inference(t[0], t[1], t[2], t[3], t[4], 1e-5f);
          },
          [p](const Arguments& a) {
            Values y = sized(p.count());
            ref::batchnorm_inference<double>(p, a[0].data(), a[1].data(), a[2].data(), a[3].data(),
                                             a[4].data(), y.data());
            return y;
          }};
}

OpCase prelu(const std::string& key, bool shared) {
  const kernels::ChannelProblem p{2 * 3 * 2, 3, shared};
  return {"prelu",
          key,
          {{"x", {2, 3, 2, 3}, Data::Nonzero}, vector("slope", shared ? 1 : 3, Data::Quarters)},
          kExact,
          kUniform,
          [](const Tensors& t) { return ops::prelu(t[0], t[1]); },
          [p](const Arguments& a) {
            Values y = sized(p.count());
            ref::prelu_forward<double>(p, a[0].data(), a[1].data(), y.data());
            return y;
          }};
}

OpCase leaky(const std::string& op, float slope) {
  return {
      op,
      "",
      {{"x", {2, 3, 2, 3}, Data::Nonzero}},
      kExact,
      kUniform,
      [op, slope](const Tensors& t) {
        return op == "relu" ? ops::relu(t[0]) : ops::leaky_relu(t[0], slope);
      },
      [slope](const Arguments& a) {
        Values y = a[0];
        ref::leaky_relu_forward<double>({static_cast<Index>(y.size()), slope}, y.data(), y.data());
        return y;
      }};
}

OpCase pixel_shuffle(const std::string& key, Index scale) {
  const kernels::ShuffleProblem p{2, 2, 3, 2, scale};
  return {"pixel_shuffle",
          key,
          {{"x", {p.n, p.h, p.w, p.c * scale * scale}}},
          kExact,
          !kUniform,
          [scale](const Tensors& t) { return ops::pixel_shuffle(t[0], scale); },
          [p](const Arguments& a) {
            Values y = sized(p.count());
            ref::pixel_shuffle_forward<double>(p, a[0].data(), y.data());
            return y;
          }};
}

OpCase max_pool2(const std::string& key, Index h, Index w) {
  const kernels::PoolProblem p{2, h, w, 3};
  return {"max_pool2",
          key,
          {{"x", {p.n, p.h, p.w, p.c}, Data::Distinct}},
          kExact,
          kUniform,
          [](const Tensors& t) { return ops::max_pool2(t[0]); },
          [p](const Arguments& a) {
            Values y = sized(p.y_count());
            ref::max_pool_forward<double>(p, a[0].data(), y.data(), nullptr);
            return y;
          }};
}

OpCase dense(const std::string& key, bool bias) {
  const kernels::DenseProblem p{3, 5, 4};
  OpCase c{"dense", key,    {{"x", {p.n, p.in}}, {"w", {p.out, p.in}}}, kExact, kUniform,
           nullptr, nullptr};
  if (bias) c.arguments.push_back(vector("bias", p.out));
  c.run = [bias](const Tensors& t) { return ops::dense(t[0], t[1], bias ? t[2] : Tensor()); };
  c.oracle = [p, bias](const Arguments& a) {
    Values y = sized(p.n * p.out);
    ref::dense_forward<double>(p, a[0].data(), a[1].data(), bias ? a[2].data() : nullptr, y.data());
    return y;
  };
  return c;
}

OpCase channel_affine(const std::string& key, bool shift) {
  OpCase c{
      "channel_affine", key,      {{"x", {2, 3, 2, 3}}, vector("scale", 3, Data::Halves, false)},
      kExact,           kUniform, nullptr,
      nullptr};
  if (shift) c.arguments.push_back(vector("shift", 3, Data::Integers, false));
  c.run = [shift](const Tensors& t) {
    return ops::channel_affine(t[0], t[1], shift ? t[2] : Tensor());
  };
  c.oracle = [shift](const Arguments& a) {
    Values y = sized(2 * 3 * 2 * 3);
    ref::channel_affine<double>({2 * 3 * 2, 3}, a[0].data(), a[1].data(),
                                shift ? a[2].data() : nullptr, y.data());
    return y;
  };
  return c;
}

/// An op whose result is made of the arguments by a formula in double.
OpCase formula(const std::string& op, const std::string& key, std::vector<OpArgument> arguments,
               bool uniform, std::function<Tensor(const Tensors&)> run,
               std::function<Values(const Arguments&)> oracle) {
  return {op, key, std::move(arguments), kExact, uniform, std::move(run), std::move(oracle)};
}

using LossKernel = void (*)(const kernels::LossProblem&, const double*, const double*, double*,
                            double*);

OpCase pair_loss(const std::string& op, Tensor (*run)(const Tensor&, const Tensor&, float),
                 LossKernel kernel) {
  return formula(
      op, "", {{"x", {2, 3, 2, 2}}, constant("target", {2, 3, 2, 2}, Data::Halves)}, kUniform,
      [run](const Tensors& t) { return run(t[0], t[1], 0.25f); },
      [kernel](const Arguments& a) {
        Values loss(1);
        kernel({static_cast<Index>(a[0].size()), 0.25f}, a[0].data(), a[1].data(), loss.data(),
               nullptr);
        return loss;
      });
}

OpCase bce(float target) {
  return {"bce_with_logits",
          concat("target ", target),
          {{"logits", {5, 1}}},
          !kExact,
          kUniform,
          [target](const Tensors& t) { return ops::bce_with_logits(t[0], target, 0.2f); },
          [target](const Arguments& a) {
            Values loss(1);
            ref::bce_with_logits<double>({5, 0.2f, target}, a[0].data(), loss.data(), nullptr);
            return loss;
          }};
}

OpCase total_variation(const std::string& key, bool squared) {
  return formula(
      "total_variation", key, {{"x", {2, 3, 4, 2}, Data::Distinct}}, kUniform,
      [squared](const Tensors& t) { return ops::total_variation(t[0], 0.125f, squared); },
      [squared](const Arguments& a) {
        Values loss(1);
        ref::total_variation<double>({2, 3, 4, 2, 0.125f, squared}, a[0].data(), loss.data(),
                                     nullptr);
        return loss;
      });
}

OpCase reduce(const std::string& key, kernels::Reduction reduction) {
  return formula(
      "reduce", key, {constant("x", {3, 7}, Data::Nonzero)}, kUniform,
      [reduction](const Tensors& t) { return ops::reduce(t[0], reduction); },
      [reduction](const Arguments& a) {
        Values y(1);
        ref::reduce<double>({static_cast<Index>(a[0].size()), reduction}, a[0].data(), y.data());
        return y;
      });
}

void add_elementwise(std::vector<OpCase>& all) {
  all.push_back(formula(
      "add", "", {{"a", {2, 3, 2, 3}}, {"b", {2, 3, 2, 3}}}, kUniform,
      [](const Tensors& t) { return ops::add(t[0], t[1]); },
      [](const Arguments& a) {
        Values y = a[0];
        for (std::size_t i = 0; i < y.size(); ++i) y[i] += a[1][i];
        return y;
      }));
  all.push_back(formula(
      "add", "the same tensor twice", {{"a", {5}}}, kUniform,
      [](const Tensors& t) { return ops::add(t[0], t[0]); },
      [](const Arguments& a) {
        Values y = a[0];
        for (double& v : y) v *= 2.0;
        return y;
      }));
  all.push_back(formula(
      "scale", "", {{"x", {2, 5}}}, kUniform,
      [](const Tensors& t) { return ops::scale(t[0], -1.5f); },
      [](const Arguments& a) {
        Values y = a[0];
        for (double& v : y) v *= -1.5;
        return y;
      }));
  all.push_back(formula(
      "reshape", "", {{"x", {2, 3, 2, 3}}}, !kUniform,
      [](const Tensors& t) {
        return ops::reshape(t[0], {2, 18});
      },
      [](const Arguments& a) { return a[0]; }));
  all.push_back(formula(
      "cast", "", {{"x", {2, 5}}}, !kUniform,
      [](const Tensors& t) {
        return ops::cast(t[0], t[0].dtype() == DType::F32 ? DType::BF16 : DType::F32);
      },
      [](const Arguments& a) { return a[0]; }));
  const std::array<float, 3> weights{0.5f, -2.0f, 0.25f};
  all.push_back(formula(
      "weighted_sum", "", {vector("a", 1), vector("b", 1), vector("c", 1)}, kUniform,
      [weights](const Tensors& t) { return ops::weighted_sum(t, weights); },
      [](const Arguments& a) { return Values{0.5 * a[0][0] - 2.0 * a[1][0] + 0.25 * a[2][0]}; }));
}

void add_not_differentiable(std::vector<OpCase>& all) {
  all.push_back(formula(
      "from_bytes", "", {constant("x", {2, 3}, Data::Bytes)}, !kUniform,
      [](const Tensors& t) { return ops::from_bytes(t[0], 0.5f, -1.0f); },
      [](const Arguments& a) {
        Values y = a[0];
        for (double& v : y) v = 0.5 * v - 1.0;
        return y;
      }));
  all.push_back(formula(
      "from_bytes", "bf16", {constant("x", {2, 3}, Data::Bytes)}, !kUniform,
      [](const Tensors& t) {
        const Tensor y = ops::from_bytes(t[0], 1.0f, 0.0f, DType::BF16);
        REQUIRE(y.dtype() == DType::BF16);
        return y;
      },
      [](const Arguments& a) { return a[0]; }));
  all.push_back(formula(
      "to_bytes", "", {constant("x", {2, 30}, Data::Distinct)}, !kUniform,
      [](const Tensors& t) { return ops::to_bytes(t[0], 10.0f, 100.25f); },
      [](const Arguments& a) {
        Values y = a[0];
        for (double& v : y) v = std::min(255.0, std::max(0.0, std::floor(10.0 * v + 100.75)));
        return y;
      }));
  all.push_back(formula(
      "crop", "", {constant("x", {2, 4, 5, 3}, Data::Distinct)}, kUniform,
      [](const Tensors& t) { return ops::crop(t[0], 1, 2, 3, 2); },
      [](const Arguments& a) {
        Values y;
        for (Index n = 0; n < 2; ++n)
          for (Index h = 1; h < 4; ++h)
            for (Index w = 2; w < 4; ++w)
              for (Index c = 0; c < 3; ++c)
                y.push_back(a[0][static_cast<std::size_t>(((n * 4 + h) * 5 + w) * 3 + c)]);
        return y;
      }));
  all.push_back(reduce("sum", kernels::Reduction::Sum));
  all.push_back(reduce("sum of squares", kernels::Reduction::SumSquares));
  all.push_back(reduce("max abs", kernels::Reduction::MaxAbs));
  all.push_back(reduce("count non-finite", kernels::Reduction::CountNonFinite));
  all.push_back(formula(
      "fill", "", {constant("x", {2, 3})}, !kUniform,
      [](const Tensors& t) {
        const std::uint64_t version = t[0].version();
        ops::fill(t[0], 1.5f);
        REQUIRE(t[0].version() > version);
        return t[0];
      },
      [](const Arguments& a) { return Values(a[0].size(), 1.5); }));
  all.push_back(formula(
      "axpby", "", {constant("x", {2, 3}), constant("y", {2, 3})}, kUniform,
      [](const Tensors& t) {
        const std::uint64_t version = t[1].version();
        ops::axpby(0.5f, t[0], -2.0f, t[1]);
        REQUIRE(t[1].version() > version);
        return t[1];
      },
      [](const Arguments& a) {
        Values y = a[1];
        for (std::size_t i = 0; i < y.size(); ++i) y[i] = 0.5 * a[0][i] - 2.0 * y[i];
        return y;
      }));
}

}  // namespace

std::vector<OpCase> op_cases() {
  std::vector<OpCase> all{
      conv2d("3x3", {2, 4, 3, 2, 3, 3, 3, 1, 1}, true),
      conv2d("3x3 without bias", {1, 3, 4, 2, 2, 3, 3, 1, 1}, false),
      conv2d("stride 2, odd size", {2, 5, 4, 2, 2, 3, 3, 2, 1}, true),
      conv2d("9x9", {1, 3, 2, 2, 2, 9, 9, 1, 4}, true),
      conv2d("1x1", {2, 2, 3, 3, 2, 1, 1, 1, 0}, true),
      conv2d_activation("relu", Activation::Relu, 0.0f),
      conv2d_activation("leaky", Activation::LeakyRelu, 0.25f),
      conv2d_activation("none", Activation::None, 0.0f),
      batch_norm("", false),
      batch_norm("with running statistics", true),
      batch_norm_inference(),
      prelu("per channel", false),
      prelu("shared", true),
      leaky("leaky_relu", 0.25f),
      leaky("relu", 0.0f),
      pixel_shuffle("x2", 2),
      pixel_shuffle("x3", 3),
      max_pool2("even", 4, 2),
      max_pool2("odd", 5, 3),
      dense("with bias", true),
      dense("without bias", false),
      channel_affine("with shift", true),
      channel_affine("without shift", false),
      pair_loss("mse_loss", ops::mse_loss, ref::mse_loss<double>),
      pair_loss("l1_loss", ops::l1_loss, ref::l1_loss<double>),
      bce(0.0f),
      bce(1.0f),
      bce(0.9f),
      total_variation("absolute", false),
      total_variation("squared", true),
  };
  add_elementwise(all);
  add_not_differentiable(all);
  return all;
}

}  // namespace subpix::tests
