#pragma once

// What the tensor-core kernels of the weight gradient share: into how many parts the pixels are
// split, and how the parts' sums become dw and db.

#include <algorithm>

#include "kernels/cuda/conv2d.cuh"
#include "kernels/cuda/gpu/gpu.cuh"
#include "kernels/cuda/pack.cuh"

namespace subpix::kernels::KERNEL_TARGET {

/// Note [Split pixels]
/// dw has few elements (36,864 for 64 > 64, 3x3) and each is a sum over all pixels of the batch, so
/// blocks can be had only by splitting the sum. Each part leaves its own dw (and db) in scratch
/// memory; a second kernel adds the parts in order. Nothing here asks the device: the same problem
/// gives the same bits everywhere.
struct PixelSplit {
  int parts;
  int tiles;  ///< of a part; the last one may have fewer
};

/// tiles: of `tile_pixels` pixels each, all images together. outputs: blocks that one part needs.
/// blocks: how many are wanted in all. The fewest tiles of a part keep start and end of a block
/// small against its loop; the most are 4096 pixels, since tensor cores truncate when they add, an
/// error of one sign that grows with the length of a sum (docs/numerics.md): between the parts the
/// sum is rounded to nearest.
inline PixelSplit split_pixels(Index tiles, int tile_pixels, Index outputs, Index blocks,
                               Index fewest) {
  const Index most = 4096 / tile_pixels;
  const Index parts = std::max(
      {std::min(gpu::cdiv(blocks, outputs), tiles / fewest), gpu::cdiv(tiles, most), Index{1}});
  const Index each = gpu::cdiv(tiles, parts);
  return {static_cast<int>(gpu::cdiv(tiles, each)), static_cast<int>(each)};
}

/// Where blocks leave their sums: part i writes dw + i * pitch and, where db is not null,
/// db + i * pitch.
struct FilterSums {
  float* dw;
  float* db;
  Index pitch;
};

/// Room for the parts' sums. A single part writes the results themselves.
inline FilterSums filter_sums(Workspace& ws, const Conv2dProblem& d, int parts, float* dw,
                              float* db) {
  // A pitch of whole 32-byte sectors, so that the parts are equally aligned.
  const Index pitch = gpu::cdiv(d.w_count() + (db ? d.k : 0), Index{8}) * 8;
  if (parts == 1 && packable(dw)) return {dw, db, pitch};
  float* sums = ws.take<float>(static_cast<std::size_t>(pitch * parts));
  return {sums, db ? sums + d.w_count() : nullptr, pitch};
}

/// dw and db (null: none) from the parts, added in order. Does nothing where filter_sums gave out
/// dw itself.
void add_filter_sums(Context& ctx, const Conv2dProblem& d, const FilterSums& sums, int parts,
                     float* dw, float* db);

// --- several filters of one shape
// -----------------------------------------------------------------

inline constexpr int kGroupFilters = 64;  ///< of one launch; SRGAN's generator has 33 of a shape
/// Where the gradients of a launch's filters go; a kernel's argument.
struct GroupResults {
  float* dw[kGroupFilters];
};

/// The sums of all parts of filter 0, then of filter 1, ...
struct GroupSums {
  float* first;  ///< null: a single part each, which writes the results themselves
  Index pitch;   ///< of parts
  int parts;
  float* of(int filter, const GroupResults& results) const {
    return first ? first + filter * parts * pitch : results.dw[filter];
  }
};

inline GroupSums group_sums(Workspace& ws, const Conv2dProblem& d, int parts, int filters,
                            const GroupResults& results) {
  const Index pitch = gpu::cdiv(d.w_count(), Index{8}) * 8;
  const bool direct = parts == 1 && std::all_of(results.dw, results.dw + filters,
                                                [](float* p) { return packable(p); });
  return {direct ? nullptr : ws.take<float>(static_cast<std::size_t>(pitch * parts * filters)),
          pitch, parts};
}

/// Each filter's dw from its parts, added in order; nothing where they are the results.
void add_group_sums(Context& ctx, const Conv2dProblem& d, const GroupSums& sums, int filters,
                    const GroupResults& results);

}  // namespace subpix::kernels::KERNEL_TARGET
