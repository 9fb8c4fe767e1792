#pragma once

#include "tests/kernels/counters.h"
#include "tests/support/fill.h"

namespace subpix::tests {

/// Counting, on a device of that many multiprocessors.
struct CountedDevice {
  explicit CountedDevice(int multiprocessors)
      : scope({.races = false, .count = true}), ctx(kernels::sim::table(), of(multiprocessors)) {
    GuardedBytes::guard_bytes = 0;
  }
  static kernels::DeviceInfo of(int multiprocessors) {
    kernels::DeviceInfo device = kernels::sim::device_info();
    device.multiprocessors = multiprocessors;
    return device;
  }
  const kernels::TypedOps<bf16>& ops() const { return ctx.table().typed<bf16>(); }

  sim::Scope scope;
  kernels::Context ctx;
};

/// Runs forward or backward data with one variant, on a device of that many multiprocessors, and
/// counts.
inline sim::Stats count_conv2d(const char* variant, int multiprocessors,
                               const kernels::Conv2dProblem& d, bool backward) {
  CountedDevice device(multiprocessors);
  kernels::Context& ctx = device.ctx;
  const kernels::TypedOps<bf16>& ops = device.ops();
  ctx.override_variant(ops.conv2d_forward.name(), variant);
  ctx.override_variant(ops.conv2d_backward_data.name(), variant);
  Buffers buffers(ctx);
  const bf16* w = buffers.in<bf16>("w", fill_values<bf16>(Fill::Integers, d.w_count(), "", "w"));
  const Index in = backward ? d.y_count() : d.x_count();
  const bf16* x = buffers.in<bf16>("x", fill_values<bf16>(Fill::Integers, in, "", "x"));
  bf16* y = buffers.out<bf16>("y", backward ? d.x_count() : d.y_count());
  ctx.table().memory.synchronize(ctx);
  sim::reset_stats();
  if (backward)
    ops.conv2d_backward_data(ctx, d, x, kernels::Filter<bf16>(w), y);
  else
    ops.conv2d_forward(ctx, d, x, kernels::Filter<bf16>(w), nullptr, y);
  ctx.table().memory.synchronize(ctx);
  return sim::stats();
}

}  // namespace subpix::tests
