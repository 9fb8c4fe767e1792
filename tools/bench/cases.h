#pragma once

#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/api/kernels.h"
#include "kernels/api/op_of.h"
#include "tools/bench/operands.h"

/// What kernel_bench times: one op at one problem of a network. The op's type stays behind
/// functions, so that all cases go through the same code.
namespace subpix::tools::bench {

struct BenchCase {
  std::string op;     ///< Op::name(): "conv2d_forward/bf16"
  std::string layer;  ///< "G.blocks", "D.conv3", "VGG.conv4_1"; empty where it is of no network
  std::string key;    ///< of the problem
  Index times = 1;    ///< how often a training step makes this call
  double flops = 0, bytes = 0;

  /// Variants that take the problem, in the table's order: the first is the default where no plan
  /// is read.
  std::function<std::vector<std::string>(const kernels::Context&)> variants;
  /// The variant that a call would use: plan, override or the first that takes the problem.
  std::function<std::string(const kernels::Context&)> chosen;
  /// The op's other variants.
  std::function<std::vector<std::string>(const kernels::Context&)> unsupported;
  /// One call of that variant on operands made by this call. Error where there is none.
  std::function<std::function<void()>(kernels::Context&, const std::string& variant, Operands&)>
      bind;
};

using kernels::op_of;

/// build(operands) returns the kernel's arguments as a tuple. bytes: the least that the call moves.
template <class Member, class Problem, class Build>
BenchCase make_case(Member member, const Problem& problem, double bytes, Build build) {
  problem.validate();
  BenchCase made;
  static const kernels::KernelTable names{};
  made.op = op_of(names, member).name();
  made.key = problem.key();
  made.flops = problem.flops();
  made.bytes = bytes;
  const auto listed = [member, problem](const kernels::Context& ctx, bool taken) {
    std::vector<std::string> all;
    for (const auto& v : op_of(ctx.table(), member).variants())
      if ((!v.supports || v.supports(problem, ctx.device())) == taken) all.emplace_back(v.name);
    return all;
  };
  made.variants = [listed](const kernels::Context& ctx) { return listed(ctx, true); };
  made.chosen = [member, problem](const kernels::Context& ctx) {
    return std::string(op_of(ctx.table(), member).select(ctx, problem).name);
  };
  made.unsupported = [listed](const kernels::Context& ctx) { return listed(ctx, false); };
  made.bind = [member, problem, build](kernels::Context& ctx, const std::string& variant,
                                       Operands& operands) -> std::function<void()> {
    for (const auto& v : op_of(ctx.table(), member).variants())
      if (variant == v.name)
        return [&ctx, problem, run = v.run, args = build(operands)] {
          std::apply([&](const auto&... a) { run(ctx, problem, a...); }, args);
        };
    throw Error(concat(op_of(ctx.table(), member).name(), " has no variant ", variant));
  };
  return made;
}

struct SetOptions {
  Index batch = 16;
  Index crop = 96;    ///< HR pixels of a side
  Index blocks = 16;  ///< of the generator
};

/// "there is no set 'srgam'; the nearest name is 'srgan' (srgan, vgg, edge)".
std::string unknown_name(const std::string& what, const std::string& name,
                         const std::vector<std::string>& candidates);
/// Names of the sets: srgan, vgg, edge.
const std::vector<std::string>& set_names();
/// All calls of a set, in both types. Unknown name: InputError.
std::vector<BenchCase> cases_of(const std::string& set, const SetOptions& o);
/// The convolution ops at one problem that the command line gives.
std::vector<BenchCase> cases_of(const kernels::Conv2dProblem& problem);

}  // namespace subpix::tools::bench
