#include "tools/bench/ceilings.h"

#include <algorithm>
#include <chrono>

#include "tools/bench/cases_list.h"

namespace subpix::tools::bench {

namespace {

double now_us() {
  using clock = std::chrono::steady_clock;
  return std::chrono::duration<double, std::micro>(clock::now().time_since_epoch()).count();
}

/// `work` a call, in units a microsecond.
Ceiling rate(const std::string& name, const std::string& how, double work, double unit,
             const std::function<void()>& call, const StopRule& rule) {
  call();
  const auto sample = [&] {
    const double begin = now_us();
    call();
    return now_us() - begin;
  };
  const Series s = interleave({sample}, rule).front();
  // A ceiling is what was reached, not what is usual: the quickest sample.
  const auto per = [&](double us) { return work / us * unit; };
  return {name, true, per(s.spread.min), per(s.spread.p95), per(s.spread.min), how};
}

Ceiling copy_rate(engine::Device& device, const std::string& name, std::size_t bytes,
                  const StopRule& rule) {
  kernels::Context& ctx = device.context();
  const kernels::MemoryOps& memory = ctx.table().memory;
  Operands operands(ctx, 1);
  const auto n = static_cast<Index>(bytes);
  const auto* from = operands.in<std::uint8_t>(n, Draw::constant(1.0));
  auto* to = operands.out<std::uint8_t>(n, "to");
  return rate(
      name, concat("copy of ", bytes >> 20, " MiB, read and written"),
      2.0 * static_cast<double>(bytes), 1e-3,
      [&] {
        memory.copy(ctx, to, from, bytes);
        memory.synchronize(ctx);
      },
      rule);
}

/// The quickest of the backend's own ways to multiply: a square product, and a convolution whose
/// operands stay in a cache. Variants that need fewer operations than they are credited with
/// (winograd) say nothing of the device.
template <class T>
Ceiling product_rate(engine::Device& device, const std::string& name, const StopRule& rule) {
  kernels::Context& ctx = device.context();
  constexpr Index kSide = 1024;
  CaseList list;
  add_dense<T>(list, {kSide, kSide, kSide});
  add_conv2d<T>(list, {4, 48, 48, 64, 64, 3, 3, 1, 1}, {.data = false, .filter = false});
  Ceiling best;
  for (const BenchCase& c : list.take()) {
    if (c.op.find("forward") == std::string::npos) continue;
    for (const std::string& variant : c.variants(ctx)) {
      if (variant == "winograd" || variant == "reference") continue;
      Operands operands(ctx, 1);
      const std::function<void()> call = c.bind(ctx, variant, operands);
      const Ceiling one = rate(
          name, concat(c.op, " ", c.key, " by ", variant), c.flops, 1e-6,
          [&] {
            call();
            ctx.table().memory.synchronize(ctx);
          },
          rule);
      if (one.value > best.value) best = one;
    }
  }
  return best.measured ? best : Ceiling{name, false, 0, 0, 0, "not measured"};
}

}  // namespace

Ceilings Ceilings::measure(engine::Device& device, std::size_t cache_bytes, const StopRule& rule) {
  Ceilings c;
  const bool host = device.context().device().compute_major == 0;
  constexpr std::size_t kLarge = std::size_t{256} << 20;
  c.all_.push_back(copy_rate(device, "copy_gbps", std::max(kLarge, 2 * cache_bytes), rule));
  if (cache_bytes > 0)
    c.all_.push_back(
        copy_rate(device, "l2_gbps", std::max<std::size_t>(cache_bytes / 8, 4096), rule));
  if (host) {
    c.all_.push_back(product_rate<float>(device, "fp32_tflops", rule));
    c.all_.push_back(product_rate<bf16>(device, "tensor_bf16_tflops", rule));
  }
  for (const char* missing : {"fp32_tflops", "tensor_bf16_tflops", "tensor_tf32_tflops", "l2_gbps",
                              "launch_gap_us", "grid_barrier_us"})
    if (std::none_of(c.all_.begin(), c.all_.end(),
                     [&](const Ceiling& x) { return x.name == missing; }))
      c.all_.push_back({missing, false, 0, 0, 0, "not measured"});
  return c;
}

Ceilings Ceilings::data_sheet() {
  // NVIDIA H200 SXM, dense figures of the data sheet.
  Ceilings c;
  c.all_ = {{"copy_gbps", false, 4800, 4800, 4800, "H200 data sheet"},
            {"fp32_tflops", false, 67, 67, 67, "H200 data sheet"},
            {"tensor_bf16_tflops", false, 989, 989, 989, "H200 data sheet"},
            {"tensor_tf32_tflops", false, 494, 494, 494, "H200 data sheet"}};
  return c;
}

double Ceilings::value(const std::string& name) const {
  for (const Ceiling& c : all_)
    if (c.name == name) return c.value;
  return 0;
}

double Ceilings::flops(const std::string& op) const {
  const bool narrow = op.ends_with("/bf16") || op == "conv2d_wide_forward";
  return value(narrow ? "tensor_bf16_tflops" : "fp32_tflops") * 1e12;
}

double roofline_us(const Ceilings& c, const std::string& op, double flops, double bytes) {
  if (c.flops(op) <= 0 || c.bytes() <= 0) return 0;
  return std::max(flops / c.flops(op), bytes / c.bytes()) * 1e6;
}

}  // namespace subpix::tools::bench
