#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tools/bench/ceilings.h"
#include "tools/bench/runner.h"

namespace subpix::tools::bench {

/// One line of the table for each result of a case; a heading before each op.
void print_heading(const std::string& title, bool simulated);
void print_result(const BenchCase& c, const Result& r, bool is_default, const Ceilings& ceilings);
/// predicted: they are a data sheet's, and nothing was measured.
void print_ceilings(const Ceilings& c, bool predicted);

/// Of schema subpix-kernel-bench-1: docs/formats.md.
nlohmann::ordered_json to_json(const BenchCase& c, const std::string& set, Index batch,
                               const Result& r, bool is_default, const Ceilings& ceilings);
nlohmann::ordered_json to_json(const Ceilings& c);

}  // namespace subpix::tools::bench
