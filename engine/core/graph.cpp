#include "engine/core/graph.h"

#include <exception>

namespace subpix::engine {

namespace {
constexpr int kWarmups = 2;  // Note [Warm-up]
}

Graph::Graph(Device& device)
    : device_(device.shared_from_this()), pool_(std::make_shared<MemoryPool>(device_)) {}

Graph::~Graph() {
  if (executable_) device_->table().streams.destroy_graph(executable_);
  pool_->trim();
}

bool Graph::supported(const Device& device) { return device.table().streams.begin_capture; }

void Graph::run(const std::function<void()>& work) {
  const kernels::StreamOps& streams = device_->table().streams;
  kernels::Context& ctx = device_->context();
  if (!executable_) {
    const PoolScope scope(pool_);
    if (warmups_ < kWarmups) {
      ++warmups_;
      work();
      return;
    }
    streams.begin_capture(ctx);
    try {
      work();
    } catch (...) {
      // The stream must leave capture mode; what it recorded is of no use, and the error that
      // interrupted the work is the one to tell.
      const std::exception_ptr error = std::current_exception();
      try {
        if (void* graph = streams.end_capture(ctx)) streams.destroy_graph(graph);
      } catch (const Error&) {
      }
      std::rethrow_exception(error);
    }
    executable_ = streams.end_capture(ctx);
  }
  streams.launch_graph(ctx, executable_);
}

}  // namespace subpix::engine
