#pragma once

#include <functional>
#include <ostream>

#include "kernels/sim/sim.h"
#include "kernels/sim/table.h"
#include "tests/support/catch.h"
#include "tests/support/guarded.h"

/// What the simulator counts of a kernel call, for tests that state it as exact numbers.
namespace subpix::tests {

struct Traffic {
  std::uint64_t requests, units, ideal;
  bool operator==(const Traffic&) const = default;
  friend std::ostream& operator<<(std::ostream& out, const Traffic& t) {
    return out << t.requests << " requests, " << t.units << " units, ideally " << t.ideal;
  }
};
/// As many units as the distinct bytes need.
inline Traffic whole(std::uint64_t requests, std::uint64_t units) {
  return {requests, units, units};
}

inline Traffic traffic(const sim::Stats& stats, sim::AccessKind kind) {
  const sim::AccessCounter c = stats.total(kind);
  return {c.requests, c.units, c.ideal};
}

/// Counts what call(ctx, buffers, run) makes the table's kernels do: it makes its buffers, then
/// calls run with the work to be counted. Counters must be the same under any schedule.
template <class Call>
sim::Stats counted(Call&& call) {
  sim::Stats first;
  for (const auto schedule : {sim::Schedule::Fifo, sim::Schedule::Random}) {
    const sim::Scope scope({.schedule = schedule, .count = true});
    kernels::Context ctx(kernels::sim::table(), kernels::sim::device_info());
    Buffers buffers(ctx);
    call(ctx, buffers, [&](const std::function<void()>& work) {
      ctx.table().memory.synchronize(ctx);
      sim::reset_stats();
      work();
      ctx.table().memory.synchronize(ctx);
      const sim::Stats stats = sim::stats();
      if (schedule == sim::Schedule::Fifo)
        first = stats;
      else
        for (const auto kind : {sim::AccessKind::GlobalLoad, sim::AccessKind::GlobalStore,
                                sim::AccessKind::SharedLoad, sim::AccessKind::SharedStore})
          CHECK(traffic(stats, kind) == traffic(first, kind));
    });
  }
  return first;
}

}  // namespace subpix::tests
