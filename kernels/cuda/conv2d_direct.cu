// Convolution, technique `direct`: one thread an output, straight from the formulas. It takes every
// problem and is the end of every list.
//
//   forward           y[n,p,q,k]  = sum_{r,s,c} x[n, p*stride+r-pad, q*stride+s-pad, c] *
//   w[k,r,s,c] backward data     x[n,h,v,c] enters y[n,p,q,k] through tap (r,s) where h = p*stride
//   + r - pad
//                     and v = q*stride + s - pad, so
//                     dx[n,h,v,c] = sum_{r,s,k} dy[n, (h+pad-r)/stride, (v+pad-s)/stride, k] *
//                     w[k,r,s,c] over the taps for which both quotients are whole and inside
//   backward filter   dw[k,r,s,c] = sum_{n,p,q} dy[n,p,q,k] * x[n, p*stride+r-pad, q*stride+s-pad,
//                     c]; db[k] = sum_{n,p,q} dy[n,p,q,k], which is dw with ones in place of x
//
// 2*R*S*C FLOP an output of y (64 channels, 3x3: 1152) against 8 bytes of x and y: bound by
// arithmetic if operands were reused, but here each multiply-add loads both of its operands through
// L1, so the load units are the limit: 2 loads for 1 FMA, where an SM does 4 FMA warps but 1 load a
// cycle. tiled_shared answers that.

#include "kernels/cuda/conv2d.cuh"
#include "kernels/cuda/conv2d_index.cuh"
#include "kernels/cuda/pack.cuh"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocks = 4;  // of an SM: up to 64 registers a thread

/// Thread i owns output i of y, memory order: the lanes of a warp share a pixel (K >= 32), so x is
/// a broadcast and y is written coalesced; each lane walks its own filter.
template <class T>
__global__ void __launch_bounds__(kThreads, kBlocks)
    conv2d_forward_direct_kernel(Conv2dShape d, Index count, const T* __restrict__ x,
                                 const T* __restrict__ w, Conv2dEpilogue epilogue,
                                 T* __restrict__ y) {
  const Index i = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const Index pixel = i / d.k;
  const Index k = i - pixel * d.k;
  const Pixel at = pixel_at(pixel, d.p, d.q);
  float sum = 0.0f;
  for (int r = 0; r < d.r; ++r) {
    const int h = at.row * d.stride + r - d.pad;
    if (!inside(h, d.h)) continue;
    for (int s = 0; s < d.s; ++s) {
      const int v = at.column * d.stride + s - d.pad;
      if (!inside(v, d.w)) continue;
      const T* a = x + pixel_offset(at.image, h, v, d.h, d.w, d.c);
      const T* b = w + ((k * d.r + r) * d.s + s) * d.c;
      for (int c = 0; c < d.c; ++c) sum += gpu::to_float(a[c]) * gpu::to_float(b[c]);
    }
  }
  store_value(y + i, epilogue(sum, epilogue.shift(k)));
}

/// Thread i owns element i of dx: lanes share a pixel and differ in c, so dy is a broadcast, w and
/// dx are coalesced.
template <class T>
__global__ void __launch_bounds__(kThreads, kBlocks)
    conv2d_backward_data_direct_kernel(Conv2dShape d, Index count, const T* __restrict__ dy,
                                       const T* __restrict__ w, T* __restrict__ dx) {
  const Index i = Index{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const Index pixel = i / d.c;
  const Index c = i - pixel * d.c;
  const Pixel at = pixel_at(pixel, d.h, d.w);
  const Index filter = Index{d.r} * d.s * d.c;  // elements from one k to the next
  const int shift = d.stride - 1;               // strides are 1 and 2: division by shifting
  float sum = 0.0f;
  for (int r = 0; r < d.r; ++r) {
    const int top = at.row + d.pad - r;
    if ((top & shift) != 0 || !inside(top >> shift, d.p)) continue;
    for (int s = 0; s < d.s; ++s) {
      const int left = at.column + d.pad - s;
      if ((left & shift) != 0 || !inside(left >> shift, d.q)) continue;
      const T* a = dy + pixel_offset(at.image, top >> shift, left >> shift, d.p, d.q, d.k);
      const T* b = w + (Index{r} * d.s + s) * d.c + c;
      for (int k = 0; k < d.k; ++k, b += filter) sum += gpu::to_float(a[k]) * gpu::to_float(*b);
    }
  }
  store_value(dx + i, sum);
}

template <int Slices>
struct FilterShared {
  float sum[Slices][kThreads / Slices];
};

/// A block owns kThreads / Slices consecutive elements of dw, or of db, which follows as element
/// w_count onwards. The threads of an element take every Slices-th pixel each, and their sums are
/// added in the order of the slices: the result does not depend on a schedule. Lanes are
/// neighbours in c: x is coalesced, dy a broadcast.
template <class T, int Slices>
__global__ void __launch_bounds__(kThreads, kBlocks)
    conv2d_backward_filter_direct_kernel(Conv2dShape d, Index w_count, Index count,
                                         const T* __restrict__ x, const T* __restrict__ dy,
                                         float* __restrict__ dw, float* __restrict__ db) {
  constexpr int kElements = kThreads / Slices;
  const int lane = static_cast<int>(threadIdx.x) % kElements;
  const int slice = static_cast<int>(threadIdx.x) / kElements;
  const Index i = Index{blockIdx.x} * kElements + lane;
  const Index pixels = Index{d.n} * d.p * d.q;
  float sum = 0.0f;
  if (i < w_count) {
    const Index tap = i / d.c;
    const Index c = i - tap * d.c;
    const Index row = tap / d.s;
    const Index k = row / d.r;
    const int r = static_cast<int>(row - k * d.r) - d.pad;
    const int s = static_cast<int>(tap - row * d.s) - d.pad;
    const Pixel start = pixel_at(Index{slice}, d.p, d.q);
    Odometer at{start.column, start.row, start.image};
    for (Index pixel = slice; pixel < pixels; pixel += Slices, at.advance(Slices, d.q, d.p)) {
      const int h = at.middle * d.stride + r, v = at.low * d.stride + s;
      if (!inside(h, d.h) || !inside(v, d.w)) continue;
      sum += gpu::to_float(dy[pixel * d.k + k]) *
             gpu::to_float(x[pixel_offset(at.high, h, v, d.h, d.w, d.c) + c]);
    }
  } else if (i < count) {
    for (Index pixel = slice; pixel < pixels; pixel += Slices)
      sum += gpu::to_float(dy[pixel * d.k + (i - w_count)]);
  }
  if constexpr (Slices > 1) {
    auto& shared = gpu::smem<FilterShared<Slices>>();
    shared.sum[slice][lane] = sum;
    __syncthreads();  // slice 0 reads what the others wrote
    if (slice == 0)
      for (int other = 1; other < Slices; ++other) sum += shared.sum[other][lane];
  }
  if (slice != 0 || i >= count) return;
  (i < w_count ? dw[i] : db[i - w_count]) = sum;
}

template <class T, int Slices>
void launch_filter(Context& ctx, const Conv2dProblem& d, const T* x, const T* dy, float* dw,
                   float* db) {
  const Index count = d.w_count() + (db ? d.k : 0);
  gpu::launch(conv2d_backward_filter_direct_kernel<T, Slices>,
              {.grid = gpu::grid_for(count, kThreads / Slices),
               .block = kThreads,
               .smem = Slices > 1 ? sizeof(FilterShared<Slices>) : 0,
               .stream = ctx.stream},
              conv2d_shape(d), d.w_count(), count, x, dy, dw, db);
}

}  // namespace

template <class T>
void conv2d_forward_direct(Context& ctx, const Conv2dProblem& d, const T* x, const T* w,
                           Conv2dEpilogue epilogue, T* y) {
  gpu::launch(
      conv2d_forward_direct_kernel<T>,
      {.grid = gpu::grid_for(d.y_count(), kThreads), .block = kThreads, .stream = ctx.stream},
      conv2d_shape(d), d.y_count(), x, w, epilogue, y);
}

template <class T>
void conv2d_backward_data_direct(Context& ctx, const Conv2dProblem& d, const T* dy, const T* w,
                                 T* dx) {
  gpu::launch(
      conv2d_backward_data_direct_kernel<T>,
      {.grid = gpu::grid_for(d.x_count(), kThreads), .block = kThreads, .stream = ctx.stream},
      conv2d_shape(d), d.x_count(), dy, w, dx);
}

template <class T>
void conv2d_backward_filter_direct(Context& ctx, const Conv2dProblem& d, const T* x, const T* dy,
                                   float* dw, float* db) {
  // Few weights see many pixels: eight threads a weight fill the GPU where one would not.
  constexpr Index kManyWeights = Index{1} << 17;
  if (d.w_count() < kManyWeights)
    launch_filter<T, 8>(ctx, d, x, dy, dw, db);
  else
    launch_filter<T, 1>(ctx, d, x, dy, dw, db);
}

template void conv2d_forward_direct(Context&, const Conv2dProblem&, const float*, const float*,
                                    Conv2dEpilogue, float*);
template void conv2d_forward_direct(Context&, const Conv2dProblem&, const bf16*, const bf16*,
                                    Conv2dEpilogue, bf16*);
template void conv2d_backward_data_direct(Context&, const Conv2dProblem&, const float*,
                                          const float*, float*);
template void conv2d_backward_data_direct(Context&, const Conv2dProblem&, const bf16*, const bf16*,
                                          bf16*);
template void conv2d_backward_filter_direct(Context&, const Conv2dProblem&, const float*,
                                            const float*, float*, float*);
template void conv2d_backward_filter_direct(Context&, const Conv2dProblem&, const bf16*,
                                            const bf16*, float*, float*);

}  // namespace subpix::kernels::KERNEL_TARGET
