// Must not compile: such variables could be neither poisoned nor bounded.
#include "kernels/cuda/gpu/gpu.cuh"

__global__ void kernel(float* out) {
  __shared__ float s[32];
  out[threadIdx.x] = s[threadIdx.x];
}
