// The table under test of test_kernels_sim_<flavour>: the CUDA kernels under the simulator.

#include <cstdlib>
#include <string_view>

#include "kernels/sim/sim.h"
#include "kernels/sim/table.h"
#include "tests/kernels/op_case.h"

namespace subpix::tests {

namespace {

/// FIFO first; then random schedules, which also shuffle blocks and the moments of copies. The
/// instrumented flavours are slow, so they see fewer.
std::vector<TableUnderTest> make_tables() {
  GuardedBytes::guard_bytes = 0;  // the simulator puts red zones around each allocation
  kernels::DeviceInfo device = kernels::sim::device_info();
  device.tf32 = true;
  static kernels::KernelTable table = kernels::sim::table();
  if (const char* only = std::getenv("SUBPIX_TEST_VARIANT"))
    kernels::for_each_op(table, [&](auto& op) {  // ops that have no such variant keep theirs
      for (const auto& variant : op.variants())
        if (variant.name == std::string_view(only)) return op.replace({variant});
    });
  TableUnderTest sim{&table, std::make_unique<kernels::Context>(table, device)};
  // The simulator's own statics must outlive the contexts, so they are made first.
  sim.ctx->table().memory.synchronize(*sim.ctx);
  const sim::Flavour flavour = sim::flavour();
  sim.rounds = flavour == sim::Flavour::Sim ? 3 : 1;
  if (flavour != sim::Flavour::Sim) sim.most_flops = 1e6;
  sim.before_round = [](int round) {
    sim::config().schedule = round == 0 ? sim::Schedule::Fifo : sim::Schedule::Random;
    sim::config().seed = static_cast<std::uint64_t>(round);
  };
  std::vector<TableUnderTest> tables;
  tables.push_back(std::move(sim));
  return tables;
}

}  // namespace

std::vector<TableUnderTest>& tables_under_test() {
  static std::vector<TableUnderTest> tables = make_tables();
  return tables;
}

}  // namespace subpix::tests
