// Which plans a table may choose, and plans made without a device from the recorded properties of
// one.

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include "kernels/cudnn/plans.h"
#include "tests/cudnn/cudnn_library.h"
#include "tests/support/catch.h"
#include "tests/support/problems.h"

namespace subpix::tests {
namespace {

using namespace kernels::cudnn;

PlanFacts with_notes(std::vector<std::string> notes) {
  PlanFacts facts;
  facts.engine = 7;
  facts.numerical_notes = std::move(notes);
  return facts;
}

TEST_CASE("a table never chooses a plan whose bits or bounds are not ours", "[cudnn]") {
  const PlanRule bf16, fp32{.fp32 = true}, tf32{.fp32 = true, .tf32 = true};
  for (const PlanRule& rule : {bf16, fp32, tf32}) {
    CHECK(forbidden(with_notes({}), rule).empty());
    CHECK(forbidden(with_notes({"NONDETERMINISTIC"}), rule) == "not deterministic");
    CHECK(forbidden(with_notes({"REDUCED_PRECISION_REDUCTION"}), rule).find("fp32") !=
          std::string::npos);
    CHECK(forbidden(with_notes({"TENSOR_CORE", "WINOGRAD"}), rule).size() > 0);
    CHECK(forbidden(with_notes({"FFT"}), rule) == "transformed: FFT");
  }
  CHECK(forbidden(with_notes({"TENSOR_CORE"}), bf16).empty());
  CHECK(forbidden(with_notes({"TENSOR_CORE"}), tf32).empty());
  CHECK(forbidden(with_notes({"TENSOR_CORE"}), fp32) == "rounds fp32 operands");
  CHECK(forbidden(with_notes({"DOWN_CONVERT_INPUTS"}), fp32) == "rounds fp32 operands");
}

TEST_CASE("the workspace limit counts the last byte", "[cudnn]") {
  PlanFacts facts = with_notes({});
  facts.workspace = 1000;
  CHECK(forbidden(facts, {.most_workspace = 1000}).empty());
  CHECK(forbidden(facts, {.most_workspace = 999}) ==
        "needs 1000 bytes of workspace, more than 999");
}

TEST_CASE("a plan that cuDNN refused is forbidden with cuDNN's reason", "[cudnn]") {
  PlanFacts facts = with_notes({});
  facts.obstacle = "CUDNN_STATUS_NOT_SUPPORTED: too odd";
  CHECK(forbidden(facts, {}) == facts.obstacle);
}

TEST_CASE("the text of a plan holds engine, knobs, notes and workspace", "[cudnn]") {
  PlanFacts facts = with_notes({"TENSOR_CORE"});
  facts.knobs = {{"TILE_SIZE", 3}, {"STAGES", 4}};
  facts.workspace = 64;
  CHECK(facts.text() == "engine 7 (TILE_SIZE 3, STAGES 4), TENSOR_CORE, 64 bytes");
  PlanFacts other = facts;
  other.knobs[1].second = 5;
  CHECK(facts.key() != other.key());
}

TEST_CASE("asking the heuristics without a device is no error", "[cudnn]") {
  need_cudnn();
  for (const Conv2dProblem& d : conv2d_srgan_problems())
    CHECK_NOTHROW(candidates(
        make_graph(ForwardGraph{.conv = d, .type = DType::BF16, .out = DType::BF16}, nullptr),
        nullptr));
}

TEST_CASE("properties that are none are refused with cuDNN's reason", "[cudnn]") {
  need_cudnn();
  for (const char* text : {"", "{}", "[1", "no json at all"}) {
    INFO(text);
    CHECK_THROWS_AS(device_properties(text), StatusError);
  }
}

// tools/gpu_check.sh writes the file on the first device; from then on this runs everywhere.
TEST_CASE("plans are finalised without a device from the recorded properties", "[cudnn]") {
  need_cudnn();
  std::ifstream file(SUBPIX_SOURCE_DIR "/docs/results/cudnn-device.json");
  if (!file) {
    WARN("no device properties recorded yet");
    return;
  }
  std::ostringstream json;
  json << file.rdbuf();
  const Descriptor properties = device_properties(json.str());
  int plans = 0;
  for (const Conv2dProblem& d : conv2d_srgan_problems()) {
    const OperationGraph graph =
        make_graph(ForwardGraph{.conv = d, .type = DType::BF16, .out = DType::BF16}, nullptr);
    for (const Candidate& c : candidates(graph, &properties))
      plans += make_plan(c, nullptr, &properties).facts.obstacle.empty();
  }
  CHECK(plans > 0);
}

}  // namespace
}  // namespace subpix::tests
