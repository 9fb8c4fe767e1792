#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>

#include "kernels/api/context.h"

/// What a context keeps besides scratch memory, for the sources that use it.
namespace subpix::kernels {

/// Called before every kernel call: op name, variant name, problem key.
using Trace = std::function<void(const char* op, const char* variant, const std::string& key)>;

struct Context::Objects {
  std::map<std::string, std::string, std::less<>> overrides;
  std::map<std::pair<std::string, std::string>, std::string> plan;
  Trace trace;
  std::unordered_map<std::string, std::shared_ptr<void>> cache;
  std::unordered_map<std::uint64_t, std::unordered_map<std::string, std::shared_ptr<void>>> derived;
};

/// Sets who listens to kernel calls; an empty function: nobody.
void set_trace(Context& ctx, Trace trace);

/// Library objects (oneDNN primitives, packed filters, cuDNN plans) kept between calls.
/// Returns the object under `key`, made by `make` at the first call.
template <class Object, class Make>
Object& cached(Context& ctx, const std::string& key, Make&& make) {
  auto& slot = ctx.objects().cache[key];
  if (!slot) slot = std::shared_ptr<void>(make());
  return *static_cast<Object*>(slot.get());
}

/// Objects derived from the contents of one storage (a filter in the library's own layout). The
/// owner of the storage calls Context::forget(id) when it dies.
inline std::shared_ptr<void>& derived(Context& ctx, std::uint64_t storage_id,
                                      const std::string& key) {
  return ctx.objects().derived[storage_id][key];
}

}  // namespace subpix::kernels
