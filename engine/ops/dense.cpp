#include "engine/ops/dispatch.h"
#include "engine/ops/observe.h"
#include "engine/ops/ops.h"

namespace subpix::engine::ops {
namespace {

using kernels::DenseProblem;

struct DenseNode final : Node {
  DenseNode(const DenseProblem& problem, const Tensor& x_, const Tensor& w_, const Tensor& bias_)
      : Node({x_, w_, bias_}),
        p(problem),
        x(*this, "x", needs(1) || needs(2) ? x_ : Tensor()),
        w(*this, "w", needs(0) ? weight_for(w_, x_.dtype()) : Tensor()) {}
  const char* name() const override { return "dense"; }

  std::vector<Tensor> backward(const Tensor& dy) override {
    Tensor dx, dw, db;
    dispatch(dy, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
      if (needs(0)) {
        dx = Tensor::empty(dy.device(), {p.n, p.in}, dy.dtype());
        k.dense_backward_data(ctx, p, dy.data<T>(), w.get().filter<T>(), dx.data<T>());
      }
      if (needs(1) || needs(2)) {
        dw = Tensor::empty(dy.device(), {p.out, p.in});
        if (needs(2)) db = Tensor::empty(dy.device(), {p.out});
        k.dense_backward_filter(ctx, p, x.get().data<T>(), dy.data<T>(), dw.data<float>(),
                                data_or_null<float>(db));
      }
    });
    return {dx, dw, db};
  }

  DenseProblem p;
  Saved x, w;
};

}  // namespace

Tensor dense(const Tensor& x, const Tensor& w, const Tensor& bias) {
  check_activation("dense", x, 2);
  check_weight("dense", x, w);
  SUBPIX_REQUIRE(w.shape().rank() == 2 && w.dim(1) == x.dim(1), "dense: w must be [out,", x.dim(1),
                 "] for x ", x.shape(), ", not ", w.shape());
  if (bias.defined()) check_vector("dense", x, "bias", bias, w.dim(0));
  const DenseProblem p{x.dim(0), x.dim(1), w.dim(0)};
  p.validate();
  const Tensor y = Tensor::empty(x.device(), {p.n, p.out}, x.dtype());
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.dense_forward(ctx, p, x.data<T>(), weight_for(w, x.dtype()).filter<T>(),
                    data_or_null<float>(bias), y.data<T>());
  });
  if (recording({x, w, bias})) y.set_node(std::make_shared<DenseNode>(p, x, w, bias));
  return observe("dense", y);
}

}  // namespace subpix::engine::ops
