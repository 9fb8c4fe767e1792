// Must not compile: the race checker draws no edge for it.
#include "kernels/cuda/gpu/gpu.cuh"

__global__ void kernel() { __threadfence_block(); }
