#include "tools/origin.h"

#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>

namespace subpix::tools {

namespace {

/// What git prints about the source folder, without the last line's end; false if it fails.
bool ask_git(const std::string& question, std::string& answer) {
  const std::string command = "git -C '" SUBPIX_SOURCE_DIR "' " + question + " 2> /dev/null";
  std::FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return false;
  char buffer[256];
  answer.clear();
  while (std::size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) answer.append(buffer, n);
  while (!answer.empty() && answer.back() == '\n') answer.pop_back();
  return pclose(pipe) == 0;
}

}  // namespace

std::string source_commit() {
  std::string head, changes;
  if (!ask_git("rev-parse HEAD", head) || !ask_git("status --porcelain", changes)) return "unknown";
  return head + (changes.empty() ? "" : "-dirty");
}

std::string utc_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  char date[32];
  std::strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", std::gmtime(&now));
  return date;
}

std::string command_of(int argc, const char* const* argv) {
  std::string command = std::filesystem::path(argv[0]).filename().string();
  for (int i = 1; i < argc; ++i) command += std::string(" ") + argv[i];
  return command;
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name"))
      if (const std::size_t colon = line.find(": "); colon != std::string::npos)
        return line.substr(colon + 2);
  return {};
}

}  // namespace subpix::tools
