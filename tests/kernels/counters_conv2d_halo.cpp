// What the convolutions on halo tiles read and write, as exact numbers: each activation once a
// tile, whole sectors, no bank conflicts in the main loops.

#include "tests/kernels/counters_conv2d.h"
#include "tests/kernels/source_lines.h"

namespace subpix::tests {

using sim::AccessKind;

TEST_CASE("counters: halo_mma loads each activation once a tile, without bank conflicts") {
  // One image of the trunk on its share of the multiprocessors: 8 blocks of 6 x 12 outputs, four
  // warps, 9 taps. A warp works on 5 x 4 tiles of products and half of the 64 channels.
  const std::uint64_t blocks = 8, warp_steps = blocks * 4 * 9 * 2;
  const std::uint64_t a = warp_steps * 5, b = warp_steps * 2;
  // Patches of 8 x 14 pixels without what lies outside: 7, 8, 8, 7 rows by 13, 13 columns.
  const std::uint64_t pixels = 30 * 26, filters = blocks * 9 * 64;
  for (const bool backward : {false, true}) {
    const sim::Stats s = count_conv2d("halo_mma", 8, {1, 24, 24, 64, 64, 3, 3, 1, 1}, backward);
    CHECK(s.launches == 1);
    CHECK(s.blocks == blocks);
    CHECK(s.mma == warp_steps * 5 * 4);
    CHECK(s.ldmatrix == a + b);
    CHECK(s.cp_async == (blocks * 8 * 14 + filters) * 8);
    CHECK(s.block_barriers == blocks * (9 + 4));
    const sim::AccessCounter fill =
        at_line(s, AccessKind::GlobalLoad, "conv2d_halo_mma.cuh", "halo fill");
    CHECK(fill.bytes == pixels * 128);
    CHECK(fill.units == pixels * 4);
    CHECK(fill.ideal == pixels * 4);
    const char* marker = backward ? "fragment b transposed" : "fragment b";
    check_accesses(
        s, {{AccessKind::GlobalLoad, "conv2d_halo_mma.cuh", "halo filter", filters / 4,
             filters * 128, filters * 4, filters * 4},
            {AccessKind::SharedStore, "conv2d_halo_mma.cuh", "halo filter", filters / 4,
             filters * 128, filters, filters},
            {AccessKind::SharedLoad, "conv2d_halo_mma.cuh", "halo a", a, a * 512, a * 4, a * 4},
            {AccessKind::SharedLoad, "conv2d_fragments.cuh", marker, b, b * 512, b * 4, b * 4},
            // Two of the four warps, 5 x 4 tiles of two requests.
            {AccessKind::SharedStore, "conv2d_fragments.cuh", "stage", blocks * 2 * 40,
             blocks * 2 * 40 * 128, blocks * 2 * 40, blocks * 2 * 40},
            {AccessKind::GlobalStore, "conv2d_fragments.cuh", "store", 24 * 24 / 4, 24 * 24 * 128,
             24 * 24 * 4, 24 * 24 * 4}});
  }
}

TEST_CASE("counters: halo_mma has no bank conflicts where tile rows break within a request") {
  // Tiles of 12 columns: eight rows of the product lie on two rows of the patch.
  const sim::Stats s = count_conv2d("halo_mma", 1, {1, 12, 12, 64, 64, 3, 3, 1, 1}, false);
  const std::uint64_t a = 6 * 9 * 2 * 3;  // one block of six warps
  CHECK(s.blocks == 1);
  check_accesses(
      s, {{AccessKind::SharedLoad, "conv2d_halo_mma.cuh", "halo a", a, a * 512, a * 4, a * 4}});
}

TEST_CASE("counters: column_sum_mma reads each pixel once a tile, without bank conflicts") {
  // The tail on one tile of 8 x 24 outputs: 16 rows of 32 pixels, those outside are zeros.
  const sim::Stats s = count_conv2d("column_sum_mma", 132, {1, 8, 24, 64, 3, 9, 9, 1, 4}, false);
  const std::uint64_t steps = 4 * 9 * 4;  // warps, taps, 16 channels
  CHECK(s.blocks == 1);
  CHECK(s.mma == steps * 4 * 4);
  CHECK(s.ldmatrix == steps * (4 + 2));
  CHECK(s.cp_async == (16 * 32 + 243) * 8);
  // 192 pixels by 3 outputs by 9 taps; 576 outputs by warps of 32. The 72 outputs of a tile row are
  // no multiple of 32: a warp with the end of a row takes a second wavefront.
  check_accesses(s, {{AccessKind::SharedLoad, "conv2d_column_sum_mma.cu", "sum a", steps * 4,
                      steps * 4 * 512, steps * 4 * 4, steps * 4 * 4},
                     {AccessKind::SharedLoad, "conv2d_column_sum_mma.cu", "sum add", 576 / 32 * 9,
                      576 * 9 * 4, 576 / 32 * 12, 576 / 32 * 9},
                     {AccessKind::GlobalStore, "conv2d_column_sum_mma.cu", "sum store", 576 / 32,
                      576 * 2, 576 / 16, 576 / 16}});
  CHECK(at_line(s, AccessKind::GlobalLoad, "conv2d_column_sum_mma.cu", "sum fill").bytes ==
        8 * 24 * 128);
}

TEST_CASE("counters: few_channels_mma gathers a pair of values an access") {
  // The first layer of VGG19 on one tile of 8 x 16 outputs: reduction 3 x 10, padded to 32.
  const sim::Stats s = count_conv2d("few_channels_mma", 132, {1, 8, 16, 3, 64, 3, 3, 1, 1}, false);
  const std::uint64_t steps = 4 * 2;  // warps, 16 values
  CHECK(s.blocks == 1);
  CHECK(s.mma == steps * 2 * 8);
  CHECK(s.ldmatrix == steps * 4);
  const sim::AccessCounter gather =
      at_line(s, AccessKind::SharedLoad, "conv2d_few_channels_mma.cu", "few gather");
  CHECK(gather.requests == steps * 8);
  // Of each four requests three hold pairs of two rows of taps and take two wavefronts.
  CHECK(gather.units == steps * 2 * 7);
  CHECK(at_line(s, AccessKind::GlobalLoad, "conv2d_few_channels_mma.cu", "few load").bytes ==
        8 * 16 * 3 * 2);
  check_accesses(s, {{AccessKind::GlobalStore, "conv2d_fragments.cuh", "store", 8 * 16 / 4,
                      8 * 16 * 128, 8 * 16 * 4, 8 * 16 * 4}});
}

}  // namespace subpix::tests
