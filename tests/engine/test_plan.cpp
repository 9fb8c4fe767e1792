// Plan files: written, read, applied, and refused with a sentence.

#include "engine/core/plan.h"

#include <fstream>

#include "engine/core/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace subpix::engine {

namespace {

Plan plan_of(Device& device) {
  return {device.description(),
          code_version(device.context().table()),
          "here and now",
          {{"conv2d_forward/f32", "n1h2w2c3k4r1s1st1p0", "reference", 1.5}}};
}

std::string refusal(Device& device, const std::filesystem::path& path) {
  try {
    apply_plan(device, path);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

bool chosen(Device& device) {
  bool forced = true;
  const std::string* name =
      device.context().chosen("conv2d_forward/f32", "n1h2w2c3k4r1s1st1p0", &forced);
  return name && *name == "reference" && !forced;
}

}  // namespace

TEST_CASE("a plan comes back as it was written, and is followed") {
  const tests::TemporaryFolder folder;
  const auto device = Device::open("reference");
  const auto path = folder.path() / "plan.json";
  write_plan(path, plan_of(*device));
  const Plan read = read_plan(path);
  CHECK(read.device == device->description());
  REQUIRE(read.entries.size() == 1);
  CHECK(read.entries[0].variant == "reference");
  CHECK(read.entries[0].us == 1.5);
  CHECK_FALSE(chosen(*device));
  apply_plan(*device, path);
  CHECK(chosen(*device));
}

TEST_CASE("a plan of another device, of other kernels, or damaged is refused with the remedy") {
  const tests::TemporaryFolder folder;
  const auto path = folder.path() / "plan.json";
  const auto device = Device::open("reference");
  const auto check = [&](const Plan& plan, const std::string& words) {
    write_plan(path, plan);
    const std::string text = refusal(*device, path);
    INFO(text);
    CHECK(text.find(words) != std::string::npos);
    CHECK(text.find("plan.json") != std::string::npos);
    CHECK(text.find("kernel_tune") != std::string::npos);
    CHECK_FALSE(chosen(*device));
  };
  Plan plan = plan_of(*device);
  plan.device = "NVIDIA H100";
  check(plan, "NVIDIA H100");
  plan = plan_of(*device);
  plan.code = "0.0.1-0";
  check(plan, "other kernels (0.0.1-0");
  plan = plan_of(*device);
  plan.entries.push_back({"conv2d_forward/f32", "n1h9w9c3k4r1s1st1p0", "absent", 1.0});
  check(plan, "no variant 'absent'");
  plan = plan_of(*device);
  plan.entries.push_back({"conv3d/f32", "n1", "reference", 1.0});
  check(plan, "conv3d/f32");

  for (const char* text : {"", "{", "[]", R"({"schema": "other"})",
                           R"({"schema": "subpix-kernel-plan-1", "device": 3})",
                           R"({"schema": "subpix-kernel-plan-1", "device": "a", "code": "b",
                               "origin": "c", "entries": [1]})"}) {
    std::ofstream(path, std::ios::trunc) << text;
    INFO(text);
    CHECK(refusal(*device, path).find("plan.json") != std::string::npos);
  }
  CHECK(refusal(*device, folder.path() / "absent.json").find("absent.json") != std::string::npos);
}

}  // namespace subpix::engine
