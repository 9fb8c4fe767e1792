#pragma once

#include <cstdint>
#include <functional>
#include <ostream>
#include <vector>

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

/// Zeroed device memory.
template <class T>
class DeviceArray {
 public:
  DeviceArray(kernels::Context& ctx, std::size_t n) : ctx_(ctx), bytes_(n * sizeof(T)) {
    const std::vector<std::uint8_t> zeros(bytes_, 0);
    data_ = static_cast<T*>(ctx.table().memory.allocate(ctx, bytes_));
    ctx.table().memory.copy_to_device(ctx, data_, zeros.data(), bytes_);
  }
  ~DeviceArray() { ctx_.table().memory.release(ctx_, data_, bytes_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  operator T*() const { return data_; }  // NOLINT: stands for its address in calls

 private:
  kernels::Context& ctx_;
  std::size_t bytes_;
  T* data_;
};

/// What `call` did, from the preferred variants.
inline sim::Stats counted(kernels::Context& ctx, const std::function<void()>& call) {
  const sim::Scope scope({.races = false, .count = true});
  ctx.table().memory.synchronize(ctx);
  sim::reset_stats();
  call();
  ctx.table().memory.synchronize(ctx);
  return sim::stats();
}

/// Global loads and stores of whole sectors: requests of warps and sectors, none in vain.
inline void check_global(const sim::Stats& s, std::uint64_t load_requests,
                         std::uint64_t load_sectors, std::uint64_t store_requests,
                         std::uint64_t store_sectors) {
  INFO(sim::report(s));
  const sim::AccessCounter loads = s.total(sim::AccessKind::GlobalLoad);
  const sim::AccessCounter stores = s.total(sim::AccessKind::GlobalStore);
  CHECK(loads.requests == load_requests);
  CHECK(loads.units == load_sectors);
  CHECK(loads.ideal == load_sectors);
  CHECK(stores.requests == store_requests);
  CHECK(stores.units == store_sectors);
  CHECK(stores.ideal == store_sectors);
}

}  // namespace subpix::tests
