#pragma once

#include <string>

namespace subpix::engine {

/// Debugging aids of the engine, read from the environment at the first use. Setting a field later
/// holds for the ops that follow (tests do); `level` 2 must be set before Device::open.
struct Debug {
  int level = 0;  ///< SUBPIX_DEBUG: 1 ops, 2 also kernel variants with problem keys, 3 also graph
                  ///< and memory
  bool nan_check = false;  ///< SUBPIX_NANCHECK=1: every result must be finite; waits after each op
  bool poison = false;     ///< SUBPIX_POISON=1: elements of uninitialised tensors start as NaN
};

/// Throws InputError when a variable holds something else than a number in its range.
Debug& debug();

/// One line on stderr, prefixed "subpix: ".
void debug_line(const std::string& text);

}  // namespace subpix::engine
