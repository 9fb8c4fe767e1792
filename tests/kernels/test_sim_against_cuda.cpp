// The same variants on the simulator and on the device must give the same bits wherever the result
// is exact, whatever the order of the sums: small integers, and batch norm of +1 and -1 with
// eps = 3, whose inv_std is 1/2. A difference is a layout that the simulator models wrongly, or a
// compiler's fault; rounding cannot explain it.

#include <cstring>

#include "kernels/sim/table.h"
#include "tests/kernels/cuda_device.h"
#include "tests/support/catch.h"
#include "tests/support/guarded.h"

namespace subpix::tests {

namespace {

using kernels::Conv2dProblem;
using kernels::DenseProblem;
using kernels::Filter;
using kernels::NormProblem;
using kernels::TypedOps;

// Contexts are never destroyed: after main the CUDA runtime may be gone.
kernels::Context& cuda() {
  static kernels::Context& ctx = *make_cuda_context().release();
  return ctx;
}
kernels::Context& sim() {
  static kernels::Context& ctx = *[] {
    kernels::DeviceInfo device = kernels::sim::device_info();
    device.tf32 = true;
    return new kernels::Context(kernels::sim::table(), device);
  }();
  return ctx;
}

/// The outputs of one variant, one after the other.
template <class Variant, class Problem, class Call>
Values run(kernels::Context& ctx, const Variant& variant, const Problem& problem, Call&& call) {
  poison_workspace(ctx);
  Buffers buffers(ctx);
  const Values got = call(buffers, [&](auto... args) { variant.run(ctx, problem, args...); });
  for (const std::string& damage : buffers.damages()) FAIL_CHECK(damage);
  return got;
}

/// Every variant that both tables have and both devices support.
template <class T, class Op, class Problem, class Call>
void same_bits(Op TypedOps<T>::*member, const Problem& problem, Call&& call) {
  problem.validate();
  kernels::Context& device = cuda();
  const Op& on_device = device.table().typed<T>().*member;
  const Op& simulated = sim().table().typed<T>().*member;
  int compared = 0;
  for (const auto& variant : on_device.variants())
    for (const auto& twin : simulated.variants()) {
      if (std::strcmp(variant.name, twin.name) != 0) continue;
      if (variant.supports && !variant.supports(problem, device.device())) continue;
      if (twin.supports && !twin.supports(problem, sim().device())) continue;
      INFO(on_device.name() << " [" << variant.name << "] " << problem.key());
      const Values want = run(sim(), twin, problem, call);
      const Values got = run(device, variant, problem, call);
      REQUIRE(got.size() == want.size());
      std::size_t different = 0, first = 0;
      for (std::size_t i = got.size(); i-- > 0;)
        if (std::memcmp(&got[i], &want[i], sizeof got[i]) != 0) {
          ++different;
          first = i;
        }
      if (different > 0)
        FAIL_CHECK(different << " of " << got.size() << " elements differ; element " << first
                             << " is " << got[first] << " on the device and " << want[first]
                             << " in the simulator");
      ++compared;
    }
  CHECK(compared > 0);
}

Values joined(Values a, const Values& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// Every technique has its own layout of fragments and tiles: real layers, borders, few channels,
/// chunks that are not full, both strides.
const std::vector<Conv2dProblem> kConvolutions = {
    // n, h, w, c, k, r, s, stride, pad
    {1, 1, 1, 1, 1, 3, 3, 1, 1},   {2, 6, 7, 3, 4, 3, 7, 2, 1},   {1, 6, 9, 3, 64, 9, 9, 1, 4},
    {1, 5, 6, 64, 3, 9, 9, 1, 4},  {1, 7, 9, 64, 64, 3, 3, 1, 1}, {1, 3, 5, 65, 33, 3, 3, 1, 1},
    {1, 5, 9, 40, 72, 3, 3, 1, 1}, {1, 8, 6, 64, 64, 3, 3, 2, 1}, {1, 3, 7, 128, 64, 3, 3, 1, 1},
};

template <class T>
void convolutions() {
  for (const Conv2dProblem& d : kConvolutions) {
    const std::string key = d.key();
    const Values x = fill_values<T>(Fill::Integers, d.x_count(), key, "x");
    const Values w = fill_values<T>(Fill::Integers, d.w_count(), key, "w");
    const Values dy = fill_values<T>(Fill::Integers, d.y_count(), key, "dy");
    const Values bias = fill_values<float>(Fill::Integers, d.k, key, "bias");
    same_bits<T>(&TypedOps<T>::conv2d_forward, d, [&](Buffers& b, auto&& call) {
      T* y = b.out<T>("y", d.y_count());
      call(b.in<T>("x", x), Filter<T>(b.in<T>("w", w)), b.in<float>("bias", bias), y);
      return b.read(y);
    });
    same_bits<T>(&TypedOps<T>::conv2d_backward_data, d, [&](Buffers& b, auto&& call) {
      T* dx = b.out<T>("dx", d.x_count());
      call(b.in<T>("dy", dy), Filter<T>(b.in<T>("w", w)), dx);
      return b.read(dx);
    });
    same_bits<T>(&TypedOps<T>::conv2d_backward_filter, d, [&](Buffers& b, auto&& call) {
      float* dw = b.out<float>("dw", d.w_count());
      float* db = b.out<float>("db", d.k);
      call(b.in<T>("x", x), b.in<T>("dy", dy), dw, db);
      return joined(b.read(dw), b.read(db));
    });
  }
}

template <class T>
void dense() {
  for (const DenseProblem& d : {DenseProblem{1, 1, 1}, DenseProblem{3, 67, 33},
                                DenseProblem{16, 512, 64}, DenseProblem{5, 1000, 1}}) {
    const std::string key = d.key();
    const Values x = fill_values<T>(Fill::Integers, d.n * d.in, key, "x");
    const Values w = fill_values<T>(Fill::Integers, d.out * d.in, key, "w");
    const Values dy = fill_values<T>(Fill::Integers, d.n * d.out, key, "dy");
    const Values bias = fill_values<float>(Fill::Integers, d.out, key, "bias");
    same_bits<T>(&TypedOps<T>::dense_forward, d, [&](Buffers& b, auto&& call) {
      T* y = b.out<T>("y", d.n * d.out);
      call(b.in<T>("x", x), Filter<T>(b.in<T>("w", w)), b.in<float>("bias", bias), y);
      return b.read(y);
    });
    same_bits<T>(&TypedOps<T>::dense_backward_data, d, [&](Buffers& b, auto&& call) {
      T* dx = b.out<T>("dx", d.n * d.in);
      call(b.in<T>("dy", dy), Filter<T>(b.in<T>("w", w)), dx);
      return b.read(dx);
    });
    same_bits<T>(&TypedOps<T>::dense_backward_filter, d, [&](Buffers& b, auto&& call) {
      float* dw = b.out<float>("dw", d.out * d.in);
      float* db = b.out<float>("db", d.out);
      call(b.in<T>("x", x), b.in<T>("dy", dy), dw, db);
      return joined(b.read(dw), b.read(db));
    });
  }
}

template <class T>
void batch_norms() {
  // A power of two of rows, so that means are exact too.
  for (const NormProblem& d : {NormProblem{2, 1, 3.0f}, NormProblem{64, 33, 3.0f},
                               NormProblem{512, 64, 3.0f}, NormProblem{4096, 8, 3.0f}}) {
    const std::string key = d.key();
    Values x(static_cast<std::size_t>(d.count()));
    for (Index row = 0; row < d.rows; ++row)
      for (Index c = 0; c < d.c; ++c)
        x[static_cast<std::size_t>(row * d.c + c)] = (row + c) % 2 == 0 ? 1.0 : -1.0;
    const Values dy = fill_values<T>(Fill::Integers, d.count(), key, "dy");
    const Values gamma = fill_values<float>(Fill::Integers, d.c, key, "gamma");
    const Values beta = fill_values<float>(Fill::Integers, d.c, key, "beta");
    const Values mean(static_cast<std::size_t>(d.c), 0.0), inv_std(mean.size(), 0.5);
    same_bits<T>(&TypedOps<T>::batchnorm_forward, d, [&](Buffers& b, auto&& call) {
      T* y = b.out<T>("y", d.count());
      float* m = b.out<float>("mean", d.c);
      float* i = b.out<float>("inv_std", d.c);
      float* none = nullptr;
      call(b.in<T>("x", x), b.in<float>("gamma", gamma), b.in<float>("beta", beta), y, m, i, none,
           none);
      return joined(joined(b.read(y), b.read(m)), b.read(i));
    });
    same_bits<T>(&TypedOps<T>::batchnorm_backward, d, [&](Buffers& b, auto&& call) {
      T* dx = b.out<T>("dx", d.count());
      float* dgamma = b.out<float>("dgamma", d.c);
      float* dbeta = b.out<float>("dbeta", d.c);
      call(b.in<T>("x", x), b.in<T>("dy", dy), b.in<float>("gamma", gamma),
           b.in<float>("mean", mean), b.in<float>("inv_std", inv_std), dx, dgamma, dbeta);
      return joined(joined(b.read(dx), b.read(dgamma)), b.read(dbeta));
    });
  }
}

}  // namespace

TEST_CASE("convolutions give the simulator's bits", "[cuda]") {
  SECTION("fp32") { convolutions<float>(); }
  SECTION("bf16") { convolutions<bf16>(); }
}

TEST_CASE("dense layers give the simulator's bits", "[cuda]") {
  SECTION("fp32") { dense<float>(); }
  SECTION("bf16") { dense<bf16>(); }
}

TEST_CASE("batch norms give the simulator's bits", "[cuda]") {
  SECTION("fp32") { batch_norms<float>(); }
  SECTION("bf16") { batch_norms<bf16>(); }
}

}  // namespace subpix::tests
