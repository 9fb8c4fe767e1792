#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "kernels/api/context.h"
#include "kernels/cudnn/plans.h"

/// Plans of one context: chosen by timing at the first call of a graph, then kept.
namespace subpix::kernels::cudnn {

/// cuDNN's handle of a context, on its stream.
class Handle {
 public:
  Handle();
  ~Handle();
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  cudnnHandle_t on(void* stream);

 private:
  cudnnHandle_t raw_ = nullptr;
  void* stream_ = nullptr;
  bool set_ = false;
};
Handle& handle_of(Context& ctx);

/// All plans of a graph with the one that runs.
struct Choice {
  std::vector<PlanFacts> facts;  ///< of every candidate; those that ran have microseconds
  std::unique_ptr<Plan> best;    ///< null: cuDNN has no plan that the rule allows
};

using MakeGraph = std::function<OperationGraph(cudnnHandle_t)>;

/// The choice for a graph, made at the first call with these operands, which the timing overwrites
/// as a call does. Refuses to be made while a graph is recorded: timing waits for the device.
const Choice& choice_of(Context& ctx, const std::string& key, const PlanRule& rule,
                        const MakeGraph& make, std::initializer_list<Binding> bindings);

/// Queues the plan on the context's stream.
void run(Context& ctx, const Plan& plan, std::initializer_list<Binding> bindings);

/// Makes and times every plan of a graph, those that the rule forbids included: for benchmarks.
std::vector<PlanFacts> time_all(Context& ctx, const MakeGraph& make,
                                std::initializer_list<Binding> bindings,
                                std::size_t most_workspace);

}  // namespace subpix::kernels::cudnn
