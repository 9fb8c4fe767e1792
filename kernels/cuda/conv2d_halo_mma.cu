// Convolution of stride 1 on tensor cores (mma.sync, bf16) that loads each activation once.
//
//   out[n,p,q,o] = sum over r,s,i of in[n, p+r-ph, q+s-pw, i] * W(o,r,s,i)
//
// Forward: in = x, out = y, W(o,r,s,i) = w[o,r,s,i], ph = pw = pad. Backward data: dx[n,h,v,c] sums
// dy[n,p,q,k] w[k,r,s,c] over the outputs that read it, p + r - pad = h; with r' = R-1-r this is
// p = h + r' - (R-1-pad): the same sum with in = dy, out = dx, W(o,r,s,i) = w[i,R-1-r,S-1-s,o] and
// paddings R-1-pad, S-1-pad. One kernel does both; only the reading of the filter differs.
//
// Trunk layer (64>64, 3x3, 24x24, batch 16): 0.68 GFLOP against 2.4 MB: 0.86 us at 790 TFLOP/s,
// 0.57 us at 4.3 TB/s. As a matrix product over im2col each activation passes nine times from L2 to
// an SM (15.9 MB with 128x64 tiles), which bounds it at 2.45 us. Here a patch, the outputs' tile
// with its halo, stays in shared memory for all taps (7.1 MB, most of it filters).
//
// conv2d_halo_mma.cuh has the kernel.

#include "kernels/cuda/conv2d_halo_mma.cuh"

namespace subpix::kernels::KERNEL_TARGET {

bool supports_forward_halo_mma(const Conv2dProblem& d, const DeviceInfo&) {
  return halo::supports(d, false);
}
bool supports_backward_data_halo_mma(const Conv2dProblem& d, const DeviceInfo&) {
  return halo::supports(d, true);
}

template <class T>
void conv2d_forward_halo_mma(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                             Conv2dEpilogue epilogue, T* y) {
  if (!packable(x, w, y)) return conv2d_forward_direct(ctx, d, x, w, epilogue, y);
  halo::run<false>(ctx, halo::plan(d, false, ctx.device().multiprocessors), x, w,
                   halo::Plain{epilogue}, y);
}
template void conv2d_forward_halo_mma(Context&, const Conv2dProblem&, const bf16*, const bf16*,
                                      Conv2dEpilogue, bf16*);

template <class T>
void conv2d_backward_data_halo_mma(Context& ctx, const Conv2dProblem& d, const T* dy, const T* w,
                                   T* dx) {
  if (!packable(dy, w, dx)) return conv2d_backward_data_direct(ctx, d, dy, w, dx);
  halo::run<true>(ctx, halo::plan(d, true, ctx.device().multiprocessors), dy, w,
                  halo::Plain{Conv2dEpilogue{}}, dx);
}
template void conv2d_backward_data_halo_mma(Context&, const Conv2dProblem&, const bf16*,
                                            const bf16*, bf16*);

}  // namespace subpix::kernels::KERNEL_TARGET
