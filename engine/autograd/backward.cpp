#include <functional>
#include <map>
#include <sstream>

#include "engine/autograd/node.h"
#include "engine/core/debug.h"
#include "engine/ops/observe.h"
#include "engine/ops/ops.h"

namespace subpix::engine {
namespace {

/// sum + term. Writes into sum only where nobody else can see it: a gradient may be shared with
/// another edge (add hands its dy to both), with a saved tensor or with the caller.
Tensor accumulate(Tensor sum, const Tensor& term) {
  SUBPIX_REQUIRE(sum.shape() == term.shape() && sum.dtype() == term.dtype(),
                 "gradients of one tensor differ: ", sum.shape(), " ", name(sum.dtype()), " and ",
                 term.shape(), " ", name(term.dtype()));
  if (!sum.is_unique()) return ops::add(sum, term);
  ops::axpby(1.0f, term, 1.0f, sum);
  return sum;
}

class AccumulateNode final : public Node {
 public:
  explicit AccumulateNode(const Tensor& leaf) : Node(std::span<const Tensor>()), leaf_(leaf) {
    set_output(leaf.shape(), leaf.dtype());
  }
  const char* name() const override { return "leaf"; }
  Tensor leaf() const override { return leaf_; }

  std::vector<Tensor> backward(const Tensor& dy) override {
    Tensor sum = leaf_.grad();
    leaf_.clear_grad();  // so that `sum` is the only handle and may be added to in place
    leaf_.set_grad(sum.defined() ? accumulate(std::move(sum), dy) : dy);
    return {};
  }

 private:
  Tensor leaf_;
};

void check_gradient(const Node& from, std::size_t i, const Node& to, const Tensor& gradient) {
  SUBPIX_REQUIRE(gradient.defined(), from.name(), " returned no gradient for argument ", i);
  SUBPIX_REQUIRE(gradient.shape() == to.shape(), from.name(), " returned a gradient ",
                 gradient.shape(), " for argument ", i, " of shape ", to.shape());
  SUBPIX_REQUIRE(gradient.dtype() == to.dtype() || gradient.dtype() == DType::F32, from.name(),
                 " returned a gradient of type ", name(gradient.dtype()), " for argument ", i,
                 " of type ", name(to.dtype()));
}

/// A node that waits for its turn, with the sum of the gradients that reached it.
struct Waiting {
  std::shared_ptr<Node> node;
  Tensor gradient;
};
/// Highest sequence first: when a node comes up, everything that used its output has run.
using Queue = std::map<std::uint64_t, Waiting, std::greater<>>;

/// A gradient of `node`'s argument i that was put off.
struct PutOff {
  std::shared_ptr<Node> node;
  std::size_t i;
  std::shared_ptr<Node> to;  // the leaf's
  std::unique_ptr<Deferred> work;
};
using Later = std::map<std::string, std::vector<PutOff>>;  // by kind

void send(Queue& queue, const std::shared_ptr<Node>& to, Tensor gradient) {
  Waiting& slot = queue[to->sequence()];
  if (!slot.node) {
    slot = {to, std::move(gradient)};
    return;
  }
  slot.gradient = accumulate(std::move(slot.gradient), gradient);
}

/// Hands what was sent to the node's argument i so far to the node, which adds its own part.
void join(Queue& queue, Node& node, std::size_t i) {
  if (!node.needs(i)) return;
  const auto slot = queue.find(node.edges()[i]->sequence());
  if (slot == queue.end() || node.edges()[i]->leaf().defined()) return;
  node.set_joined(std::move(slot->second.gradient));
  queue.erase(slot);
}

/// Sends what `from` returned for its argument i to `to`.
void deliver(Queue& queue, const Node& from, std::size_t i, const std::shared_ptr<Node>& to,
             Tensor gradient) {
  check_gradient(from, i, *to, gradient);
  ops::observe_gradient(from.name(), i, gradient);
  send(queue, to, std::move(gradient));
}

void walk(Queue& queue, Later& later, bool retain) {
  while (!queue.empty()) {
    Waiting now = std::move(queue.begin()->second);
    queue.erase(queue.begin());
    Node& node = *now.node;
    SUBPIX_REQUIRE(!node.freed(), "backward reached ", node.name(), " ", node.shape(),
                   ", whose graph an earlier backward() freed; give that one retain = true, or run "
                   "the forward pass again");
    if (const int i = node.joins(); i >= 0) join(queue, node, static_cast<std::size_t>(i));
    std::vector<Tensor> gradients = node.backward(now.gradient);
    now.gradient = Tensor();
    SUBPIX_REQUIRE(gradients.size() == node.edges().size(), node.name(), " returned ",
                   gradients.size(), " gradients for ", node.edges().size(), " arguments");
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      if (!node.needs(i)) continue;
      const std::shared_ptr<Node>& to = node.edges()[i];
      if (!gradients[i].defined())
        if (auto work = node.take_deferred(i)) {
          std::string kind = work->kind();
          later[std::move(kind)].push_back({now.node, i, to, std::move(work)});
          continue;
        }
      deliver(queue, node, i, to, std::move(gradients[i]));
    }
    // Before the next node runs, so that it gets the memory. Accumulators stay: leaves outlive
    // graphs.
    if (!retain && !node.leaf().defined()) node.free();
  }
}

}  // namespace

std::shared_ptr<Node> make_accumulator(const Tensor& leaf) {
  return std::make_shared<AccumulateNode>(leaf);
}

void backward(const Tensor& root, const Tensor& seed, bool retain) {
  const std::shared_ptr<Node> last = root.gradient_edge();
  SUBPIX_REQUIRE(last, "backward: the tensor ", root.shape(),
                 " does not depend on anything that requires a gradient");
  const NoGrad no_grad;
  Tensor gradient = seed;
  if (!seed.defined()) {
    SUBPIX_REQUIRE(root.count() == 1, "backward needs a seed for a tensor of shape ", root.shape());
    gradient = Tensor::full(root.device(), root.shape(), 1.0f, root.dtype());
  }
  SUBPIX_REQUIRE(gradient.shape() == root.shape() && gradient.dtype() == root.dtype(),
                 "backward: a seed ", gradient.shape(), " ", name(gradient.dtype()),
                 " for a tensor ", root.shape(), " ", name(root.dtype()));
  SUBPIX_REQUIRE(!gradient.requires_grad(), "backward: the seed must not be part of a graph");
  if (debug().level >= 3) debug_line(concat("backward\n", dump_graph(root)));

  Queue queue;
  Later later;
  send(queue, last, std::move(gradient));
  walk(queue, later, retain);
  for (auto& [kind, group] : later) {
    std::vector<Deferred*> works;
    for (const PutOff& p : group) works.push_back(p.work.get());
    std::vector<Tensor> gradients = works.front()->run(works);
    SUBPIX_REQUIRE(gradients.size() == group.size(), kind, ": ", gradients.size(),
                   " gradients for ", group.size(), " that were put off");
    for (std::size_t k = 0; k < group.size(); ++k)
      deliver(queue, *group[k].node, group[k].i, group[k].to, std::move(gradients[k]));
    group.clear();
  }
  walk(queue, later, retain);  // the leaves that got them
}

std::string dump_graph(const Tensor& root) {
  std::map<std::uint64_t, const Node*, std::greater<>> waiting;
  const std::shared_ptr<Node> last = root.gradient_edge();
  if (last) waiting[last->sequence()] = last.get();
  std::ostringstream text;
  while (!waiting.empty()) {
    const Node& node = *waiting.begin()->second;
    waiting.erase(waiting.begin());
    text << '#' << node.sequence() << ' ' << node.name() << ' ' << node.shape();
    if (node.freed()) text << " freed";
    if (const std::size_t bytes = node.saved_bytes()) text << " saves " << bytes << " bytes";
    if (!node.edges().empty()) text << " <-";
    for (const auto& edge : node.edges()) {
      if (!edge) {
        text << " -";
        continue;
      }
      text << " #" << edge->sequence();
      waiting[edge->sequence()] = edge.get();
    }
    text << '\n';
  }
  return text.str();
}

}  // namespace subpix::engine
