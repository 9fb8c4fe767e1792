#include "tools/bench/report.h"

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace subpix::tools::bench {

using nlohmann::ordered_json;

namespace {

std::string text(const char* format, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

/// Three significant digits.
std::string short_number(double v) {
  if (v >= 999.5) return text("%.0f", v);
  return v >= 99.95 ? text("%.0f", v) : v >= 9.995 ? text("%.1f", v) : text("%.2f", v);
}

double rate(double work, double us, double unit) { return us > 0 ? work / us * unit : 0; }

ordered_json number(double v) {
  if (!std::isfinite(v) || v <= 0) return nullptr;
  return std::stod(text("%.5g", v));
}

ordered_json to_json(const Series& s) {
  return {{"median_us", number(s.spread.median)},
          {"p5_us", number(s.spread.p5)},
          {"p95_us", number(s.spread.p95)},
          {"low_us", number(s.median.low)},
          {"high_us", number(s.median.high)},
          {"runs", s.us.size()},
          {"settled", s.settled}};
}

std::string ratio_text(const RivalResult& rival) {
  if (!rival.times) return rival.backend + ": " + rival.note;
  // No ratio where the two medians cannot be told apart.
  const std::string who = rival.backend + " " + rival.variant;
  if (!rival.cold.claim) return "as " + who + " within the noise";
  return short_number(rival.cold.value) + " of " + who;
}

std::uint64_t counter(const Result& r, const std::string& wanted) {
  for (const auto& [counted, value] : r.counters)
    if (counted == wanted) return value;
  return 0;
}

std::string count_text(const Result& r, const std::string& wanted) {
  return concat(counter(r, wanted));
}

/// "3.54 (16.0/req)": megabytes, and 32-byte sectors for each request of a warp.
std::string traffic_text(const Result& r, const std::string& kind) {
  const auto requests = static_cast<double>(counter(r, kind + "requests"));
  if (requests == 0.0) return "-";
  return text("%.2f", static_cast<double>(counter(r, kind + "bytes")) / 1e6) +
         text(" (%.1f/req)", static_cast<double>(counter(r, kind + "sectors")) / requests);
}

/// "4608 (1.00)": of shared memory, and how many times what the bytes need.
std::string wavefront_text(const Result& r) {
  const auto sum = [&](const char* what) {
    return static_cast<double>(counter(r, concat("shared_load_", what)) +
                               counter(r, concat("shared_store_", what)));
  };
  if (sum("ideal") == 0.0) return "-";
  return text("%.0f", sum("wavefronts")) + text(" (%.2f)", sum("wavefronts") / sum("ideal"));
}

}  // namespace

void print_heading(const std::string& title, bool simulated) {
  std::printf("\n%s%s\n", title.c_str(), simulated ? ", counted by the simulator" : "");
  if (simulated)
    std::printf("  %-12s %-36s %-18s %4s %7s %9s %8s %16s %16s %16s  %s\n", "layer", "problem",
                "variant", "runs", "blocks", "mma", "barriers", "MB loaded", "MB stored",
                "wavefronts", "predicted us");
  else
    std::printf("  %-12s %-38s %-18s %10s %15s %9s %9s %8s %6s  %s\n", "layer", "problem",
                "variant", "cold us", "5 to 95 %", "warm us", "TFLOP/s", "GB/s", "limit",
                "time beside a rival");
}

void print_result(const BenchCase& c, const Result& r, bool is_default, const Ceilings& ceilings) {
  const std::string variant = r.variant + (is_default ? "*" : "");
  if (r.status == Status::Simulated) {
    std::printf(
        "  %-12s %-36s %-18s %4s %7s %9s %8s %16s %16s %16s  %.3g\n", c.layer.c_str(),
        c.key.c_str(), variant.c_str(), count_text(r, "launches").c_str(),
        count_text(r, "blocks").c_str(),
        (counter(r, "wgmma") > 0 ? count_text(r, "wgmma") + " wg" : count_text(r, "mma")).c_str(),
        count_text(r, "block_barriers").c_str(), traffic_text(r, "global_load_").c_str(),
        traffic_text(r, "global_store_").c_str(), wavefront_text(r).c_str(),
        roofline_us(ceilings, c.op, c.flops, c.bytes));
    return;
  }
  if (!r.times) {
    std::string status = name(r.status);
    if (r.status == Status::Wrong) status = "WRONG";
    std::printf("  %-12s %-38s %-18s %s: %s\n", c.layer.c_str(), c.key.c_str(), variant.c_str(),
                status.c_str(), r.note.c_str());
    return;
  }
  const Series &cold = r.times->cold, &warm = r.times->warm;
  const double least = roofline_us(ceilings, c.op, c.flops, c.bytes);
  std::string beside;
  for (const RivalResult& rival : r.rivals) beside += ratio_text(rival);
  std::printf("  %-12s %-38s %-18s %10s %15s %9s %9s %8s %5s%%  %s%s\n", c.layer.c_str(),
              c.key.c_str(), variant.c_str(), short_number(cold.spread.median).c_str(),
              (short_number(cold.spread.p5) + "-" + short_number(cold.spread.p95)).c_str(),
              short_number(warm.spread.median).c_str(),
              text("%.3f", rate(c.flops, cold.spread.median, 1e-6)).c_str(),
              text("%.1f", rate(c.bytes, cold.spread.median, 1e-3)).c_str(),
              least > 0 ? text("%.0f", 100.0 * least / cold.spread.median).c_str() : "-",
              beside.c_str(), cold.settled && warm.settled ? "" : " (noisy)");
}

void print_ceilings(const Ceilings& c, bool predicted) {
  if (predicted) {
    std::printf("no times: counted by the simulator, and predicted from a data sheet:\n");
    for (const Ceiling& x : c.all())
      std::printf("  %-20s %10s  %s\n", x.name.c_str(), short_number(x.value).c_str(),
                  x.how.c_str());
    return;
  }
  std::printf("ceilings of this device, the best of several runs:\n");
  for (const Ceiling& x : c.all())
    if (x.measured)
      std::printf("  %-20s %10s (95 %% of runs above %s)  %s\n", x.name.c_str(),
                  short_number(x.value).c_str(), short_number(x.low).c_str(), x.how.c_str());
    else
      std::printf("  %-20s %s\n", x.name.c_str(), x.how.c_str());
}

ordered_json to_json(const Ceilings& c) {
  ordered_json all = ordered_json::object();
  for (const Ceiling& x : c.all())
    all[x.name] = {{"value", number(x.value)},
                   {"low", number(x.low)},
                   {"high", number(x.high)},
                   {"status", x.measured ? "measured" : "not measured"},
                   {"how", x.how}};
  return all;
}

ordered_json to_json(const BenchCase& c, const std::string& set, Index batch, const Result& r,
                     bool is_default, const Ceilings& ceilings) {
  const std::size_t slash = c.op.find('/');
  const double least = roofline_us(ceilings, c.op, c.flops, c.bytes);
  const bool compute =
      ceilings.flops(c.op) > 0 && c.flops / ceilings.flops(c.op) > c.bytes / ceilings.bytes();
  ordered_json out = {
      {"op", c.op.substr(0, slash)},
      {"dtype", slash == std::string::npos ? ordered_json() : ordered_json(c.op.substr(slash + 1))},
      {"set", set},
      {"layer", c.layer.empty() ? ordered_json() : ordered_json(c.layer)},
      {"times", c.times},
      {"batch", batch},
      {"problem", c.key},
      {"backend", r.backend},
      {"variant", r.variant},
      {"default", is_default},
      {"status", name(r.status)},
      {"note", r.note},
      {"oracle", r.oracle},
      {"flops", c.flops},
      {"bytes", c.bytes},
      {"predicted_us", number(least)},
      {"bound", least > 0 ? ordered_json(compute ? "compute" : "memory") : ordered_json()},
      {"cold", nullptr},
      {"warm", nullptr},
      {"tflops", nullptr},
      {"gbps", nullptr},
      {"percent_of_ceiling", nullptr},
      {"counters", nullptr},
      {"rivals", ordered_json::array()}};
  if (r.times) {
    const double us = r.times->cold.spread.median;
    out["cold"] = to_json(r.times->cold);
    out["warm"] = to_json(r.times->warm);
    out["tflops"] = number(rate(c.flops, us, 1e-6));
    out["gbps"] = number(rate(c.bytes, us, 1e-3));
    out["percent_of_ceiling"] = number(100.0 * least / us);
    if (!r.times->cold.settled || !r.times->warm.settled) out["status"] = "noisy";
  }
  if (!r.counters.empty()) {
    out["counters"] = ordered_json::object();
    for (const auto& [counted, value] : r.counters) out["counters"][counted] = value;
  }
  for (const RivalResult& rival : r.rivals) {
    ordered_json one = {{"backend", rival.backend},
                        {"variant", rival.variant},
                        {"kind", rival.kind},
                        {"note", rival.note}};
    if (rival.times) {
      const Spread& s = rival.times->cold.spread;
      one.update({{"median_us", number(s.median)},
                  {"p5_us", number(s.p5)},
                  {"p95_us", number(s.p95)},
                  {"ratio", number(rival.cold.value)},
                  {"ratio_low", number(rival.cold.low)},
                  {"ratio_high", number(rival.cold.high)},
                  {"claim", rival.cold.claim},
                  {"warm_ratio", number(rival.warm.value)},
                  {"warm_claim", rival.warm.claim}});
    }
    out["rivals"].push_back(one);
  }
  return out;
}

}  // namespace subpix::tools::bench
