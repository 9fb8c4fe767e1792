// Must not compile: the simulator knows no time.
#include "kernels/cuda/gpu/gpu.cuh"

__global__ void kernel(long long* out) { *out = clock64(); }
