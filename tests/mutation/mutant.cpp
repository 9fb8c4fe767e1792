// Which mutant runs, and which were reached: linked once, never instrumented.

#include "mutant.h"

#include <cstdio>
#include <cstdlib>
#include <vector>

namespace subpix::mutation {

namespace {

struct State {
  int chosen = 0;  // numbers begin at 1
  std::vector<bool> seen;

  State() {
    if (const char* value = std::getenv("SUBPIX_MUTANT")) chosen = std::atoi(value);
  }
  ~State() {
    const char* path = std::getenv("SUBPIX_MUTANT_REACHED");
    if (chosen >= 0 || !path) return;
    if (std::FILE* file = std::fopen(path, "w")) {
      for (std::size_t id = 0; id < seen.size(); ++id)
        if (seen[id]) std::fprintf(file, "%zu\n", id);
      std::fclose(file);
    }
  }
};
State state;

}  // namespace

int chosen() noexcept { return state.chosen; }

void reached(int id) noexcept {
  const auto at = static_cast<std::size_t>(id);
  if (at >= state.seen.size()) state.seen.resize(at + 1000);
  state.seen[at] = true;
}

}  // namespace subpix::mutation
