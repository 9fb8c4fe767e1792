#pragma once

#include <cudnn_graph.h>

#include <string>

/// cuDNN opened at its first use: programs that never ask for it start as quickly as without it,
/// and run on machines that have none.
namespace subpix::kernels::cudnn {

// X(name): every function of cuDNN that this folder calls, without its prefix.
#define SUBPIX_CUDNN_FUNCTIONS(X) \
  X(GetVersion)                   \
  X(GetErrorString)               \
  X(GetLastErrorString)           \
  X(Create)                       \
  X(Destroy)                      \
  X(SetStream)                    \
  X(BackendCreateDescriptor)      \
  X(BackendDestroyDescriptor)     \
  X(BackendFinalize)              \
  X(BackendSetAttribute)          \
  X(BackendGetAttribute)          \
  X(BackendExecute)

struct Library {
#define SUBPIX_MEMBER(name) decltype(&::cudnn##name) name = nullptr;
  SUBPIX_CUDNN_FUNCTIONS(SUBPIX_MEMBER)
#undef SUBPIX_MEMBER
};

/// Why cuDNN cannot be used by this process, with the remedy; empty where it can. Needs no device.
std::string library_obstacle();
/// The functions; throws InputError with library_obstacle() where there are none.
const Library& library();
/// "9.19.0": of the library found at run time.
std::string version_text();

}  // namespace subpix::kernels::cudnn
