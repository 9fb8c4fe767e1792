#include <cstdlib>
#include <string>

#include "kernels/sim/fiber.h"
#include "kernels/sim/sim.h"

namespace subpix::sim {

/// Set by the constructor that g++ puts into instrumented objects (tsan_entry.cpp).
bool instrumented = false;

namespace {

[[noreturn]] void refuse(const char* variable, const std::string& value, const char* allowed) {
  throw InputError(concat(variable, "=", value, " is not understood; use ", allowed));
}

bool flag(const char* variable, bool otherwise) {
  const char* value = std::getenv(variable);
  if (!value) return otherwise;
  if (std::string(value) == "0") return false;
  if (std::string(value) == "1") return true;
  refuse(variable, value, "0 or 1");
}

Config from_environment() {
  Config c;
  if (const char* value = std::getenv("SUBPIX_SIM_SCHEDULE")) {
    const std::string s = value;
    c.schedule = s == "fifo"   ? Schedule::Fifo
                 : s == "lifo" ? Schedule::Lifo
                 : s == "random"
                     ? Schedule::Random
                     : (refuse("SUBPIX_SIM_SCHEDULE", s, "fifo, lifo or random"), Schedule::Fifo);
  }
  if (const char* value = std::getenv("SUBPIX_SIM_SEED")) {
    char* end = nullptr;
    c.seed = std::strtoull(value, &end, 10);
    if (end == value || *end) refuse("SUBPIX_SIM_SEED", value, "a whole number");
  }
  c.races = flag("SUBPIX_SIM_RACES", c.races);
  c.count = flag("SUBPIX_SIM_COUNT", c.count);
  c.execute = flag("SUBPIX_SIM_EXECUTE", c.execute);
  return c;
}

}  // namespace

Config& config() {
  static Config instance = from_environment();
  return instance;
}

Flavour flavour() {
  return instrumented ? Flavour::Check : address_sanitizer() ? Flavour::Asan : Flavour::Sim;
}

const char* name(Flavour f) {
  return f == Flavour::Sim ? "sim" : f == Flavour::Check ? "check" : "asan";
}

}  // namespace subpix::sim
