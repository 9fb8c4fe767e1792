#pragma once

#include <string>

#include "kernels/api/error.h"
#include "tests/support/catch.h"

namespace subpix::tests {

/// The sentence of the InputError that `call` throws; the test fails if it throws none. A sentence
/// is one line, names no source file and starts with a lower-case letter, as the tools print "prog:
/// sentence".
template <class Call>
std::string input_error(const Call& call) {
  try {
    call();
  } catch (const InputError& error) {
    const std::string text = error.what();
    CAPTURE(text);
    CHECK(text.find('\n') == std::string::npos);
    CHECK(text.find(".cpp:") == std::string::npos);
    CHECK(text.size() > 20);
    return text;
  }
  FAIL("no InputError was thrown");
  return {};
}

}  // namespace subpix::tests
