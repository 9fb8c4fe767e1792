#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "kernels/api/error.h"
#include "train/config_fields.h"

namespace subpix::train {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kAbsent = "absent";

class Writer {
 public:
  Json result = Json::object();

  void integer(const char* key, Index& value, Index, Index) { result[key] = value; }
  void seed(const char* key, std::uint64_t& value) { result[key] = value; }
  void real(const char* key, double& value, const Range&) { result[key] = value; }
  void optional_real(const char* key, std::optional<double>& value, const Range&) {
    result[key] = value ? Json(*value) : Json(nullptr);
  }
  void flag(const char* key, bool& value) { result[key] = value; }
  void text(const char* key, std::string& value) { result[key] = value; }
  void texts(const char* key, std::vector<std::string>& value) { result[key] = value; }
  void integers(const char* key, std::vector<Index>& value, Index, Index) { result[key] = value; }
  template <class Enum, std::size_t kCount>
  void choice(const char* key, Enum& value, const choices::Table<Enum, kCount>& table) {
    for (const auto& [name, entry] : table)
      if (entry == value) result[key] = name;
  }
  template <class T>
  void object(const char* key, T& value) {
    result[key] = write(value);
  }
  template <class T>
  void optional(const char* key, std::optional<T>& value) {
    result[key] = value ? write(*value) : Json(nullptr);
  }
  template <class T>
  void list(const char* key, std::vector<T>& value) {
    Json& array = result[key] = Json::array();
    for (T& one : value) array.push_back(write(one));
  }

  template <class T>
  static Json write(T& value) {
    Writer writer;
    visit_fields(writer, value);
    return std::move(writer.result);
  }
};

class Lister {
 public:
  Lister(std::string prefix, std::vector<ConfigKey>& keys)
      : prefix_(std::move(prefix)), keys_(keys) {}

  void integer(const char* key, Index& value, Index low, Index high) {
    add(key, value, allowed_integer(low, high));
  }
  void seed(const char* key, std::uint64_t& value) { add(key, value, kAllowedSeed); }
  void real(const char* key, double& value, const Range& range) {
    add(key, value, allowed_real(range));
  }
  void optional_real(const char* key, std::optional<double>&, const Range& range) {
    add(key, nullptr, allowed_real(range) + ", or null");
  }
  void flag(const char* key, bool& value) { add(key, value, kAllowedFlag); }
  void text(const char* key, std::string& value) { add(key, value, kAllowedText); }
  void texts(const char* key, std::vector<std::string>& value) { add(key, value, kAllowedTexts); }
  void integers(const char* key, std::vector<Index>& value, Index low, Index high) {
    add(key, value, "a list of which each is " + allowed_integer(low, high));
  }
  template <class Enum, std::size_t kCount>
  void choice(const char* key, Enum& value, const choices::Table<Enum, kCount>& table) {
    for (const auto& [name, entry] : table)
      if (entry == value) add(key, name, allowed_choice(table));
  }
  template <class T>
  void object(const char* key, T& value) {
    walk(prefix_ + key + ".", value);
  }
  /// Lists what the section would hold if it were there.
  template <class T>
  void optional(const char* key, std::optional<T>&) {
    T value;
    walk(prefix_ + key + ".", value);
  }
  template <class T>
  void list(const char* key, std::vector<T>&) {
    T value;
    walk(prefix_ + key + "[].", value);
  }

 private:
  template <class T>
  void walk(const std::string& prefix, T& value) {
    Lister inner(prefix, keys_);
    visit_fields(inner, value);
  }
  void add(const char* key, const Json& value, const std::string& allowed) {
    keys_.push_back({prefix_ + key, value.dump(), allowed});
  }

  std::string prefix_;
  std::vector<ConfigKey>& keys_;
};

/// Every value that is no object and no list of objects, by path.
void flatten(const Json& node, const std::string& path,
             std::vector<std::pair<std::string, std::string>>& out) {
  if (node.is_object()) {
    for (const auto& [key, value] : node.items())
      flatten(value, path.empty() ? key : path + "." + key, out);
  } else if (node.is_array() && !node.empty() && node[0].is_object()) {
    for (std::size_t i = 0; i < node.size(); ++i) flatten(node[i], concat(path, "[", i, "]"), out);
  } else if (!node.is_null()) {
    out.emplace_back(path, node.dump());
  }
}

std::vector<std::pair<std::string, std::string>> flat(RunConfig config) {
  std::vector<std::pair<std::string, std::string>> out;
  flatten(Writer::write(config), "", out);
  return out;
}

std::string number(double value) { return Json(value).dump(); }

}  // namespace

std::string allowed_integer(Index low, Index high) {
  if (high == kManySteps) return concat("a whole number, ", low, " or more");
  return concat("a whole number from ", low, " to ", high);
}

std::string allowed_real(const Range& range) {
  const std::string low =
      range.without_low ? "greater than " + number(range.low) : "at least " + number(range.low);
  if (range.high == kLargest) return "a number " + low;
  return "a number " + low + (range.without_high ? " and less than " : " and at most ") +
         number(range.high);
}

std::string to_json(const RunConfig& config) {
  RunConfig copy = config;
  return Writer::write(copy).dump(2) + "\n";
}

std::vector<ConfigKey> config_keys() {
  std::vector<ConfigKey> keys;
  RunConfig defaults;
  Lister lister("", keys);
  visit_fields(lister, defaults);
  return keys;
}

std::vector<ConfigChange> compare(const RunConfig& before, const RunConfig& after) {
  const auto old_values = flat(before), new_values = flat(after);
  const std::map<std::string, std::string> old_map(old_values.begin(), old_values.end());
  const std::map<std::string, std::string> new_map(new_values.begin(), new_values.end());
  std::vector<ConfigChange> changes;
  for (const auto& [path, value] : old_values) {
    const auto found = new_map.find(path);
    const std::string now = found == new_map.end() ? kAbsent : found->second;
    if (now != value) changes.push_back({path, value, now});
  }
  for (const auto& [path, value] : new_values)
    if (!old_map.contains(path)) changes.push_back({path, kAbsent, value});
  return changes;
}

std::vector<std::string> summary(const RunConfig& config) {
  RunConfig defaults;
  defaults.phases.resize(config.phases.size());
  std::vector<std::string> lines;
  for (const ConfigChange& change : compare(defaults, config))
    if (change.after != kAbsent) lines.push_back(change.path + "=" + change.after);
  return lines;
}

}  // namespace subpix::train
