#include "tools/bench/selection.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "engine/core/nearest.h"

namespace subpix::tools::bench {

namespace {

std::string list_of(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& n : names) all += (all.empty() ? "" : ", ") + n;
  return all;
}

bool is_dtype(const std::string& op, const std::string& dtype) {
  if (dtype.empty() || op.find('/') == std::string::npos) return true;
  return op.ends_with(dtype == "fp32" ? "/f32" : "/bf16");
}

/// Whether "conv2d_forward/bf16" is meant by "conv2d_forward", or "G.blocks" by "G".
bool meant(const std::string& full, const std::string& given, char separator) {
  return full == given ||
         (full.size() > given.size() && full.starts_with(given) && full[given.size()] == separator);
}

void demand_known(const char* what, const std::vector<std::string>& given,
                  const std::set<std::string>& known, char separator) {
  for (const std::string& name : given) {
    if (std::any_of(known.begin(), known.end(),
                    [&](const std::string& k) { return meant(k, name, separator); }))
      continue;
    std::vector<std::string> candidates(known.begin(), known.end());
    for (const std::string& k : known) candidates.push_back(k.substr(0, k.find(separator)));
    throw InputError(unknown_name(what, name, candidates));
  }
}

}  // namespace

std::string unknown_name(const std::string& what, const std::string& name,
                         const std::vector<std::string>& candidates) {
  constexpr std::size_t kFew = 8;
  return concat("there is no ", what, " '", name, "'; the nearest name is '",
                engine::nearest(name, candidates), "'",
                candidates.size() <= kFew ? concat(" (", list_of(candidates), ")") : std::string());
}

kernels::Conv2dProblem parse_problem(const std::string& text) {
  std::vector<Index> sizes;
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto bad = [&] {
    return InputError(concat("--problem '", text,
                             "': give N,H,W,C,K,R,S[,stride[,pad]] as whole numbers, for example "
                             "16,24,24,64,64,3,3"));
  };
  while (true) {
    Index value = 0;
    const auto [rest, error] = std::from_chars(at, end, value);
    if (error != std::errc()) throw bad();
    sizes.push_back(value);
    if (rest == end) break;
    if (*rest != ',') throw bad();
    at = rest + 1;
  }
  if (sizes.size() < 7 || sizes.size() > 9) throw bad();
  kernels::Conv2dProblem d{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6]};
  if (sizes.size() > 7) d.stride = sizes[7];
  d.pad = sizes.size() > 8 ? sizes[8] : d.r / 2;
  d.validate();
  return d;
}

std::vector<Selected> select_cases(const Selection& s) {
  if (s.sizes.crop % 32 != 0)
    throw InputError(concat("--crop ", s.sizes.crop, " is no multiple of 32"));
  std::vector<Selected> all;
  if (!s.problem.empty()) {
    for (BenchCase& c : cases_of(parse_problem(s.problem)))
      all.push_back({"problem", std::move(c)});
  } else {
    for (const std::string& set : s.sets)
      for (BenchCase& c : cases_of(set, s.sizes)) all.push_back({set, std::move(c)});
  }
  std::set<std::string> ops, layers;
  for (const Selected& one : all) {
    ops.insert(one.bench_case.op);
    if (!one.bench_case.layer.empty()) layers.insert(one.bench_case.layer);
  }
  demand_known("op in this set", s.ops, ops, '/');
  demand_known("layer in this set", s.layers, layers, '.');
  const auto wanted = [](const std::vector<std::string>& given, const std::string& full, char sep) {
    return given.empty() || std::any_of(given.begin(), given.end(),
                                        [&](const std::string& g) { return meant(full, g, sep); });
  };
  std::erase_if(all, [&](const Selected& one) {
    const BenchCase& c = one.bench_case;
    return !wanted(s.ops, c.op, '/') || !wanted(s.layers, c.layer, '.') || !is_dtype(c.op, s.dtype);
  });
  if (all.empty())
    throw InputError(
        "no call of the set is left by --op, --layer and --dtype together; see --list");
  // Ops together, layers in the order of the network.
  std::stable_sort(all.begin(), all.end(), [](const Selected& a, const Selected& b) {
    return a.bench_case.op < b.bench_case.op;
  });
  return all;
}

}  // namespace subpix::tools::bench
