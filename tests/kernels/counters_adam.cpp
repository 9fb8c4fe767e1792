// Adam over the tensors of SRGAN's generator: one launch, and 30 bytes an element.

#include "tests/kernels/counters.h"

namespace subpix::tests {

TEST_CASE("counters: adam takes a list in one launch", "[sim][counters]") {
  kernels::Context ctx(kernels::sim::table(), kernels::sim::device_info());
  constexpr std::uint64_t kEach = 512, kTensors = 83, kCount = kEach * kTensors;
  const DeviceArray<float> w(ctx, kCount), g(ctx, kCount), m(ctx, kCount), v(ctx, kCount);
  const DeviceArray<float> scalars(ctx, 2);
  const DeviceArray<bf16> copy(ctx, kCount);
  std::vector<kernels::AdamTensor> list;
  for (std::uint64_t k = 0; k < kTensors; ++k)
    list.push_back({w + k * kEach, g + k * kEach, m + k * kEach, v + k * kEach, copy + k * kEach,
                    static_cast<kernels::Index>(kEach)});
  const sim::Stats s = counted(ctx, [&] {
    ctx.table().adam(ctx, {.count = static_cast<kernels::Index>(kCount)}, list.data(),
                     static_cast<int>(list.size()), scalars);
  });
  CHECK(s.launches == 1);
  CHECK(s.blocks == kTensors);
  CHECK(s.copies == 0);
  CHECK(s.allocations == 0);
  // A warp's access is 128 elements; all eight warps of a block read the two scalars.
  const std::uint64_t requests = kCount / 128, warps = kTensors * 8;
  check_global(s, 4 * requests + 2 * warps, kCount * 16 / 32 + 2 * warps, 4 * requests,
               kCount * 14 / 32);
}

}  // namespace subpix::tests
