#include "engine/autograd/node.h"

#include <atomic>

namespace subpix::engine {
namespace {

std::uint64_t next_sequence() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

thread_local bool grad_mode = true;

}  // namespace

Node::Node(std::initializer_list<Tensor> inputs)
    : Node(std::span<const Tensor>(inputs.begin(), inputs.size())) {}

Node::Node(std::span<const Tensor> inputs) {
  edges_.reserve(inputs.size());
  for (const Tensor& t : inputs) edges_.push_back(t.gradient_edge());
  // After the edges: a leaf's accumulator may be born there and must come before its user.
  sequence_ = next_sequence();
}

Node::~Node() { drop_edges(); }

void Node::drop_edges() {
  // The last owner of a long chain would recurse once per node. Instead the outermost call keeps a
  // list on its stack and the calls inside it only add to the list.
  thread_local std::vector<std::shared_ptr<Node>>* pending = nullptr;
  std::vector<std::shared_ptr<Node>> mine = std::move(edges_);
  edges_.clear();
  if (pending) {
    for (auto& edge : mine)
      if (edge) pending->push_back(std::move(edge));
    return;
  }
  pending = &mine;
  while (!mine.empty()) {
    const std::shared_ptr<Node> dying = std::move(mine.back());
    mine.pop_back();
  }
  pending = nullptr;
}

void Node::free() {
  for (Saved* s : saved_) s->tensor_ = Tensor();
  drop_edges();
  freed_ = true;
}

std::size_t Node::saved_bytes() const {
  std::size_t bytes = 0;
  for (const Saved* s : saved_)
    if (s->defined())
      bytes += static_cast<std::size_t>(s->tensor_.count()) * size_of(s->tensor_.dtype());
  return bytes;
}

Saved::Saved(Node& owner, const char* label, const Tensor& t) : owner_(owner), label_(label) {
  if (!t.defined()) return;
  tensor_ = t.detach();
  version_ = t.version();
  owner.saved_.push_back(this);
}

const Tensor& Saved::get() const {
  SUBPIX_REQUIRE(tensor_.defined(), owner_.name(), ": '", label_, "' was not saved");
  SUBPIX_REQUIRE(tensor_.version() == version_, owner_.name(), ": the saved tensor '", label_, "' ",
                 tensor_.shape(), " was written after the forward pass (version ", version_,
                 ", now ", tensor_.version(),
                 "); run backward before the optimiser step and other in-place changes");
  return tensor_;
}

bool recording(std::initializer_list<Tensor> inputs) {
  return recording(std::span<const Tensor>(inputs.begin(), inputs.size()));
}

bool recording(std::span<const Tensor> inputs) {
  if (!grad_mode) return false;
  for (const Tensor& t : inputs)
    if (t.defined() && t.requires_grad()) return true;
  return false;
}

NoGrad::NoGrad() : before_(grad_mode) { grad_mode = false; }
NoGrad::~NoGrad() { grad_mode = before_; }

}  // namespace subpix::engine
