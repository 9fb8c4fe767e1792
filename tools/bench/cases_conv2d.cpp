// Convolutions, plain and fused, and dense layers.

#include "tools/bench/cases_list.h"

namespace subpix::tools::bench {

using kernels::Conv2dProblem;
using kernels::Filter;
using kernels::InputForm;
using kernels::NormInput;
using kernels::TypedOps;

namespace {

constexpr double kGradient = 4.0;  // bytes of a weight's gradient in every type

double filter_bytes(const Conv2dProblem& d, double e) {
  return e * static_cast<double>(d.x_count() + d.y_count()) +
         kGradient * static_cast<double>(d.w_count());
}

/// Known statistics that keep integers: scale 1, shift 0, slope -1.
NormInput norm_input(Operands& o, InputForm form, Index c) {
  NormInput in;
  if (form == InputForm::Plain) return in;
  in.scale = o.in<float>(c, Draw::constant(1.0));
  in.shift = o.in<float>(c, Draw::constant(0.0));
  if (form == InputForm::NormPRelu) in.slope = o.in<float>(c, Draw::constant(-1.0));
  return in;
}

}  // namespace

template <class T>
void add_conv2d(CaseList& list, const Conv2dProblem& d, const Passes& passes) {
  using Ops = TypedOps<T>;
  const double e = sizeof(T), bytes = d.bytes(sizeof(T));
  if (passes.forward)
    list.add(make_case(&Ops::conv2d_forward, d, bytes, [d](Operands& o) {
      const T* x = o.in<T>(d.x_count());
      const Filter<T> w = o.filter<T>(d.w_count());
      const float* bias = o.in<float>(d.k);
      return std::make_tuple(x, w, bias, o.out<T>(d.y_count(), "y"));
    }));
  if (passes.data)
    list.add(make_case(&Ops::conv2d_backward_data, d, bytes, [d](Operands& o) {
      const T* dy = o.in<T>(d.y_count());
      const Filter<T> w = o.filter<T>(d.w_count());
      return std::make_tuple(dy, w, o.out<T>(d.x_count(), "dx"));
    }));
  if (passes.filter)
    list.add(make_case(&Ops::conv2d_backward_filter, d, filter_bytes(d, e), [d](Operands& o) {
      const T* x = o.in<T>(d.x_count());
      const T* dy = o.in<T>(d.y_count());
      float* dw = o.out<float>(d.w_count(), "dw");
      return std::make_tuple(x, dy, dw, o.out<float>(d.k, "db"));
    }));
}
template void add_conv2d<float>(CaseList&, const Conv2dProblem&, const Passes&);
template void add_conv2d<bf16>(CaseList&, const Conv2dProblem&, const Passes&);

template <class T>
void add_conv2d_activation(CaseList& list, const kernels::Conv2dActivationProblem& a) {
  const Conv2dProblem d = a.conv;
  list.add(
      make_case(&TypedOps<T>::conv2d_activation_forward, a, d.bytes(sizeof(T)), [d](Operands& o) {
        const T* x = o.in<T>(d.x_count());
        const Filter<T> w = o.filter<T>(d.w_count());
        const float* bias = o.in<float>(d.k);
        // A slope of 0.2 rounds.
        return std::make_tuple(x, w, bias, o.out<T>(d.y_count(), "y", 1.0));
      }));
}
template void add_conv2d_activation<float>(CaseList&, const kernels::Conv2dActivationProblem&);
template void add_conv2d_activation<bf16>(CaseList&, const kernels::Conv2dActivationProblem&);

template <class T>
void add_conv2d_norm(CaseList& list, const Conv2dProblem& d, InputForm form, bool skip) {
  using Ops = TypedOps<T>;
  const double e = sizeof(T), bytes = d.bytes(sizeof(T));
  const auto x_bytes = e * static_cast<double>(d.x_count());
  const auto rows = static_cast<double>(d.n * d.p() * d.q());
  const kernels::Conv2dNormProblem forward{.conv = d, .form = form, .slope = 0.5f};
  list.add(make_case(&Ops::conv2d_norm_forward, forward, bytes, [=](Operands& o) {
    const T* x = o.in<T>(d.x_count());
    const NormInput in = norm_input(o, form, d.c);
    const Filter<T> w = o.filter<T>(d.w_count());
    T* y = o.out<T>(d.y_count(), "y");
    kernels::NormOutput out{};
    out.gamma = o.in<float>(d.k, Draw::uniform(0.5, 1.5));
    out.beta = o.in<float>(d.k, Draw::uniform(-0.5, 0.5));
    out.mean = o.out<float>(d.k, "mean", rows);
    out.inv_std = o.out<float>(d.k, "inv_std", rows);
    out.scale = o.out<float>(d.k, "scale", rows);
    out.shift = o.out<float>(d.k, "shift", rows);
    out.running_mean = o.inout<float>(d.k, "running_mean", Draw::constant(0.0), rows);
    out.running_var = o.inout<float>(d.k, "running_var", Draw::constant(1.0), rows);
    return std::make_tuple(x, in, w, y, out);
  }));
  const kernels::Conv2dNormBackwardProblem backward{
      .conv = d, .skip = skip, .form = form, .slope = 0.5f};
  const double extra = (skip ? x_bytes : 0.0) + (form == InputForm::Plain ? 0.0 : x_bytes);
  list.add(make_case(&Ops::conv2d_norm_backward_data, backward, bytes + extra, [=](Operands& o) {
    const T* dy = o.in<T>(d.y_count());
    const Filter<T> w = o.filter<T>(d.w_count());
    const T* add = skip ? o.in<T>(d.x_count()) : nullptr;
    const bool plain = form == InputForm::Plain;
    const T* x = plain ? nullptr : o.in<T>(d.x_count());
    const NormInput in = norm_input(o, form, d.c);
    const float* mean = plain ? nullptr : o.in<float>(d.c, Draw::constant(0.0));
    const float* inv_std = plain ? nullptr : o.in<float>(d.c, Draw::constant(0.5));
    T* dx = o.out<T>(d.x_count(), "dx");
    kernels::NormGradients sums{};
    if (!plain) {
      const auto pixels = static_cast<double>(d.n * d.h * d.w);
      sums.dgamma = o.out<float>(d.c, "dgamma", pixels);
      sums.dbeta = o.out<float>(d.c, "dbeta", pixels);
      if (form == InputForm::NormPRelu) sums.dslope = o.out<float>(d.c, "dslope", pixels);
    }
    return std::make_tuple(dy, w, add, x, in, mean, inv_std, dx, sums);
  }));
  list.add(
      make_case(&Ops::conv2d_norm_backward_filter, forward, filter_bytes(d, e), [=](Operands& o) {
        const T* x = o.in<T>(d.x_count());
        const NormInput in = norm_input(o, form, d.c);
        const T* dy = o.in<T>(d.y_count());
        return std::make_tuple(x, in, dy, o.out<float>(d.w_count(), "dw"));
      }));
}
template void add_conv2d_norm<float>(CaseList&, const Conv2dProblem&, InputForm, bool);
template void add_conv2d_norm<bf16>(CaseList&, const Conv2dProblem&, InputForm, bool);

template <class T>
void add_filter_group(CaseList& list, const Conv2dProblem& d, Index filters) {
  const kernels::Conv2dGroupProblem group{d, filters};
  const double bytes = static_cast<double>(filters) * filter_bytes(d, sizeof(T));
  list.add(make_case(&TypedOps<T>::conv2d_backward_filter_group, group, bytes, [=](Operands& o) {
    auto* all = o.keep(std::vector<kernels::FilterGradient<T>>());
    for (Index i = 0; i < filters; ++i) {
      kernels::FilterGradient<T> f{};
      f.x = o.in<T>(d.x_count());
      f.form = i % 2 == 0 ? InputForm::Plain : InputForm::NormPRelu;
      f.in = norm_input(o, f.form, d.c);
      f.dy = o.in<T>(d.y_count());
      f.dw = o.out<float>(d.w_count(), "dw");
      all->push_back(f);
    }
    return std::make_tuple(static_cast<const kernels::FilterGradient<T>*>(all->data()));
  }));
}
template void add_filter_group<float>(CaseList&, const Conv2dProblem&, Index);
template void add_filter_group<bf16>(CaseList&, const Conv2dProblem&, Index);

template <class T>
void add_conv2d_shuffle(CaseList& list, const Conv2dProblem& d) {
  const double e = sizeof(T);
  const kernels::Conv2dShuffleProblem s{.conv = d};
  list.add(make_case(&TypedOps<T>::conv2d_shuffle_forward, s, s.bytes(sizeof(T)), [=](Operands& o) {
    const T* x = o.in<T>(d.x_count());
    const Filter<T> w = o.filter<T>(d.w_count());
    const float* bias = o.in<float>(d.k);
    const float* slope = o.in<float>(s.channels(), Draw::constant(0.5));
    T* z = o.out<T>(d.y_count(), "z");
    return std::make_tuple(x, w, bias, slope, z, o.out<T>(d.y_count(), "y", 1.0));
  }));
  const kernels::PReluShuffleProblem back{{d.n, d.p(), d.q(), s.channels(), s.scale}};
  const auto n = back.shuffle.count();
  list.add(make_case(&TypedOps<T>::prelu_shuffle_backward, back, 3.0 * e * static_cast<double>(n),
                     [=](Operands& o) {
                       const T* z = o.in<T>(n);
                       const T* dy = o.in<T>(n);
                       const float* slope = o.in<float>(s.channels(), Draw::constant(0.5));
                       T* dx = o.out<T>(n, "dx");
                       const auto terms = static_cast<double>(n / s.channels());
                       return std::make_tuple(z, dy, slope, dx,
                                              o.out<float>(s.channels(), "dslope", terms));
                     }));
}
template void add_conv2d_shuffle<float>(CaseList&, const Conv2dProblem&);
template void add_conv2d_shuffle<bf16>(CaseList&, const Conv2dProblem&);

template <class T>
void add_conv2d_pool(CaseList& list, const Conv2dProblem& d) {
  const kernels::Conv2dPoolProblem p{d};
  list.add(make_case(&TypedOps<T>::conv2d_pool_forward, p, p.bytes(sizeof(T)), [=](Operands& o) {
    const T* x = o.in<T>(d.x_count());
    const Filter<T> w = o.filter<T>(d.w_count());
    const float* bias = o.in<float>(d.k);
    const Index n = p.pool().y_count();
    T* y = o.out<T>(n, "y");
    return std::make_tuple(x, w, bias, y, o.out<std::uint8_t>(n, "which"));
  }));
  const kernels::PoolProblem pool = p.pool();
  const auto bytes = sizeof(T) * static_cast<double>(pool.x_count() + 2 * pool.y_count()) +
                     static_cast<double>(pool.y_count());
  list.add(make_case(&TypedOps<T>::max_pool_relu_backward, pool, bytes, [=](Operands& o) {
    const T* y = o.in<T>(pool.y_count());
    const T* dy = o.in<T>(pool.y_count());
    const auto* which = o.in<std::uint8_t>(pool.y_count(), Draw::integers(0, 3));
    return std::make_tuple(y, dy, which, o.out<T>(pool.x_count(), "dx"));
  }));
}
template void add_conv2d_pool<float>(CaseList&, const Conv2dProblem&);
template void add_conv2d_pool<bf16>(CaseList&, const Conv2dProblem&);

void add_conv2d_wide(CaseList& list, const Conv2dProblem& d) {
  const double bytes =
      2.0 * static_cast<double>(d.x_count() + d.w_count()) + 4.0 * static_cast<double>(d.y_count());
  list.add(make_case(&kernels::KernelTable::conv2d_wide_forward, d, bytes, [d](Operands& o) {
    const bf16* x = o.in<bf16>(d.x_count());
    const Filter<bf16> w = o.filter<bf16>(d.w_count());
    const float* bias = o.in<float>(d.k);
    return std::make_tuple(x, w, bias, o.out<float>(d.y_count(), "y"));
  }));
}

template <class T>
void add_dense(CaseList& list, const kernels::DenseProblem& d) {
  using Ops = TypedOps<T>;
  const double bytes = d.bytes(sizeof(T));
  const auto gradient = (kGradient - sizeof(T)) * static_cast<double>(d.in * d.out);
  list.add(make_case(&Ops::dense_forward, d, bytes, [d](Operands& o) {
    const T* x = o.in<T>(d.n * d.in);
    const Filter<T> w = o.filter<T>(d.out * d.in);
    const float* bias = o.in<float>(d.out);
    return std::make_tuple(x, w, bias, o.out<T>(d.n * d.out, "y"));
  }));
  list.add(make_case(&Ops::dense_backward_data, d, bytes, [d](Operands& o) {
    const T* dy = o.in<T>(d.n * d.out);
    const Filter<T> w = o.filter<T>(d.out * d.in);
    return std::make_tuple(dy, w, o.out<T>(d.n * d.in, "dx"));
  }));
  list.add(make_case(&Ops::dense_backward_filter, d, bytes + gradient, [d](Operands& o) {
    const T* x = o.in<T>(d.n * d.in);
    const T* dy = o.in<T>(d.n * d.out);
    float* dw = o.out<float>(d.out * d.in, "dw");
    return std::make_tuple(x, dy, dw, o.out<float>(d.out, "db"));
  }));
}
template void add_dense<float>(CaseList&, const kernels::DenseProblem&);
template void add_dense<bf16>(CaseList&, const kernels::DenseProblem&);

}  // namespace subpix::tools::bench
