// What surrounds the convolutions: norms, activations, shapes, losses, whole tensors.

#include "tools/bench/cases_list.h"

namespace subpix::tools::bench {

using kernels::ChannelProblem;
using kernels::ElementProblem;
using kernels::KernelTable;
using kernels::LossProblem;
using kernels::TypedOps;

namespace {
/// Bytes of `maps` tensors of `count` elements of T.
template <class T>
double maps(double how_many, Index count) {
  return how_many * static_cast<double>(sizeof(T)) * static_cast<double>(count);
}
constexpr double kOne = 1.0;  // a result that is rounded, not summed
const Draw kUnit = Draw::uniform(-1.0, 1.0);
}  // namespace

template <class T>
void add_norm(CaseList& list, const kernels::NormProblem& d) {
  using Ops = TypedOps<T>;
  const Index n = d.count(), c = d.c;
  const auto rows = static_cast<double>(d.rows);
  list.add(make_case(&Ops::batchnorm_forward, d, maps<T>(2, n), [=](Operands& o) {
    const T* x = o.in<T>(n, kUnit);
    const float* gamma = o.in<float>(c, Draw::uniform(0.5, 1.5));
    const float* beta = o.in<float>(c, kUnit);
    T* y = o.out<T>(n, "y", rows);
    float* mean = o.out<float>(c, "mean", rows);
    float* inv_std = o.out<float>(c, "inv_std", rows);
    float* running_mean = o.inout<float>(c, "running_mean", Draw::constant(0.0), rows);
    float* running_var = o.inout<float>(c, "running_var", Draw::constant(1.0), rows);
    return std::make_tuple(x, gamma, beta, y, mean, inv_std, running_mean, running_var);
  }));
  list.add(make_case(&Ops::batchnorm_backward, d, maps<T>(3, n), [=](Operands& o) {
    const T* x = o.in<T>(n, kUnit);
    const T* dy = o.in<T>(n, kUnit);
    const float* gamma = o.in<float>(c, Draw::uniform(0.5, 1.5));
    const float* mean = o.in<float>(c, Draw::constant(0.0));
    const float* inv_std = o.in<float>(c, Draw::constant(1.7));
    T* dx = o.out<T>(n, "dx", rows);
    float* dgamma = o.out<float>(c, "dgamma", rows);
    return std::make_tuple(x, dy, gamma, mean, inv_std, dx, dgamma, o.out<float>(c, "dbeta", rows));
  }));
  list.add(make_case(&Ops::batchnorm_inference, d, maps<T>(2, n), [=](Operands& o) {
    const T* x = o.in<T>(n, kUnit);
    const float* gamma = o.in<float>(c, Draw::uniform(0.5, 1.5));
    const float* beta = o.in<float>(c, kUnit);
    const float* mean = o.in<float>(c, kUnit);
    const float* var = o.in<float>(c, Draw::uniform(0.5, 1.5));
    return std::make_tuple(x, gamma, beta, mean, var, o.out<T>(n, "y", kOne));
  }));
  list.add(make_case(&Ops::norm_backward_apply, d, maps<T>(3, n), [=](Operands& o) {
    const T* x = o.in<T>(n, kUnit);
    const T* dy = o.in<T>(n, kUnit);
    const float* gamma = o.in<float>(c, Draw::uniform(0.5, 1.5));
    const float* mean = o.in<float>(c, Draw::constant(0.0));
    const float* inv_std = o.in<float>(c, Draw::constant(1.7));
    const float* dgamma = o.in<float>(c, kUnit);
    const float* dbeta = o.in<float>(c, kUnit);
    return std::make_tuple(x, dy, gamma, mean, inv_std, dgamma, dbeta, o.out<T>(n, "dx", kOne));
  }));
  const ChannelProblem channels{d.rows, c};
  list.add(make_case(&Ops::norm_add_forward, channels, maps<T>(3, n), [=](Operands& o) {
    const T* x = o.in<T>(n, kUnit);
    const float* scale = o.in<float>(c, kUnit);
    const float* shift = o.in<float>(c, kUnit);
    const T* skip = o.in<T>(n, kUnit);
    return std::make_tuple(x, scale, shift, skip, o.out<T>(n, "y", kOne));
  }));
  const kernels::NormActivationProblem formed{d.rows, c, kernels::InputForm::NormLeakyRelu, 0.2f};
  list.add(make_case(&Ops::norm_activation_forward, formed, maps<T>(2, n), [=](Operands& o) {
    const T* x = o.in<T>(n, kUnit);
    const kernels::NormInput in{o.in<float>(c, kUnit), o.in<float>(c, kUnit), nullptr};
    return std::make_tuple(x, in, o.out<T>(n, "y", kOne));
  }));
}
template void add_norm<float>(CaseList&, const kernels::NormProblem&);
template void add_norm<bf16>(CaseList&, const kernels::NormProblem&);

template <class T>
void add_prelu(CaseList& list, const ChannelProblem& d) {
  using Ops = TypedOps<T>;
  const Index n = d.count(), slopes = d.shared ? 1 : d.c;
  list.add(make_case(&Ops::prelu_forward, d, maps<T>(2, n), [=](Operands& o) {
    const T* x = o.in<T>(n, kUnit);
    const float* slope = o.in<float>(slopes, kUnit);
    return std::make_tuple(x, slope, o.out<T>(n, "y", kOne));
  }));
  list.add(make_case(&Ops::prelu_backward, d, maps<T>(3, n), [=](Operands& o) {
    const T* x = o.in<T>(n, kUnit);
    const T* dy = o.in<T>(n, kUnit);
    const float* slope = o.in<float>(slopes, kUnit);
    T* dx = o.out<T>(n, "dx", kOne);
    return std::make_tuple(x, dy, slope, dx,
                           o.out<float>(slopes, "dslope", static_cast<double>(n / slopes)));
  }));
  list.add(make_case(&Ops::channel_affine, d, maps<T>(2, n), [=](Operands& o) {
    const T* x = o.in<T>(n, kUnit);
    const float* scale = o.in<float>(d.c, kUnit);
    const float* shift = o.in<float>(d.c, kUnit);
    return std::make_tuple(x, scale, shift, o.out<T>(n, "y", kOne));
  }));
}
template void add_prelu<float>(CaseList&, const ChannelProblem&);
template void add_prelu<bf16>(CaseList&, const ChannelProblem&);

template <class T>
void add_leaky_relu(CaseList& list, Index count) {
  using Ops = TypedOps<T>;
  const ElementProblem d{.count = count, .alpha = 0.2f};
  list.add(make_case(&Ops::leaky_relu_forward, d, maps<T>(2, count), [=](Operands& o) {
    const T* x = o.in<T>(count, kUnit);
    return std::make_tuple(x, o.out<T>(count, "y", kOne));
  }));
  list.add(make_case(&Ops::leaky_relu_backward, d, maps<T>(3, count), [=](Operands& o) {
    const T* y = o.in<T>(count, kUnit);
    const T* dy = o.in<T>(count, kUnit);
    return std::make_tuple(y, dy, o.out<T>(count, "dx", kOne));
  }));
}
template void add_leaky_relu<float>(CaseList&, Index);
template void add_leaky_relu<bf16>(CaseList&, Index);

template <class T>
void add_shuffle(CaseList& list, const kernels::ShuffleProblem& d) {
  using Ops = TypedOps<T>;
  const Index n = d.count();
  list.add(make_case(&Ops::pixel_shuffle_forward, d, maps<T>(2, n), [=](Operands& o) {
    const T* x = o.in<T>(n);
    return std::make_tuple(x, o.out<T>(n, "y"));
  }));
  list.add(make_case(&Ops::pixel_shuffle_backward, d, maps<T>(2, n), [=](Operands& o) {
    const T* dy = o.in<T>(n);
    return std::make_tuple(dy, o.out<T>(n, "dx"));
  }));
}
template void add_shuffle<float>(CaseList&, const kernels::ShuffleProblem&);
template void add_shuffle<bf16>(CaseList&, const kernels::ShuffleProblem&);

template <class T>
void add_max_pool(CaseList& list, const kernels::PoolProblem& d) {
  using Ops = TypedOps<T>;
  const Index x_count = d.x_count(), y_count = d.y_count();
  const double bytes = maps<T>(1, x_count + y_count) + static_cast<double>(y_count);
  list.add(make_case(&Ops::max_pool_forward, d, bytes, [=](Operands& o) {
    const T* x = o.in<T>(x_count);
    T* y = o.out<T>(y_count, "y");
    return std::make_tuple(x, y, o.out<std::uint8_t>(y_count, "which"));
  }));
  list.add(make_case(&Ops::max_pool_backward, d, bytes, [=](Operands& o) {
    const T* dy = o.in<T>(y_count);
    const auto* which = o.in<std::uint8_t>(y_count, Draw::integers(0, 3));
    return std::make_tuple(dy, which, o.out<T>(x_count, "dx"));
  }));
}
template void add_max_pool<float>(CaseList&, const kernels::PoolProblem&);
template void add_max_pool<bf16>(CaseList&, const kernels::PoolProblem&);

template <class T>
void add_losses(CaseList& list, Index n, Index h, Index w, Index c) {
  using Ops = TypedOps<T>;
  const Index count = n * h * w * c;
  const auto terms = static_cast<double>(count);
  const LossProblem d{.count = count, .scale = 1.0f / static_cast<float>(count), .target = 1.0f};
  const auto two = [=](Operands& o) {
    const T* x = o.in<T>(count, kUnit);
    const T* target = o.in<T>(count, kUnit);
    float* loss = o.out<float>(1, "loss", terms);
    return std::make_tuple(x, target, loss, o.out<T>(count, "dx", kOne));
  };
  list.add(make_case(&Ops::mse_loss, d, maps<T>(3, count), two));
  list.add(make_case(&Ops::l1_loss, d, maps<T>(3, count), two));
  list.add(make_case(&Ops::bce_with_logits, d, maps<T>(2, count), [=](Operands& o) {
    const T* x = o.in<T>(count, kUnit);
    float* loss = o.out<float>(1, "loss", terms);
    return std::make_tuple(x, loss, o.out<T>(count, "dx", kOne));
  }));
  const kernels::VariationProblem v{.n = n, .h = h, .w = w, .c = c, .scale = d.scale};
  list.add(make_case(&Ops::total_variation, v, maps<T>(2, count), [=](Operands& o) {
    const T* x = o.in<T>(count, kUnit);
    float* loss = o.out<float>(1, "loss", terms);
    return std::make_tuple(x, loss, o.out<T>(count, "dx", kOne));
  }));
}
template void add_losses<float>(CaseList&, Index, Index, Index, Index);
template void add_losses<bf16>(CaseList&, Index, Index, Index, Index);

template <class T>
void add_maps(CaseList& list, Index count) {
  using Ops = TypedOps<T>;
  const ElementProblem d{.count = count, .alpha = 0.7f, .beta = 0.3f};
  list.add(make_case(&Ops::add, d, maps<T>(3, count), [=](Operands& o) {
    const T* a = o.in<T>(count, kUnit);
    const T* b = o.in<T>(count, kUnit);
    return std::make_tuple(a, b, o.out<T>(count, "y", kOne));
  }));
  list.add(make_case(&Ops::axpby, d, maps<T>(3, count), [=](Operands& o) {
    const T* x = o.in<T>(count, kUnit);
    return std::make_tuple(x, o.inout<T>(count, "y", kUnit, kOne));
  }));
  list.add(make_case(&Ops::scale, d, maps<T>(2, count), [=](Operands& o) {
    const T* x = o.in<T>(count, kUnit);
    const float* s = o.in<float>(1, Draw::constant(1.5));
    return std::make_tuple(x, s, o.out<T>(count, "y", kOne));
  }));
  list.add(make_case(&Ops::fill, d, maps<T>(1, count),
                     [=](Operands& o) { return std::make_tuple(o.out<T>(count, "y", kOne)); }));
  const double with_bytes = maps<T>(1, count) + static_cast<double>(count);
  list.add(make_case(&Ops::from_bytes, d, with_bytes, [=](Operands& o) {
    const auto* x = o.in<std::uint8_t>(count, Draw::integers(0, 255));
    return std::make_tuple(x, o.out<T>(count, "y", kOne));
  }));
  const ElementProblem pixels{.count = count, .alpha = 127.5f, .beta = 127.5f};
  list.add(make_case(&Ops::to_bytes, pixels, with_bytes, [=](Operands& o) {
    // Integers: nothing lies where a rounding decides between two bytes.
    const T* x = o.in<T>(count, Draw::integers(-1, 1));
    return std::make_tuple(x, o.out<std::uint8_t>(count, "y"));
  }));
  for (const auto reduction : {kernels::Reduction::Sum, kernels::Reduction::SumSquares}) {
    const kernels::ReduceProblem r{count, reduction};
    list.add(make_case(&Ops::reduce, r, maps<T>(1, count), [=](Operands& o) {
      const T* x = o.in<T>(count, kUnit);
      return std::make_tuple(x, o.out<float>(1, "y", static_cast<double>(count)));
    }));
  }
}
template void add_maps<float>(CaseList&, Index);
template void add_maps<bf16>(CaseList&, Index);

void add_untyped(CaseList& list, Index count, const std::vector<Index>& tensors) {
  const ElementProblem d{.count = count};
  const double narrow = 6.0 * static_cast<double>(count);
  list.add(make_case(&KernelTable::cast_to_bf16, d, narrow, [=](Operands& o) {
    const float* x = o.in<float>(count, kUnit);
    return std::make_tuple(x, o.out<bf16>(count, "y"));
  }));
  list.add(make_case(&KernelTable::cast_to_float, d, narrow, [=](Operands& o) {
    const bf16* x = o.in<bf16>(count, kUnit);
    return std::make_tuple(x, o.out<float>(count, "y"));
  }));
  const kernels::RandomProblem random{.count = count, .seed = 7};
  list.add(make_case(&KernelTable::philox_uniform, random, maps<float>(1, count),
                     [=](Operands& o) { return std::make_tuple(o.out<float>(count, "y")); }));
  list.add(make_case(&KernelTable::philox_normal, random, maps<float>(1, count),
                     [=](Operands& o) { return std::make_tuple(o.out<float>(count, "y", 64.0)); }));
  kernels::AdamProblem adam{.count = 0};
  for (const Index n : tensors) adam.count += n;
  // Weight and two moments both ways, the gradient, the copy in bf16.
  list.add(
      make_case(&KernelTable::adam, adam, 30.0 * static_cast<double>(adam.count), [=](Operands& o) {
        auto* all = o.keep(std::vector<kernels::AdamTensor>());
        for (const Index n : tensors) {
          float* w = o.inout<float>(n, "w", kUnit, kOne);
          const float* g = o.in<float>(n, kUnit);
          float* m = o.inout<float>(n, "m", kUnit, kOne);
          float* v = o.inout<float>(n, "v", Draw::uniform(0.1, 1.0), kOne);
          all->push_back({w, g, m, v, o.out<bf16>(n, "w_bf16", kOne), n});
        }
        const float* scalars = o.in<float>(2, Draw::constant(0.01));
        return std::make_tuple(static_cast<const kernels::AdamTensor*>(all->data()),
                               static_cast<int>(all->size()), scalars);
      }));
}

}  // namespace subpix::tools::bench
