#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/sim/sim.h"
#include "kernels/sim/table.h"
#include "tests/support/catch.h"

/// Exact numbers of what a kernel's accesses would cost on a GPU; counters_*.cpp are linked into
/// the flavour `check` only, which counts.
namespace subpix::tests {

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
