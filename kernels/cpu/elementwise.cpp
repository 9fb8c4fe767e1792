#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/api/kernels.h"
#include "kernels/cpu/channel_sums.h"
#include "kernels/cpu/variants.h"

/// Ops on each element alone, casts, and reductions of a whole tensor.
namespace subpix::kernels::cpu {

namespace {

template <class T>
void add(Context&, const ElementProblem& d, const T* a, const T* b, T* y) {
  for_each_register(d.count, [=](Index i, Index lanes) {
    save(y + i, load(a + i, lanes) + load(b + i, lanes), lanes);
  });
}

template <class T>
void axpby(Context&, const ElementProblem& d, const T* x, T* y) {
  const float alpha = d.alpha, beta = d.beta;
  if (beta == 0.0f) {  // y may hold anything, also NaN
    for_each_register(
        d.count, [=](Index i, Index lanes) { save(y + i, alpha * load(x + i, lanes), lanes); });
    return;
  }
  for_each_register(d.count, [=](Index i, Index lanes) {
    save(y + i, alpha * load(x + i, lanes) + beta * load(y + i, lanes), lanes);
  });
}

template <class T>
void scale(Context&, const ElementProblem& d, const T* x, const float* s, T* y) {
  const float factor = s ? d.alpha * *s : d.alpha;
  for_each_register(d.count,
                    [=](Index i, Index lanes) { save(y + i, factor * load(x + i, lanes), lanes); });
}

template <class T>
void fill(Context&, const ElementProblem& d, T* y) {
  const T value = store<T>(d.alpha);
  parallel_ranges(d.count, 1, [=](Range own) { std::fill_n(y + own.begin, own.size(), value); });
}

template <class T>
void channel_affine(Context&, const ChannelProblem& d, const T* x, const float* factor,
                    const float* shift, T* y) {
  if (d.c < kLanes) {  // images: a register spans several pixels
    parallel_ranges(d.rows, d.c, [=](Range own) {
      for (Index i = own.begin; i < own.end; ++i)
        for (Index j = 0; j < d.c; ++j)
          y[i * d.c + j] =
              store<T>(to_float(x[i * d.c + j]) * factor[j] + (shift ? shift[j] : 0.0f));
    });
    return;
  }
  for_each_channel(d.rows, d.c, [=](Index i, Index j, Index lanes) {
    const Vec scaled = load(x + i, lanes) * load(factor + j, lanes);
    save(y + i, shift ? scaled + load(shift + j, lanes) : scaled, lanes);
  });
}

/// Bytes go through double, so that the result is the correctly rounded one on every backend.
template <class T>
void from_bytes(Context&, const ElementProblem& d, const std::uint8_t* x, T* y) {
  T values[256];
  for (int byte = 0; byte < 256; ++byte)
    values[byte] = store<T>(static_cast<double>(d.alpha) * byte + static_cast<double>(d.beta));
  parallel_ranges(d.count, 1, [=, &values](Range own) {
    for (Index i = own.begin; i < own.end; ++i) y[i] = values[x[i]];
  });
}

template <class T>
void to_bytes(Context&, const ElementProblem& d, const T* x, std::uint8_t* y) {
  const double alpha = d.alpha, beta = d.beta;
  parallel_ranges(d.count, 1, [=](Range own) {
    for (Index i = own.begin; i < own.end; ++i) {
      const double v = std::floor(alpha * static_cast<double>(to_float(x[i])) + beta + 0.5);
      const double low = v > 0.0 ? v : 0.0;  // a NaN is not above 0
      y[i] = static_cast<std::uint8_t>(static_cast<int>(low < 255.0 ? low : 255.0));
    }
  });
}

/// y = the sum over the parts of partial(range), which is double; parts in order.
template <class Partial>
double sum_of_parts(Context& ctx, Index count, Partial&& partial) {
  const int parts = part_count(count);
  Workspace ws(ctx);
  double* sums = ws.take<double>(static_cast<std::size_t>(parts));
  parallel_parts(parts, [&](int part) { sums[part] = partial(part_range(count, part, parts)); });
  double sum = 0.0;
  for (int part = 0; part < parts; ++part) sum += sums[part];
  return sum;
}

template <class T>
void reduce(Context& ctx, const ReduceProblem& d, const T* x, float* y) {
  const auto sum = [&](auto term) {
    *y = static_cast<float>(sum_of_parts(ctx, d.count, [&](Range own) {
      double total = 0.0;
#pragma omp simd reduction(+ : total)
      for (Index i = own.begin; i < own.end; ++i) total += term(to_float(x[i]));
      return total;
    }));
  };
  switch (d.reduction) {
    case Reduction::Sum:
      return sum([](float v) { return static_cast<double>(v); });
    case Reduction::SumSquares:
      return sum([](float v) { return static_cast<double>(v) * static_cast<double>(v); });
    case Reduction::CountNonFinite:
      // x - x is 0 for every finite x and NaN for the others.
      return sum([](float v) { return v - v == 0.0f ? 0.0 : 1.0; });
    case Reduction::MaxAbs:
      break;
  }
  const int parts = part_count(d.count);
  Workspace ws(ctx);
  float* most = ws.take<float>(static_cast<std::size_t>(parts));
  // Magnitudes order like their bits, and a NaN's are above all others: one integer maximum does
  // both.
  parallel_parts(parts, [&](int part) {
    const Range own = part_range(d.count, part, parts);
    std::uint32_t top = 0;
#pragma omp simd reduction(max : top)
    for (Index i = own.begin; i < own.end; ++i)
      top = std::max(top, std::bit_cast<std::uint32_t>(to_float(x[i])) & 0x7fffffffu);
    most[part] = std::bit_cast<float>(top);
  });
  std::uint32_t top = 0;
  for (int part = 0; part < parts; ++part)
    top = std::max(top, std::bit_cast<std::uint32_t>(most[part]));
  *y = std::bit_cast<float>(top);
}

template <class From, class To>
void cast(Context&, const ElementProblem& d, const From* x, To* y) {
  for_each_register(d.count, [=](Index i, Index lanes) { save(y + i, load(x + i, lanes), lanes); });
}

template <class T>
void add_typed(TypedOps<T>& ops) {
  ops.add.prepend({"simd", nullptr, add<T>});
  ops.axpby.prepend({"simd", nullptr, axpby<T>});
  ops.scale.prepend({"simd", nullptr, scale<T>});
  ops.fill.prepend({"openmp", nullptr, fill<T>});
  ops.channel_affine.prepend({"simd", nullptr, channel_affine<T>});
  ops.from_bytes.prepend({"openmp", nullptr, from_bytes<T>});
  ops.to_bytes.prepend({"openmp", nullptr, to_bytes<T>});
  ops.reduce.prepend({"openmp", nullptr, reduce<T>});
}

}  // namespace

void add_elementwise(KernelTable& table) {
  add_typed(table.f32);
  add_typed(table.bf16_ops);
  table.cast_to_bf16.prepend({"simd", nullptr, cast<float, bf16>});
  table.cast_to_float.prepend({"simd", nullptr, cast<bf16, float>});
}

}  // namespace subpix::kernels::cpu
