#include "engine/ops/dispatch.h"
#include "engine/ops/observe.h"
#include "engine/ops/ops.h"

namespace subpix::engine::ops {
namespace {

using kernels::PoolProblem;

struct MaxPoolNode final : Node {
  MaxPoolNode(const PoolProblem& problem, const Tensor& x, const Tensor& which_)
      : Node({x}), p(problem), which(*this, "which", which_) {}
  const char* name() const override { return "max_pool2"; }

  std::vector<Tensor> backward(const Tensor& dy) override {
    const Tensor dx = Tensor::empty(dy.device(), {p.n, p.h, p.w, p.c}, dy.dtype());
    dispatch(dy, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
      k.max_pool_backward(ctx, p, dy.data<T>(), which.get().data<std::uint8_t>(), dx.data<T>());
    });
    return {dx};
  }

  PoolProblem p;
  Saved which;  // one byte an output element instead of the whole input
};

}  // namespace

Tensor max_pool2(const Tensor& x) {
  check_activation("max_pool2", x, 4);
  const PoolProblem p{x.dim(0), x.dim(1), x.dim(2), x.dim(3)};
  p.validate();
  const Shape pooled{p.n, p.p(), p.q(), p.c};
  const Tensor y = Tensor::empty(x.device(), pooled, x.dtype());
  const bool record = recording({x});
  Tensor which;
  if (record) which = Tensor::empty(x.device(), pooled, DType::U8);
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.max_pool_forward(ctx, p, x.data<T>(), y.data<T>(), data_or_null<std::uint8_t>(which));
  });
  if (record) y.set_node(std::make_shared<MaxPoolNode>(p, x, which));
  return observe("max_pool2", y);
}

}  // namespace subpix::engine::ops
