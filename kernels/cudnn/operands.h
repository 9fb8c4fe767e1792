#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/api/kernels.h"
#include "kernels/cuda/table.h"

/// What variants of this table share: operands at any address, and the way back to the cuda table.
namespace subpix::kernels::cudnn {

inline bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

/// Graphs promise cuDNN pointers at multiples of 16 bytes. Views may lie elsewhere: such inputs are
/// copied to scratch memory first, such outputs computed there and copied back by finish().
class Operands {
 public:
  explicit Operands(Context& ctx) : ctx_(ctx), ws_(ctx) {}

  template <class T>
  const T* in(const T* p, Index count) {
    if (aligned(p)) return p;
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    T* copy = ws_.take<T>(static_cast<std::size_t>(count));
    ctx_.table().memory.copy(ctx_, copy, p, bytes);
    return copy;
  }
  template <class T>
  T* out(T* p, Index count) {
    if (aligned(p)) return p;
    T* copy = ws_.take<T>(static_cast<std::size_t>(count));
    results_.push_back({p, copy, static_cast<std::size_t>(count) * sizeof(T)});
    return copy;
  }
  template <class T>
  T* scratch(Index count) {
    return ws_.take<T>(static_cast<std::size_t>(count));
  }
  void finish() {
    for (const Result& r : results_) ctx_.table().memory.copy(ctx_, r.to, r.from, r.bytes);
    results_.clear();
  }

 private:
  struct Result {
    void* to;
    const void* from;
    std::size_t bytes;
  };
  Context& ctx_;
  Workspace ws_;
  std::vector<Result> results_;
};

/// Runs the cuda table's variant for this problem, and tells the listener: what ran was not cuDNN.
/// Where `variant` was forced by name, running something else under its name would be a lie: then
/// this is an error.
template <class Op, class... Args>
void run_on_cuda(Context& ctx, const Op& op, const char* variant, const typename Op::Problem& p,
                 Args... args) {
  bool forced = false;
  if (ctx.has_choices() && ctx.chosen(op.name(), p.key(), &forced) && forced)
    throw InputError(concat("cuDNN has no plan for ", op.name(), " ", p.key(),
                            " within the rules of docs/kernels/cudnn.md; do not force variant '",
                            variant, "' for it"));
  for (const auto& v : op.variants())
    if (!v.supports || v.supports(p, ctx.device())) {
      if (ctx.traced()) ctx.trace(op.name(), v.name, p.key());
      v.run(ctx, p, args...);
      return;
    }
  throw Error(concat("no variant of ", op.name(), " supports ", p.key()));
}

}  // namespace subpix::kernels::cudnn
