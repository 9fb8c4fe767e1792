#include "kernels/sim/symbols.h"

#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernels/sim/engine.h"

namespace subpix::sim {
namespace {

struct Frame {
  std::string function, path;
  int line = 0;
};

/// The object that holds an address: what addr2line has to open, and the address inside it.
std::pair<std::string, std::uintptr_t> object_of(std::uintptr_t address) {
  Dl_info info{};
  if (!dladdr(reinterpret_cast<const void*>(address), &info)) return {"", 0};
  const auto base = reinterpret_cast<std::uintptr_t>(info.dli_fbase);
  // The program itself may have been started by any name, or have moved.
  Dl_info self{};
  dladdr(reinterpret_cast<const void*>(&object_of), &self);
  std::string path = info.dli_fname ? info.dli_fname : "";
  if (info.dli_fbase == self.dli_fbase && path.find(".so") == std::string::npos)
    path = concat("/proc/", getpid(), "/exe");
  return {path, address - base};
}

/// The inlined calls at an address, innermost first.
std::vector<Frame> frames_at(std::uintptr_t address) {
  static std::map<std::uintptr_t, std::vector<Frame>> known;
  if (const auto it = known.find(address); it != known.end()) return it->second;
  std::vector<Frame> frames;
  const auto [path, offset] = object_of(address);
  char command[4200];
  std::snprintf(command, sizeof command, "addr2line -Cfie '%s' 0x%zx 2>/dev/null", path.c_str(),
                static_cast<std::size_t>(offset));
  FILE* pipe = path.empty() || path.find('\'') != std::string::npos ? nullptr : popen(command, "r");
  char text[4096];
  for (int n = 0; pipe && std::fgets(text, sizeof text, pipe); ++n) {
    text[std::strcspn(text, "\n")] = 0;
    if (n % 2 == 0) {
      frames.push_back({text, "", 0});
      continue;
    }
    char* colon = std::strrchr(text, ':');
    if (!colon) continue;
    frames.back().line = std::atoi(colon + 1);
    frames.back().path.assign(text, colon);
  }
  if (pipe) pclose(pipe);
  return known[address] = frames;
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

bool of_a_kernel(const Frame& f) {
  return f.line > 0 && !contains(f.path, "/kernels/sim/") && !contains(f.path, "/cuda/gpu/") &&
         !contains(f.path, "/kernels/api/") && !contains(f.path, "/include/c++/");
}

/// Texts that Where may point to for the rest of the program.
const char* keep(const std::string& text) {
  static std::set<std::string> texts;
  return texts.insert(text).first->c_str();
}

struct Segment {
  std::uintptr_t low, high;
};

std::vector<Segment> loaded_segments() {
  std::vector<Segment> all;
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          if (header.p_type != PT_LOAD) continue;
          const std::uintptr_t low = info->dlpi_addr + header.p_vaddr;
          static_cast<std::vector<Segment>*>(out)->push_back({low, low + header.p_memsz});
        }
        return 0;
      },
      &all);
  return all;
}

}  // namespace

Where where_of_instruction(std::uintptr_t return_address) {
  const std::vector<Frame> frames = frames_at(return_address - 1);
  const Frame* inner = nullptr;
  for (const Frame& f : frames) {
    if (!of_a_kernel(f)) continue;
    if (!inner) inner = &f;
    if (!contains(f.path, ".cu") || contains(f.path, ".cuh")) continue;
    // The kernel's own line; a header's helper that was inlined there is named in addition.
    if (inner == &f) break;
    return {keep(concat(base_name(inner->path.c_str()), ":", inner->line, " called from ",
                        base_name(f.path.c_str()))),
            f.line};
  }
  if (inner) return {keep(inner->path), inner->line};
  return {keep(concat("instruction ", reinterpret_cast<const void*>(return_address))), 0};
}

std::string function_name(const void* function) {
  const std::vector<Frame> frames = frames_at(reinterpret_cast<std::uintptr_t>(function));
  std::string name = frames.empty() ? "??" : frames.back().function;
  if (name == "??") return concat("kernel ", function);
  for (const char* part : {"(anonymous namespace)::", "subpix::kernels::sim::", "subpix::"})
    for (std::size_t i; (i = name.find(part)) != std::string::npos;)
      name.erase(i, std::strlen(part));
  // "void axpby_kernel<float>(int, float*)"
  int depth = 0;
  std::size_t begin = 0, end = name.size();
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '<') ++depth;
    if (name[i] == '>') --depth;
    if (depth > 0) continue;
    if (name[i] == '(') {
      end = i;
      break;
    }
    if (name[i] == ' ' || name[i] == ':') begin = i + 1;
  }
  return name.substr(begin, end - begin);
}

bool in_program(const void* p) {
  static std::vector<Segment> segments = loaded_segments();
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  for (int attempt = 0; attempt < 2; ++attempt) {
    for (const Segment& s : segments)
      if (address >= s.low && address < s.high) return true;
    if (attempt == 0) segments = loaded_segments();  // a library may have come since
  }
  return false;
}

const char* base_name(const char* path) {
  const char* slash = std::strrchr(path, '/');
  return slash ? slash + 1 : path;
}

std::string describe(Where where) {
  const std::string file = base_name(where.file);
  return where.line > 0 ? concat(file, ":", where.line) : file;
}

}  // namespace subpix::sim
