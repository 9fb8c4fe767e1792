#include "kernels/cudnn/library.h"

#include <dlfcn.h>

#include "kernels/api/error.h"

namespace subpix::kernels::cudnn {
namespace {

struct Opened {
  Library functions;
  std::string obstacle;
};

std::string dotted(std::size_t version) {
  return concat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

Opened open() {
  Opened opened;
  // The library that the build found goes first: another one on the loader's path may be older than
  // the headers.
  void* handle = dlopen(SUBPIX_CUDNN_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (!handle) handle = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    opened.obstacle = concat("cuDNN cannot be loaded (", dlerror(),
                             "); install cuDNN 9 or name its folder in LD_LIBRARY_PATH, or use "
                             "--backend cuda");
    return opened;
  }
  // Never closed: plans may live until the process ends.
#define SUBPIX_FIND(name)                                                              \
  opened.functions.name =                                                              \
      reinterpret_cast<decltype(opened.functions.name)>(dlsym(handle, "cudnn" #name)); \
  if (!opened.functions.name && opened.obstacle.empty())                               \
    opened.obstacle =                                                                  \
        "the cuDNN library found has no function cudnn" #name                          \
        "; install cuDNN 9 or name its folder in LD_LIBRARY_PATH, or use --backend cuda";
  SUBPIX_CUDNN_FUNCTIONS(SUBPIX_FIND)
#undef SUBPIX_FIND
  if (!opened.obstacle.empty()) return opened;
  const std::size_t version = opened.functions.GetVersion();
  if (version / 10000 != CUDNN_MAJOR)
    opened.obstacle =
        concat("the cuDNN library found is ", dotted(version), ", this program was built for ",
               CUDNN_MAJOR, "; name the folder of cuDNN ", CUDNN_MAJOR,
               " in LD_LIBRARY_PATH, or use --backend cuda");
  return opened;
}

const Opened& opened() {
  static const Opened once = open();
  return once;
}

}  // namespace

std::string library_obstacle() { return opened().obstacle; }

const Library& library() {
  if (!opened().obstacle.empty()) throw InputError(opened().obstacle);
  return opened().functions;
}

std::string version_text() { return dotted(library().GetVersion()); }

}  // namespace subpix::kernels::cudnn
