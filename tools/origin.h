#pragma once

#include <string>

/// What a measurement must name besides its device.
namespace subpix::tools {

/// The commit of the source folder that the program was built from, with "-dirty" if files there
/// were changed since; "unknown" without git or without the folder.
std::string source_commit();
/// Now, "2026-01-31 09:05 UTC".
std::string utc_now();
/// A program's command line as it can be typed again, without the program's folder.
std::string command_of(int argc, const char* const* argv);
/// The host's processor, as the system names it; empty where it does not.
std::string processor_name();

}  // namespace subpix::tools
