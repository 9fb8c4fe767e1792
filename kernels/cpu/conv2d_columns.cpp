#include <array>
#include <utility>

#include "kernels/api/kernels.h"
#include "kernels/cpu/filter.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/variants.h"

/// Convolutions with few outputs and a wide filter: the generator's 9x9 tail (64 to 3) forward, and
/// the data gradient of the first layers of discriminator and VGG (64 to 3 again).
///
/// Note [Column sums]
/// y[p,q,k] = sum_s T[p, q+s-left, (s,k)] with T[p,v,(s,k)] = sum_{r,c} x[p+r-top, v, c]
/// w[k,r,s,c]. T is a convolution with a filter of one column and S*K outputs, followed by S
/// shifted additions. Computed directly, 3 outputs use 3 of the 16 lanes of a register; S*K of them
/// fill the registers, and the arithmetic falls by almost S*K/16 (9x9, K = 3: from 81 to 9*2
/// registers of products per input channel). T is made a strip of rows at a time, so that it stays
/// in the cache and a large picture needs no large buffer. Every output is the same sum in the same
/// order whatever the strip.
namespace subpix::kernels::cpu {

namespace {

using onednn::ConvForm;
using onednn::ConvolutionForward;
using onednn::ConvShape;

constexpr Index kMaxOutputs = 8;
constexpr Index kStripBytes = 1 << 20;

/// A short vector for K outputs; a load may take along lanes that nobody reads.
template <int K>
struct OutputVector;
template <int K>
requires(K <= 4) struct OutputVector<K> {
  using type = float __attribute__((vector_size(16)));
};
template <int K>
requires(K > 4) struct OutputVector<K> {
  using type = float __attribute__((vector_size(32)));
};

/// y[q,k] = bias[k] + the S columns of T that meet in each pixel of one output row.
/// columns: [W, width] of this row; readable for kMaxOutputs floats beyond the last.
template <int K, class T>
void sum_columns(const ConvShape& d, const float* columns, Index width, const float* bias, T* y) {
  using Short = typename OutputVector<K>::type;
  Short start = {};
  if (bias)
    for (int k = 0; k < K; ++k) start[k] = bias[k];
  for (Index q = 0; q < d.q(); ++q) {
    const Index first = std::max<Index>(0, d.left - q);
    const Index last = std::min(d.s, d.w + d.left - q);
    Short sum = start;
    const float* from = columns + (q + first - d.left) * width + first * K;
    for (Index s = first; s < last; ++s, from += width + K) {
      Short term;
      std::memcpy(&term, from, sizeof term);
      sum += term;
    }
    for (int k = 0; k < K; ++k) y[q * K + k] = store<T>(sum[k]);
  }
}

template <class T>
using SumColumns = void (*)(const ConvShape&, const float*, Index, const float*, T*);

template <class T>
SumColumns<T> sum_columns_of(Index k) {
  static constexpr auto kSums = []<int... K>(std::integer_sequence<int, K...>) {
    return std::array<SumColumns<T>, sizeof...(K)>{sum_columns<K + 1, T>...};
  }
  (std::make_integer_sequence<int, kMaxOutputs>{});
  return kSums[static_cast<std::size_t>(k - 1)];
}

/// y = the stride-1 convolution of x by `shape`, with the filter of `d` in this column form.
template <class T>
void run(Context& ctx, const Conv2dProblem& d, const ConvShape& shape, FilterForm form, const T* x,
         const Filter<T>& w, const float* bias, T* y) {
  const Index P = shape.p(), Q = shape.q(), width = column_outputs(shape.s, shape.k);
  const Index row_bytes = shape.w * width * static_cast<Index>(sizeof(float));
  const Index rows = std::clamp<Index>(kStripBytes / row_bytes, 1, P);
  // Whole images are taken together where several fit.
  const Index images = rows == P ? std::clamp<Index>(kStripBytes / (row_bytes * P), 1, shape.n) : 1;

  const ConvForm what{.x = DTypeOf<T>::value, .w = DTypeOf<T>::value, .y = DType::F32};
  using Kept = Prepared<ConvolutionForward>;
  const SumColumns<T> sum = sum_columns_of<T>(shape.k);
  Workspace ws(ctx);
  float* columns =
      ws.take<float>(static_cast<std::size_t>(images * rows * shape.w * width + kMaxOutputs));
  for (Index n = 0; n < shape.n; n += images)
    for (Index p = 0; p < P; p += rows) {
      const Index strip_images = std::min(images, shape.n - n), strip_rows = std::min(rows, P - p);
      // Input rows of this strip; what lies outside the image becomes padding.
      const Index top = p - shape.top, bottom = top + strip_rows + shape.r - 1;
      const Index first = std::max<Index>(top, 0), last = std::min(bottom, shape.h);
      const ConvShape strip{.n = strip_images,
                            .h = last - first,
                            .w = shape.w,
                            .c = shape.c,
                            .k = width,
                            .r = shape.r,
                            .s = 1,
                            .stride = 1,
                            .top = first - top,
                            .left = 0,
                            .bottom = bottom - last,
                            .right = 0};
      Kept& prepared = cached<Kept>(
          ctx,
          "onednn/columns/" + strip.key() + what.key() + std::to_string(static_cast<int>(form)),
          [&] {
            return std::make_shared<Kept>(ConvolutionForward(strip, what),
                                          formed(form, d, DTypeOf<T>::value));
          });
      Workspace strip_ws(ctx);
      std::byte* scratch = strip_ws.take<std::byte>(prepared.scratch_bytes());
      const onednn::memory& filter = packed_filter(ctx, strip_ws, d, form, w, prepared, scratch);
      prepared.convolution(x + (n * shape.h + first) * shape.w * shape.c, filter, nullptr, columns,
                           scratch);
      parallel_ranges(strip_images * strip_rows, shape.w * width, [&](Range own) {
        for (Index row = own.begin; row < own.end; ++row) {
          const Index image = n + row / strip_rows, out = p + row % strip_rows;
          sum(shape, columns + row * shape.w * width, width, bias,
              y + (image * P + out) * Q * shape.k);
        }
      });
    }
}

template <class T>
void forward(Context& ctx, const Conv2dProblem& d, const T* x, Filter<T> w, const float* bias,
             T* y) {
  run(ctx, d, onednn::shape_of(d), FilterForm::Columns, x, w, bias, y);
}

template <class T>
void backward_data(Context& ctx, const Conv2dProblem& d, const T* dy, Filter<T> w, T* dx) {
  run(ctx, d, onednn::transposed(d), FilterForm::TurnedColumns, dy, w, nullptr, dx);
}

/// The columns must at least halve the registers of products, and the inputs must be enough to pay
/// for writing and reading T.
bool pays(const ConvShape& d) {
  constexpr Index kLeastInputs = 16, kRegister = 16;
  return d.stride == 1 && d.k <= kMaxOutputs && d.c >= kLeastInputs &&
         2 * column_outputs(d.s, d.k) <= d.s * kRegister;
}

bool pays_forward(const Conv2dProblem& d, const DeviceInfo&) { return pays(onednn::shape_of(d)); }
bool pays_backward_data(const Conv2dProblem& d, const DeviceInfo&) {
  return d.stride == 1 && pays(onednn::transposed(d));
}

template <class T>
void add_typed(TypedOps<T>& ops) {
  ops.conv2d_forward.prepend({"column_sum", pays_forward, forward<T>});
  ops.conv2d_backward_data.prepend({"column_sum", pays_backward_data, backward_data<T>});
}

}  // namespace

void add_conv2d_columns(KernelTable& table) {
  add_typed(table.f32);
  if (onednn::has_bf16()) add_typed(table.bf16_ops);
}

}  // namespace subpix::kernels::cpu
