#pragma once

#include <CLI/CLI.hpp>
#include <exception>
#include <functional>
#include <iostream>
#include <new>
#include <string>

#include "kernels/api/error.h"

namespace subpix::tools {

// Exit codes of every tool.
inline constexpr int kSuccess = 0;
inline constexpr int kInternalError = 1;  ///< a fault of ours
inline constexpr int kInputError = 2;     ///< something the user can mend; one sentence says what

/// One line on stderr, "PROG: TEXT", whatever line breaks TEXT has.
inline void complain(const std::string& program, std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '.')) text.pop_back();
  for (char& c : text)
    if (c == '\n') c = ' ';
  std::cout.flush();
  std::cerr << program << ": " << text << std::endl;
}

/// The one place where a tool's exceptions end: parses the command line (adding --version), runs
/// `body` and turns whatever happens into an exit code and at most one line on stderr. `body`
/// returns the exit code for the case that nothing is thrown.
inline int run_main(int argc, const char* const* argv, CLI::App& app,
                    const std::function<int()>& body) {
  const std::string program = app.get_name();
  app.set_version_flag("--version", program + " " + SUBPIX_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // Help and version arrive here as well, to be printed on stdout with code 0.
    if (error.get_exit_code() == 0) return app.exit(error);
    complain(program, std::string(error.what()) + "; see " + program + " --help");
    return kInputError;
  } catch (const std::exception& error) {
    complain(program, error.what());
    return kInputError;
  }
  try {
    const int code = body();
    // A full disk behind a redirected stdout would otherwise pass for success.
    if (!std::cout.flush()) throw InputError("cannot write to standard output; is the disk full?");
    return code;
  } catch (const InputError& error) {
    complain(program, error.what());
    return kInputError;
  } catch (const std::bad_alloc&) {
    complain(program,
             "not enough memory; use smaller pictures, tiles or batches, or a larger machine");
    return kInputError;
  } catch (const std::exception& error) {
    complain(program, std::string("internal error: ") + error.what());
    return kInternalError;
  } catch (...) {
    complain(program, "internal error of unknown kind");
    return kInternalError;
  }
}

}  // namespace subpix::tools
