// Ops on each element alone: y = a + b, y = alpha * x + beta * y.
//
// One or two floating-point operations an element against 8 to 12 bytes (fp32; half of that in
// bf16): bound by memory. For add in fp32: 12 bytes an element, 1 FLOP. The kernels and their two
// variants, vec4 and direct, are those of elementwise.cuh.

#include "kernels/cuda/elementwise.cuh"

#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

struct AddElements {
  GPU_DEV float operator()(float a, float b) const { return a + b; }
};
struct ScaleElements {  // axpby with beta = 0: y may hold anything, a NaN too, and is not read
  float alpha;
  GPU_DEV float operator()(float x) const { return alpha * x; }
};
struct AxpbyElements {
  float alpha, beta;
  GPU_DEV float operator()(float x, float before) const { return alpha * x + beta * before; }
};

}  // namespace

template <class T>
void add_variants(Add<T>& op) {
  op.append(
      {"vec4", nullptr, [](Context& ctx, const ElementProblem& p, const T* a, const T* b, T* y) {
         run_elementwise_vec4(ctx, p.count, AddElements{}, y, a, b);
       }});
  op.append(
      {"direct", nullptr, [](Context& ctx, const ElementProblem& p, const T* a, const T* b, T* y) {
         run_elementwise_direct(ctx, p.count, AddElements{}, y, a, b);
       }});
}
template void add_variants(Add<float>&);
template void add_variants(Add<bf16>&);

template <class T>
void axpby_variants(Axpby<T>& op) {
  op.append({"vec4", nullptr, [](Context& ctx, const ElementProblem& p, const T* x, T* y) {
               const T* before = y;
               if (p.beta == 0.0f)
                 run_elementwise_vec4(ctx, p.count, ScaleElements{p.alpha}, y, x);
               else
                 run_elementwise_vec4(ctx, p.count, AxpbyElements{p.alpha, p.beta}, y, x, before);
             }});
  op.append({"direct", nullptr, [](Context& ctx, const ElementProblem& p, const T* x, T* y) {
               const T* before = y;
               if (p.beta == 0.0f)
                 run_elementwise_direct(ctx, p.count, ScaleElements{p.alpha}, y, x);
               else
                 run_elementwise_direct(ctx, p.count, AxpbyElements{p.alpha, p.beta}, y, x, before);
             }});
}
template void axpby_variants(Axpby<float>&);
template void axpby_variants(Axpby<bf16>&);

}  // namespace subpix::kernels::KERNEL_TARGET
