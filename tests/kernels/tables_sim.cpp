// The table under test of test_kernels_sim_<flavour>: the CUDA kernels under the simulator.

#include <cstdlib>
#include <string_view>

#include "kernels/sim/sim.h"
#include "kernels/sim/table.h"
#include "tests/kernels/op_case.h"

namespace subpix::tests {

namespace {

/// The table on a device of that many multiprocessors: kernels choose tiles and grids by it.
/// FIFO first; then random schedules, which also shuffle blocks and the moments of copies.
TableUnderTest on_device(const kernels::KernelTable& table, int multiprocessors, int rounds,
                         int first_seed) {
  kernels::DeviceInfo device = kernels::sim::device_info();
  device.tf32 = true;
  device.multiprocessors = multiprocessors;
  TableUnderTest sim{&table, std::make_unique<kernels::Context>(table, device)};
  // The simulator's own statics must outlive the contexts, so they are made first.
  sim.ctx->table().memory.synchronize(*sim.ctx);
  sim.rounds = rounds;
  if (sim::flavour() != sim::Flavour::Sim) sim.most_flops = 1e6;
  sim.before_round = [first_seed](int round) {
    const int seed = first_seed + round;
    sim::config().schedule = seed == 0 ? sim::Schedule::Fifo : sim::Schedule::Random;
    sim::config().seed = static_cast<std::uint64_t>(seed);
  };
  return sim;
}

std::vector<TableUnderTest> make_tables() {
  GuardedBytes::guard_bytes = 0;  // the simulator puts red zones around each allocation
  static kernels::KernelTable table = kernels::sim::table();
  if (const char* only = std::getenv("SUBPIX_TEST_VARIANT"))
    kernels::for_each_op(table, [&](auto& op) {  // ops that have no such variant keep theirs
      for (const auto& variant : op.variants())
        if (variant.name == std::string_view(only)) return op.replace({variant});
    });
  // The test problems are small, so only a small device takes several rounds for its work and large
  // tiles. The instrumented flavours are slow and see one device each.
  const int large = kernels::sim::device_info().multiprocessors, small = 2;
  const sim::Flavour flavour = sim::flavour();
  std::vector<TableUnderTest> tables;
  if (flavour == sim::Flavour::Sim) tables.push_back(on_device(table, large, 2, 0));
  if (flavour == sim::Flavour::Check) tables.push_back(on_device(table, large, 1, 0));
  if (flavour == sim::Flavour::Sim) tables.push_back(on_device(table, small, 1, 2));
  if (flavour == sim::Flavour::Asan) tables.push_back(on_device(table, small, 1, 0));
  return tables;
}

}  // namespace

std::vector<TableUnderTest>& tables_under_test() {
  static std::vector<TableUnderTest> tables = make_tables();
  return tables;
}

}  // namespace subpix::tests
