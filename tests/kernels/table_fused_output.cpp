#include "kernels/reference/activation.h"
#include "kernels/reference/conv2d.h"
#include "kernels/reference/shape_pool.h"
#include "tests/kernels/fused_data.h"
#include "tests/kernels/op_case.h"
#include "tests/support/problems.h"

// The fused ops that change what leaves a convolution: shuffled, pooled, unrounded. Data are exact,
// as in table_fused.cpp.
namespace subpix::tests {

namespace {

namespace reference = kernels::reference;
using kernels::Conv2dPoolProblem;
using kernels::Conv2dShuffleProblem;
using kernels::Filter;
using kernels::PReluShuffleProblem;
using kernels::TypedOps;

// --- shuffle and pool
// ------------------------------------------------------------------------------

template <class T>
void run_shuffle_forward(Report& report) {
  bool shared = false;
  for (const Conv2dProblem& conv : std::vector<Conv2dProblem>{{1, 12, 12, 64, 256, 3, 3, 1, 1},
                                                              {2, 5, 7, 64, 256, 3, 3, 1, 1},
                                                              {2, 4, 3, 8, 32, 3, 3, 1, 1},
                                                              {3, 5, 6, 72, 96, 3, 3, 1, 1},
                                                              {1, 6, 9, 136, 160, 5, 5, 1, 2},
                                                              {1, 5, 6, 3, 12, 3, 3, 1, 1},
                                                              {1, 1, 9, 16, 4, 5, 5, 1, 2}})
    for (const bool prelu : {true, false}) {
      shared = !shared;
      const Conv2dShuffleProblem d{conv, 2, prelu, prelu && shared};
      const Values x = fill_values<T>(Fill::Integers, conv.x_count(), d.key(), "x");
      const Values w = fill_values<T>(Fill::Integers, conv.w_count(), d.key(), "w");
      const Values bias = fill_values<float>(Fill::Integers, shared ? conv.k : 0, d.key(), "bias");
      const Values slope = chosen({0.25, 0.5},
                                  !prelu     ? 0
                                  : d.shared ? 1
                                             : d.channels(),
                                  d.key(), "slope");
      Values flat(at(conv.y_count())), z(flat.size()), y(flat.size());
      reference::conv2d_forward<double>(conv, x.data(), w.data(),
                                        bias.empty() ? nullptr : bias.data(), flat.data());
      const kernels::ShuffleProblem shuffle{conv.n, conv.p(), conv.q(), d.channels(), d.scale};
      reference::pixel_shuffle_forward<double>(shuffle, flat.data(), z.data());
      z = rounded_all<T>(z);
      const Dims dims = map_dims(conv.n, conv.p() * 2, conv.q() * 2, d.channels());
      std::vector<Expected> expected = {{"z", dims, z, exact(z)}};
      if (prelu) {
        reference::prelu_forward<double>({conv.y_count() / d.channels(), d.channels(), d.shared},
                                         z.data(), slope.data(), y.data());
        expected.push_back({"y", dims, y, exact(y)});
      }
      check_variants(report, &TypedOps<T>::conv2d_shuffle_forward, d, bias.empty() ? "" : "bias",
                     expected, [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                       T* out_z = buffers.out<T>("z", conv.y_count());
                       T* out_y = buffers.out<T>("y", prelu ? conv.y_count() : 0);
                       run(buffers.in<T>("x", x), Filter<T>(buffers.in<T>("w", w)),
                           buffers.in<float>("bias", bias), buffers.in<float>("slope", slope),
                           out_z, out_y);
                       std::vector<Values> got = {buffers.read(out_z)};
                       if (prelu) got.push_back(buffers.read(out_y));
                       return got;
                     });
    }
}

template <class T>
void run_prelu_shuffle_backward(Report& report) {
  for (const kernels::ShuffleProblem& shuffle : shuffle_problems())
    for (const bool shared : {false, true}) {
      const PReluShuffleProblem d{shuffle, shared};
      const Values z = fill_values<T>(Fill::Integers, shuffle.count(), d.key(), "z");
      const Values dy = fill_values<T>(Fill::Integers, shuffle.count(), d.key(), "dy");
      const Values slope = chosen({0.25, 0.5}, shared ? 1 : shuffle.c, d.key(), "slope");
      Values dz(z.size()), dx(z.size()), dslope(slope.size());
      reference::prelu_backward<double>({shuffle.count() / shuffle.c, shuffle.c, shared}, z.data(),
                                        dy.data(), slope.data(), dz.data(), dslope.data());
      reference::pixel_shuffle_backward<double>(shuffle, dz.data(), dx.data());
      const Dims dims =
          map_dims(shuffle.n, shuffle.h, shuffle.w, shuffle.scale * shuffle.scale * shuffle.c);
      check_variants(report, &TypedOps<T>::prelu_shuffle_backward, d, "",
                     {{"dx", dims, dx, exact(dx)},
                      {"dslope", {{"c", static_cast<Index>(slope.size())}}, dslope, exact(dslope)}},
                     [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                       T* out = buffers.out<T>("dx", shuffle.count());
                       float* out_slope =
                           buffers.out<float>("dslope", static_cast<Index>(slope.size()));
                       run(buffers.in<T>("z", z), buffers.in<T>("dy", dy),
                           buffers.in<float>("slope", slope), out, out_slope);
                       return {buffers.read(out), buffers.read(out_slope)};
                     });
    }
}

template <class T>
void run_pool_forward(Report& report) {
  bool odd = false;
  for (const Conv2dProblem& conv : std::vector<Conv2dProblem>{{1, 12, 12, 64, 64, 3, 3, 1, 1},
                                                              {2, 7, 9, 64, 128, 3, 3, 1, 1},
                                                              {1, 6, 6, 256, 256, 3, 3, 1, 1},
                                                              {3, 5, 7, 72, 40, 3, 3, 1, 1},
                                                              {1, 13, 6, 136, 104, 5, 5, 1, 2},
                                                              {5, 2, 3, 32, 32, 3, 3, 1, 1},
                                                              {1, 5, 4, 3, 6, 3, 3, 1, 1},
                                                              {1, 8, 6, 8, 16, 3, 3, 2, 1}}) {
    odd = !odd;
    const Conv2dPoolProblem d{conv};
    const kernels::PoolProblem pool = d.pool();
    const Values x = fill_values<T>(Fill::Integers, conv.x_count(), d.key(), "x");
    const Values w = fill_values<T>(Fill::Integers, conv.w_count(), d.key(), "w");
    const Values bias = fill_values<float>(Fill::Integers, odd ? conv.k : 0, d.key(), "bias");
    Values map(at(conv.y_count())), y(at(pool.y_count()));
    std::vector<std::uint8_t> which(y.size());
    reference::conv2d_forward<double>(conv, x.data(), w.data(),
                                      bias.empty() ? nullptr : bias.data(), map.data());
    for (double& v : map) v = v > 0.0 ? rounded<T>(v) : 0.0;
    reference::max_pool_forward<double>(pool, map.data(), y.data(), which.data());
    const Values places(which.begin(), which.end());
    const Dims dims = map_dims(pool.n, pool.p(), pool.q(), pool.c);
    check_variants(report, &TypedOps<T>::conv2d_pool_forward, d, odd ? "bias" : "",
                   {{"y", dims, y, exact(y)}, {"which", dims, places, exact(places)}},
                   [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                     T* out = buffers.out<T>("y", pool.y_count());
                     auto* out_which = buffers.out<std::uint8_t>("which", pool.y_count());
                     run(buffers.in<T>("x", x), Filter<T>(buffers.in<T>("w", w)),
                         buffers.in<float>("bias", bias), out, out_which);
                     return {buffers.read(out), buffers.read(out_which)};
                   });
  }
}

template <class T>
void run_max_pool_relu_backward(Report& report) {
  for (const kernels::PoolProblem& d : pool_problems()) {
    const Values y = chosen({0, 0, 1, 2, 3}, d.y_count(), d.key(), "y");
    const Values dy = fill_values<T>(Fill::Integers, d.y_count(), d.key(), "dy");
    const Values which = chosen({0, 1, 2, 3}, d.y_count(), d.key(), "which");
    Values masked = dy, dx(at(d.x_count()));
    for (std::size_t i = 0; i < y.size(); ++i)
      if (!(y[i] > 0.0)) masked[i] = 0.0;
    const std::vector<std::uint8_t> places(which.begin(), which.end());
    reference::max_pool_backward<double>(d, masked.data(), places.data(), dx.data());
    check_variants(report, &TypedOps<T>::max_pool_relu_backward, d, "",
                   {{"dx", map_dims(d.n, d.h, d.w, d.c), dx, exact(dx)}},
                   [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                     T* out = buffers.out<T>("dx", d.x_count());
                     run(buffers.in<T>("y", y), buffers.in<T>("dy", dy),
                         buffers.in<std::uint8_t>("which", which), out);
                     return {buffers.read(out)};
                   });
  }
}

// --- unrounded sums ---

void run_wide_forward(Report& report) {
  bool odd = false;
  for (const Conv2dProblem& d : std::vector<Conv2dProblem>{{1, 24, 24, 64, 3, 9, 9, 1, 4},
                                                           {2, 7, 9, 64, 3, 9, 9, 1, 4},
                                                           {1, 12, 14, 8, 3, 9, 9, 1, 4},
                                                           {3, 9, 11, 72, 1, 5, 5, 1, 2},
                                                           {1, 10, 13, 136, 4, 7, 7, 1, 3},
                                                           {1, 6, 9, 64, 2, 3, 3, 1, 1},
                                                           {1, 8, 10, 64, 4, 9, 9, 1, 4},
                                                           {1, 7, 5, 8, 10, 3, 3, 1, 1},
                                                           {1, 9, 7, 24, 40, 3, 3, 1, 1},
                                                           {1, 5, 6, 3, 5, 3, 3, 1, 1},
                                                           {1, 8, 7, 16, 24, 3, 3, 2, 1}}) {
    odd = !odd;
    for (const Fill fill : {Fill::Integers, Fill::Uniform}) {
      const Values x = fill_values<bf16>(fill, d.x_count(), d.key(), "x");
      const Values w = fill_values<bf16>(fill, d.w_count(), d.key(), "w");
      const Values bias = fill_values<float>(fill, odd ? d.k : 0, d.key(), "bias");
      const double* b = bias.empty() ? nullptr : bias.data();
      Values y(at(d.y_count())), magnitude = y;
      reference::conv2d_forward<double>(d, x.data(), w.data(), b, y.data());
      Expected expected{"y", y_dims(d), y, exact(y)};
      if (fill == Fill::Uniform) {
        const Values bias_magnitude = magnitudes(bias);
        reference::conv2d_forward<double>(d, magnitudes(x).data(), magnitudes(w).data(),
                                          b ? bias_magnitude.data() : nullptr, magnitude.data());
        const double roundings = growth(static_cast<double>(d.r * d.s * d.c + 1));
        for (std::size_t i = 0; i < y.size(); ++i)
          expected.bound[i] = allowed<float>(y[i], roundings, magnitude[i]);
        // Sums rounded to bf16 must not pass.
        report.check("conv2d_wide_forward " + d.key(),
                     prove<float>(expected, rounded_all<bf16>(y)));
      }
      check_variants(report, &kernels::KernelTable::conv2d_wide_forward, d, name(fill), {expected},
                     [&](Buffers& buffers, auto&& run) -> std::vector<Values> {
                       float* out = buffers.out<float>("y", d.y_count());
                       run(buffers.in<bf16>("x", x), Filter<bf16>(buffers.in<bf16>("w", w)),
                           buffers.in<float>("bias", bias), out);
                       return {buffers.read(out)};
                     });
    }
  }
}

template <class T>
void add_typed(std::vector<OpCase>& cases) {
  cases.push_back({typed_name<T>("conv2d_shuffle_forward"), run_shuffle_forward<T>});
  cases.push_back({typed_name<T>("prelu_shuffle_backward"), run_prelu_shuffle_backward<T>});
  cases.push_back({typed_name<T>("conv2d_pool_forward"), run_pool_forward<T>});
  cases.push_back({typed_name<T>("max_pool_relu_backward"), run_max_pool_relu_backward<T>});
}

}  // namespace

void add_fused_output_cases(std::vector<OpCase>& cases) {
  add_typed<float>(cases);
  add_typed<bf16>(cases);
  cases.push_back({"conv2d_wide_forward", run_wide_forward});
}

}  // namespace subpix::tests
