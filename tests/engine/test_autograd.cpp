#include <algorithm>
#include <sstream>

#include "engine/ops/ops.h"
#include "tests/engine/backends.h"

using namespace subpix;
using namespace subpix::engine;
using namespace subpix::tests;

namespace {

Tensor leaf(Device& device, float value, const Shape& shape = {1}) {
  return Tensor::full(device, shape, value).set_requires_grad(true);
}

int lines(const std::string& text) {
  return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

}  // namespace

TEST_CASE("a graph has one node per op, and none where nothing needs a gradient",
          "[engine][autograd]") {
  on_each_backend([](Device& device) {
    const Tensor a = leaf(device, 2.0f), b = Tensor::full(device, {1}, 3.0f);
    CHECK(a.is_leaf());
    CHECK(a.requires_grad());
    const Tensor sum = ops::add(a, b), twice = ops::scale(sum, 2.0f), constant = ops::add(b, b);
    CHECK_FALSE(sum.is_leaf());
    CHECK(sum.requires_grad());
    CHECK_FALSE(constant.requires_grad());
    CHECK_FALSE(constant.node());
    CHECK(twice.node()->edges().at(0) == sum.node());
    CHECK(sum.node()->needs(0));
    CHECK_FALSE(sum.node()->needs(1));
    CHECK(twice.node()->sequence() > sum.node()->sequence());
    CHECK(sum.node()->sequence() > sum.node()->edges()[0]->sequence());
    CHECK(std::string(sum.node()->name()) == "add");

    const std::string graph = dump_graph(twice);
    INFO(graph);
    std::ostringstream want;
    want << '#' << twice.node()->sequence() << " scale [1] <- #" << sum.node()->sequence() << "\n#"
         << sum.node()->sequence() << " add [1] <- #" << a.gradient_edge()->sequence() << " -\n#"
         << a.gradient_edge()->sequence() << " leaf [1]\n";
    CHECK(graph == want.str());
    CHECK(dump_graph(constant).empty());
  });
}

TEST_CASE("gradients of a diamond add up", "[engine][autograd]") {
  on_each_backend([](Device& device) {
    const Tensor x = leaf(device, 1.0f, {3});
    const Tensor y = ops::add(x, ops::add(ops::scale(x, 2.0f), ops::scale(x, 5.0f)));
    const Tensor seed = Tensor::from_host(device, {3}, std::vector<float>{1, -1, 2});
    backward(y, seed);
    CHECK(x.grad().to_host() == std::vector<float>{8, -8, 16});
    CHECK(seed.to_host() == std::vector<float>{1, -1, 2});
  });
}

TEST_CASE("a second backward adds to the first gradient", "[engine][autograd]") {
  on_each_backend([](Device& device) {
    const Tensor x = leaf(device, 1.0f);
    backward(ops::scale(x, 3.0f));
    const Tensor first = x.grad();
    const std::uint64_t first_storage = first.storage_id();
    backward(ops::scale(x, 4.0f));
    CHECK(x.grad().item() == 7.0f);
    CHECK(first.item() == 3.0f);  // whoever kept the first gradient keeps its value
    const std::uint64_t second_storage = x.grad().storage_id();
    CHECK(second_storage != first_storage);
    backward(ops::scale(x, 4.0f));
    CHECK(x.grad().item() == 11.0f);
    CHECK(x.grad().storage_id() == second_storage);  // nobody else looked: in place
    x.clear_grad();
    CHECK_FALSE(x.grad().defined());
  });
}

TEST_CASE("two graphs on one leaf are walked one after the other", "[engine][autograd]") {
  on_each_backend([](Device& device) {
    const Tensor x = leaf(device, 1.0f);
    const Tensor a = ops::scale(x, 3.0f), b = ops::scale(x, 4.0f);
    CHECK(a.node()->edges()[0] == b.node()->edges()[0]);
    backward(a);
    backward(b);
    CHECK(x.grad().item() == 7.0f);
  });
}

TEST_CASE("leaves that share one gradient do not write into each other's", "[engine][autograd]") {
  on_each_backend([](Device& device) {
    const Tensor a = leaf(device, 1.0f), b = leaf(device, 1.0f);
    backward(ops::add(a, b));
    backward(ops::scale(a, 10.0f));
    CHECK(a.grad().item() == 11.0f);
    CHECK(b.grad().item() == 1.0f);
  });
}

TEST_CASE("detach, NoGrad and frozen leaves stop gradients", "[engine][autograd]") {
  on_each_backend([](Device& device) {
    const Tensor x = leaf(device, 2.0f), y = leaf(device, 3.0f);
    const Tensor through = ops::scale(x, 5.0f);
    const Tensor cut = through.detach();
    CHECK_FALSE(cut.requires_grad());
    CHECK(cut.raw() == through.raw());
    backward(ops::add(cut, y));
    CHECK_FALSE(x.grad().defined());
    CHECK(y.grad().item() == 1.0f);
    {
      const NoGrad outer;
      { const NoGrad inner; }
      CHECK_FALSE(ops::scale(x, 5.0f).requires_grad());
    }
    CHECK(ops::scale(x, 5.0f).requires_grad());
    x.set_requires_grad(false);
    CHECK_FALSE(ops::scale(x, 5.0f).requires_grad());
    const std::string message = error_of([&] { backward(ops::scale(x, 5.0f)); });
    CHECK(message.find("does not depend on anything") != std::string::npos);
    CHECK(error_of([&] { through.set_requires_grad(false); }).find("only a leaf") !=
          std::string::npos);
  });
}

TEST_CASE("only the wanted part of a graph is walked", "[engine][autograd]") {
  // The generator's step: the discriminator is frozen, gradients pass through it.
  on_each_backend([](Device& device) {
    const Tensor g = leaf(device, 2.0f, {1, 1}), d = leaf(device, 3.0f, {1, 1});
    const Tensor picture = ops::dense(Tensor::full(device, {1, 1}, 1.0f), g, Tensor());
    d.set_requires_grad(false);
    backward(ops::dense(picture, d, Tensor()));
    CHECK(g.grad().item() == 3.0f);
    CHECK_FALSE(d.grad().defined());
    // The discriminator's step: the picture is detached.
    d.set_requires_grad(true);
    g.clear_grad();
    backward(ops::dense(picture.detach(), d, Tensor()));
    CHECK(d.grad().item() == 2.0f);
    CHECK_FALSE(g.grad().defined());
  });
}

TEST_CASE("a graph is freed on the way", "[engine][autograd]") {
  on_each_backend([](Device& device) {
    const Tensor x = leaf(device, 1.0f, {1, 1024});
    const Tensor w = leaf(device, 1.0f, {1, 1024});
    Tensor y = ops::dense(x, w, Tensor());
    const Tensor z = ops::scale(y, 2.0f);
    CHECK(y.node()->saved_bytes() == 2 * 4096);
    const std::shared_ptr<Node> node = y.node();
    backward(z);
    CHECK(node->freed());
    CHECK(node->saved_bytes() == 0);
    CHECK(node->edges().empty());
    const std::string message = error_of([&] { backward(z); });
    INFO(message);
    CHECK(message.find("backward reached scale [1,1], whose graph an earlier backward() freed") !=
          std::string::npos);
    // A graph on top of a freed one fails at the seam.
    CHECK(error_of([&] { backward(ops::scale(y, 3.0f)); }).find("reached dense [1,1]") !=
          std::string::npos);
    CHECK(dump_graph(z).find("freed") != std::string::npos);
  });
}

TEST_CASE("retain keeps the graph for another walk", "[engine][autograd]") {
  on_each_backend([](Device& device) {
    const Tensor x = leaf(device, 3.0f), target = Tensor::full(device, {1}, 1.0f);
    const Tensor loss = ops::mse_loss(x, target, 1.0f);
    backward(loss, Tensor(), true);
    CHECK(x.grad().item() == 4.0f);
    backward(loss, Tensor(), true);
    CHECK(x.grad().item() == 8.0f);
    backward(loss);
    CHECK(x.grad().item() == 12.0f);
    CHECK(loss.node()->freed());
  });
}

TEST_CASE("memory of a node is free before the next one runs", "[engine][autograd]") {
  on_each_backend([](Device& device) {
    constexpr Index kCount = 1 << 16;
    const Tensor x = leaf(device, 1.0f, {1, kCount});
    Tensor y = x;
    for (int i = 0; i < 20; ++i) y = ops::leaky_relu(y, 0.5f);
    const Tensor seed = Tensor::full(device, y.shape(), 1.0f);
    const std::size_t block = kCount * sizeof(float);
    CHECK(device.memory().in_use == 22 * block);  // x, 20 outputs, the seed
    device.reset_peak();
    backward(y, seed);
    // Two gradients at most, the one that goes in and the one that comes out: outputs go on the
    // way.
    CHECK(device.memory().peak == 24 * block);
    CHECK(device.memory().in_use == 4 * block);  // x, y, the seed, x's gradient
  });
}

TEST_CASE("a tensor that was written after it was saved is refused", "[engine][autograd]") {
  on_each_backend([](Device& device) {
    const Tensor x = leaf(device, 1.0f, {1, 2}), w = leaf(device, 1.0f, {1, 2});
    const Tensor y = ops::dense(x, w, Tensor());
    w.upload(std::vector<float>{5, 6});
    const std::string message = error_of([&] { backward(y); });
    INFO(message);
    CHECK(message.find("dense: the saved tensor 'w' [1,2] was written after the forward pass") !=
          std::string::npos);
    // What is not saved may change: the first layer needs no filter for its picture.
    const Tensor picture = Tensor::full(device, {1, 2}, 2.0f);
    const Tensor z = ops::dense(picture, w, Tensor());
    w.upload(std::vector<float>{7, 8});
    backward(z);
    CHECK(w.grad().to_host() == std::vector<float>{2, 2});
  });
}

TEST_CASE("seeds must fit the root", "[engine][autograd]") {
  const auto device = Device::open("reference");
  const Tensor x = leaf(*device, 1.0f, {3});
  const Tensor y = ops::scale(x, 2.0f);
  CHECK(error_of([&] { backward(y); }).find("needs a seed") != std::string::npos);
  CHECK(error_of([&] { backward(y, Tensor::zeros(*device, {2})); }).find("a seed [2]") !=
        std::string::npos);
  CHECK(error_of([&] { backward(y, x); }).find("must not be part of a graph") != std::string::npos);
  backward(x, Tensor::full(*device, {3}, 1.0f));  // a leaf alone is a graph too
  CHECK(x.grad().to_host() == std::vector<float>(3, 1.0f));
}

TEST_CASE("a chain of 100000 adds is walked and released without recursion", "[engine][autograd]") {
  const auto device = Device::open("reference");
  const Tensor x = leaf(*device, 1.0f), zero = Tensor::zeros(*device, {1});
  constexpr int kDepth = 100'000;
  Tensor y = x;
  for (int i = 0; i < kDepth; ++i) y = ops::add(y, zero);
  CHECK(lines(dump_graph(y)) == kDepth + 1);
  backward(y);
  CHECK(x.grad().item() == 1.0f);
  for (int i = 0; i < kDepth; ++i) y = ops::add(y, zero);  // on top of the freed part
  y = Tensor();                                            // dropped without a walk
  Tensor wide = x;
  for (int i = 0; i < kDepth / 2; ++i) wide = ops::add(wide, wide);
  wide = Tensor();
  CHECK(device->memory().in_use == 3 * 64);  // x, zero, x's gradient
}

namespace {

/// A node that does everything wrong that backward() must notice.
struct WrongNode final : Node {
  WrongNode(const Tensor& x, std::vector<Tensor> answer_) : Node({x}), answer(std::move(answer_)) {}
  const char* name() const override { return "wrong"; }
  std::vector<Tensor> backward(const Tensor&) override { return answer; }
  std::vector<Tensor> answer;
};

std::string complaint(Device& device, std::vector<Tensor> answer) {
  const Tensor x = leaf(device, 1.0f, {2});
  const Tensor y = Tensor::zeros(device, {1});
  y.set_node(std::make_shared<WrongNode>(x, std::move(answer)));
  return error_of([&] { backward(y); });
}

}  // namespace

TEST_CASE("the walker checks what nodes return", "[engine][autograd]") {
  const auto device = Device::open("reference");
  Device& d = *device;
  CHECK(complaint(d, {}).find("wrong returned 0 gradients for 1 arguments") != std::string::npos);
  CHECK(complaint(d, {Tensor()}).find("wrong returned no gradient for argument 0") !=
        std::string::npos);
  CHECK(complaint(d, {Tensor::zeros(d, {3})}).find("a gradient [3] for argument 0 of shape [2]") !=
        std::string::npos);
  CHECK(complaint(d, {Tensor::zeros(d, {2}, DType::BF16)}).find("type BF16") != std::string::npos);
}

TEST_CASE("the version of a saved tensor counts through views", "[engine][autograd]") {
  const auto device = Device::open("reference");
  const Tensor x = leaf(*device, 1.0f, {2, 3});
  const Tensor y = ops::leaky_relu(ops::reshape(x, {6}), 0.5f);  // saves its output
  y.view({3, 2}).upload(std::vector<float>(6, 1.0f));
  CHECK(error_of([&] { backward(y, Tensor::zeros(*device, {6})); }).find("saved tensor 'y'") !=
        std::string::npos);
}
