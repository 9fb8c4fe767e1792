// Must not compile: the simulator refuses what it does not model by name.
#include "kernels/cuda/gpu/gpu.cuh"

__global__ void kernel(unsigned* out) { *out = __activemask(); }
