#include <iostream>
#include <set>

#include "kernels/reference/table.h"
#include "tests/kernels/op_case.h"
#include "tests/support/catch.h"

namespace subpix::tests {

namespace {

std::vector<OpCase> all_cases() {
  std::vector<OpCase> cases;
  add_conv2d_cases(cases);
  add_norm_cases(cases);
  add_activation_cases(cases);
  add_shape_pool_cases(cases);
  add_dense_cases(cases);
  add_elementwise_cases(cases);
  add_loss_cases(cases);
  add_random_adam_cases(cases);
  add_fused_cases(cases);
  add_fused_output_cases(cases);
  return cases;
}

/// What check_table says about one faulty variant of add/f32.
std::string verdict(kernels::Add<float>::Run run) {
  kernels::KernelTable table = kernels::reference::table();
  table.f32.add.replace({{"faulty", nullptr, run}});
  TableUnderTest under{&table, std::make_unique<kernels::Context>(table, kernels::DeviceInfo{})};
  const Values a = {1, 2, 3}, b = {10, 20, 30}, sum = {11, 22, 33};
  Report report;
  check_table(report, under, &kernels::TypedOps<float>::add, kernels::ElementProblem{.count = 3},
              "", {{"y", {{"i", 3}}, sum, exact(sum)}},
              [&](Buffers& buffers, auto&& call) -> std::vector<Values> {
                float* y = buffers.out<float>("y", 3);
                call(buffers.in<float>("a", a), buffers.in<float>("b", b), y);
                return {buffers.read(y)};
              });
  CHECK(report.variants("reference").count("faulty") == 1);
  return report.failures().empty() ? "" : report.failures().front();
}

}  // namespace

TEST_CASE("the table checks notice every kind of fault", "[kernels][tables][support]") {
  using namespace kernels;
  using Catch::Matchers::Contains;
  using Problem = const ElementProblem&;
  using In = const float*;
  CHECK(verdict([](Context&, Problem d, In a, In b, float* y) {
          for (Index i = 0; i < d.count; ++i) y[i] = a[i] + b[i];
        }) == "");
  CHECK_THAT(verdict([](Context&, Problem, In, In, float*) {}),
             Contains("3 of 3 elements wrong") && Contains("nan instead of 11"));
  CHECK_THAT(verdict([](Context&, Problem d, In a, In b, float* y) {
               for (Index i = 0; i + 1 < d.count; ++i) y[i] = a[i] + b[i];
             }),
             Contains("worst at i2"));
  CHECK_THAT(verdict([](Context&, Problem d, In a, In b, float* y) {
               for (Index i = 0; i <= d.count; ++i) y[i] = i < d.count ? a[i] + b[i] : 0.0f;
             }),
             Contains("y: byte 0 behind the buffer was overwritten"));
  CHECK_THAT(verdict([](Context&, Problem d, In a, In b, float* y) {
               for (Index i = 0; i < d.count; ++i) y[i] = a[i + 1] + b[i] - 1.0f;
             }),
             Contains("worst at i2") && Contains("nan instead of 33"));
  CHECK_THAT(verdict([](Context&, Problem d, In a, In b, float* y) {
               for (Index i = 0; i < d.count; ++i) y[i] = a[i] + b[i];
               const_cast<float*>(b)[1] = 0.0f;
             }),
             Contains("b: byte") && Contains("of an input was changed"));
  CHECK_THAT(verdict([](Context&, Problem d, In a, In b, float* y) {
               static int calls = 0;
               const float noise = calls++ == 0 ? 0.0f : 1e-6f;
               for (Index i = 0; i < d.count; ++i) y[i] = a[i] + b[i] + noise;
             }),
             Contains("y of run 2"));
  // Scratch memory that is only zero when it comes straight from the system.
  CHECK_THAT(verdict([](Context& ctx, Problem d, In a, In b, float* y) {
               Workspace ws(ctx);
               float* sums = ws.take<float>(3);
               for (Index i = 0; i < d.count; ++i) sums[i] += a[i] + b[i];
               for (Index i = 0; i < d.count; ++i) y[i] = sums[i];
             }),
             Contains("elements wrong"));
}

TEST_CASE("every variant of every op matches the double reference", "[kernels][tables]") {
  for (const OpCase& op_case : all_cases()) {
    DYNAMIC_SECTION(op_case.op) {
      Report report;
      op_case.run(report);
      CHECK(report.checks() > 0);
      for (const std::string& failure : report.failures()) FAIL_CHECK(failure);
      // A variant whose supports() never says yes to a listed problem would pass untested.
      for (const TableUnderTest& under : tables_under_test())
        kernels::for_each_op(*under.table, [&](const auto& op) {
          if (op_case.op != op.name()) return;
          for (const auto& variant : op.variants()) {
            INFO(under.table->name << " " << op.name() << " [" << variant.name
                                   << "] supports none of the listed problems");
            CHECK(report.variants(under.table->name).count(variant.name) == 1);
          }
        });
    }
  }
}

/// For tests/mutation/mutate.py, which runs them one by one.
TEST_CASE("the variants of every op", "[.list]") {
  std::set<const kernels::KernelTable*> tables;  // several devices may share one
  for (const TableUnderTest& under : tables_under_test())
    if (tables.insert(under.table).second)
      kernels::for_each_op(*under.table, [&](const auto& op) {
        for (const auto& variant : op.variants())
          std::cout << "variant " << op.name() << " " << variant.name << "\n";
      });
}

TEST_CASE("every op of every table has a variant and a case", "[kernels][tables][coverage]") {
  std::set<std::string> covered;
  for (const OpCase& op_case : all_cases()) {
    INFO(op_case.op << " has two cases");
    CHECK(covered.insert(op_case.op).second);
  }
  for (const TableUnderTest& under : tables_under_test()) {
    const kernels::MemoryOps& memory = under.table->memory;
    CHECK((memory.allocate && memory.release && memory.copy_to_device && memory.copy_to_host &&
           memory.copy && memory.synchronize));
    std::set<std::string> names;
    kernels::for_each_op(*under.table, [&](const auto& op) {
      INFO(under.table->name << " " << op.name());
      CHECK(!op.variants().empty());
      CHECK(names.insert(op.name()).second);
      CHECK(covered.count(op.name()) == 1);
      std::set<std::string> variants;
      for (const auto& variant : op.variants()) {
        CHECK(variant.run != nullptr);
        CHECK(variants.insert(variant.name).second);
      }
    });
    for (const std::string& op : covered) {
      INFO("a case for " << op << ", which is no op");
      CHECK(names.count(op) == 1);
    }
  }
}

}  // namespace subpix::tests
