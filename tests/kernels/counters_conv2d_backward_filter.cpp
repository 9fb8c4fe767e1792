// What the weight gradients do on tensor cores, as exact numbers: instructions, copies, and shared
// and global memory without a wavefront or sector too many.

#include <string>
#include <string_view>
#include <vector>

#include "kernels/cuda/conv2d_backward_filter.cuh"
#include "kernels/sim/sim.h"
#include "kernels/sim/table.h"
#include "tests/support/catch.h"

namespace subpix::sim::test {
namespace {

using kernels::Conv2dProblem;
using kernels::Index;

/// Device memory of n elements, zeros.
template <class T>
class Buffer {
 public:
  Buffer(kernels::Context& ctx, kernels::Index n)
      : ctx_(ctx), bytes_(static_cast<std::size_t>(n) * sizeof(T)) {
    data_ = static_cast<T*>(ctx.table().memory.allocate(ctx, bytes_));
    const std::vector<T> zeros(static_cast<std::size_t>(n));
    ctx.table().memory.copy_to_device(ctx, data_, zeros.data(), bytes_);
  }
  ~Buffer() { ctx_.table().memory.release(ctx_, data_, bytes_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() { return data_; }

 private:
  kernels::Context& ctx_;
  std::size_t bytes_;
  T* data_;
};

/// Runs one variant once and returns what it counted.
template <class T>
Stats count(const std::string& variant, const Conv2dProblem& d) {
  kernels::DeviceInfo device = kernels::sim::device_info();
  device.tf32 = true;
  kernels::Context ctx(kernels::sim::table(), device);
  const auto& op = ctx.table().typed<T>().conv2d_backward_filter;
  ctx.override_variant(op.name(), variant);
  Buffer<T> x(ctx, d.x_count()), dy(ctx, d.y_count());
  Buffer<float> dw(ctx, d.w_count()), db(ctx, d.k);
  const Scope scope({.races = false, .count = true});
  ctx.table().memory.synchronize(ctx);
  reset_stats();
  op(ctx, d, x.data(), dy.data(), dw.data(), db.data());
  ctx.table().memory.synchronize(ctx);
  return stats();
}

/// Sum of the counters of one kind over a source file.
AccessCounter of_file(const Stats& s, AccessKind kind, std::string_view file) {
  AccessCounter sum{};
  for (const AccessCounter& c : s.accesses)
    if (c.kind == kind && std::string_view(c.file).ends_with(file)) {
      sum.requests += c.requests;
      sum.units += c.units;
      sum.ideal += c.ideal;
    }
  return sum;
}

}  // namespace

TEST_CASE("the pixels are split by the problem alone", "[check]") {
  using kernels::sim::split_pixels;
  const auto is = [](kernels::sim::PixelSplit s, int parts, int tiles) {
    return s.parts == parts && s.tiles == tiles;
  };
  CHECK(is(split_pixels(1, 64, 3, 264, 4), 1, 1));
  CHECK(is(split_pixels(9, 64, 3, 264, 4), 2, 5));          // at least four tiles
  CHECK(is(split_pixels(156, 64, 3, 264, 4), 39, 4));       // the trunk at batch 16
  CHECK(is(split_pixels(156, 64, 33 * 3, 396, 4), 4, 39));  // its 33 layers in one launch
  CHECK(is(split_pixels(4500, 64, 3, 264, 4), 87, 52));  // VGG conv1_2: 88 parts of 52, one empty
  CHECK(
      is(split_pixels(4500, 64, 264, 264, 4), 71, 64));  // at most 4096 pixels, however many blocks
  CHECK(is(split_pixels(4500, 32, 264, 264, 4), 36, 125));
}

TEST_CASE("[check] split_pixels_mma: counters", "[check]") {
  // 2 x 16 virtual rows of 18 positions: 9 tiles of 64, in two parts; three filter rows.
  const Stats s = count<bf16>("split_pixels_mma", {2, 16, 16, 64, 64, 3, 3, 1, 1});
  INFO(report(s));
  constexpr std::string_view kFile = "conv2d_backward_filter_mma.cu";
  const std::uint64_t tiles = 9 * 3, steps = tiles * 4 * 4;  // steps of 16 positions, of 4 warps
  CHECK(s.launches == 2);
  CHECK(s.blocks == 2 * 3 + 145);
  CHECK(s.mma == steps * 24);
  CHECK(s.ldmatrix == steps * (4 + 3));
  CHECK(s.cp_async == tiles * (64 + 66) * 8);
  CHECK(s.block_barriers == tiles);
  const AccessCounter fragments = of_file(s, AccessKind::SharedLoad, kFile);
  CHECK(fragments.requests == s.ldmatrix);
  CHECK(fragments.units == s.ldmatrix * 4);
  CHECK(fragments.ideal == fragments.units);
  // The two rows beyond a tile of x are half a request.
  const AccessCounter fills = of_file(s, AccessKind::SharedStore, kFile);
  CHECK(fills.requests == tiles * (16 + 17));
  CHECK(fills.units == tiles * (16 * 4 + 16 * 4 + 2));
  CHECK(fills.ideal == fills.units);
  const AccessCounter loads = of_file(s, AccessKind::GlobalLoad, kFile);
  CHECK(loads.units == loads.ideal);
  const AccessCounter stores = of_file(s, AccessKind::GlobalStore, kFile);
  CHECK(stores.requests == 6 * 4 * 48 + 2 * 4 * 2);  // dw; db, by one block of each part
  CHECK(stores.units == 6 * 4 * 48 * 8 + 2 * 4 * 2);
  CHECK(stores.units == stores.ideal);
}

TEST_CASE("[check] split_pixels_mma: counters of stride 2, with two planes of x", "[check]") {
  // 12 virtual rows of 13: 156 positions, 3 tiles, one part, no second kernel.
  const Stats s = count<bf16>("split_pixels_mma", {1, 24, 24, 64, 64, 3, 3, 2, 1});
  INFO(report(s));
  const std::uint64_t tiles = 3 * 3, steps = tiles * 4 * 4;
  CHECK(s.launches == 1);
  CHECK(s.mma == steps * 24);
  CHECK(s.cp_async == tiles * (64 + 65 + 64) * 8);
  const AccessCounter fragments =
      of_file(s, AccessKind::SharedLoad, "conv2d_backward_filter_mma.cu");
  CHECK(fragments.units == steps * 7 * 4);
  CHECK(fragments.ideal == fragments.units);
}

TEST_CASE("[check] split_pixels_mma, a group: one launch for all filters and one for their sums",
          "[check]") {
  // Five filters, each in two parts as above; two of them have a form.
  using kernels::InputForm;
  const Conv2dProblem d{2, 16, 16, 64, 64, 3, 3, 1, 1};
  constexpr std::uint64_t kFilters = 5, kFormed = 2;
  kernels::Context ctx(kernels::sim::table(), kernels::sim::device_info());
  Buffer<bf16> x(ctx, d.x_count()), dy(ctx, d.y_count());
  Buffer<float> dw(ctx, d.w_count() * Index{kFilters}), channels(ctx, d.c);
  std::vector<kernels::FilterGradient<bf16>> list;
  for (std::uint64_t i = 0; i < kFilters; ++i) {
    const bool formed = i < kFormed;
    list.push_back({x.data(),
                    formed ? InputForm::Norm : InputForm::Plain,
                    0.0f,
                    {formed ? channels.data() : nullptr, formed ? channels.data() : nullptr},
                    dy.data(),
                    dw.data() + static_cast<Index>(i) * d.w_count()});
  }
  const Scope scope({.races = false, .count = true});
  ctx.table().memory.synchronize(ctx);
  reset_stats();
  ctx.table().bf16_ops.conv2d_backward_filter_group(ctx, {d, Index{kFilters}}, list.data());
  ctx.table().memory.synchronize(ctx);
  const Stats s = stats();
  INFO(report(s));
  const std::uint64_t tiles = kFilters * 9 * 3, steps = tiles * 4 * 4;
  CHECK(s.launches == 2);
  CHECK(s.blocks == kFilters * (2 * 3 + 144));
  CHECK(s.mma == steps * 24);
  CHECK(s.ldmatrix == steps * (4 + 3));
  CHECK(s.cp_async == tiles * (64 + 66) * 8);
  CHECK(s.block_barriers == tiles + kFilters * 6);  // and one for the forms' constants
  // Each part of each filter once: from the products, and to the sums.
  const std::uint64_t sectors = kFilters * 2 * 36864 / 8;
  const AccessCounter stores = of_file(s, AccessKind::GlobalStore, "conv2d_backward_filter_mma.cu");
  CHECK(stores.units == sectors);
  CHECK(stores.ideal == sectors);
  const AccessCounter loads = of_file(s, AccessKind::GlobalLoad, "conv2d_backward_filter_sum.cu");
  CHECK(loads.units == sectors);
  CHECK(loads.ideal == sectors);
}

TEST_CASE("[check] split_pixels_mma_tf32: counters", "[check]") {
  // 18 tiles of 32 positions in parts of 5, 5, 5 and 3.
  const Stats s = count<float>("split_pixels_mma_tf32", {2, 16, 16, 64, 64, 3, 3, 1, 1});
  INFO(report(s));
  const std::uint64_t tiles = 18 * 3, steps = tiles * 4 * 4;  // steps of 8 positions
  CHECK(s.launches == 2);
  CHECK(s.blocks == 4 * 3 + 145);
  CHECK(s.mma == steps * 24);
  CHECK(s.ldmatrix == 0);
  CHECK(s.cp_async == tiles * (32 + 34) * 16);
  const AccessCounter fragments =
      of_file(s, AccessKind::SharedLoad, "conv2d_backward_filter_mma.cu");
  CHECK(fragments.requests == steps * (16 + 3 * 4));
  CHECK(fragments.units == fragments.requests);
  CHECK(fragments.ideal == fragments.units);
}

TEST_CASE("[check] few_channels_mma and few_filters_mma: counters", "[check]") {
  constexpr std::string_view kFile = "conv2d_backward_filter_few_channels.cu";
  SECTION("27 columns: the first layer of discriminator and VGG") {
    // 2 x 2 x 3 tiles in 4 parts; 4 warps of 16 filters.
    const Stats s = count<bf16>("few_channels_mma", {2, 16, 48, 3, 64, 3, 3, 1, 1});
    INFO(report(s));
    const std::uint64_t tiles = 12, steps = tiles * 8 * 4;
    CHECK(s.launches == 2);
    CHECK(s.blocks == 4 + 7);
    CHECK(s.mma == steps * 4);
    CHECK(s.ldmatrix == steps);
    CHECK(s.cp_async == tiles * 128 * 8);
    const AccessCounter fragments = of_file(s, AccessKind::SharedLoad, kFile);
    CHECK(fragments.requests == steps * (1 + 8));
    CHECK(fragments.units == steps * (4 + 8));
    CHECK(fragments.ideal == fragments.units);
  }
  SECTION("243 columns: the tail") {
    // 3 x 2 tiles in 2 parts; 8 warps of 32 columns; db by a kernel of its own.
    const Stats s = count<bf16>("few_filters_mma", {1, 24, 24, 64, 3, 9, 9, 1, 4});
    INFO(report(s));
    const std::uint64_t tiles = 6, steps = tiles * 8 * 8;
    CHECK(s.launches == 3);
    CHECK(s.blocks == 2 + 2 + 61);
    CHECK(s.mma == steps * 16);
    CHECK(s.ldmatrix == steps * 4);
    CHECK(s.cp_async == tiles * 128 * 8);
    const AccessCounter fragments = of_file(s, AccessKind::SharedLoad, kFile);
    // Two loads of the bias kernel's warps come on top: three threads read eight sums each.
    CHECK(fragments.requests == steps * (4 + 8) + 2 * 8);
    CHECK(fragments.units == steps * (4 * 4 + 8) + 2 * 8);
    CHECK(fragments.ideal == fragments.units);
  }
}

}  // namespace subpix::sim::test
