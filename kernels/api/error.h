#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace subpix {

/// Any failure of the library: what() holds the sentence, the values involved and, if known, the
/// remedy.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A failure the user can mend (a file, a key, a flag, a size). what() is one complete sentence
/// without source locations; the tools print it and exit with code 2.
class InputError : public Error {
 public:
  using Error::Error;
};

/// Streams all arguments into one string: concat("h is ", 3, ", not ", 4).
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

}  // namespace subpix

/// Checks an argument of a public function, always on. The message lists the values involved:
/// SUBPIX_REQUIRE(x.c == w.c, "x has ", x.c, " channels, w ", w.c);
#define SUBPIX_REQUIRE(condition, ...)                                                     \
  do {                                                                                     \
    if (!(condition))                                                                      \
      throw ::subpix::Error(::subpix::concat(__VA_ARGS__, " [", #condition, " failed at ", \
                                             __FILE__, ":", __LINE__, "]"));               \
  } while (false)
