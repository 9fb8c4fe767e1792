#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/bench/cases.h"

/// Which cases the command line asks for.
namespace subpix::tools::bench {

struct Selection {
  std::vector<std::string> sets = {"srgan"};
  std::vector<std::string> ops;     ///< "conv2d_forward" or "conv2d_forward/bf16"; empty: all
  std::vector<std::string> layers;  ///< "G.blocks", or a network: "G"
  std::string dtype;                ///< "fp32", "bf16" or empty
  std::string problem;              ///< "n,h,w,c,k,r,s,stride,pad" instead of sets
  SetOptions sizes;
};

struct Selected {
  std::string set;
  BenchCase bench_case;
};

/// Equal problems of several layers stay apart. InputError for what does not exist, with the
/// nearest name; for impossible sizes; for a selection that holds nothing.
std::vector<Selected> select_cases(const Selection& s);

/// "n,h,w,c,k,r,s,stride,pad"; the last two may be left out (1 and r / 2).
kernels::Conv2dProblem parse_problem(const std::string& text);

}  // namespace subpix::tools::bench
