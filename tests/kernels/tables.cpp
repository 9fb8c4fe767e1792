#include <cstdlib>
#include <limits>

#include "kernels/reference/table.h"
#include "tests/kernels/op_case.h"

#ifdef SUBPIX_HAVE_CPU
#include "kernels/cpu/table.h"
#endif

namespace subpix::tests {

namespace {

// Under sanitizers a loop takes ten times as long, and what they look for shows on small problems.
#ifdef __SANITIZE_ADDRESS__
constexpr double kMostFlops = 2e6;
#else
constexpr double kMostFlops = std::numeric_limits<double>::infinity();
#endif

std::vector<TableUnderTest> make_tables() {
  std::vector<TableUnderTest> tables;
  const char* only = std::getenv("SUBPIX_TEST_TABLE");
  const auto add = [&](const kernels::KernelTable& table, kernels::DeviceInfo device) {
    if (only && std::string(only) != table.name) return;
    tables.push_back({&table, std::make_unique<kernels::Context>(table, std::move(device))});
    tables.back().most_flops = kMostFlops;
  };
  add(kernels::reference::table(), {});
#ifdef SUBPIX_HAVE_CPU
  kernels::DeviceInfo cpu;
  cpu.threads =
      kernels::cpu::set_threads(2);  // more than one, so that work is split; the same everywhere
  add(kernels::cpu::table(), cpu);
#endif
  if (tables.empty())
    throw InputError(concat("SUBPIX_TEST_TABLE=", only, " names no table of this build"));
  return tables;
}

}  // namespace

std::vector<TableUnderTest>& tables_under_test() {
  static std::vector<TableUnderTest> tables = make_tables();
  return tables;
}

}  // namespace subpix::tests
