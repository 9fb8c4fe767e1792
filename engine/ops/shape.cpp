#include "engine/ops/dispatch.h"
#include "engine/ops/observe.h"
#include "engine/ops/ops.h"

namespace subpix::engine::ops {
namespace {

using kernels::ShuffleProblem;

/// Every output element is one input element: the gradient moves back the same way.
struct PixelShuffleNode final : Node {
  PixelShuffleNode(const ShuffleProblem& problem, const Tensor& x) : Node({x}), p(problem) {}
  const char* name() const override { return "pixel_shuffle"; }

  std::vector<Tensor> backward(const Tensor& dy) override {
    const Tensor dx =
        Tensor::empty(dy.device(), {p.n, p.h, p.w, p.scale * p.scale * p.c}, dy.dtype());
    dispatch(dy, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
      k.pixel_shuffle_backward(ctx, p, dy.data<T>(), dx.data<T>());
    });
    return {dx};
  }

  ShuffleProblem p;
};

struct ReshapeNode final : Node {
  explicit ReshapeNode(const Tensor& x) : Node({x}), from(x.shape()) {}
  const char* name() const override { return "reshape"; }
  std::vector<Tensor> backward(const Tensor& dy) override { return {dy.view(from)}; }

  Shape from;
};

}  // namespace

Tensor pixel_shuffle(const Tensor& x, Index scale) {
  check_activation("pixel_shuffle", x, 4);
  SUBPIX_REQUIRE(scale >= 1 && x.dim(3) % (scale * scale) == 0, "pixel_shuffle: the ", x.dim(3),
                 " channels of ", x.shape(), " are not a multiple of scale ", scale, " squared");
  const ShuffleProblem p{x.dim(0), x.dim(1), x.dim(2), x.dim(3) / (scale * scale), scale};
  p.validate();
  const Tensor y = Tensor::empty(x.device(), {p.n, p.h * scale, p.w * scale, p.c}, x.dtype());
  dispatch(x, [&]<class T>(Context& ctx, const TypedOps<T>& k) {
    k.pixel_shuffle_forward(ctx, p, x.data<T>(), y.data<T>());
  });
  if (recording({x})) y.set_node(std::make_shared<PixelShuffleNode>(p, x));
  return observe("pixel_shuffle", y);
}

Tensor reshape(const Tensor& x, const Shape& shape) {
  const Tensor y = x.view(shape);
  if (recording({x})) y.set_node(std::make_shared<ReshapeNode>(x));
  return y;
}

}  // namespace subpix::engine::ops
