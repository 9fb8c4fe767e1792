#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

#include "tests/support/catch.h"

namespace subpix::tests {

/// A file or folder of the measuring data: below $SUBPIX_DATA if set, else below shared/data beside
/// the source folder. When it is not there the calling case must return, and the warning says what
/// was left out: the data may not be passed on, so not every machine has it.
inline std::optional<std::filesystem::path> shared_data(const std::string& name) {
  const char* chosen = std::getenv("SUBPIX_DATA");
  const std::filesystem::path root =
      chosen ? std::filesystem::path(chosen)
             : std::filesystem::path(SUBPIX_SOURCE_DIR).parent_path() / "shared/data";
  if (std::filesystem::exists(root / name)) return root / name;
  WARN("left out: there is no " << (root / name).string() << " (set SUBPIX_DATA)");
  return std::nullopt;
}

}  // namespace subpix::tests
