#include "kernels/cudnn/plans.h"

#include <iterator>
#include <set>

namespace subpix::kernels::cudnn {
namespace {

const char* const kNumericalNotes[] = {"TENSOR_CORE",
                                       "DOWN_CONVERT_INPUTS",
                                       "REDUCED_PRECISION_REDUCTION",
                                       "FFT",
                                       "NONDETERMINISTIC",
                                       "WINOGRAD",
                                       "WINOGRAD_TILE_4x4",
                                       "WINOGRAD_TILE_6x6",
                                       "WINOGRAD_TILE_13x13",
                                       "STRICT_NAN_PROP"};
const char* const kBehaviorNotes[] = {"RUNTIME_COMPILATION", "REQUIRES_FILTER_INT8x32_REORDER",
                                      "REQUIRES_BIAS_INT8x32_REORDER",
                                      "SUPPORTS_CUDA_GRAPH_NATIVE_API", "CUBLASLT_DEPENDENCY"};
const char* const kKnobs[] = {"SPLIT_K",
                              "SWIZZLE",
                              "TILE_SIZE",
                              "USE_TEX",
                              "EDGE",
                              "KBLOCK",
                              "LDGA",
                              "LDGB",
                              "CHUNK_K",
                              "SPLIT_H",
                              "WINO_TILE",
                              "MULTIPLY",
                              "SPLIT_K_BUF",
                              "TILEK",
                              "STAGES",
                              "REDUCTION_MODE",
                              "CTA_SPLIT_K_MODE",
                              "SPLIT_K_SLC",
                              "IDX_MODE",
                              "SLICED",
                              "SPLIT_RS",
                              "SINGLEBUFFER",
                              "LDGC",
                              "SPECFILT",
                              "KERNEL_CFG",
                              "WORKSPACE",
                              "TILE_CGA",
                              "TILE_CGA_M",
                              "TILE_CGA_N",
                              "BLOCK_SIZE",
                              "OCCUPANCY",
                              "ARRAY_SIZE_PER_THREAD",
                              "NUM_C_PER_BLOCK",
                              "SPLIT_COLS",
                              "TILE_ROWS",
                              "TILE_COLS",
                              "LOAD_SIZE",
                              "CTA_COUNT",
                              "STREAM_K",
                              "SPLIT_P_SLC",
                              "TILE_M",
                              "TILE_N",
                              "WARP_SPEC_CFG",
                              "SWAP_AB"};

/// A later cuDNN may know more than these lists.
template <std::size_t Count>
std::string named(const char* const (&names)[Count], int value) {
  return value >= 0 && value < static_cast<int>(Count) ? names[value] : concat("number ", value);
}

/// What an engine's configuration says of itself. Reading may be refused where there is no device.
PlanFacts facts_of(const Descriptor& config, const char* heuristic) {
  PlanFacts facts;
  facts.heuristic = heuristic;
  try {
    const Descriptor engine =
        config.get_descriptor(SUBPIX_CUDNN_ATTR(ENGINECFG_ENGINE), CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    facts.engine = engine.get<std::int64_t>(SUBPIX_CUDNN_ATTR(ENGINE_GLOBAL_INDEX));
    for (const Descriptor& choice : config.get_descriptors(
             SUBPIX_CUDNN_ATTR(ENGINECFG_KNOB_CHOICES), CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR))
      facts.knobs.emplace_back(named(kKnobs, choice.get<cudnnBackendKnobType_t>(
                                                 SUBPIX_CUDNN_ATTR(KNOB_CHOICE_KNOB_TYPE))),
                               choice.get<std::int64_t>(SUBPIX_CUDNN_ATTR(KNOB_CHOICE_KNOB_VALUE)));
    for (const auto note :
         engine.get_all<cudnnBackendNumericalNote_t>(SUBPIX_CUDNN_ATTR(ENGINE_NUMERICAL_NOTE)))
      facts.numerical_notes.push_back(named(kNumericalNotes, note));
    for (const auto note :
         engine.get_all<cudnnBackendBehaviorNote_t>(SUBPIX_CUDNN_ATTR(ENGINE_BEHAVIOR_NOTE)))
      facts.behavior_notes.push_back(named(kBehaviorNotes, note));
  } catch (const StatusError& error) {
    facts.obstacle = error.what();
  }
  return facts;
}

}  // namespace

std::string PlanFacts::key() const {
  std::string text = concat(engine);
  for (const auto& [knob, value] : knobs) text += concat(",", knob, "=", value);
  return text;
}

std::string PlanFacts::text() const {
  std::string all = concat("engine ", engine);
  std::string separator = " (";
  for (const auto& [knob, value] : knobs) {
    all += concat(separator, knob, " ", value);
    separator = ", ";
  }
  if (!knobs.empty()) all += ")";
  for (const std::string& note : numerical_notes) all += ", " + note;
  return all + concat(", ", workspace, " bytes");
}

std::string forbidden(const PlanFacts& facts, const PlanRule& rule) {
  if (!facts.obstacle.empty()) return facts.obstacle;
  if (!facts.deterministic()) return "not deterministic";
  if (facts.noted("REDUCED_PRECISION_REDUCTION")) return "sums in less than fp32";
  // Their errors are those of another basis, not those that docs/numerics.md allows a sum.
  for (const char* transformed :
       {"FFT", "WINOGRAD", "WINOGRAD_TILE_4x4", "WINOGRAD_TILE_6x6", "WINOGRAD_TILE_13x13"})
    if (facts.noted(transformed)) return concat("transformed: ", transformed);
  const bool rounds = facts.noted("TENSOR_CORE") || facts.noted("DOWN_CONVERT_INPUTS");
  if (rule.fp32 && !rule.tf32 && rounds) return "rounds fp32 operands";
  if (facts.workspace > rule.most_workspace)
    return concat("needs ", facts.workspace, " bytes of workspace, more than ",
                  rule.most_workspace);
  return {};
}

std::vector<Candidate> candidates(const OperationGraph& graph, const Descriptor* properties) {
  struct Mode {
    cudnnBackendHeurMode_t mode;
    const char* name;
  };
  constexpr Mode kModes[] = {
      {CUDNN_HEUR_MODE_A, "A"}, {CUDNN_HEUR_MODE_B, "B"}, {CUDNN_HEUR_MODE_FALLBACK, "fallback"}};
  std::vector<Candidate> all;
  std::set<std::string> seen;
  for (const Mode& mode : kModes) {
    Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristic.set(SUBPIX_CUDNN_ATTR(ENGINEHEUR_OPERATION_GRAPH), graph.descriptor())
        .set(SUBPIX_CUDNN_ATTR(ENGINEHEUR_MODE), mode.mode);
    if (properties) heuristic.set(SUBPIX_CUDNN_ATTR(ENGINEHEUR_DEVICEPROP), *properties);
    // A mode that has nothing to say for a graph refuses; the others may.
    if (!heuristic.try_finalize().empty()) continue;
    std::vector<Descriptor> configs;
    try {
      configs = heuristic.get_descriptors(SUBPIX_CUDNN_ATTR(ENGINEHEUR_RESULTS),
                                          CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    } catch (const StatusError&) {
      continue;
    }
    for (Descriptor& config : configs) {
      PlanFacts facts = facts_of(config, mode.name);
      // Without its number an engine cannot be told from another.
      if (facts.engine >= 0 && !seen.insert(facts.key()).second) continue;
      all.push_back({std::move(facts), std::move(config)});
    }
  }
  return all;
}

Plan make_plan(const Candidate& candidate, cudnnHandle_t handle, const Descriptor* properties) {
  Plan made{candidate.facts, Descriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)};
  PlanFacts& facts = made.facts;
  if (!facts.obstacle.empty()) return made;
  try {
    if (handle) made.plan.set(SUBPIX_CUDNN_ATTR(EXECUTION_PLAN_HANDLE), handle);
    if (properties) made.plan.set(SUBPIX_CUDNN_ATTR(EXECUTION_PLAN_DEVICEPROP), *properties);
    made.plan.set(SUBPIX_CUDNN_ATTR(EXECUTION_PLAN_ENGINE_CONFIG), candidate.config);
    facts.obstacle = made.plan.try_finalize();
    if (facts.obstacle.empty())
      facts.workspace = static_cast<std::size_t>(
          made.plan.get<std::int64_t>(SUBPIX_CUDNN_ATTR(EXECUTION_PLAN_WORKSPACE_SIZE)));
  } catch (const StatusError& error) {
    facts.obstacle = error.what();
  }
  return made;
}

std::string device_properties_json(cudnnHandle_t handle) {
  Descriptor properties(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  properties.set(SUBPIX_CUDNN_ATTR(DEVICEPROP_HANDLE), handle).finalize();
  const std::vector<char> text =
      properties.get_all<char>(SUBPIX_CUDNN_ATTR(DEVICEPROP_JSON_REPRESENTATION));
  std::string json(text.begin(), text.end());
  while (!json.empty() && json.back() == '\0') json.pop_back();
  return json;
}

Descriptor device_properties(const std::string& json) {
  Descriptor properties(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  properties.set_text(SUBPIX_CUDNN_ATTR(DEVICEPROP_JSON_REPRESENTATION), json).finalize();
  return properties;
}

}  // namespace subpix::kernels::cudnn
