#pragma once

#include <cstdlib>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/api/kernels.h"
#include "kernels/api/op_of.h"
#include "tests/support/compare.h"
#include "tests/support/fill.h"
#include "tests/support/guarded.h"

/// Note [Table tests]
/// One OpCase per op name holds the op's problems, data, oracle and tolerances, and runs every
/// variant of every table against them. To add
///   a table:   one line in tables.cpp (and its macro in CMakeLists.txt); nothing else changes;
///   a variant: nothing, the lists are read from the table;
///   an op:     a case in the family's table_<family>.cpp; a coverage test fails until it is there.
/// Run one op alone with:  test_kernels_tables "<test name>" -c "conv2d_forward/f32"
/// with SUBPIX_TEST_TABLE=cpu one table, with SUBPIX_TEST_VARIANT=direct one variant (simulator),
/// with SUBPIX_TEST_STOP=1 up to the first failure.
namespace subpix::tests {

/// The tables that this program tests, each with its own context.
struct TableUnderTest {
  const kernels::KernelTable* table;
  std::unique_ptr<kernels::Context> ctx;
  int rounds = 2;  ///< how often each variant runs each case; all must give the same bits
  std::function<void(int)> before_round = nullptr;  ///< the simulator: another schedule each round
  /// Larger problems are left out, those of variants with large tiles beyond thirty times that:
  /// instrumented kernels are slow, and what they look for shows on small ones.
  double most_flops = std::numeric_limits<double>::infinity();
};
std::vector<TableUnderTest>& tables_under_test();

/// What the checks of one op found.
class Report {
 public:
  void check(const std::string& where, const std::string& message) {
    ++checks_;
    if (message.empty()) return;
    // A mutant is caught by its first failure (tests/mutation); the other cases would only take
    // time. No kernels::Error: check_table() catches those.
    static const bool first_is_enough = std::getenv("SUBPIX_TEST_STOP") != nullptr;
    if (first_is_enough) throw std::logic_error(where + ": " + message);
    if (failures_.size() < kMost) failures_.push_back(where + ": " + message);
  }
  int checks() const { return checks_; }
  const std::vector<std::string>& failures() const { return failures_; }
  void ran(const std::string& table, const char* variant) { variants_[table].insert(variant); }
  const std::set<std::string>& variants(const std::string& table) { return variants_[table]; }

 private:
  static constexpr std::size_t kMost = 20;  // a broken op fails everywhere; the first cases tell it
  int checks_ = 0;
  std::vector<std::string> failures_;
  std::map<std::string, std::set<std::string>> variants_;
};

struct OpCase {
  std::string op;  ///< Op::name(): "conv2d_forward/f32"
  std::function<void(Report&)> run;
};

void add_conv2d_cases(std::vector<OpCase>& cases);
void add_norm_cases(std::vector<OpCase>& cases);
void add_activation_cases(std::vector<OpCase>& cases);
void add_shape_pool_cases(std::vector<OpCase>& cases);
void add_dense_cases(std::vector<OpCase>& cases);
void add_elementwise_cases(std::vector<OpCase>& cases);
void add_loss_cases(std::vector<OpCase>& cases);
void add_random_adam_cases(std::vector<OpCase>& cases);
void add_fused_cases(std::vector<OpCase>& cases);
void add_fused_output_cases(std::vector<OpCase>& cases);

template <class T>
std::string typed_name(const char* op) {
  return std::string(op) + (std::is_same_v<T, float> ? "/f32" : "/bf16");
}

using kernels::op_of;

/// The expectation for a variant: those called *_tf32 round their operands to TF32.
inline Expected expected_of(const Expected& e, std::string_view variant) {
  Expected own = e;
  if (variant.ends_with("_tf32") && !e.tf32_bound.empty()) own.bound = e.tf32_bound;
  return own;
}

/// tests/mutation links this: calls `passes` in a child process for each mutant that it reaches.
[[gnu::weak]] void each_mutant(const std::string& op, const char* variant,
                               const std::function<bool()>& passes);

/// One variant of check_table().
template <class Op, class Variant, class Problem, class Call>
void check_variant(Report& report, TableUnderTest& under, const Op& op, const Variant& variant,
                   const Problem& problem, const std::string& remark,
                   const std::vector<Expected>& expected, Call&& call) {
  kernels::Context& ctx = *under.ctx;
  const std::string where = concat(under.table->name, " ", op.name(), " [", variant.name, "] ",
                                   problem.key(), " ", remark);
  ctx.trim_workspace();  // the second round then finds an arena of just the size this call needs
  std::vector<Values> first;
  for (int round = 0; round < under.rounds; ++round) try {
      if (under.before_round) under.before_round(round);
      poison_workspace(ctx);
      Buffers buffers(ctx);
      std::vector<Values> got =
          call(buffers, [&](auto... args) { variant.run(ctx, problem, args...); });
      SUBPIX_REQUIRE(got.size() == expected.size(), where, ": ", got.size(), " outputs for ",
                     expected.size(), " expectations");
      for (const std::string& damage : buffers.damages()) report.check(where, damage);
      for (std::size_t i = 0; i < got.size(); ++i) {
        if (round == 0) {
          report.check(where, compare(got[i], expected_of(expected[i], variant.name)));
          continue;
        }
        const Expected again{concat(expected[i].what, " of run ", round + 1),
                             expected[i].dims,
                             first[i],
                             exact(first[i]),
                             {}};
        report.check(where, compare(got[i], again));
      }
      if (round == 0) first = std::move(got);
    } catch (const Error& error) {
      report.check(where, error.what());
      break;
    }
}

/// Runs every variant of one table's `member` that takes `problem`, `rounds` times each. `call`
/// gets (Buffers&, run) and must make the buffers, call run(arguments...) once and return the
/// outputs in the order of `expected`. Checked: each output against its bounds, the same bits from
/// both runs, inputs unchanged, guard bands intact. Outputs and scratch memory are poisoned before
/// each run.
template <class Member, class Problem, class Call>
void check_table(Report& report, TableUnderTest& under, Member member, const Problem& problem,
                 const std::string& remark, const std::vector<Expected>& expected, Call&& call,
                 bool skip_reference = false) {
  kernels::Context& ctx = *under.ctx;
  const auto& op = op_of(*under.table, member);
  for (const auto& variant : op.variants()) {
    const auto check = [&](Report& into) {
      if (variant.supports && !variant.supports(problem, ctx.device())) return;
      const std::string_view name = variant.name;
      const bool tiled = name.find("mma") != name.npos || name == "winograd";
      if (problem.flops() > under.most_flops * (tiled ? 30.0 : 1.0)) return;
      into.ran(under.table->name, variant.name);
      if (skip_reference && variant.name == std::string_view("reference")) return;
      check_variant(into, under, op, variant, problem, remark, expected, call);
    };
    if (each_mutant)
      each_mutant(op.name(), variant.name, [&] {
        Report own;
        check(own);
        ctx.trim_workspace();
        under.table->memory.synchronize(ctx);
        return own.failures().empty();
      });
    check(report);
  }
  // What was given back is queued on a device backend; nothing may be left when the program ends.
  ctx.trim_workspace();
  under.table->memory.synchronize(ctx);
}

/// check_table for every table of this build.
template <class Member, class Problem, class Call>
void check_variants(Report& report, Member member, const Problem& problem,
                    const std::string& remark, const std::vector<Expected>& expected, Call&& call) {
  problem.validate();
  bool skip_reference = false;
  for (TableUnderTest& under : tables_under_test()) {
    check_table(report, under, member, problem, remark, expected, call, skip_reference);
    // A table that started as a copy of reference's keeps its loops, which depend on no backend:
    // running them once is enough.
    skip_reference = true;
  }
}

}  // namespace subpix::tests
