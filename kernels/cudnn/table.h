#pragma once

#include <string>
#include <vector>

#include "kernels/api/kernels.h"
#include "kernels/cudnn/plan_facts.h"

namespace subpix::kernels::cudnn {

/// cuda::table() with cuDNN's and cuBLASLt's variants in front, where they compute the same: the
/// rivals of the hand-written kernels. What cuDNN has no plan for runs as on cuda.
const KernelTable& table();

/// Why the backend cannot run on this machine, with the remedy; empty where it can.
std::string obstacle();
/// "cuDNN 9.19.0" and the device.
std::string library(const DeviceInfo& device);

/// The properties of the context's device as cuDNN writes them: from this text plans can be made on
/// machines without the device.
std::string device_properties_text(Context& ctx);

// Every plan that cuDNN names for a problem, timed on these operands (outputs are overwritten);
// those above the workspace limit or that cannot run say why. For benchmarks.
template <class T>
std::vector<PlanFacts> forward_plans(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                                     T* y, std::size_t most_workspace);
template <class T>
std::vector<PlanFacts> backward_data_plans(Context& ctx, const Conv2dProblem& d, const T* dy,
                                           const T* w, T* dx, std::size_t most_workspace);
template <class T>  // dw stays fp32
std::vector<PlanFacts> backward_filter_plans(Context& ctx, const Conv2dProblem& d, const T* x,
                                             const T* dy, float* dw, std::size_t most_workspace);

}  // namespace subpix::kernels::cudnn
