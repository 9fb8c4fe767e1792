#include <cstring>

#include "kernels/api/context_objects.h"
#include "kernels/reference/table.h"
#include "tests/support/catch.h"
#include "tests/support/fill.h"

#ifdef __SANITIZE_ADDRESS__
// Requests that no machine can serve are part of these tests; the sanitizer must refuse them like
// malloc.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }
#endif

namespace subpix::tests {

namespace {

using namespace kernels;
using Catch::Matchers::Contains;

/// Host memory that counts. Function pointers carry no state, so the counters are static.
struct Counter {
  static inline int allocations = 0;
  static inline std::size_t held = 0;
  static void* allocate(Context& ctx, std::size_t bytes) {
    ++allocations;
    held += bytes;
    return reference::table().memory.allocate(ctx, bytes);
  }
  static void release(Context& ctx, void* data, std::size_t bytes) {
    held -= bytes;
    reference::table().memory.release(ctx, data, bytes);
  }
};

void run_first(Context&, const ElementProblem&, float* y) { *y = 1; }
void run_second(Context&, const ElementProblem&, float* y) { *y = 2; }
void run_third(Context&, const ElementProblem&, float* y) { *y = 3; }

/// reference's table with counted memory, and three variants of fill/f32 to choose from.
KernelTable make_table() {
  KernelTable table = reference::table();
  table.name = "test";
  table.memory.allocate = Counter::allocate;
  table.memory.release = Counter::release;
  table.f32.fill.replace({
      {"small", [](const ElementProblem& d, const DeviceInfo&) { return d.count <= 4; }, run_first},
      {"threads", [](const ElementProblem&, const DeviceInfo& i) { return i.threads > 1; },
       run_second},
      {"any", nullptr, run_third},
  });
  return table;
}

/// Which of the three variants a call runs.
float chosen(Context& ctx, Index count) {
  float y = 0;
  ctx.table().f32.fill(ctx, {.count = count}, &y);
  return y;
}

}  // namespace

TEST_CASE("a workspace gives aligned, separate memory that nested scopes reuse",
          "[kernels][workspace]") {
  const KernelTable table = make_table();
  Context ctx(table, {});
  Counter::allocations = 0;
  std::byte *outer = nullptr, *inner = nullptr;
  {
    Workspace a(ctx);
    outer = a.take<std::byte>(100);
    auto* floats = a.take<float>(3);
    CHECK(reinterpret_cast<std::uintptr_t>(outer) % 64 == 0);
    CHECK(reinterpret_cast<std::uintptr_t>(floats) % 64 == 0);
    CHECK(reinterpret_cast<std::byte*>(floats) >= outer + 100);
    std::memset(outer, 1, 100);
    std::memset(floats, 2, 12);
    {
      Workspace b(ctx);
      inner = b.take<std::byte>(1000);
      CHECK(inner >= reinterpret_cast<std::byte*>(floats) + 12);
      std::memset(inner, 3, 1000);
    }
    {
      Workspace c(ctx);
      CHECK(c.take<std::byte>(10) == inner);
    }
    for (int i = 0; i < 100; ++i) REQUIRE(outer[i] == std::byte{1});
    // An empty request has an address of its own too.
    CHECK(a.take<float>(0) != a.take<float>(0));
  }
  {
    Workspace again(ctx);
    CHECK(again.take<std::byte>(10) == outer);
  }
  CHECK(Counter::allocations == 1);
}

TEST_CASE("the workspace arena grows to the largest need and then allocates no more",
          "[kernels][workspace]") {
  const KernelTable table = make_table();
  Counter::allocations = 0;
  Counter::held = 0;
  {
    Context ctx(table, {});
    CHECK(ctx.workspace_bytes() == 0);
    constexpr std::size_t kMiB = std::size_t{1} << 20;
    const auto step = [&](std::size_t first, std::size_t second) {
      Workspace a(ctx);
      std::memset(a.take<std::byte>(first), 1, first);
      Workspace b(ctx);
      std::memset(b.take<std::byte>(second), 1, second);
    };
    step(kMiB, 2 * kMiB);
    step(kMiB, 2 * kMiB);
    step(5 * kMiB, 3 * kMiB);
    step(5 * kMiB, 3 * kMiB);
    const int allocations = Counter::allocations;
    for (int i = 0; i < 3; ++i) {
      step(kMiB, kMiB);
      step(5 * kMiB, 3 * kMiB);
      step(3 * kMiB, 5 * kMiB);
    }
    CHECK(Counter::allocations == allocations);
    CHECK(ctx.workspace_bytes() == 8 * kMiB);
    CHECK(Counter::held == ctx.workspace_bytes());
    ctx.trim_workspace();
    CHECK(Counter::held == 0);
    step(kMiB, kMiB);  // two chunks, which the next scope merges
    step(kMiB, kMiB);
    CHECK(Counter::held == 2 * kMiB);
    const Workspace open(ctx);
    CHECK_THROWS_WITH(ctx.trim_workspace(), Contains("in use"));
  }
  CHECK(Counter::held == 0);
}

TEST_CASE("a workspace refuses misuse and survives failure", "[kernels][workspace]") {
  const KernelTable table = make_table();
  Context ctx(table, {});
  {
    Workspace a(ctx);
    Workspace b(ctx);
    CHECK_THROWS_WITH(a.take<float>(1), Contains("outer Workspace"));
    CHECK_NOTHROW(b.take<float>(1));
    CHECK_THROWS_AS(b.take<double>(~std::size_t{0}), Error);
    // More than any machine has: the message names the size.
    CHECK_THROWS_WITH(b.take<std::byte>(std::size_t{1} << 60), Contains("1152921504606846976"));
    CHECK_NOTHROW(b.take<float>(1));
  }
  Workspace after(ctx);
  CHECK_NOTHROW(after.take<float>(1));
}

TEST_CASE("the first supported variant runs, unless a plan or an override chooses",
          "[kernels][selection]") {
  const KernelTable table = make_table();
  Context ctx(table, {.threads = 2});
  CHECK(chosen(ctx, 4) == 1);
  CHECK(chosen(ctx, 5) == 2);
  Context single(table, {.threads = 1});
  CHECK(chosen(single, 5) == 3);

  CHECK_FALSE(ctx.has_choices());
  ctx.plan_variant("fill/f32", "count5", "any");
  CHECK(ctx.has_choices());
  CHECK(chosen(ctx, 5) == 3);
  CHECK(chosen(ctx, 6) == 2);  // the plan names one problem
  ctx.plan_variant("fill/f32", "count6", "small");
  CHECK(chosen(ctx, 6) == 2);  // a planned variant that cannot is passed over
  ctx.plan_variant("fill/f32", "count6", "of an older build");
  CHECK(chosen(ctx, 6) == 2);

  ctx.override_variant("fill/f32", "threads");
  CHECK(chosen(ctx, 4) == 2);
  CHECK(chosen(ctx, 5) == 2);  // over the plan
  ctx.override_variant("fill/f32", "");
  CHECK(chosen(ctx, 5) == 3);
}

TEST_CASE("a forced variant that cannot run is an error that names the choice",
          "[kernels][selection]") {
  const KernelTable table = make_table();
  Context ctx(table, {});
  ctx.override_variant("fill/f32", "small");
  CHECK(chosen(ctx, 4) == 1);
  CHECK_THROWS_AS(chosen(ctx, 5), InputError);
  CHECK_THROWS_WITH(chosen(ctx, 5), Contains("small") && Contains("fill/f32") &&
                                        Contains("count5") && Contains("small, threads, any"));
  CHECK_THROWS_AS(ctx.override_variant("fill/f32", "fastest"), InputError);
  CHECK_THROWS_WITH(ctx.override_variant("fill/f32", "fastest"),
                    Contains("no variant 'fastest'") && Contains("small, threads, any"));
  CHECK_THROWS_WITH(ctx.override_variant("fil/f32", "small"), Contains("no op 'fil/f32'"));

  KernelTable empty = table;
  empty.f32.fill.replace({});
  Context none(empty, {});
  CHECK_THROWS_WITH(chosen(none, 5), Contains("no variant of fill/f32 supports count5"));
}

TEST_CASE("the trace sees op, variant and key of each call, of composed parts too",
          "[kernels][selection]") {
  Context ctx(reference::table(), {});
  std::vector<std::string> calls;
  set_trace(ctx, [&](const char* op, const char* variant, const std::string& key) {
    calls.push_back(concat(op, " ", variant, " ", key));
  });
  const Conv2dActivationProblem d{{1, 2, 2, 1, 1, 1, 1, 1, 0}, Activation::LeakyRelu, 0.5f};
  const std::vector<float> x = {1, -2, 3, -4}, w = {2};
  std::vector<float> y(4);
  ctx.table().f32.conv2d_activation_forward(ctx, d, x.data(), w.data(), nullptr, y.data());
  CHECK(y == std::vector<float>{2, -2, 6, -4});
  CHECK(calls == std::vector<std::string>{
                     "conv2d_activation_forward/f32 composed n1h2w2c1k1r1s1st1p0leaky0.5",
                     "conv2d_forward/f32 reference n1h2w2c1k1r1s1st1p0",
                     "leaky_relu_forward/f32 reference count4"});
}

TEST_CASE("a composed op is made of its own backend's ops", "[kernels][selection]") {
  KernelTable table = reference::table();
  table.f32.conv2d_forward.replace(
      {{"sevens", nullptr,
        [](Context&, const Conv2dProblem& d, const float*, Filter<float>, const float*, float* y) {
          for (Index i = 0; i < d.y_count(); ++i) y[i] = -7;
        }}});
  Context ctx(table, {});
  const std::vector<float> x(4), w(1);
  std::vector<float> y(4);
  const Conv2dActivationProblem d{{1, 2, 2, 1, 1, 1, 1, 1, 0}, Activation::Relu};
  table.f32.conv2d_activation_forward(ctx, d, x.data(), w.data(), nullptr, y.data());
  CHECK(y == std::vector<float>{0, 0, 0, 0});
  const Conv2dActivationProblem none{d.conv, Activation::None};
  table.f32.conv2d_activation_forward(ctx, none, x.data(), w.data(), nullptr, y.data());
  CHECK(y == std::vector<float>{-7, -7, -7, -7});
}

TEST_CASE("cached objects are made once, derived ones until their storage is forgotten",
          "[kernels][context]") {
  const KernelTable table = make_table();
  int alive = 0;
  struct Object {
    int* alive;
    int value;
    Object(int* a, int v) : alive(a), value(v) { ++*alive; }
    ~Object() { --*alive; }
    Object(const Object&) = delete;
    Object& operator=(const Object&) = delete;
  };
  {
    Context ctx(table, {});
    const auto make = [&](int v) {
      return [&alive, v] { return std::make_shared<Object>(&alive, v); };
    };
    CHECK(cached<Object>(ctx, "a", make(1)).value == 1);
    CHECK(cached<Object>(ctx, "a", make(2)).value == 1);
    CHECK(cached<Object>(ctx, "b", make(2)).value == 2);
    CHECK(alive == 2);
    CHECK(derived(ctx, 7, "layout") == nullptr);
    derived(ctx, 7, "layout") = std::make_shared<Object>(&alive, 3);
    derived(ctx, 8, "layout") = std::make_shared<Object>(&alive, 4);
    CHECK(alive == 4);
    ctx.forget(7);
    CHECK(alive == 3);
    CHECK(derived(ctx, 7, "layout") == nullptr);
    CHECK(static_cast<Object*>(derived(ctx, 8, "layout").get())->value == 4);
    ctx.forget(99);
  }
  CHECK(alive == 0);
}

TEST_CASE("reference memory is aligned and says how much could not be had", "[kernels][context]") {
  Context ctx(reference::table(), {});
  const MemoryOps& memory = ctx.table().memory;
  for (const std::size_t bytes : {0u, 1u, 63u, 64u, 65u, 1000000u}) {
    void* data = memory.allocate(ctx, bytes);
    REQUIRE(data != nullptr);
    CHECK(reinterpret_cast<std::uintptr_t>(data) % 64 == 0);
    std::memset(data, 1, bytes);
    memory.release(ctx, data, bytes);
  }
  const std::size_t bytes = std::size_t{1} << 50;
  CHECK_THROWS_AS(memory.allocate(ctx, bytes), InputError);
  CHECK_THROWS_WITH(memory.allocate(ctx, bytes), Contains("1073741824 MiB"));
  CHECK_THROWS_AS(memory.allocate(ctx, ~std::size_t{0}), InputError);

  const std::vector<int> numbers = {1, 2, 3};
  std::vector<int> back(3);
  void* a = memory.allocate(ctx, 12);
  void* b = memory.allocate(ctx, 12);
  memory.copy_to_device(ctx, a, numbers.data(), 12);
  memory.copy(ctx, b, a, 12);
  memory.synchronize(ctx);
  memory.copy_to_host(ctx, back.data(), b, 12);
  CHECK(back == numbers);
  memory.copy(ctx, nullptr, nullptr, 0);
  memory.release(ctx, a, 12);
  memory.release(ctx, b, 12);
}

}  // namespace subpix::tests
