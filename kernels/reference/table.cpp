#include "kernels/reference/table.h"

#include <cstdlib>
#include <cstring>
#include <limits>

#include "kernels/api/composed.h"
#include "kernels/reference/activation.h"
#include "kernels/reference/adam.h"
#include "kernels/reference/conv2d.h"
#include "kernels/reference/dense.h"
#include "kernels/reference/elementwise.h"
#include "kernels/reference/loss.h"
#include "kernels/reference/norm.h"
#include "kernels/reference/random.h"
#include "kernels/reference/shape_pool.h"

namespace subpix::kernels::reference {

namespace {

// --- host memory ---------------------------------------------------------------------------------

constexpr std::size_t kAlignment = 64;

void* allocate(Context&, std::size_t bytes) {
  void* data = nullptr;
  if (bytes < std::numeric_limits<std::size_t>::max() / 2) {
    // aligned_alloc wants a multiple of the alignment; an empty request still gets an address.
    const std::size_t blocks = bytes / kAlignment + 1;
    data = std::aligned_alloc(kAlignment, blocks * kAlignment);
  }
  if (!data)
    throw InputError(concat("out of host memory: ", bytes, " bytes (", bytes >> 20,
                            " MiB) could not be had; use a smaller batch, crop or tile"));
  return data;
}

void release(Context&, void* data, std::size_t) { std::free(data); }

void copy(Context&, void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void synchronize(Context&) {}

// --- ops -----------------------------------------------------------------------------------------

/// What a loop sees of an argument: the data of a filter (its identity only matters to caches).
template <class T>
const T* plain(const Filter<T>& filter) {
  return filter.data;
}
template <class T>
T plain(const T& value) {
  return value;
}

/// Appends Loop, a function (problem, arguments...), to op as its variant "reference".
template <auto Loop, class Problem, class... Args>
void append(Op<Problem, Args...>& op) {
  op.append({"reference", nullptr, [](Context&, const Problem& problem, Args... args) {
               Loop(problem, plain(args)...);
             }});
}

/// Works for any backend: the parts come from the table that the context runs.
template <class T>
void conv2d_activation_composed(Context& ctx, const Conv2dActivationProblem& d, const T* x,
                                Filter<T> w, const float* bias, T* y) {
  const TypedOps<T>& ops = ctx.table().typed<T>();
  ops.conv2d_forward(ctx, d.conv, x, w, bias, y);
  if (d.activation == Activation::None) return;
  ops.leaky_relu_forward(ctx, {.count = d.conv.y_count(), .alpha = activation_slope(d)}, y, y);
}

template <class T>
void append_typed(TypedOps<T>& ops) {
  append<conv2d_forward<T>>(ops.conv2d_forward);
  append<conv2d_backward_data<T>>(ops.conv2d_backward_data);
  append<conv2d_backward_filter<T>>(ops.conv2d_backward_filter);
  ops.conv2d_activation_forward.append({"composed", nullptr, conv2d_activation_composed<T>});
  append<batchnorm_forward<T>>(ops.batchnorm_forward);
  append<batchnorm_backward<T>>(ops.batchnorm_backward);
  append<batchnorm_inference<T>>(ops.batchnorm_inference);
  append<prelu_forward<T>>(ops.prelu_forward);
  append<prelu_backward<T>>(ops.prelu_backward);
  append<leaky_relu_forward<T>>(ops.leaky_relu_forward);
  append<leaky_relu_backward<T>>(ops.leaky_relu_backward);
  append<pixel_shuffle_forward<T>>(ops.pixel_shuffle_forward);
  append<pixel_shuffle_backward<T>>(ops.pixel_shuffle_backward);
  append<max_pool_forward<T>>(ops.max_pool_forward);
  append<max_pool_backward<T>>(ops.max_pool_backward);
  append<dense_forward<T>>(ops.dense_forward);
  append<dense_backward_data<T>>(ops.dense_backward_data);
  append<dense_backward_filter<T>>(ops.dense_backward_filter);
  append<add<T>>(ops.add);
  append<axpby<T>>(ops.axpby);
  append<scale<T>>(ops.scale);
  append<fill<T>>(ops.fill);
  append<channel_affine<T>>(ops.channel_affine);
  append<from_bytes<T>>(ops.from_bytes);
  append<to_bytes<T>>(ops.to_bytes);
  append<reduce<T>>(ops.reduce);
  append<mse_loss<T>>(ops.mse_loss);
  append<l1_loss<T>>(ops.l1_loss);
  append<bce_with_logits<T>>(ops.bce_with_logits);
  append<total_variation<T>>(ops.total_variation);
}

KernelTable make_table() {
  KernelTable table;
  table.name = "reference";
  table.memory = {.allocate = allocate,
                  .release = release,
                  .copy_to_device = copy,
                  .copy_to_host = copy,
                  .copy = copy,
                  .synchronize = synchronize};
  append_typed(table.f32);
  append_typed(table.bf16_ops);
  append<cast<float, bf16>>(table.cast_to_bf16);
  append<cast<bf16, float>>(table.cast_to_float);
  append<philox_uniform<float>>(table.philox_uniform);
  append<philox_normal<float>>(table.philox_normal);
  append<adam<AdamTensor, float>>(table.adam);
  composed::append(table);
  return table;
}

}  // namespace

const KernelTable& table() {
  static const KernelTable instance = make_table();
  return instance;
}

}  // namespace subpix::kernels::reference
