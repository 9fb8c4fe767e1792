#pragma once

#include <cstdint>
#include <string>

#include "kernels/sim/entry.h"

/// From addresses to source lines and names, by binutils' addr2line. Only errors and reports ask.
namespace subpix::sim {

/// The line of a kernel source that an instrumented instruction belongs to: its innermost frame
/// outside the simulator. For a helper of a header that was inlined, `file` also tells the kernel's
/// line.
Where where_of_instruction(std::uintptr_t return_address);

/// "axpby_kernel<float>", without namespaces and parameters; the address where there are no
/// symbols.
std::string function_name(const void* function);

/// Part of the program or of a library it has loaded: code, constants, globals.
bool in_program(const void* p);

/// The file's name without its folder.
const char* base_name(const char* path);

}  // namespace subpix::sim
