// Convolutions by cuDNN's operation graphs. fp32 comes in two variants: one whose plans multiply in
// fp32, and one whose plans may round to TF32, offered where that is allowed.

#include <type_traits>

#include "kernels/cudnn/operands.h"
#include "kernels/cudnn/session.h"
#include "kernels/cudnn/table.h"
#include "kernels/cudnn/variants.h"

namespace subpix::kernels::cudnn {
namespace {

template <class T>
constexpr bool kIsFloat = std::is_same_v<T, float>;

template <class T, bool Tf32>
constexpr PlanRule kRule{.fp32 = kIsFloat<T>, .tf32 = Tf32};

template <bool Tf32>
constexpr const char* kPlain = Tf32 ? "cudnn_graph_tf32" : "cudnn_graph";
template <bool Tf32>
constexpr const char* kFused = Tf32 ? "cudnn_graph_fused_tf32" : "cudnn_graph_fused";

template <class T, bool Tf32, class Graph>
const Choice& chosen(Context& ctx, const Graph& graph, std::initializer_list<Binding> bindings,
                     const std::string& key) {
  return choice_of(
      ctx, key, kRule<T, Tf32>, [&](cudnnHandle_t handle) { return make_graph(graph, handle); },
      bindings);
}

/// Forward with what is fused; false where cuDNN has no plan.
template <class T, bool Tf32, class Y>
bool forward(Context& ctx, const ForwardGraph& g, const T* x, const T* w, const float* bias, Y* y) {
  const Conv2dProblem& d = g.conv;
  Operands operands(ctx);
  Y* out = operands.out(y, d.y_count());
  const Binding bx{Port::X, operands.in(x, d.x_count())}, bw{Port::W, operands.in(w, d.w_count())},
      by{Port::Y, out};
  const auto with = [&](std::initializer_list<Binding> bindings) {
    const Choice& choice = chosen<T, Tf32>(ctx, g, bindings, key_of(g));
    if (choice.best) run(ctx, *choice.best, bindings);
    return choice.best != nullptr;
  };
  const bool ran =
      bias ? with({bx, bw, by, {Port::Bias, operands.in(bias, d.k)}}) : with({bx, bw, by});
  if (ran) operands.finish();
  return ran;
}

template <class T, bool Tf32>
void forward_run(Context& ctx, const Conv2dProblem& d, const T* x, Filter<T> w, const float* bias,
                 T* y) {
  const ForwardGraph g{
      .conv = d, .type = DTypeOf<T>::value, .out = DTypeOf<T>::value, .bias = bias != nullptr};
  if (!forward<T, Tf32>(ctx, g, x, w.data, bias, y))
    run_on_cuda(ctx, cuda::table().typed<T>().conv2d_forward, kPlain<Tf32>, d, x, w, bias, y);
}

/// The output image: bf16 operands, sums stored as they are.
void wide_run(Context& ctx, const Conv2dProblem& d, const bf16* x, Filter<bf16> w,
              const float* bias, float* y) {
  const ForwardGraph g{.conv = d, .type = DType::BF16, .out = DType::F32, .bias = bias != nullptr};
  if (!forward<bf16, false>(ctx, g, x, w.data, bias, y))
    run_on_cuda(ctx, cuda::table().conv2d_wide_forward, kPlain<false>, d, x, w, bias, y);
}

template <class T, bool Tf32>
void activation_run(Context& ctx, const Conv2dActivationProblem& d, const T* x, Filter<T> w,
                    const float* bias, T* y) {
  const ForwardGraph g{.conv = d.conv,
                       .type = DTypeOf<T>::value,
                       .out = DTypeOf<T>::value,
                       .bias = bias != nullptr,
                       .activation = d.activation,
                       .slope = d.slope};
  if (!forward<T, Tf32>(ctx, g, x, w.data, bias, y))
    run_on_cuda(ctx, cuda::table().typed<T>().conv2d_activation_forward, kFused<Tf32>, d, x, w,
                bias, y);
}

template <class T, bool Tf32>
void backward_data_run(Context& ctx, const Conv2dProblem& d, const T* dy, Filter<T> w, T* dx) {
  const BackwardDataGraph g{.conv = d, .type = DTypeOf<T>::value};
  {
    Operands operands(ctx);
    const std::initializer_list<Binding> bindings = {{Port::Dy, operands.in(dy, d.y_count())},
                                                     {Port::W, operands.in(w.data, d.w_count())},
                                                     {Port::Dx, operands.out(dx, d.x_count())}};
    const Choice& choice = chosen<T, Tf32>(ctx, g, bindings, key_of(g));
    if (choice.best) {
      run(ctx, *choice.best, bindings);
      operands.finish();
      return;
    }
  }
  run_on_cuda(ctx, cuda::table().typed<T>().conv2d_backward_data, kPlain<Tf32>, d, dy, w, dx);
}

/// dw in fp32 where cuDNN has a plan for that, else in bf16 and widened by one more launch: the
/// second rounds each gradient once.
template <class T, bool Tf32>
bool filter_gradient(Context& ctx, const Conv2dProblem& d, const T* x, const T* dy, float* dw) {
  constexpr DType type = DTypeOf<T>::value;
  Operands operands(ctx);
  const Binding bx{Port::X, operands.in(x, d.x_count())},
      by{Port::Dy, operands.in(dy, d.y_count())};
  const BackwardFilterGraph wide{.conv = d, .type = type, .out = DType::F32};
  const std::initializer_list<Binding> to_float = {
      bx, by, {Port::Dw, operands.out(dw, d.w_count())}};
  const Choice& choice = chosen<T, Tf32>(ctx, wide, to_float, key_of(wide));
  if (choice.best) {
    run(ctx, *choice.best, to_float);
    operands.finish();
    return true;
  }
  if constexpr (!kIsFloat<T>) {
    const BackwardFilterGraph narrow{.conv = d, .type = type, .out = type};
    T* rounded = operands.template scratch<T>(d.w_count());
    const std::initializer_list<Binding> to_narrow = {bx, by, {Port::Dw, rounded}};
    const Choice& other = chosen<T, Tf32>(ctx, narrow, to_narrow, key_of(narrow));
    if (other.best) {
      run(ctx, *other.best, to_narrow);
      ctx.table().cast_to_float(ctx, {.count = d.w_count()}, rounded, dw);
      return true;
    }
  }
  return false;
}

template <class T, bool Tf32>
void backward_filter_run(Context& ctx, const Conv2dProblem& d, const T* x, const T* dy, float* dw,
                         float* db) {
  if (filter_gradient<T, Tf32>(ctx, d, x, dy, dw) &&
      (!db || channel_sums(ctx, {.n = d.n, .h = d.p(), .w = d.q(), .c = d.k}, dy, db)))
    return;
  run_on_cuda(ctx, cuda::table().typed<T>().conv2d_backward_filter, kPlain<Tf32>, d, x, dy, dw, db);
}

template <class T, bool Tf32>
void add_typed(TypedOps<T>& ops) {
  using Problem = Conv2dProblem;
  constexpr bool (*takes)(const Problem&, const DeviceInfo&) =
      Tf32 ? +[](const Problem&, const DeviceInfo& device) { return device.tf32; }
           : +[](const Problem&, const DeviceInfo&) { return true; };
  ops.conv2d_forward.prepend({kPlain<Tf32>, takes, forward_run<T, Tf32>});
  ops.conv2d_backward_data.prepend({kPlain<Tf32>, takes, backward_data_run<T, Tf32>});
  ops.conv2d_backward_filter.prepend({kPlain<Tf32>, takes, backward_filter_run<T, Tf32>});
  ops.conv2d_activation_forward.prepend(
      {kFused<Tf32>,
       [](const Conv2dActivationProblem&, const DeviceInfo& device) {
         return !Tf32 || device.tf32;
       },
       activation_run<T, Tf32>});
}

}  // namespace

template <class T>
bool channel_sums(Context& ctx, const ChannelSums& d, const T* dy, float* sums) {
  const ChannelSumGraph g{.n = d.n, .h = d.h, .w = d.w, .c = d.c, .type = DTypeOf<T>::value};
  Operands operands(ctx);
  const std::initializer_list<Binding> bindings = {
      {Port::Dy, operands.in(dy, d.n * d.h * d.w * d.c)}, {Port::Sum, operands.out(sums, d.c)}};
  const Choice& choice = chosen<T, false>(ctx, g, bindings, key_of(g));
  if (!choice.best) return false;
  run(ctx, *choice.best, bindings);
  operands.finish();
  return true;
}
template bool channel_sums<float>(Context&, const ChannelSums&, const float*, float*);
template bool channel_sums<bf16>(Context&, const ChannelSums&, const bf16*, float*);

void add_conv2d(KernelTable& table) {
  add_typed<float, false>(table.f32);
  add_typed<float, true>(table.f32);
  add_typed<bf16, false>(table.bf16_ops);
  table.conv2d_wide_forward.prepend({kPlain<false>, nullptr, wide_run});
}

template <class T>
std::vector<PlanFacts> forward_plans(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                                     T* y, std::size_t most_workspace) {
  const ForwardGraph g{.conv = d, .type = DTypeOf<T>::value, .out = DTypeOf<T>::value};
  return time_all(
      ctx, [&](cudnnHandle_t handle) { return make_graph(g, handle); },
      {{Port::X, x}, {Port::W, w}, {Port::Y, y}}, most_workspace);
}

template <class T>
std::vector<PlanFacts> backward_data_plans(Context& ctx, const Conv2dProblem& d, const T* dy,
                                           const T* w, T* dx, std::size_t most_workspace) {
  const BackwardDataGraph g{.conv = d, .type = DTypeOf<T>::value};
  return time_all(
      ctx, [&](cudnnHandle_t handle) { return make_graph(g, handle); },
      {{Port::Dy, dy}, {Port::W, w}, {Port::Dx, dx}}, most_workspace);
}

template <class T>
std::vector<PlanFacts> backward_filter_plans(Context& ctx, const Conv2dProblem& d, const T* x,
                                             const T* dy, float* dw, std::size_t most_workspace) {
  const BackwardFilterGraph g{.conv = d, .type = DTypeOf<T>::value, .out = DType::F32};
  return time_all(
      ctx, [&](cudnnHandle_t handle) { return make_graph(g, handle); },
      {{Port::X, x}, {Port::Dy, dy}, {Port::Dw, dw}}, most_workspace);
}

#define SUBPIX_PLANS(T)                                                                            \
  template std::vector<PlanFacts> forward_plans<T>(Context&, const Conv2dProblem&, const T*,       \
                                                   const T*, T*, std::size_t);                     \
  template std::vector<PlanFacts> backward_data_plans<T>(Context&, const Conv2dProblem&, const T*, \
                                                         const T*, T*, std::size_t);               \
  template std::vector<PlanFacts> backward_filter_plans<T>(                                        \
      Context&, const Conv2dProblem&, const T*, const T*, float*, std::size_t);
SUBPIX_PLANS(float)
SUBPIX_PLANS(bf16)
#undef SUBPIX_PLANS

}  // namespace subpix::kernels::cudnn
