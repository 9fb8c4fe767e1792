#pragma once

#include <functional>
#include <memory>

#include "engine/core/device.h"

namespace subpix::engine {

/// Work that is the same every time, captured once and then replayed in one launch: a training
/// step. The work may not wait for the device, upload, or depend on host values that change; what
/// changes lies in device memory that outlives the graph (inputs, weights, the optimiser's
/// scalars).
///
/// Note [Warm-up]: nothing can be allocated while a graph is captured. The first run finds out what
/// memory the work needs, the second one has its scratch memory in one piece; both happen for real.
/// The third is captured, and launched as every one after it.
class Graph {
 public:
  explicit Graph(Device& device);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  static bool supported(const Device& device);
  /// Runs the work, or replays what it queued. Always give the same work. Tensors made by it and
  /// kept hold the results of the latest run.
  void run(const std::function<void()>& work);
  bool captured() const { return executable_ != nullptr; }

 private:
  std::shared_ptr<Device> device_;
  std::shared_ptr<MemoryPool> pool_;
  int warmups_ = 0;
  void* executable_ = nullptr;
};

}  // namespace subpix::engine
