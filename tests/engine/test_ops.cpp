#include <cmath>
#include <fstream>
#include <set>

#include "engine/ops/ops.h"
#include "kernels/api/context_objects.h"
#include "tests/engine/backends.h"
#include "tests/engine/op_cases.h"
#include "tests/support/gradcheck.h"

using namespace subpix;
using namespace subpix::engine;
using namespace subpix::tests;

namespace {

struct Run {
  bool exact;   // small numbers, equal bits
  DType dtype;  // of activations and filters
  double tolerance;
};

/// v as a tensor of this type holds it.
double stored(double v, DType dtype) {
  return dtype == DType::BF16 ? rounded<bf16>(v) : dtype == DType::F32 ? rounded<float>(v) : v;
}

Values data_for(const OpCase& c, const OpArgument& a, bool exact, DType dtype) {
  Generator random(seed_of(c.op + c.key + a.name));
  Values values(static_cast<std::size_t>(a.shape.count()));
  double next = -std::floor(static_cast<double>(values.size()) / 2.0);
  for (double& v : values) {
    if (a.data == Data::Bytes) {
      v = random.integer(0, 255);
    } else if (!exact) {
      v = a.data == Data::Positive ? random.uniform(0.5, 1.5) : random.uniform(-1.0, 1.0);
      v = stored(v, dtype);
    } else if (a.data == Data::Nonzero) {
      v = random.integer(1, 3) * (random.integer(0, 1) ? 1 : -1);
    } else if (a.data == Data::Distinct) {
      v = next++;
    } else if (a.data == Data::Positive || a.data == Data::Quarters) {
      v = a.data == Data::Positive ? random.integer(1, 3) : 0.25 * random.integer(1, 4);
    } else {
      v = random.integer(-2, 2) + (a.data == Data::Halves ? 0.5 : 0.0);
    }
  }
  if (exact && a.data == Data::Distinct)
    for (std::size_t i = values.size(); i > 1; --i)
      std::swap(values[i - 1], values[random.next() % i]);
  return values;
}

Tensor upload(Device& device, const Shape& shape, const Values& values, DType dtype) {
  if (dtype == DType::U8)
    return Tensor::from_bytes(device, shape,
                              std::vector<std::uint8_t>(values.begin(), values.end()));
  const NoGrad no_grad;
  return ops::cast(
      Tensor::from_host(device, shape, std::vector<float>(values.begin(), values.end())), dtype);
}

Values download(const Tensor& t) {
  if (t.dtype() == DType::U8) {
    const std::vector<std::uint8_t> bytes = t.to_host_bytes();
    return {bytes.begin(), bytes.end()};
  }
  const std::vector<float> values = t.to_host();
  return {values.begin(), values.end()};
}

/// Empty, or what differs.
std::string difference(const std::string& what, const Values& got, const Values& want, DType dtype,
                       double tolerance) {
  if (got.size() != want.size())
    return concat(what, ": ", got.size(), " elements, expected ", want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double expected = stored(want[i], dtype);
    if (!(std::fabs(got[i] - expected) <= tolerance * (1.0 + std::fabs(expected))))
      return concat(what, "[", i, "]: ", got[i], " instead of ", expected);
  }
  return {};
}

class CaseRun {
 public:
  CaseRun(Device& device, const OpCase& c, const Run& run) : device_(device), c_(c), run_(run) {
    for (const OpArgument& a : c.arguments)
      values_.push_back(data_for(c, a, run.exact, dtype_of(a)));
  }

  void check() {
    const Values y = c_.oracle(values_);
    const Tensor result = c_.run(leaves(nullptr));
    CHECK(difference("y", download(result), y, result.dtype(), run_.tolerance) == "");
    CHECK_FALSE(result.requires_grad());
    if (differentiable()) check_gradients(y.size());
  }

 private:
  DType dtype_of(const OpArgument& a) const {
    return a.data == Data::Bytes ? DType::U8 : a.activation ? run_.dtype : DType::F32;
  }

  bool differentiable() const {
    for (const OpArgument& a : c_.arguments)
      if (a.differentiable) return true;
    return false;
  }

  /// Fresh tensors; `alone` null: no gradients, else the arguments it tells.
  std::vector<Tensor> leaves(const std::function<bool(std::size_t)>& wants) const {
    std::vector<Tensor> all;
    for (std::size_t i = 0; i < c_.arguments.size(); ++i) {
      const OpArgument& a = c_.arguments[i];
      all.push_back(upload(device_, a.shape, values_[i], dtype_of(a)));
      if (wants && wants(i)) all.back().set_requires_grad(true);
    }
    return all;
  }

  /// Gradients of <seed, op(arguments)>.
  std::vector<Tensor> gradients(const Values& seed,
                                const std::function<bool(std::size_t)>& wants) const {
    const std::vector<Tensor> inputs = leaves(wants);
    const Tensor y = c_.run(inputs);
    REQUIRE(y.requires_grad());
    backward(y, upload(device_, y.shape(), seed, y.dtype()));
    std::vector<Tensor> all;
    for (const Tensor& t : inputs) all.push_back(t.grad());
    return all;
  }

  void check_gradients(std::size_t outputs) {
    Generator random(seed_of("seed of " + c_.op + c_.key));
    Values seed(outputs);
    for (double& v : seed)
      v = run_.exact ? random.integer(1, 2) * (random.integer(0, 1) ? 1 : -1)
                     : stored(random.uniform(-1.0, 1.0), run_.dtype);
    const auto every = [&](std::size_t i) { return c_.arguments[i].differentiable; };
    const std::vector<Tensor> together = gradients(seed, every);
    for (std::size_t i = 0; i < c_.arguments.size(); ++i) {
      CAPTURE(c_.arguments[i].name);
      if (!every(i)) {
        CHECK_FALSE(together[i].defined());
        continue;
      }
      check_against_differences(i, together[i], seed);

      // Frozen siblings change nothing, and get nothing.
      const std::vector<Tensor> alone = gradients(seed, [&](std::size_t j) { return j == i; });
      for (std::size_t j = 0; j < alone.size(); ++j) CHECK(alone[j].defined() == (j == i));
      CHECK(alone[i].to_host() == together[i].to_host());
    }
  }

  void check_against_differences(std::size_t i, const Tensor& gradient, const Values& seed) {
    // A power of two, so that differences of polynomials of degree 2 in small numbers are exact.
    const double h = run_.exact ? 0x1p-10 : 1e-5;
    Values& x = values_[i];
    Values want(x.size());
    for (std::size_t e = 0; e < x.size(); ++e) {
      const double kept = x[e];
      x[e] = kept + h;
      const double above = dot(seed, c_.oracle(values_));
      x[e] = kept - h;
      const double below = dot(seed, c_.oracle(values_));
      x[e] = kept;
      want[e] = (above - below) / (2.0 * h);
    }
    CHECK(difference("gradient", download(gradient), want, gradient.dtype(), run_.tolerance) == "");
  }

  Device& device_;
  const OpCase& c_;
  Run run_;
  std::vector<Values> values_;
};

}  // namespace

TEST_CASE("every op and its gradients match the double reference", "[engine][ops]") {
  on_each_backend([](Device& device) {
    for (const OpCase& c : op_cases()) {
      CAPTURE(c.op, c.key);
      std::vector<Run> runs;
      if (c.exact) runs.push_back({true, DType::F32, 0.0});
      if (c.exact) runs.push_back({true, DType::BF16, 0.0});
      if (c.uniform) runs.push_back({false, DType::F32, 2e-5});
      if (c.uniform) runs.push_back({false, DType::BF16, 2e-2});
      for (const Run& run : runs) {
        CAPTURE(run.exact, name(run.dtype));
        CaseRun(device, c, run).check();
      }
    }
  });
}

TEST_CASE("every function of ops.h has a case", "[engine][ops]") {
  std::ifstream header(SUBPIX_SOURCE_DIR "/engine/ops/ops.h");
  REQUIRE(header);
  std::set<std::string> declared, covered;
  for (std::string line; std::getline(header, line);)
    for (const std::string type : {"Tensor ", "void "})
      if (line.rfind(type, 0) == 0 && line.find('(') != std::string::npos)
        declared.insert(line.substr(type.size(), line.find('(') - type.size()));
  for (const OpCase& c : op_cases()) covered.insert(c.op);
  CHECK(declared.size() >= 20);
  CHECK(declared == covered);
}

TEST_CASE("a convolution computes only the gradients that are wanted", "[engine][ops]") {
  on_each_backend([](Device& device) {
    std::set<std::string> called;
    kernels::set_trace(device.context(), [&](const char* op, const char*, const std::string&) {
      called.insert(std::string(op).substr(0, std::string(op).find('/')));
    });
    for (const bool frozen : {false, true})
      for (const bool activation : {false, true}) {
        CAPTURE(frozen, activation);
        const Tensor x = Tensor::full(device, {1, 4, 4, 2}, 1.0f);
        const Tensor w = Tensor::full(device, {3, 3, 3, 2}, 1.0f);
        (frozen ? x : w).set_requires_grad(true);
        const Tensor y = activation
                             ? ops::conv2d_activation(x, w, Tensor(), 1, 1, ops::Activation::Relu)
                             : ops::conv2d(x, w, Tensor(), 1, 1);
        // Nothing more than needed is kept either: one of x and w, and y for the activation.
        const std::size_t kept = (frozen ? w : x).count() + (activation ? y.count() : 0);
        CHECK(y.node()->saved_bytes() == kept * sizeof(float));
        called.clear();
        backward(y, Tensor::full(device, y.shape(), 1.0f));
        CHECK(called.count("conv2d_backward_data") == (frozen ? 1 : 0));
        CHECK(called.count("conv2d_backward_filter") == (frozen ? 0 : 1));
      }
  });
}

TEST_CASE("batch_norm updates its running statistics like PyTorch", "[engine][ops]") {
  on_each_backend([](Device& device) {
    // Per channel: mean 2.5 and 0, biased variance 1.25 and 4, unbiased 5/3 and 16/3.
    const std::vector<float> values{1, -2, 2, 2, 3, -2, 4, 2};
    const Tensor x = Tensor::from_host(device, {1, 2, 2, 2}, values);
    const Tensor gamma = Tensor::full(device, {2}, 1.0f), beta = Tensor::zeros(device, {2});
    const Tensor mean = Tensor::zeros(device, {2}), var = Tensor::full(device, {2}, 1.0f);
    const std::uint64_t version = mean.version();
    ops::batch_norm(x, gamma, beta, mean, var, 0.5f, 1e-5f);
    CHECK(mean.version() > version);
    CHECK(mean.to_host()[0] == Approx(1.25).epsilon(1e-6));
    CHECK(mean.to_host()[1] == Approx(0.0).margin(1e-7));
    CHECK(var.to_host()[0] == Approx(0.5 + 0.5 * 5.0 / 3.0).epsilon(1e-6));
    CHECK(var.to_host()[1] == Approx(0.5 + 0.5 * 16.0 / 3.0).epsilon(1e-6));
  });
}

TEST_CASE("the F32 gradient of a BF16 filter reaches its F32 master unrounded", "[engine][ops]") {
  on_each_backend([](Device& device) {
    const Tensor x = Tensor::full(device, {1, 1, 1, 1}, 1.0f, DType::BF16);
    const Tensor w = Tensor::full(device, {1, 1, 1, 1}, 0.5f);
    w.set_requires_grad(true);
    const Tensor filter = ops::cast(w, DType::BF16);
    // 200 + 1 has no BF16 of its own.
    Tensor y = ops::add(ops::scale(ops::conv2d(x, filter, Tensor(), 1, 0), 200.0f),
                        ops::conv2d(x, filter, Tensor(), 1, 0));
    backward(y);
    CHECK(w.grad().dtype() == DType::F32);
    CHECK(w.grad().item() == 201.0f);
  });
}

TEST_CASE("wrong arguments are named", "[engine][ops]") {
  const auto device = Device::open("reference");
  Device& d = *device;
  const Tensor x = Tensor::zeros(d, {1, 4, 4, 3}), w = Tensor::zeros(d, {2, 3, 3, 4});
  const Tensor v = Tensor::zeros(d, {5}), bytes = Tensor::empty(d, {3}, DType::U8);
  const Tensor half = Tensor::zeros(d, {1, 4, 4, 3}, DType::BF16), none;
  const auto other = Device::open("reference");
  const Tensor far = Tensor::zeros(*other, {1, 4, 4, 3});
  const auto says = [](const std::string& part, const std::function<void()>& call) {
    const std::string message = error_of(call);
    INFO(message);
    CHECK(message.find(part) != std::string::npos);
  };
  says("x [1,4,4,3] has 3 channels, w [2,3,3,4] takes 4", [&] { ops::conv2d(x, w, none, 1, 1); });
  says("x is undefined", [&] { ops::conv2d(none, w, none, 1, 1); });
  says("w is undefined", [&] { ops::conv2d(x, none, none, 1, 1); });
  const Tensor w_half = Tensor::zeros(d, {2, 3, 3, 3}, DType::BF16);
  says("w must be F32, not BF16", [&] { ops::conv2d(x, w_half, none, 1, 1); });
  says("gamma must be [3], not [5]", [&] { ops::batch_norm(x, v, v, none, none, 0.1f, 1e-5f); });
  says("slope must be [3], not [5]", [&] { ops::prelu(x, v); });
  says("must be at least 0, not -1", [&] { ops::leaky_relu(x, -1.0f); });
  says("not a multiple of scale 2 squared", [&] { ops::pixel_shuffle(x, 2); });
  says("must have 4 dimensions, not [5]", [&] { ops::max_pool2(v); });
  says("must have the shape of x, [1,4,4,3], not [5]", [&] { ops::add(x, v); });
  says("must be F32, not BF16", [&] { ops::mse_loss(x, half, 1.0f); });
  says("must be F32 or BF16, not U8", [&] { ops::add(bytes, bytes); });
  says("must be U8, not F32", [&] { ops::from_bytes(x, 1.0f, 0.0f); });
  says("lies on", [&] { ops::add(x, far); });
  says("cannot be seen as [7]", [&] { ops::reshape(x, {7}); });
  says("between F32 and BF16 only", [&] { ops::cast(bytes, DType::F32); });
  says("w must be [out,3]", [&] {
    ops::dense(Tensor::zeros(d, {2, 3}), Tensor::zeros(d, {4, 2}), none);
  });
  says("does not lie in [1,4,4,3]", [&] { ops::crop(x, 2, 0, 3, 1); });
  says("0 terms and 0 weights", [&] { ops::weighted_sum({}, {}); });
  v.set_requires_grad(true);
  says("takes part in a graph", [&] { ops::fill(v, 0.0f); });
  says("takes part in a graph", [&] { ops::axpby(1.0f, v, 1.0f, ops::scale(v, 2.0f)); });
}
