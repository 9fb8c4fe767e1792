#include "tools/sim_counts.h"

#ifdef SUBPIX_HAVE_SIM
#include "kernels/sim/sim.h"
#endif

namespace subpix::tools {

#ifdef SUBPIX_HAVE_SIM

std::vector<std::pair<std::string, std::uint64_t>> sim_counts() {
  const sim::Stats s = sim::stats();
  return {{"launches", s.launches},
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
}
void reset_sim_counts() { sim::reset_stats(); }
void set_sim_execution(bool on) { sim::config().execute = on; }

#else

std::vector<std::pair<std::string, std::uint64_t>> sim_counts() { return {}; }
void reset_sim_counts() {}
void set_sim_execution(bool) {}

#endif

}  // namespace subpix::tools
