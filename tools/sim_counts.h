#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

/// What the simulator counts while the backend "sim" computes, for tools. Nothing is counted in a
/// build without it.
namespace subpix::tools {

/// Name and number of each counter since reset_sim_counts(): "launches", "mma", ...
std::vector<std::pair<std::string, std::uint64_t>> sim_counts();
void reset_sim_counts();
/// Counts memory accesses too, where the kernels of this program can be watched (the flavour
/// `check`): "global_load_sectors", "shared_store_wavefronts", ... False where they cannot.
bool count_sim_accesses(bool on);
/// Whether launches are run, or only counted.
void set_sim_execution(bool on);

}  // namespace subpix::tools
