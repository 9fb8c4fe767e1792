#include "engine/ops/observe.h"

#include <string>

#include "engine/core/debug.h"
#include "engine/ops/dispatch.h"

namespace subpix::engine::ops {
namespace {

void look(const std::string& what, const Tensor& t) {
  if (debug().level >= 1) {
    std::string line = concat(what, " ", t.shape(), " ", name(t.dtype()));
    if (debug().level >= 3) line += concat(" in use ", t.device().memory().in_use, " bytes");
    debug_line(line);
  }
  if (!debug().nan_check || t.dtype() == DType::U8) return;
  const Tensor count = Tensor::empty(t.device(), {1});
  const kernels::ReduceProblem p{t.count(), kernels::Reduction::CountNonFinite};
  dispatch(t, [&]<class T>(kernels::Context& ctx, const kernels::TypedOps<T>& k) {
    k.reduce(ctx, p, t.data<T>(), count.data<float>());
  });
  const float bad = count.item();
  SUBPIX_REQUIRE(bad == 0.0f, what, " gave ", bad, " values that are not finite among the ",
                 t.count(), " of ", t.shape());
}

}  // namespace

const Tensor& observe(const char* op, const Tensor& result) {
  if (debug().level || debug().nan_check) look(op, result);
  return result;
}

void observe_gradient(const char* node, std::size_t argument, const Tensor& gradient) {
  if (debug().level || debug().nan_check)
    look(concat(node, " backward, argument ", argument, ","), gradient);
}

}  // namespace subpix::engine::ops
