#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "kernels/api/error.h"
#include "kernels/sim/sim.h"
#include "tests/support/catch.h"

/// Counters of single lines of kernel sources, which a comment "// [marker]" before them names.
namespace subpix::tests {

/// The line after the comment "// [marker]" of a kernel source.
inline int line_after(const std::string& file, const std::string& marker) {
  std::ifstream in(std::string(SUBPIX_SOURCE_DIR) + "/kernels/cuda/" + file);
  REQUIRE(in);
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.find("// [" + marker + "]") != std::string::npos) return number + 1;
  }
  FAIL(marker << " is not in " << file);
  return 0;
}

/// The counter of that line, wherever it was inlined: then `file` is "file:line called from
/// caller".
inline sim::AccessCounter at_line(const sim::Stats& s, sim::AccessKind kind,
                                  const std::string& file, const std::string& marker) {
  const int line = line_after(file, marker);
  sim::AccessCounter sum{kind, file, line};
  for (const sim::AccessCounter& c : s.accesses)
    if (c.kind == kind && ((c.line == line && c.file == file) ||
                           c.file.starts_with(concat(file, ":", line, " called from")))) {
      sum.requests += c.requests;
      sum.bytes += c.bytes;
      sum.units += c.units;
      sum.ideal += c.ideal;
    }
  return sum;
}

struct WantedAccesses {
  sim::AccessKind kind;
  const char* file;
  const char* marker;
  std::uint64_t requests, bytes, units, ideal;
};

inline void check_accesses(const sim::Stats& s, const std::vector<WantedAccesses>& wanted) {
  for (const WantedAccesses& w : wanted) {
    const sim::AccessCounter c = at_line(s, w.kind, w.file, w.marker);
    INFO(sim::name(w.kind) << " " << w.file << " " << w.marker << "\n" << sim::report(s));
    CHECK(c.requests == w.requests);
    CHECK(c.bytes == w.bytes);
    CHECK(c.units == w.units);
    CHECK(c.ideal == w.ideal);
  }
}

}  // namespace subpix::tests
