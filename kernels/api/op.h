#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/api/context.h"
#include "kernels/api/error.h"
#include "kernels/api/types.h"

namespace subpix::kernels {

/// A filter or weight matrix handed to a kernel. A backend may keep its own layout of it in
/// derived(ctx, id, ...) as long as `version` is unchanged; id 0 means "do not cache".
template <class T>
struct Filter {
  const T* data;
  std::uint64_t id = 0;
  std::uint64_t version = 0;
  Filter(const T* d) : data(d) {}  // NOLINT: a bare pointer is an uncached filter
  Filter(const T* d, std::uint64_t i, std::uint64_t v) : data(d), id(i), version(v) {}
};

/// One op of a table: an ordered list of variants that all compute the same thing.
/// Choice: override > plan > the first variant whose supports() says yes.
template <class Problem_, class... Args>
class Op {
 public:
  using Problem = Problem_;
  using Run = void (*)(Context&, const Problem&, Args...);
  using Supports = bool (*)(const Problem&, const DeviceInfo&);
  struct Variant {
    const char* name;   ///< the technique: "reference", "onednn", "tiled_shared", ...
    Supports supports;  ///< null: every valid problem
    Run run;
  };

  explicit Op(const char* op_name) : name_(op_name) {}

  const char* name() const { return name_; }
  const std::vector<Variant>& variants() const { return variants_; }
  void append(Variant v) { variants_.push_back(v); }
  /// Backends that start as a copy of another table put their own variants first.
  void prepend(Variant v) { variants_.insert(variants_.begin(), v); }
  /// Takes over another backend's whole list (the name stays).
  void replace(std::vector<Variant> list) { variants_ = std::move(list); }

  const Variant& select(const Context& ctx, const Problem& p) const {
    if (ctx.has_choices()) {
      bool forced = false;
      if (const std::string* want = ctx.chosen(name_, p.key(), &forced)) {
        for (const Variant& v : variants_)
          if (*want == v.name && takes(v, ctx, p)) return v;
        if (forced)
          throw InputError(concat("variant '", *want, "' of ", name_,
                                  " does not exist or does not support ", p.key(),
                                  "; variants: ", variant_names()));
      }
    }
    for (const Variant& v : variants_)
      if (takes(v, ctx, p)) return v;
    throw Error(concat("no variant of ", name_, " supports ", p.key()));
  }

  void operator()(Context& ctx, const Problem& p, Args... args) const {
    const Variant& v = select(ctx, p);
    if (ctx.traced()) ctx.trace(name_, v.name, p.key());
    v.run(ctx, p, args...);
  }

  std::string variant_names() const {
    std::string all;
    for (const Variant& v : variants_) all += (all.empty() ? "" : ", ") + std::string(v.name);
    return all;
  }

 private:
  static bool takes(const Variant& v, const Context& ctx, const Problem& p) {
    return !v.supports || v.supports(p, ctx.device());
  }
  const char* name_;
  std::vector<Variant> variants_;
};

}  // namespace subpix::kernels
