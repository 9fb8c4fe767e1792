// The kernels of the table `sim` against the reference, through the same calls that the engine
// makes.

#include <random>

#include "kernels/reference/table.h"
#include "kernels/sim/table.h"
#include "tests/sim/support.h"

namespace subpix::sim::test {
namespace {

using kernels::Context;
using kernels::ElementProblem;
using kernels::KernelTable;

/// A context of the simulated device and one of the reference.
struct Pair {
  Context device{kernels::sim::table(), kernels::sim::device_info()};
  Context host{kernels::reference::table(), {}};
};

std::vector<float> uniform(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> values(-1, 1);
  std::vector<float> v(n);
  for (float& x : v) x = values(random);
  return v;
}
template <class T>
std::vector<T> convert(const std::vector<float>& v) {
  std::vector<T> out;
  for (const float x : v) out.push_back(store<T>(x));
  return out;
}

/// |got - want| <= bound(want) for each element, NaN fails.
template <class T>
void check_close(const std::vector<T>& got, const std::vector<T>& want, float steps) {
  const float unit = sizeof(T) == 4 ? 0x1p-24f : 0x1p-9f;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const float g = to_float(got[i]), w = to_float(want[i]);
    INFO("element " << i << ": " << g << ", not " << w);
    REQUIRE(std::abs(g - w) <= steps * unit * (std::abs(w) + 2.0f));
  }
}

/// Every variant of an op, on counts that leave every kind of remainder, aligned and not.
template <class T, class Call, class Op>
void try_variants(Pair& p, const Op& op, ElementProblem problem, Call&& call) {
  for (const auto& variant : op.variants()) {
    p.device.override_variant(op.name(), variant.name);
    for (const kernels::Index count : {1, 3, 4, 7, 8, 1025, 5003})
      for (const std::size_t shift : {0, 1}) {
        INFO(op.name() << "/" << variant.name << " count " << count << " shift " << shift);
        problem.count = count;
        const auto n = static_cast<std::size_t>(count) + shift;
        call(problem, convert<T>(uniform(n, 1)), convert<T>(uniform(n, 2)), shift);
      }
    p.device.override_variant(op.name(), "");
  }
}

template <class T>
void compare_add(Pair& p) {
  const auto& op = p.device.table().typed<T>().add;
  try_variants<T>(
      p, op, {}, [&](const ElementProblem& e, const auto& a, const auto& b, std::size_t shift) {
        Buffer<T> da(a), db(b), dy(a.size());
        op(p.device, e, da.data() + shift, db.data() + shift, dy.data() + shift);
        std::vector<T> want(a.size()), got = dy.read();
        p.host.table().typed<T>().add(p.host, e, a.data() + shift, b.data() + shift,
                                      want.data() + shift);
        check_close<T>({got.begin() + static_cast<std::ptrdiff_t>(shift), got.end()},
                       {want.begin() + static_cast<std::ptrdiff_t>(shift), want.end()}, 1);
        if (shift) CHECK(std::isnan(to_float(got[0])));  // nothing before the view was written
        op(p.device, e, da.data() + shift, db.data() + shift, da.data() + shift);  // in place
        CHECK(std::memcmp(da.read().data() + shift, got.data() + shift,
                          static_cast<std::size_t>(e.count) * sizeof(T)) == 0);
      });
}

template <class T>
void compare_axpby(Pair& p, float alpha, float beta) {
  const auto& op = p.device.table().typed<T>().axpby;
  try_variants<T>(
      p, op, {.count = 0, .alpha = alpha, .beta = beta},
      [&](const ElementProblem& e, const auto& x, const auto& y, std::size_t shift) {
        Buffer<T> dx(x), dy(y.size());
        if (beta != 0) dy.write(y);  // else poison, which must not be read
        op(p.device, e, dx.data() + shift, dy.data() + shift);
        std::vector<T> want = y, got = dy.read();
        p.host.table().typed<T>().axpby(p.host, e, x.data() + shift, want.data() + shift);
        check_close<T>({got.begin() + static_cast<std::ptrdiff_t>(shift), got.end()},
                       {want.begin() + static_cast<std::ptrdiff_t>(shift), want.end()}, 3);
      });
}

}  // namespace

TEST_CASE("add matches the reference, every variant, under three schedules") {
  Pair p;
  under_schedules(
      [&] {
        compare_add<float>(p);
        compare_add<bf16>(p);
      },
      1);
}

TEST_CASE("axpby matches the reference, every variant, under three schedules") {
  Pair p;
  under_schedules(
      [&] {
        compare_axpby<float>(p, 0.7f, 0.3f);
        compare_axpby<float>(p, -2.0f, 0.0f);
        compare_axpby<bf16>(p, 0.7f, 0.3f);
        compare_axpby<bf16>(p, -2.0f, 0.0f);
      },
      1);
}

TEST_CASE("the table's memory functions") {
  Pair p;
  const kernels::MemoryOps& memory = p.device.table().memory;
  CHECK(std::string(p.device.table().name) == "sim");
  const std::vector<float> x = integers(100, 1);
  std::vector<float> back(100);
  void* a = memory.allocate(p.device, 400);
  void* b = memory.allocate(p.device, 400);
  CHECK(reinterpret_cast<std::uintptr_t>(a) % 64 == 0);
  memory.copy_to_device(p.device, a, x.data(), 400);
  memory.copy(p.device, b, a, 400);
  memory.copy_to_host(p.device, back.data(), b, 400);
  CHECK(back == x);
  memory.release(p.device, a, 400);
  memory.release(p.device, b, 400);
  memory.synchronize(p.device);
  CHECK(pending() == 0);
}

TEST_CASE("[check] 16-byte accesses of the elementwise kernels are whole", "[check]") {
  Pair p;
  const Scope scope({.count = true});
  Buffer<float> a(uniform(4096, 1)), b(uniform(4096, 2)), y(4096);
  k::wait_for();
  reset_stats();
  p.device.table().typed<float>().add(p.device, {.count = 4096}, a.data(), b.data(), y.data());
  k::wait_for();
  const AccessCounter loads = stats().total(AccessKind::GlobalLoad);
  const AccessCounter stores = stats().total(AccessKind::GlobalStore);
  CHECK(loads.requests == 2 * 32);  // 4096 floats by 32 lanes x 16 bytes, twice
  CHECK(loads.units == 2 * 32 * 16);
  CHECK(loads.units == loads.ideal);
  CHECK(stores.requests == 32);
  CHECK(stores.units == stores.ideal);
}

}  // namespace subpix::sim::test
