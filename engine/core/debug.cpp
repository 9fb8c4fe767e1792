#include "engine/core/debug.h"

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "engine/core/error.h"

namespace subpix::engine {
namespace {

int environment_number(const char* name, int largest) {
  const char* text = std::getenv(name);
  if (!text || !*text) return 0;
  const std::string_view value = text;
  if (value.size() == 1 && value[0] >= '0' && value[0] <= '0' + largest) return value[0] - '0';
  throw InputError(concat("environment variable ", name, " must be a number from 0 to ", largest,
                          ", not '", value, "'"));
}

}  // namespace

Debug& debug() {
  static Debug settings{environment_number("SUBPIX_DEBUG", 3),
                        environment_number("SUBPIX_NANCHECK", 1) == 1,
                        environment_number("SUBPIX_POISON", 1) == 1};
  return settings;
}

void debug_line(const std::string& text) { std::fprintf(stderr, "subpix: %s\n", text.c_str()); }

}  // namespace subpix::engine
