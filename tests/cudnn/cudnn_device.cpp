// Writes the properties of this machine's device as cuDNN knows them: cudnn_device FILE. From the
// file tests make plans on machines without a device.

#include <cstdio>
#include <exception>
#include <fstream>

#include "kernels/cuda/table.h"
#include "kernels/cudnn/table.h"

int main(int count, char** arguments) {
  namespace cudnn = subpix::kernels::cudnn;
  if (count != 2) {
    std::fprintf(stderr, "usage: cudnn_device FILE\n");
    return 2;
  }
  try {
    if (const std::string obstacle = cudnn::obstacle(); !obstacle.empty()) {
      std::printf("no cuDNN on a device: %s\n", obstacle.c_str());
      return 77;
    }
    subpix::kernels::Context ctx(cudnn::table(), subpix::kernels::cuda::device_info());
    const std::string text = cudnn::device_properties_text(ctx);
    std::ofstream file(arguments[1]);
    file << text << '\n';
    file.close();
    if (!file) {
      std::fprintf(stderr, "cudnn_device: '%s' cannot be written\n", arguments[1]);
      return 2;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cudnn_device: %s\n", error.what());
    return 1;
  }
  return 0;
}
