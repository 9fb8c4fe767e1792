#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/core/tensor.h"
#include "tests/support/fill.h"

/// One list of cases for every function of engine/ops/ops.h. The oracle is the reference kernel in
/// double; gradients are compared with its central differences, so neither backward kernels nor the
/// wiring of nodes can vouch for themselves. Every case runs with F32 and with BF16 activations.
namespace subpix::tests {

/// What an argument holds in the exact run (small numbers, every result exact in fp32 and bf16).
enum class Data {
  Integers,  ///< -2 to 2
  Nonzero,   ///< -3 to 3 without 0: away from the kink of activations
  Halves,    ///< integers + 0.5
  Distinct,  ///< every integer around 0 once: no ties in a maximum or a difference
  Positive,  ///< 1 to 3; the uniform run takes [0.5, 1.5]
  Quarters,  ///< 0.25 to 1 in quarters: slopes
  Bytes      ///< U8, 0 to 255
};

struct OpArgument {
  const char* name;
  engine::Shape shape;
  Data data = Data::Integers;
  bool differentiable = true;
  bool activation = true;  ///< false: F32 also in a bf16 case (biases, slopes, statistics)
};

struct OpCase {
  std::string op;   ///< the function's name in ops.h
  std::string key;  ///< tells cases of one op apart
  std::vector<OpArgument> arguments;
  bool exact;    ///< piecewise polynomial of degree 2 at most: exact data must give exact results
  bool uniform;  ///< also run with values in [-1, 1] against a tolerance
  std::function<engine::Tensor(const std::vector<engine::Tensor>&)> run;
  std::function<Values(const std::vector<Values>&)> oracle;
};

std::vector<OpCase> op_cases();

}  // namespace subpix::tests
