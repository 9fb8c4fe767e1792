// What halo_wgmma reads, writes and multiplies, as exact numbers.

#include "tests/kernels/counters_conv2d.h"
#include "tests/kernels/source_lines.h"

namespace subpix::tests {

using sim::AccessKind;

TEST_CASE("counters: halo_wgmma, one image of the trunk: 36 wgmma a strip, no bank conflicts") {
  // 8 strips of 3 x 24 outputs; a patch is 5 x 26 pixels, in planes of 135.
  const std::uint64_t blocks = 8, filters = blocks * 9 * 64;
  // Rows of the patches inside the image: 4, 6 times 5, 4.
  const std::uint64_t pixels = 38 * 24;
  for (const bool backward : {false, true}) {
    const sim::Stats s = count_conv2d("halo_wgmma", 8, {1, 24, 24, 64, 64, 3, 3, 1, 1}, backward);
    INFO(sim::report(s));
    const auto at = [&](AccessKind kind, const char* marker) {
      return at_line(s, kind, "conv2d_halo_wgmma.cu", marker);
    };
    CHECK(s.launches == 1);
    CHECK(s.blocks == blocks);
    CHECK(s.wgmma == blocks * 36);
    CHECK(s.mma == 0);
    CHECK(s.ldmatrix == 0);
    CHECK(s.cp_async == (blocks * 135 + filters) * 8);
    CHECK(s.block_barriers == blocks * 5);  // three steps, before and after staging

    const sim::AccessCounter fill = at(AccessKind::GlobalLoad, "planes fill");
    CHECK(fill.bytes == pixels * 128);
    CHECK(fill.units == pixels * 4);
    CHECK(fill.ideal == pixels * 4);
    const sim::AccessCounter planes = at(AccessKind::SharedStore, "planes fill");
    CHECK(planes.bytes == blocks * 135 * 128);
    CHECK(planes.units == blocks * 135);  // 128 bytes a wavefront
    CHECK(planes.ideal == planes.units);

    const sim::AccessCounter filter = at(AccessKind::GlobalLoad, "planes filter");
    CHECK(filter.requests == filters / 4);
    CHECK(filter.units == filters * 4);
    CHECK(filter.ideal == filters * 4);
    const sim::AccessCounter stage = at(AccessKind::SharedStore, "planes filter");
    CHECK(stage.requests == filters / 4);
    CHECK(stage.units == filters);
    CHECK(stage.ideal == filters);

    // 80 pixels of 64 filters: 10 x 2 words a thread.
    const sim::AccessCounter staged = at(AccessKind::SharedStore, "planes stage");
    CHECK(staged.requests == blocks * 4 * 20);
    CHECK(staged.units == blocks * 4 * 20);
    CHECK(staged.ideal == staged.units);
    const sim::AccessCounter store =
        at_line(s, AccessKind::GlobalStore, "conv2d_fragments.cuh", "store");
    CHECK(store.bytes == 24 * 24 * 128);
    CHECK(store.units == 24 * 24 * 4);
    CHECK(store.ideal == 24 * 24 * 4);
  }
}

TEST_CASE("counters: halo_wgmma, chunks of 64 channels: 36 wgmma for each") {
  // One 12x12 image, whole, 128 channels on both sides: two blocks of filters, two chunks.
  const sim::Stats s = count_conv2d("halo_wgmma", 2, {1, 12, 12, 128, 128, 3, 3, 1, 1}, false);
  CHECK(s.blocks == 2);
  CHECK(s.wgmma == 2 * 2 * 36);
  CHECK(s.block_barriers == 2 * (6 + 2));
}

}  // namespace subpix::tests
