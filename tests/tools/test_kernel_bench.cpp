// kernel_bench's parts: when a measurement ends, what may be claimed, what counts as wrong, which
// calls are chosen.

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/core/device.h"
#include "kernels/reference/table.h"
#include "tests/support/catch.h"
#include "tools/bench/cases_list.h"
#include "tools/bench/ceilings.h"
#include "tools/bench/runner.h"
#include "tools/bench/selection.h"

namespace subpix::tools::bench {

using kernels::Context;
using kernels::Conv2dProblem;
using kernels::DeviceInfo;
using kernels::KernelTable;

namespace {

const StopRule kQuick = {.spread = 0.5, .seconds = 0.01, .least = 6};

BenchCase forward_case(const Conv2dProblem& d) {
  CaseList list;
  add_conv2d<float>(list, d, {.data = false, .filter = false});
  return list.take().front();
}

/// The reference's table with one more variant of conv2d_forward in front.
KernelTable with_variant(const char* name,
                         void (*run)(Context&, const Conv2dProblem&, const float*,
                                     kernels::Filter<float>, const float*, float*)) {
  KernelTable table = kernels::reference::table();
  table.f32.conv2d_forward.prepend({name, nullptr, run});
  return table;
}

int calls_of_wrong = 0;
void wrong_in_one_place(Context& ctx, const Conv2dProblem& d, const float* x,
                        kernels::Filter<float> w, const float* bias, float* y) {
  ++calls_of_wrong;
  kernels::reference::table().f32.conv2d_forward(ctx, d, x, w, bias, y);
  y[17] += 1.0f;
}
void half_written(Context&, const Conv2dProblem& d, const float*, kernels::Filter<float>,
                  const float*, float* y) {
  for (Index i = 0; i < d.y_count() / 2; ++i) y[i] = 0.0f;
}
void refuses(Context&, const Conv2dProblem&, const float*, kernels::Filter<float>, const float*,
             float*) {
  throw InputError("out of device memory: 3 GB wanted, 1 GB free");
}

Series series(std::vector<double> us) { return series_of(std::move(us), {}); }

}  // namespace

TEST_CASE("the median's interval holds its order statistics") {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  // 100 samples: ranks 40 and 61 (binomial, 95 %).
  const Interval i = median_interval(values);
  CHECK(i.low == 41.0);
  CHECK(i.high == 60.0);
  CHECK(median_interval({3.0}).low == 3.0);
  CHECK_THROWS_AS(median_interval({}), Error);
}

TEST_CASE("a ratio is claimed only where the medians can be told apart") {
  std::vector<double> near, apart, wide;
  for (int i = 0; i < 50; ++i) {
    near.push_back(100.0 + i % 10);
    apart.push_back(200.0 + i % 10);
    wide.push_back(i % 2 ? 80.0 : 140.0);
  }
  const Ratio clear = ratio_of(series(near), series(apart));
  CHECK(clear.claim);
  CHECK(clear.value < 0.53);
  CHECK(clear.low <= clear.value);
  CHECK(clear.high >= clear.value);
  CHECK_FALSE(ratio_of(series(near), series(wide)).claim);
  CHECK_FALSE(ratio_of(series(near), series(near)).claim);
  CHECK_FALSE(ratio_of(series({1, 1, 1, 1, 1}), series(near)).claim);  // too few to know
}

TEST_CASE("contenders take turns forwards and backwards until both have settled") {
  std::string order;
  const std::vector<Series> s = interleave({[&] {
                                              order += 'A';
                                              return 1.0;
                                            },
                                            [&] {
                                              order += 'B';
                                              return 2.0;
                                            }},
                                           {.spread = 0.01, .seconds = 100.0, .least = 5});
  CHECK(order == "ABBAABBAAB");
  CHECK(s[0].settled);
  CHECK(s[1].spread.median == 2.0);

  // Noise that never settles ends with the time, and says so.
  int n = 0;
  const Series noisy =
      interleave({[&] { return ++n % 2 ? 1.0 : 3.0; }}, {.spread = 0.01, .seconds = 0.02}).front();
  CHECK_FALSE(noisy.settled);
  CHECK(noisy.us.size() >= 11);
}

TEST_CASE("a wrong variant is named with its first wrong element and never timed") {
  const BenchCase c = forward_case({1, 5, 6, 3, 4, 3, 3, 1, 1});
  const KernelTable table = with_variant("wrong", wrong_in_one_place);
  Context ctx(table, DeviceInfo{}), reference(kernels::reference::table(), DeviceInfo{});
  Runner runner({"test", ctx}, {"reference", reference}, {.rule = kQuick});
  calls_of_wrong = 0;
  const Result r = runner.run(c, "wrong");
  CHECK(r.status == Status::Wrong);
  CHECK(r.note.find("y[17]") != std::string::npos);
  CHECK_FALSE(r.times);
  CHECK(calls_of_wrong == 1);
  CHECK(r.oracle == "reference reference");

  const Result right = runner.run(c, "reference");
  CHECK(right.status == Status::Measured);
  REQUIRE(right.times);
  CHECK(right.times->cold.spread.median > 0.0);
}

TEST_CASE("an output that is not written is wrong, a lack of memory is told") {
  const BenchCase c = forward_case({1, 5, 6, 3, 4, 3, 3, 1, 1});
  Context reference(kernels::reference::table(), DeviceInfo{});
  const KernelTable half = with_variant("half", half_written);
  Context ctx(half, DeviceInfo{});
  CHECK(Runner({"test", ctx}, {"reference", reference}, {.rule = kQuick}).run(c, "half").status ==
        Status::Wrong);
  const KernelTable no_memory = with_variant("large", refuses);
  Context other(no_memory, DeviceInfo{});
  const Result r =
      Runner({"test", other}, {"reference", reference}, {.rule = kQuick}).run(c, "large");
  CHECK(r.status == Status::NoMemory);
  CHECK(r.note.find("3 GB") != std::string::npos);
}

TEST_CASE("a rival that is wrong or missing leaves our own times") {
  const BenchCase c = forward_case({1, 5, 6, 3, 4, 3, 3, 1, 1});
  Context ctx(kernels::reference::table(), DeviceInfo{}),
      reference(kernels::reference::table(), DeviceInfo{});
  const KernelTable table = with_variant("wrong", wrong_in_one_place);
  Context theirs(table, DeviceInfo{});
  Runner runner({"test", ctx}, {"reference", reference}, {.rule = kQuick});
  const Bench rival{"rival", theirs};
  const Result wrong = runner.run(c, "reference", &rival);
  CHECK(wrong.times);
  REQUIRE(wrong.rivals.size() == 1);
  CHECK(wrong.rivals[0].note.find("WRONG") != std::string::npos);
  CHECK_FALSE(wrong.rivals[0].times);
  const Result missing = runner.run(c, "reference", &rival, "absent");
  CHECK(missing.rivals[0].note.find("no variant absent") != std::string::npos);
  const Result fair = runner.run(c, "reference", &rival, "reference");
  REQUIRE(fair.rivals[0].times);
  CHECK(fair.rivals[0].kind == "same");
}

TEST_CASE("contenders of one context keep their graphs' scratch memory apart") {
  const std::vector<std::string> built = engine::available_backends();
  if (std::find(built.begin(), built.end(), "sim") == built.end()) return;
  const auto device = engine::Device::open("sim");
  Context reference(kernels::reference::table(), DeviceInfo{});
  const Bench bench{"sim", device->context()};
  Runner runner(bench, {"reference", reference},
                {.rule = {.spread = 1.0, .seconds = 0.0001, .least = 1}});
  CaseList list;
  add_conv2d<bf16>(list, {2, 9, 11, 64, 64, 3, 3, 1, 1}, {.forward = false, .data = false});
  const BenchCase c = list.take().front();
  const std::vector<std::string> variants = c.variants(device->context());
  REQUIRE(variants.size() >= 2);
  const Result r = runner.run(c, variants[0], &bench, variants[1]);
  INFO(r.note);
  CHECK(r.status == Status::Measured);
  REQUIRE(r.rivals.size() == 1);
  INFO(r.rivals[0].note);
  CHECK(r.rivals[0].times);
  CHECK(device->context().workspace_bytes() == 0);  // nothing of theirs is left in the context
}

TEST_CASE("results are compared within the roundings of their sums") {
  const auto one = [](double terms, std::vector<double> values) {
    return std::vector<Output>{{"y", DType::F32, terms, std::move(values)}};
  };
  CHECK(compare(one(0, {1, 2}), one(0, {1, 2})).empty());
  CHECK(compare(one(0, {1, 2.0000002}), one(0, {1, 2})).find("y[1]") != std::string::npos);
  CHECK(compare(one(100, {1, 2.0000002}), one(100, {1, 2})).empty());
  CHECK_FALSE(compare(one(100, {1, 2.001}), one(100, {1, 2})).empty());
  CHECK_FALSE(compare(one(100, {1, NAN}), one(100, {1, 2})).empty());
  CHECK_FALSE(compare(one(100, {1, NAN}), one(100, {1, NAN})).empty());
}

TEST_CASE("the same seed draws the same operands; filters have identities of their own") {
  Context ctx(kernels::reference::table(), DeviceInfo{});
  Operands a(ctx, 1), b(ctx, 1), c(ctx, 2), copy(ctx, a);
  const auto values = [](Operands& o) {
    const float* p = o.in<float>(100, Draw::uniform(-1, 1));
    return std::vector<float>(p, p + 100);
  };
  const std::vector<float> first = values(a);
  CHECK(values(b) == first);
  CHECK(values(c) != first);
  CHECK(values(copy) == first);
  CHECK(a.filter<float>(9).id != b.filter<float>(9).id);
}

TEST_CASE("calls are chosen by set, op, layer and type; mistakes name the nearest") {
  Selection s;
  s.sizes = {.batch = 2, .crop = 32, .blocks = 2};
  CHECK(select_cases(s).size() > 200);
  s.ops = {"conv2d_forward"};
  s.layers = {"G"};
  s.dtype = "bf16";
  for (const Selected& one : select_cases(s)) {
    CHECK(one.bench_case.op == "conv2d_forward/bf16");
    CHECK(one.bench_case.layer.starts_with("G."));
  }
  CHECK(select_cases(s).size() == 6);  // head, blocks, trunk, two stages, tail
  const auto message = [](const Selection& wrong) {
    try {
      select_cases(wrong);
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  s.ops = {"conv2d_forwrd"};
  CHECK(message(s).find("'conv2d_forward'") != std::string::npos);
  s.ops = {};
  s.layers = {"G.block"};
  CHECK(message(s).find("'G.blocks'") != std::string::npos);
  s.sets = {"sgran"};
  CHECK(message(s).find("'srgan'") != std::string::npos);
  s.problem = "1,24,24,64,64,4,4";
  CHECK(message(s).find("r is 4") != std::string::npos);
  CHECK_THROWS_AS(parse_problem("1,2,3"), InputError);
  CHECK_THROWS_AS(parse_problem("1,2,3,4,5,3,3x"), InputError);
  CHECK(parse_problem("2,8,9,3,5,3,3,2").key() == "n2h8w9c3k5r3s3st2p1");
}

TEST_CASE("every op is benchmarked in some set") {
  std::set<std::string> covered;
  for (const std::string& set : set_names())
    for (const BenchCase& c : cases_of(set, {.batch = 1, .crop = 32, .blocks = 1}))
      covered.insert(c.op);
  kernels::for_each_op(kernels::reference::table(), [&](const auto& op) {
    INFO(op.name());
    CHECK(covered.count(op.name()) == 1);
  });
}

TEST_CASE("a small set is right on the reference, op by op") {
  Context ctx(kernels::reference::table(), DeviceInfo{}),
      reference(kernels::reference::table(), DeviceInfo{});
  Runner runner({"test", ctx}, {"reference", reference},
                {.rule = {.spread = 1.0, .seconds = 0.0001, .least = 1}});
  for (const BenchCase& c : cases_of("srgan", {.batch = 1, .crop = 32, .blocks = 1})) {
    if (c.flops > 1e7) continue;
    const Result r = runner.run(c, c.variants(ctx).front());
    INFO(c.op << " " << c.key << ": " << r.note);
    CHECK(r.status == Status::Measured);
  }
}

}  // namespace subpix::tools::bench
