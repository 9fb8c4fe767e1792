#include "train/config.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/core/file.h"
#include "engine/core/nearest.h"
#include "kernels/api/error.h"
#include "train/config_fields.h"

namespace subpix::train {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint64_t kLargestFile = 1 << 20;
constexpr const char* kMustBeObject = "; it must be an object, { \"key\": value, ... }";

/// Who set a value: the file, or the last --set on it or on something around it.
class Origins {
 public:
  explicit Origins(std::string file) : file_(std::move(file)) {}

  void add(const std::string& path, const std::string& text, const std::string& value) {
    overrides_[path] = {text, value};
  }
  std::string of(const std::string& path) const {
    for (std::string p = path; !p.empty(); p.resize(parent_length(p)))
      if (const auto found = overrides_.find(p); found != overrides_.end())
        return "--set " + found->second.text;
    return file_;
  }
  /// The value as typed if an override set exactly this path, else null.
  const std::string* typed(const std::string& path) const {
    const auto found = overrides_.find(path);
    return found == overrides_.end() ? nullptr : &found->second.value;
  }

 private:
  static std::size_t parent_length(const std::string& path) {
    const std::size_t cut = path.find_last_of(".[");
    return cut == std::string::npos ? 0 : cut;
  }
  struct Override {
    std::string text, value;
  };
  std::string file_;
  std::map<std::string, Override> overrides_;
};

std::string join(const std::string& path, const std::string& key) {
  return path.empty() ? key : path + "." + key;
}
std::string element(const std::string& path, std::size_t i) {
  return path + "[" + std::to_string(i) + "]";
}

/// A value as a message shows it. Structures are only named: they may be of any depth and length.
std::string shown(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  constexpr std::size_t kLongest = 80;
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

std::string leaf_of(const std::string& path) {
  const std::size_t dot = path.rfind('.');
  return dot == std::string::npos ? path : path.substr(dot + 1);
}

/// The valid key a wrong one was probably meant to be: the most similar one beside it, unless the
/// same name is valid elsewhere.
std::string nearest_key(const std::string& path, const std::string& key,
                        const std::vector<std::string>& beside) {
  const std::string similar = engine::nearest(key, beside);
  const std::string nearest = similar.empty() ? "" : join(path, similar);
  constexpr std::size_t kClearTypo = 2;
  if (!similar.empty() &&
      engine::edit_distance(key, similar) <= std::min(kClearTypo, key.size() / 2))
    return nearest;
  for (const ConfigKey& candidate : config_keys())
    if (leaf_of(candidate.path) == key) return candidate.path;
  return nearest;
}

class Reader {
 public:
  Reader(const Json& node, std::string path, const Origins& origins)
      : node_(node), path_(std::move(path)), origins_(origins) {}

  void integer(const char* key, Index& value, Index low, Index high) {
    if (const Json* j = find(key)) value = read_integer(*j, join(path_, key), low, high);
  }

  void seed(const char* key, std::uint64_t& value) {
    const Json* j = find(key);
    if (!j) return;
    if (!j->is_number_unsigned()) fail(key, *j, kAllowedSeed);
    value = j->get<std::uint64_t>();
  }

  void real(const char* key, double& value, const Range& range) {
    const Json* j = find(key);
    if (!j) return;
    if (!j->is_number() || !range.contains(j->get<double>())) fail(key, *j, allowed_real(range));
    value = j->get<double>();
  }

  void optional_real(const char* key, std::optional<double>& value, const Range& range) {
    const Json* j = find(key);
    if (!j) return;
    if (j->is_null()) {
      value.reset();
      return;
    }
    value = 0.0;
    real(key, *value, range);
  }

  void flag(const char* key, bool& value) {
    const Json* j = find(key);
    if (!j) return;
    if (!j->is_boolean()) fail(key, *j, kAllowedFlag);
    value = j->get<bool>();
  }

  void text(const char* key, std::string& value) {
    if (const Json* j = find(key)) value = read_text(*j, join(path_, key));
  }

  void texts(const char* key, std::vector<std::string>& value) {
    const Json* j = find(key);
    if (!j) return;
    const std::string path = join(path_, key);
    value.clear();
    if (!j->is_array()) {
      value.push_back(read_text(*j, path, kAllowedTexts));
      return;
    }
    for (std::size_t i = 0; i < j->size(); ++i)
      value.push_back(read_text((*j)[i], element(path, i)));
  }

  void integers(const char* key, std::vector<Index>& value, Index low, Index high) {
    const Json* j = find(key);
    if (!j) return;
    const std::string path = join(path_, key);
    value.clear();
    if (!j->is_array()) {
      value.push_back(read_integer(*j, path, low, high));
      return;
    }
    for (std::size_t i = 0; i < j->size(); ++i)
      value.push_back(read_integer((*j)[i], element(path, i), low, high));
  }

  template <class Enum, std::size_t kCount>
  void choice(const char* key, Enum& value, const choices::Table<Enum, kCount>& table) {
    const Json* j = find(key);
    if (!j) return;
    for (const auto& [name, entry] : table)
      if (j->is_string() && j->get_ref<const std::string&>() == name) {
        value = entry;
        return;
      }
    fail(key, *j, allowed_choice(table));
  }

  template <class T>
  void object(const char* key, T& value) {
    if (const Json* j = find(key)) read_object(*j, join(path_, key), value);
  }

  template <class T>
  void optional(const char* key, std::optional<T>& value) {
    const Json* j = find(key);
    if (!j) return;
    value.reset();
    if (!j->is_null()) read_object(*j, join(path_, key), value.emplace());
  }

  template <class T>
  void list(const char* key, std::vector<T>& value) {
    const Json* j = find(key);
    if (!j) return;
    const std::string path = join(path_, key);
    if (!j->is_array() || j->empty()) fail(key, *j, "a list of at least one object");
    value.clear();
    for (std::size_t i = 0; i < j->size(); ++i)
      read_object((*j)[i], element(path, i), value.emplace_back());
  }

  template <class T>
  void read_object(const Json& j, const std::string& path, T& value) {
    if (!j.is_object())
      throw InputError(concat(origins_.of(path), ": ", path, " is ", shown(j), kMustBeObject));
    // A loss section lists its terms: those it does not name are off.
    if constexpr (std::is_same_v<T, LossConfig>) value = LossConfig{};
    Reader reader(j, path, origins_);
    visit_fields(reader, value);
    reader.refuse_unknown();
  }

 private:
  const Json* find(const char* key) {
    known_.emplace_back(key);
    const auto found = node_.find(key);
    return found == node_.end() ? nullptr : &*found;
  }

  [[noreturn]] void fail(const char* key, const Json& value, const std::string& allowed) const {
    fail_at(join(path_, key), value, allowed);
  }
  [[noreturn]] void fail_at(const std::string& path, const Json& value,
                            const std::string& allowed) const {
    throw InputError(
        concat(origins_.of(path), ": ", path, " is ", shown(value), "; it must be ", allowed));
  }

  Index read_integer(const Json& j, const std::string& path, Index low, Index high) const {
    const std::string allowed = allowed_integer(low, high);
    if (j.is_number_unsigned()) {
      const auto v = j.get<std::uint64_t>();
      if (v > static_cast<std::uint64_t>(high)) fail_at(path, j, allowed);
    }
    if (j.is_number_integer()) {
      const auto v = j.get<Index>();
      if (v < low || v > high) fail_at(path, j, allowed);
      return v;
    }
    // 1e6 is a whole number, too.
    if (!j.is_number_float()) fail_at(path, j, allowed);
    const double v = j.get<double>();
    if (!(v == std::floor(v) && v >= static_cast<double>(low) && v <= static_cast<double>(high)))
      fail_at(path, j, allowed);
    return static_cast<Index>(v);
  }

  std::string read_text(const Json& j, const std::string& path,
                        const char* allowed = kAllowedText) const {
    if (j.is_string()) return j.get<std::string>();
    // --set init=2024 means the file 2024.
    const std::string* typed = origins_.typed(path);
    if (typed && !j.is_structured()) return *typed;
    fail_at(path, j, allowed);
  }

  void refuse_unknown() const {
    for (const auto& [key, value] : node_.items()) {
      if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
      const std::string path = join(path_, key);
      throw InputError(concat(origins_.of(path), ": there is no key ", path,
                              "; the nearest valid key is ", nearest_key(path_, key, known_)));
    }
  }

  const Json& node_;
  std::string path_;
  const Origins& origins_;
  std::vector<std::string> known_;
};

/// nlohmann keeps the last of two equal keys; a config with two is a mistake.
Json parse_json(const std::string& text, const std::string& origin) {
  std::vector<std::set<std::string>> open;
  std::string twice;
  const auto watch = [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key && twice.empty() &&
        !open.back().insert(value.get_ref<const std::string&>()).second)
      twice = value.get<std::string>();
    return true;
  };
  Json result;
  try {
    result = Json::parse(text, watch);
  } catch (const nlohmann::json::exception& error) {
    std::string reason = error.what();
    if (const std::size_t end = reason.find("] "); end != std::string::npos)
      reason = reason.substr(end + 2);
    std::replace(reason.begin(), reason.end(), '\n', ' ');
    throw InputError(concat(origin, " is not valid JSON: ", reason));
  }
  if (!twice.empty()) throw InputError(concat(origin, ": the key ", twice, " is there twice"));
  return result;
}

std::optional<std::size_t> as_index(const std::string& text) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// "phases[0].steps" and "phases.0.steps" -> phases, 0, steps.
std::vector<std::string> split_path(const std::string& path, const std::string& text) {
  std::vector<std::string> parts(1);
  bool closed = false;  // just after "]"
  for (const char c : path) {
    if (c == '.' || c == '[') {
      if (c == '.' && !closed && parts.back().empty()) parts.back() = " ";
      parts.emplace_back();
      closed = false;
    } else if (c == ']') {
      closed = true;
    } else {
      parts.back() += c;
    }
  }
  for (const std::string& part : parts)
    if (part.empty() || part == " ")
      throw InputError(concat("--set ", text, ": ", path,
                              " is no key; write it as data.batch=4 or phases[0].steps=100"));
  return parts;
}

void apply_override(Json& root, const Json& defaults, const std::string& text, Origins& origins) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    throw InputError(concat("--set ", text, ": write key=value, as in data.batch=4"));
  const std::string value_text = text.substr(equals + 1);
  const std::vector<std::string> parts = split_path(text.substr(0, equals), text);
  Json* node = &root;
  const Json* initial = &defaults;  // what the default config holds at this place, or null
  std::string path;
  for (const std::string& part : parts) {
    const std::optional<std::size_t> index = as_index(part);
    if (node->is_null()) {
      // A list that the file leaves out is taken from the defaults before one element changes.
      if (initial && initial->is_array())
        *node = *initial;
      else
        *node = index ? Json::array() : Json::object();
    }
    if (node->is_array() && index) {
      if (*index > node->size())
        throw InputError(concat("--set ", text, ": ", path, " has ", node->size(),
                                " elements, so the next index is ", node->size()));
      initial = initial && initial->is_array() && *index < initial->size() ? &(*initial)[*index]
                                                                           : nullptr;
      if (*index == node->size()) node->push_back(nullptr);
      node = &(*node)[*index];
      path = element(path, *index);
    } else if (node->is_object()) {
      initial =
          initial && initial->is_object() && initial->contains(part) ? &(*initial)[part] : nullptr;
      node = &(*node)[part];
      path = join(path, part);
    } else {
      throw InputError(
          concat("--set ", text, ": ", path, " is ", shown(*node), ", which has no ", part));
    }
  }
  const Json value = Json::parse(value_text, nullptr, false);
  *node = value.is_discarded() ? Json(value_text) : value;
  try {
    static_cast<void>(node->dump());
  } catch (const nlohmann::json::exception&) {
    throw InputError(concat("--set ", path, ": the value is not UTF-8 text"));
  }
  origins.add(path, text, value_text);
}

}  // namespace

RunConfig parse_config(const std::string& text, const std::string& origin,
                       const std::vector<std::string>& overrides) {
  Json root = parse_json(text, origin);
  if (!root.is_object()) throw InputError(concat(origin, " is ", shown(root), kMustBeObject));
  Origins origins(origin);
  if (!overrides.empty()) {
    const Json defaults = Json::parse(to_json(RunConfig{}));
    for (const std::string& one : overrides) apply_override(root, defaults, one, origins);
  }
  RunConfig config;
  Reader(root, "", origins).read_object(root, "", config);
  check_values(config, [&](const std::string& path) { return origins.of(path); });
  return config;
}

RunConfig load_config(const std::filesystem::path& file,
                      const std::vector<std::string>& overrides) {
  return parse_config(engine::read_text(file, kLargestFile), file.string(), overrides);
}

}  // namespace subpix::train
