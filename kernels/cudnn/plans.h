#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cudnn/graph.h"
#include "kernels/cudnn/plan_facts.h"

/// From a graph to the plans that can run it: every engine that the heuristics A, B and fallback
/// name. Listing needs no device; finalising a plan needs one, or the properties of one.
namespace subpix::kernels::cudnn {

/// An engine with its knobs.
struct Candidate {
  PlanFacts facts;
  Descriptor config;
};

/// Deduplicated, in the order in which the heuristics prefer them: A's, then what B adds, then
/// fallback's. Entries whose engine cuDNN will not describe here (no device) keep the reason in
/// facts.obstacle. properties: of the device to plan for, where there is none; else null.
std::vector<Candidate> candidates(const OperationGraph& graph, const Descriptor* properties);

/// A candidate that cuDNN accepts, ready to run.
struct Plan {
  PlanFacts facts;
  Descriptor plan;
};

/// Makes the plan of a candidate, or says in facts.obstacle why there is none. One of handle and
/// properties is given.
Plan make_plan(const Candidate& candidate, cudnnHandle_t handle, const Descriptor* properties);

/// The properties of the device of `handle` as cuDNN writes them.
std::string device_properties_json(cudnnHandle_t handle);
/// A device from such a text; plans for it can be finalised on machines without it.
Descriptor device_properties(const std::string& json);

}  // namespace subpix::kernels::cudnn
