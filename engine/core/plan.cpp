#include "engine/core/plan.h"

#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/core/error.h"
#include "engine/core/file.h"

namespace subpix::engine {

using Json = nlohmann::ordered_json;

namespace {

constexpr const char* kSchema = "subpix-kernel-plan-1";
constexpr std::uint64_t kLargestFile = 16 << 20;
constexpr const char* kRemedy = "; make one with kernel_tune";

std::string text_of(const Json& object, const char* key, const std::string& where) {
  if (!object.contains(key) || !object[key].is_string())
    throw InputError(concat(where, ": '", key, "' is missing or no text", kRemedy));
  return object[key].get<std::string>();
}

/// Op to the names of its variants.
std::map<std::string, std::set<std::string>> variants_of(const kernels::KernelTable& table) {
  std::map<std::string, std::set<std::string>> all;
  kernels::for_each_op(table, [&](const auto& op) {
    auto& names = all[op.name()];
    for (const auto& v : op.variants()) names.insert(v.name);
  });
  return all;
}

}  // namespace

std::string code_version(const kernels::KernelTable& table) {
  // FNV-1a, 64 bits.
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto add = [&](const std::string& text) {
    for (const char c : text + "\n") hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  };
  kernels::for_each_op(table, [&](const auto& op) {
    add(op.name());
    for (const auto& v : op.variants()) add(v.name);
  });
  char text[64];
  std::snprintf(text, sizeof text, "%s-%016llx", SUBPIX_VERSION,
                static_cast<unsigned long long>(hash));
  return text;
}

void write_plan(const std::filesystem::path& path, const Plan& plan) {
  Json all = {{"schema", kSchema},
              {"device", plan.device},
              {"code", plan.code},
              {"origin", plan.origin},
              {"entries", Json::array()}};
  for (const PlanEntry& e : plan.entries)
    all["entries"].push_back(
        {{"op", e.op}, {"problem", e.problem}, {"variant", e.variant}, {"us", e.us}});
  atomic_write(path, std::string_view(all.dump(1) + "\n"));
}

Plan read_plan(const std::filesystem::path& path) {
  const std::string where = concat("plan '", path.string(), "'");
  const Json all = Json::parse(read_text(path, kLargestFile), nullptr, false);
  if (!all.is_object() || !all.contains("schema") || all["schema"] != kSchema)
    throw InputError(concat(where, " is no plan file (schema ", kSchema, ")", kRemedy));
  Plan plan{text_of(all, "device", where),
            text_of(all, "code", where),
            text_of(all, "origin", where),
            {}};
  if (!all.contains("entries") || !all["entries"].is_array())
    throw InputError(concat(where, ": 'entries' is missing or no list", kRemedy));
  for (const Json& e : all["entries"]) {
    const std::string entry = concat(where, ", entry ", plan.entries.size() + 1);
    if (!e.is_object()) throw InputError(concat(entry, " is no object", kRemedy));
    plan.entries.push_back({text_of(e, "op", entry), text_of(e, "problem", entry),
                            text_of(e, "variant", entry),
                            e.contains("us") && e["us"].is_number() ? e["us"].get<double>() : 0.0});
  }
  return plan;
}

void apply_plan(Device& device, const std::filesystem::path& path) {
  const Plan plan = read_plan(path);
  const std::string where = concat("plan '", path.string(), "'");
  if (plan.device != device.description())
    throw InputError(concat(where, " was made on '", plan.device, "', this is '",
                            device.description(), "'", kRemedy, " here"));
  const kernels::KernelTable& table = device.context().table();
  if (plan.code != code_version(table))
    throw InputError(concat(where, " was made by a program with other kernels (", plan.code,
                            ", this is ", code_version(table), ")", kRemedy, " of this build"));
  const auto known = variants_of(table);
  for (const PlanEntry& e : plan.entries) {
    const auto op = known.find(e.op);
    if (op == known.end() || !op->second.contains(e.variant))
      throw InputError(concat(where, ": ", e.op, " has no variant '", e.variant, "'", kRemedy));
  }
  for (const PlanEntry& e : plan.entries) device.context().plan_variant(e.op, e.problem, e.variant);
}

}  // namespace subpix::engine
