#include "tools/sim_counts.h"

#ifdef SUBPIX_HAVE_SIM
#include "kernels/sim/sim.h"
#endif

namespace subpix::tools {

#ifdef SUBPIX_HAVE_SIM

std::vector<std::pair<std::string, std::uint64_t>> sim_counts() {
  const sim::Stats s = sim::stats();
  std::vector<std::pair<std::string, std::uint64_t>> all = {
      {"launches", s.launches},
      {"blocks", s.blocks},
      {"threads", s.threads},
      {"block_barriers", s.block_barriers},
      {"warp_collectives", s.warp_collectives},
      {"atomics", s.atomics},
      {"cp_async", s.cp_async},
      {"bulk_copies", s.bulk_copies},
      {"bulk_bytes", s.bulk_bytes},
      {"ldmatrix", s.ldmatrix},
      {"mma", s.mma},
      {"wgmma", s.wgmma}};
  if (!sim::config().count) return all;
  using sim::AccessKind;
  const struct {
    AccessKind kind;
    const char *name, *unit;
  } kinds[] = {{AccessKind::GlobalLoad, "global_load_", "sectors"},
               {AccessKind::GlobalStore, "global_store_", "sectors"},
               {AccessKind::SharedLoad, "shared_load_", "wavefronts"},
               {AccessKind::SharedStore, "shared_store_", "wavefronts"}};
  for (const auto& k : kinds) {
    const sim::AccessCounter total = s.total(k.kind);
    all.emplace_back(concat(k.name, "bytes"), total.bytes);
    all.emplace_back(concat(k.name, "requests"), total.requests);
    all.emplace_back(concat(k.name, k.unit), total.units);
    all.emplace_back(concat(k.name, "ideal"), total.ideal);
  }
  return all;
}
bool count_sim_accesses(bool on) {
  if (sim::flavour() != sim::Flavour::Check) return false;
  sim::config().count = on;
  sim::config().races = !on;  // another question, and slow
  return true;
}
void reset_sim_counts() { sim::reset_stats(); }
void set_sim_execution(bool on) { sim::config().execute = on; }

#else

std::vector<std::pair<std::string, std::uint64_t>> sim_counts() { return {}; }
void reset_sim_counts() {}
bool count_sim_accesses(bool) { return false; }
void set_sim_execution(bool) {}

#endif

}  // namespace subpix::tools
