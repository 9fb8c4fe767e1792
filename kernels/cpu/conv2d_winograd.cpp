#include <array>
#include <memory>
#include <type_traits>
#include <vector>

#include "kernels/api/context_objects.h"
#include "kernels/api/kernels.h"
#include "kernels/cpu/channel_sums.h"
#include "kernels/cpu/register_tile.h"
#include "kernels/cpu/variants.h"

/// Note [Winograd]
/// 3x3 convolutions of stride 1 by Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray, arXiv
/// 1509.09308): a 4x4 tile d of one input channel and a 3x3 filter g give a 2x2 tile of outputs as
///   y = A^T [ (G g G^T) . (B^T d B) ] A,   . element by element,
/// with 16 products instead of 36. Summed over input channels the products are 16 matrix products,
/// one for each place f of the 4x4 tile: [tiles, C] by [C, K]. The transforms only add, and halve:
///   B^T = 1  0 -1  0     G = 1    0    0     A^T = 1  1  1  0
///         0  1  1  0         1/2  1/2  1/2         0  1 -1 -1
///         0 -1  1  0         1/2 -1/2  1/2
///         0  1  0 -1         0    0    1
/// so small integers stay exact, and rounding errors grow by a small factor only.
/// The gradient of g is the adjoint: dg = G^T [ (A dy A^T) . (B^T d B) ] G, summed over all tiles.
///
/// An output's rounding depends on its place in its 2x2 tile. Pictures that are upscaled in parts
/// must not depend on where a part begins, and parts come one at a time; so a batch of one image is
/// left to the direct convolution, and only batches, which are training's, are convolved forward
/// this way.
///
/// Work is cut into blocks of tiles whose transforms stay in the second-level cache; the matrix
/// products hold kTileRows x kTileVectors registers of sums, see register_tile.h.
namespace subpix::kernels::cpu {

namespace {

constexpr Index kPlaces = 16;      // of a 4x4 tile
constexpr Index kSpread = kLanes;  // keeps the 16 places of a tile out of the same cache sets

using Tile = std::array<std::array<Vec, 4>, 4>;

/// B^T d B.
Tile input_transform(const Tile& d) {
  Tile rows, out;
  for (int j = 0; j < 4; ++j) {
    rows[0][j] = d[0][j] - d[2][j];
    rows[1][j] = d[1][j] + d[2][j];
    rows[2][j] = d[2][j] - d[1][j];
    rows[3][j] = d[1][j] - d[3][j];
  }
  for (int i = 0; i < 4; ++i) {
    out[i][0] = rows[i][0] - rows[i][2];
    out[i][1] = rows[i][1] + rows[i][2];
    out[i][2] = rows[i][2] - rows[i][1];
    out[i][3] = rows[i][1] - rows[i][3];
  }
  return out;
}

/// G g G^T.
Tile filter_transform(const std::array<std::array<Vec, 3>, 3>& g) {
  std::array<std::array<Vec, 3>, 4> rows;
  Tile out;
  for (int j = 0; j < 3; ++j) {
    const Vec outer = g[0][j] + g[2][j];
    rows[0][j] = g[0][j];
    rows[1][j] = 0.5f * (outer + g[1][j]);
    rows[2][j] = 0.5f * (outer - g[1][j]);
    rows[3][j] = g[2][j];
  }
  for (int i = 0; i < 4; ++i) {
    const Vec outer = rows[i][0] + rows[i][2];
    out[i][0] = rows[i][0];
    out[i][1] = 0.5f * (outer + rows[i][1]);
    out[i][2] = 0.5f * (outer - rows[i][1]);
    out[i][3] = rows[i][2];
  }
  return out;
}

/// A^T m A.
std::array<std::array<Vec, 2>, 2> output_transform(const Tile& m) {
  std::array<std::array<Vec, 4>, 2> rows;
  std::array<std::array<Vec, 2>, 2> out;
  for (int j = 0; j < 4; ++j) {
    rows[0][j] = m[0][j] + m[1][j] + m[2][j];
    rows[1][j] = m[1][j] - m[2][j] - m[3][j];
  }
  for (int i = 0; i < 2; ++i) {
    out[i][0] = rows[i][0] + rows[i][1] + rows[i][2];
    out[i][1] = rows[i][1] - rows[i][2] - rows[i][3];
  }
  return out;
}

/// A dy A^T.
Tile output_adjoint(const std::array<std::array<Vec, 2>, 2>& dy) {
  std::array<std::array<Vec, 2>, 4> rows;
  Tile out;
  for (int j = 0; j < 2; ++j) {
    rows[0][j] = dy[0][j];
    rows[1][j] = dy[0][j] + dy[1][j];
    rows[2][j] = dy[0][j] - dy[1][j];
    rows[3][j] = -dy[1][j];
  }
  for (int i = 0; i < 4; ++i) {
    out[i][0] = rows[i][0];
    out[i][1] = rows[i][0] + rows[i][1];
    out[i][2] = rows[i][0] - rows[i][1];
    out[i][3] = -rows[i][1];
  }
  return out;
}

/// G^T m G.
std::array<std::array<Vec, 3>, 3> filter_adjoint(const Tile& m) {
  std::array<std::array<Vec, 4>, 3> rows;
  std::array<std::array<Vec, 3>, 3> out;
  for (int j = 0; j < 4; ++j) {
    const Vec sum = 0.5f * (m[1][j] + m[2][j]);
    rows[0][j] = m[0][j] + sum;
    rows[1][j] = 0.5f * (m[1][j] - m[2][j]);
    rows[2][j] = sum + m[3][j];
  }
  for (int i = 0; i < 3; ++i) {
    const Vec sum = 0.5f * (rows[i][1] + rows[i][2]);
    out[i][0] = rows[i][0] + sum;
    out[i][1] = 0.5f * (rows[i][1] - rows[i][2]);
    out[i][2] = sum + rows[i][3];
  }
  return out;
}

/// The 2x2 output tiles of N images of P x Q, in rows, and the images they come from.
struct Tiling {
  Index n, h, w, p, q, pad;
  Index rows() const { return (p + 1) / 2; }
  Index columns() const { return (q + 1) / 2; }
  Index count() const { return n * rows() * columns(); }

  struct Place {
    Index n, p, q;
  };
  Place place(Index tile) const {
    return {tile / (rows() * columns()), tile / columns() % rows() * 2, tile % columns() * 2};
  }
};

/// [kPlaces][count][channels], the places a little apart from each other.
struct Transformed {
  Index count, channels;
  Index stride() const { return count * channels + kSpread; }
  Index size() const { return kPlaces * stride(); }
};

/// The transformed input tiles [begin, end) of x [N,H,W,channels], zero outside the image.
void transform_inputs(const Tiling& tiling, Range tiles, const float* x, Transformed to,
                      float* out) {
  const Index channels = to.channels;
  for (Index tile = tiles.begin; tile < tiles.end; ++tile) {
    const Tiling::Place at = tiling.place(tile);
    const Index top = at.p - tiling.pad, left = at.q - tiling.pad;
    const float* image = x + at.n * tiling.h * tiling.w * channels;
    const bool inside = top >= 0 && left >= 0 && top + 4 <= tiling.h && left + 4 <= tiling.w;
    float* own = out + (tile - tiles.begin) * channels;
    for (Index c = 0; c < channels; c += kLanes) {
      Tile d;
      for (Index i = 0; i < 4; ++i)
        for (Index j = 0; j < 4; ++j) {
          const Index h = top + i, w = left + j;
          const bool here = inside || (h >= 0 && h < tiling.h && w >= 0 && w < tiling.w);
          d[i][j] = here ? load(image + (h * tiling.w + w) * channels + c) : Vec{};
        }
      const Tile v = input_transform(d);
      for (Index f = 0; f < kPlaces; ++f) save(own + f * to.stride() + c, v[f / 4][f % 4]);
    }
  }
}

/// How many tiles to a block, at most `most`, so that the parts get equal numbers of blocks.
Index block_size(Index tiles, int parts, Index most) {
  const Index blocks = (tiles + parts * most - 1) / (parts * most);
  return (tiles + parts * blocks - 1) / (parts * blocks);
}

// --- forward, and backward_data as the forward convolution of dy
// -------------------------------------

/// The filter in transformed blocks [K / kTileChannels][kPlaces][C][block of outputs].
struct TransformedFilter {
  std::uint64_t version = 0;
  bool filled = false;
  std::vector<Vec> data;
};

constexpr Index outputs_of_block(Index block, Index k) {
  return std::min(kTileChannels, k - block * kTileChannels);
}

/// w [d.k,3,3,d.c] for a convolution from d.k channels to d.c outputs (turned by 180 degrees).
void transform_turned(const Conv2dProblem& d, const float* w, float* out) {
  parallel_ranges(d.k, kPlaces * d.c, [&](Range own) {
    for (Index k = own.begin; k < own.end; ++k)
      for (Index c = 0; c < d.c; c += kLanes) {
        std::array<std::array<Vec, 3>, 3> g;
        for (Index r = 0; r < 3; ++r)
          for (Index s = 0; s < 3; ++s) g[r][s] = load(w + ((k * 3 + 2 - r) * 3 + 2 - s) * d.c + c);
        const Tile u = filter_transform(g);
        const Index block = c / kTileChannels, width = outputs_of_block(block, d.c);
        float* to = out + block * kTileChannels * kPlaces * d.k + k * width + c % kTileChannels;
        for (Index f = 0; f < kPlaces; ++f) save(to + f * d.k * width, u[f / 4][f % 4]);
      }
  });
}

/// w [d.k,3,3,d.c] for a convolution from d.c channels to d.k outputs. The outputs, which lie far
/// apart in w, are first brought side by side, a block of outputs by a register of channels at
/// once.
void transform_plain(const Conv2dProblem& d, const float* w, float* out) {
  constexpr Index kTaps = 9;
  const Index blocks = (d.k + kTileChannels - 1) / kTileChannels, registers = d.c / kLanes;
  parallel_ranges(blocks * registers, kPlaces * kTileChannels * kLanes, [&](Range own) {
    float side[kTaps][kLanes][kTileChannels];
    for (Index unit = own.begin; unit < own.end; ++unit) {
      const Index block = unit / registers, c = unit % registers * kLanes;
      const Index first = block * kTileChannels, width = outputs_of_block(block, d.k);
      for (Index k = 0; k < width; ++k)
        for (Index tap = 0; tap < kTaps; ++tap) {
          const float* from = w + ((first + k) * kTaps + tap) * d.c + c;
          for (Index lane = 0; lane < kLanes; ++lane) side[tap][lane][k] = from[lane];
        }
      for (Index lane = 0; lane < kLanes; ++lane)
        for (Index k = 0; k < width; k += kLanes) {
          std::array<std::array<Vec, 3>, 3> g;
          for (Index tap = 0; tap < kTaps; ++tap) g[tap / 3][tap % 3] = load(&side[tap][lane][k]);
          const Tile u = filter_transform(g);
          float* to = out + first * kPlaces * d.c + (c + lane) * width + k;
          for (Index f = 0; f < kPlaces; ++f) save(to + f * d.c * width, u[f / 4][f % 4]);
        }
    }
  });
}

/// The transformed filter, kept as in Note [Packed filters].
const float* transformed_filter(Context& ctx, Workspace& ws, const Conv2dProblem& d, bool turned,
                                const Filter<float>& w) {
  const Index size = kPlaces * d.k * d.c;
  const auto transform = [&](float* out) {
    turned ? transform_turned(d, w.data, out) : transform_plain(d, w.data, out);
  };
  if (w.id == 0) {
    float* out = ws.take<float>(static_cast<std::size_t>(size));
    transform(out);
    return out;
  }
  std::shared_ptr<void>& slot = derived(ctx, w.id, turned ? "winograd/turned" : "winograd/plain");
  if (!slot) {
    auto made = std::make_shared<TransformedFilter>();
    made->data.resize(static_cast<std::size_t>(size / kLanes));
    slot = std::move(made);
  }
  auto& kept = *static_cast<TransformedFilter*>(slot.get());
  auto* out = reinterpret_cast<float*>(kept.data.data());
  if (!kept.filled || kept.version != w.version) {
    transform(out);
    kept.filled = true;
    kept.version = w.version;
  }
  return out;
}

/// m[tile][k] = sum_c v[tile][c] * u[c][k] for one place and one block of outputs.
void multiply_place(const float* v, Index tiles, Index c, const float* u, Index outputs, float* m) {
  const int vectors = static_cast<int>(outputs / kLanes);
  for (Index tile = 0; tile < tiles; tile += kTileRows) {
    const int rows = static_cast<int>(std::min<Index>(kTileRows, tiles - tile));
    store_product(
        rows, vectors,
        {.a = v + tile * c, .a_row = c, .a_step = 1, .b = u, .b_step = outputs, .count = c},
        m + tile * outputs, outputs);
  }
}

/// The outputs of a block of tiles from m [kPlaces][tiles][width], for outputs first .. + width.
void write_outputs(const Tiling& tiling, Range tiles, const float* m, Transformed from, Index first,
                   Index k, const float* bias, float* y) {
  for (Index tile = tiles.begin; tile < tiles.end; ++tile) {
    const Tiling::Place at = tiling.place(tile);
    const float* own = m + (tile - tiles.begin) * from.channels;
    for (Index j = 0; j < from.channels; j += kLanes) {
      Tile sums;
      for (Index f = 0; f < kPlaces; ++f) sums[f / 4][f % 4] = load(own + f * from.stride() + j);
      const auto out = output_transform(sums);
      const Vec start = bias ? load(bias + first + j) : Vec{};
      for (Index dp = 0; dp < std::min<Index>(2, tiling.p - at.p); ++dp)
        for (Index dq = 0; dq < std::min<Index>(2, tiling.q - at.q); ++dq)
          save(y + ((at.n * tiling.p + at.p + dp) * tiling.q + at.q + dq) * k + first + j,
               out[dp][dq] + start);
    }
  }
}

/// y [n,p,q,k] from x [n,h,w,c] with the transformed filter u.
void convolve(Workspace& ws, const Tiling& tiling, Index c, Index k, const float* x, const float* u,
              const float* bias, float* y) {
  const Index tiles = tiling.count();
  const int parts = part_count(tiles, kPlaces * (c + k));
  // More tiles use a block of the filter longer, but their transforms must stay in the cache.
  constexpr Index kInputBytes = 400 * 1024, kFewest = 24, kMost = 48;
  const Index most = std::clamp<Index>(kInputBytes / (4 * kPlaces * c), kFewest, kMost);
  const Index block = block_size(tiles, parts, most);
  const Transformed input{block, c}, sums{block, std::min(k, kTileChannels)};
  const Index part_size = input.size() + sums.size();
  float* buffers = ws.take<float>(static_cast<std::size_t>(parts * part_size));
  parallel_parts(parts, [&](int part) {
    const Range own = part_range(tiles, part, parts, block);
    float* v = buffers + part * part_size;
    float* m = v + input.size();
    for (Index begin = own.begin; begin < own.end; begin += block) {
      const Range here{begin, std::min(begin + block, own.end)};
      transform_inputs(tiling, here, x, input, v);
      for (Index first = 0; first < k; first += kTileChannels) {
        const Index outputs = outputs_of_block(first / kTileChannels, k);
        const Transformed narrow{block, outputs};
        for (Index f = 0; f < kPlaces; ++f)
          multiply_place(v + f * input.stride(), here.size(), c,
                         u + first * kPlaces * c + f * c * outputs, outputs,
                         m + f * narrow.stride());
        write_outputs(tiling, here, m, narrow, first, k, bias, y);
      }
    }
  });
}

void forward(Context& ctx, const Conv2dProblem& d, const float* x, Filter<float> w,
             const float* bias, float* y) {
  Workspace ws(ctx);
  const Tiling tiling{.n = d.n, .h = d.h, .w = d.w, .p = d.p(), .q = d.q(), .pad = d.pad};
  convolve(ws, tiling, d.c, d.k, x, transformed_filter(ctx, ws, d, false, w), bias, y);
}

void backward_data(Context& ctx, const Conv2dProblem& d, const float* dy, Filter<float> w,
                   float* dx) {
  Workspace ws(ctx);
  const Tiling tiling{.n = d.n, .h = d.p(), .w = d.q(), .p = d.h, .q = d.w, .pad = d.r - 1 - d.pad};
  convolve(ws, tiling, d.k, d.c, dy, transformed_filter(ctx, ws, d, true, w), nullptr, dx);
}

// --- backward_filter
// ---------------------------------------------------------------------------------

/// The transformed gradient tiles [begin, end) of dy [N,P,Q,K]; outputs beyond the edge count as
/// zero.
void transform_gradients(const Tiling& tiling, Range tiles, const float* dy, Transformed to,
                         float* out) {
  const Index k = to.channels;
  for (Index tile = tiles.begin; tile < tiles.end; ++tile) {
    const Tiling::Place at = tiling.place(tile);
    const float* first = dy + ((at.n * tiling.p + at.p) * tiling.q + at.q) * k;
    const bool below = at.p + 1 < tiling.p, right = at.q + 1 < tiling.q;
    float* own = out + (tile - tiles.begin) * k;
    for (Index j = 0; j < k; j += kLanes) {
      const Vec zero = {};
      const Tile w =
          output_adjoint({{{load(first + j), right ? load(first + k + j) : zero},
                           {below ? load(first + tiling.q * k + j) : zero,
                            below && right ? load(first + (tiling.q + 1) * k + j) : zero}}});
      for (Index f = 0; f < kPlaces; ++f) save(own + f * to.stride() + j, w[f / 4][f % 4]);
    }
  }
}

/// m[k][c] += sum over the tiles of w[tile][k] * v[tile][c] for one place.
void add_place(const float* w, Index k, const float* v, Index c, Index tiles, float* m) {
  const Index heights = (k + kTileRows - 1) / kTileRows;
  for (Index i = 0; i < heights; ++i) {
    // Tiles of nearly equal height waste less than full ones and a remainder.
    const Index first = k * i / heights, last = k * (i + 1) / heights;
    for (Index j = 0; j < c; j += kTileChannels)
      add_product(
          static_cast<int>(last - first), static_cast<int>(std::min(kTileChannels, c - j) / kLanes),
          {.a = w + first, .a_row = 1, .a_step = k, .b = v + j, .b_step = c, .count = tiles},
          m + first * c + j, c);
  }
}

void backward_filter(Context& ctx, const Conv2dProblem& d, const float* x, const float* dy,
                     float* dw, float* db) {
  Workspace ws(ctx);
  const Tiling tiling{.n = d.n, .h = d.h, .w = d.w, .p = d.p(), .q = d.q(), .pad = d.pad};
  const Index tiles = tiling.count();
  const int parts = part_count(tiles, kPlaces * (d.c + d.k));
  constexpr Index kMost = 72;  // each block reads and writes all sums once
  const Index block = block_size(tiles, parts, kMost);
  const Transformed input{block, d.c}, gradient{block, d.k};
  const Index sums_size = kPlaces * d.k * d.c;
  const Index part_size = sums_size + input.size() + gradient.size();
  float* buffers = ws.take<float>(static_cast<std::size_t>(parts * part_size));
  parallel_parts(parts, [&](int part) {
    const Range own = part_range(tiles, part, parts, block);
    float* sums = buffers + part * part_size;
    float* v = sums + sums_size;
    float* w = v + input.size();
    std::fill_n(sums, sums_size, 0.0f);
    for (Index begin = own.begin; begin < own.end; begin += block) {
      const Range here{begin, std::min(begin + block, own.end)};
      transform_inputs(tiling, here, x, input, v);
      transform_gradients(tiling, here, dy, gradient, w);
      for (Index f = 0; f < kPlaces; ++f)
        add_place(w + f * gradient.stride(), d.k, v + f * input.stride(), d.c, here.size(),
                  sums + f * d.k * d.c);
    }
  });
  parallel_ranges(d.k, kPlaces * parts * d.c, [&](Range own) {
    for (Index k = own.begin; k < own.end; ++k)
      for (Index c = 0; c < d.c; c += kLanes) {
        Tile m;
        for (Index f = 0; f < kPlaces; ++f) {
          const float* at = buffers + (f * d.k + k) * d.c + c;
          Vec sum = load(at);
          for (int part = 1; part < parts; ++part) sum += load(at + part * part_size);
          m[f / 4][f % 4] = sum;
        }
        const auto g = filter_adjoint(m);
        for (Index r = 0; r < 3; ++r)
          for (Index s = 0; s < 3; ++s) save(dw + ((k * 3 + r) * 3 + s) * d.c + c, g[r][s]);
      }
  });
  if (db) channel_sum(ws, d.n * d.p() * d.q(), d.k, dy, db);
}

/// 3x3 filters, and whole registers of channels on both sides.
bool fits(const Conv2dProblem& d, const DeviceInfo&) {
  return kLanes >= 8 && d.r == 3 && d.s == 3 && d.stride == 1 && d.c % kLanes == 0 &&
         d.k % kLanes == 0;
}

bool fits_batch(const Conv2dProblem& d, const DeviceInfo& device) {
  return d.n > 1 && fits(d, device);
}

/// Each thread holds 16 sums for every c and k, and makes them into a filter at the end: there must
/// be tiles enough to pay for that, and not too many channels.
bool fits_filter(const Conv2dProblem& d, const DeviceInfo& device) {
  constexpr Index kLeastTiles = 64, kMostProducts = 256 * 256;
  return fits(d, device) && d.k * d.c <= kMostProducts &&
         d.n * ((d.p() + 1) / 2) * ((d.q() + 1) / 2) >= kLeastTiles;
}

}  // namespace

void add_conv2d_winograd(KernelTable& table) {
  auto& ops = table.f32;
  ops.conv2d_forward.prepend({"winograd", fits_batch, forward});
  ops.conv2d_backward_data.prepend({"winograd", fits, backward_data});
  ops.conv2d_backward_filter.prepend({"winograd", fits_filter, backward_filter});
}

}  // namespace subpix::kernels::cpu
