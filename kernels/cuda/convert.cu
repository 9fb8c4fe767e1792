// Between bytes, fp32 and bf16: from_bytes y = alpha * x + beta; to_bytes y = floor(alpha * x +
// beta + 0.5) cut to 0..255; casts.
//
// Bytes moved an element: from_bytes 1 + 4 (bf16: 1 + 2), to_bytes the same backwards, casts 4 + 2;
// at most 5 FLOP. All are bound by memory. The kernels and their two variants, vec4 and direct, are
// those of elementwise.cuh: a pack is 16 bytes of the wider type and 4 or 8 of the narrower one.

#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/variants.h"

namespace subpix::kernels::KERNEL_TARGET {
namespace {

struct FromByte {
  float alpha, beta;
  GPU_DEV float operator()(float x) const { return alpha * x + beta; }
};
struct ToByte {
  float alpha, beta;
  GPU_DEV float operator()(float x) const {
    const float v = floorf(alpha * x + beta + 0.5f);
    // Compared so that a NaN goes to 0; what passes is a whole number that a byte holds.
    return !(v > 0.0f) ? 0.0f : v > 255.0f ? 255.0f : v;
  }
};
struct Same {
  GPU_DEV float operator()(float x) const { return x; }
};

}  // namespace

template <class T>
void from_bytes_variants(FromBytes<T>& op) {
  op.append(
      {"vec4", nullptr, [](Context& ctx, const ElementProblem& p, const std::uint8_t* x, T* y) {
         run_elementwise_vec4(ctx, p.count, FromByte{p.alpha, p.beta}, y, x);
       }});
  op.append(
      {"direct", nullptr, [](Context& ctx, const ElementProblem& p, const std::uint8_t* x, T* y) {
         run_elementwise_direct(ctx, p.count, FromByte{p.alpha, p.beta}, y, x);
       }});
}
template void from_bytes_variants(FromBytes<float>&);
template void from_bytes_variants(FromBytes<bf16>&);

template <class T>
void to_bytes_variants(ToBytes<T>& op) {
  op.append(
      {"vec4", nullptr, [](Context& ctx, const ElementProblem& p, const T* x, std::uint8_t* y) {
         run_elementwise_vec4(ctx, p.count, ToByte{p.alpha, p.beta}, y, x);
       }});
  op.append(
      {"direct", nullptr, [](Context& ctx, const ElementProblem& p, const T* x, std::uint8_t* y) {
         run_elementwise_direct(ctx, p.count, ToByte{p.alpha, p.beta}, y, x);
       }});
}
template void to_bytes_variants(ToBytes<float>&);
template void to_bytes_variants(ToBytes<bf16>&);

void cast_to_bf16_variants(CastToBf16& op) {
  op.append({"vec4", nullptr, [](Context& ctx, const ElementProblem& p, const float* x, bf16* y) {
               run_elementwise_vec4(ctx, p.count, Same{}, y, x);
             }});
  op.append({"direct", nullptr, [](Context& ctx, const ElementProblem& p, const float* x, bf16* y) {
               run_elementwise_direct(ctx, p.count, Same{}, y, x);
             }});
}

void cast_to_float_variants(CastToFloat& op) {
  op.append({"vec4", nullptr, [](Context& ctx, const ElementProblem& p, const bf16* x, float* y) {
               run_elementwise_vec4(ctx, p.count, Same{}, y, x);
             }});
  op.append({"direct", nullptr, [](Context& ctx, const ElementProblem& p, const bf16* x, float* y) {
               run_elementwise_direct(ctx, p.count, Same{}, y, x);
             }});
}

}  // namespace subpix::kernels::KERNEL_TARGET
