#include <array>
#include <vector>

#include "kernels/api/kernels.h"
#include "kernels/cpu/channel_sums.h"
#include "kernels/cpu/register_tile.h"
#include "kernels/cpu/variants.h"

/// The filter gradient dw[k,r,s,c] = sum_{n,p,q} dy[n,p,q,k] * x[n, p*stride+r-pad, q*stride+s-pad,
/// c] as a sum of outer products: for a fixed tap (r,s) each output pixel adds dy[.., k] * x[..,
/// c].
///
/// outer_product   A tile of kTileRows values of k by kTileVectors registers of c stays in
/// registers
///                 while the output rows of a strip go by; per pixel it costs kTileVectors loads of
///                 x and kTileRows broadcasts of dy for the full product of multiply-adds. Results
///                 lie as KRSC at once. oneDNN's kernel keeps its sums in memory between rows of
///                 pixels, which costs it on large images.
/// column_expand   For few output channels (the generator's 9x9 tail: K = 3) a row of dy is first
///                 spread to S*K columns, e[v, (s,k)] = dy[v - s + pad, k]. Then
///                 dw[k,r,s,c] = sum e[.., v, (s,k)] * x[.., v, c]
///                 is the same sum with S*K outputs and a filter of one column, whose tiles are
///                 full.
///
/// A strip of rows is chosen so that x and dy of it stay in the second-level cache while all taps
/// pass over it. Parts own ranges of k (or of (s,k)), and where that is too coarse for the threads,
/// also ranges of output rows with a partial dw each, see Note [Parts].
namespace subpix::kernels::cpu {

namespace {

constexpr Index kStripBytes = 320 * 1024;
constexpr Index kMaxStripRows = 64;

/// Rows of x and of dy (or of its expansion) that meet under one tap row; `count` pairs.
template <class X>
struct RowPairs {
  Index count;
  const X* x[kMaxStripRows];
  const float* dy[kMaxStripRows];
};

/// Adds the outer products of Rows values at dy + dy_offset with Vectors registers at x + x_offset
/// over `columns` pixels of each row pair to the rows dw[i].
template <int Rows, int Vectors, class X>
inline void add_tile(const RowPairs<X>& pairs, Index x_offset, Index x_step, Index dy_offset,
                     Index dy_step, Index columns, float* const* dw, Index dw_offset) {
  Vec sum[Rows][Vectors] = {};
  for (Index row = 0; row < pairs.count; ++row) {
    const X* x = pairs.x[row] + x_offset;
    const float* dy = pairs.dy[row] + dy_offset;
    for (Index q = 0; q < columns; ++q, x += x_step, dy += dy_step) {
      Vec channels[Vectors];
      for (int v = 0; v < Vectors; ++v) channels[v] = load(x + v * kLanes);
      for (int i = 0; i < Rows; ++i)
        for (int v = 0; v < Vectors; ++v) sum[i][v] += dy[i] * channels[v];
    }
  }
  for (int i = 0; i < Rows; ++i)
    for (int v = 0; v < Vectors; ++v) {
      float* to = dw[i] + dw_offset + v * kLanes;
      save(to, load(to) + sum[i][v]);
    }
}

template <class X>
using AddTile = void (*)(const RowPairs<X>&, Index, Index, Index, Index, Index, float* const*,
                         Index);

/// add_tile for 1 to kTileRows rows and 1 to kTileVectors registers.
template <class X>
AddTile<X> tile_of(int rows, int vectors) {
  static constexpr auto kTiles = []<int... I>(std::integer_sequence<int, I...>) {
    return std::array<AddTile<X>, sizeof...(I)>{
        add_tile<I / kTileVectors + 1, I % kTileVectors + 1, X>...};
  }
  (std::make_integer_sequence<int, kTileRows * kTileVectors>{});
  return kTiles[static_cast<std::size_t>((rows - 1) * kTileVectors + vectors - 1)];
}

/// One gradient of either variant. Outputs are k, or (s,k) where the columns of dy are expanded.
template <class X>
class FilterGradient {
 public:
  FilterGradient(const Conv2dProblem& d, bool expand, const X* x, const X* dy, float* dw)
      : d_(d),
        expand_(expand),
        x_(x),
        dy_(dy),
        dw_(dw),
        outputs_(expand ? d.s * d.k : d.k),
        pixels_(expand ? d.w : d.q()) {}

  void run(Workspace& ws) {
    choose_parts();
    const Index dw_count = d_.k * d_.r * d_.s * d_.c;
    float* partial = row_parts_ > 1
                         ? ws.take<float>(static_cast<std::size_t>(dw_count * (row_parts_ - 1)))
                         : nullptr;
    const int parts = output_parts_ * row_parts_;
    const Index strip_floats = expand_ ? kMaxStripRows * pixels_ * outputs_ : 0;
    float* strips = ws.take<float>(static_cast<std::size_t>(strip_floats * parts));
    parallel_parts(parts, [&](int part) {
      const int row_part = part / output_parts_;
      float* to = row_part == 0 ? dw_ : partial + (row_part - 1) * dw_count;
      run_part(part_range(outputs_, part % output_parts_, output_parts_),
               part_range(d_.n * d_.p(), row_part, row_parts_), to, strips + part * strip_floats);
    });
    if (row_parts_ == 1) return;
    parallel_ranges(dw_count, row_parts_, [&](Range own) {
      for (int row_part = 1; row_part < row_parts_; ++row_part) {
        const float* from = partial + (row_part - 1) * dw_count;
        for (Index i = own.begin; i < own.end; ++i) dw_[i] += from[i];
      }
    });
  }

 private:
  /// As many ranges of outputs as give at least two tiles each and divide the threads evenly.
  void choose_parts() {
    const int threads = part_count(d_.n * d_.p() * pixels_, outputs_ * d_.r * d_.c / 16 + 1);
    output_parts_ = 1;
    for (int parts = 2; parts <= threads; ++parts)
      if (threads % parts == 0 && outputs_ / parts >= 2 * kTileRows) output_parts_ = parts;
    row_parts_ = static_cast<int>(std::min<Index>(threads / output_parts_, d_.n * d_.p()));
  }

  /// Where the gradient of an output lies for tap row 0 (and tap column 0, unless expanded).
  float* dw_row(float* dw, Index output) const {
    const Index k = expand_ ? output % d_.k : output, s = expand_ ? output / d_.k : 0;
    return dw + (k * d_.r * d_.s + s) * d_.c;
  }

  Index strip_rows(Range outputs) const {
    const Index row_bytes = 4 * (d_.stride * d_.w * d_.c + pixels_ * outputs.size());
    constexpr Index kLeastPixels = 192;  // a tile is loaded and stored once for this many
    const Index rows = std::max(kStripBytes / row_bytes, (kLeastPixels + pixels_ - 1) / pixels_);
    return std::clamp<Index>(rows, 1, kMaxStripRows);
  }

  void run_part(Range outputs, Range rows, float* dw, float* strip) const {
    const Index taps = expand_ ? d_.r : d_.r * d_.s;
    const Index tap_step = expand_ ? d_.s * d_.c : d_.c;
    for (Index o = outputs.begin; o < outputs.end; ++o)
      for (Index tap = 0; tap < taps; ++tap)
        std::fill_n(dw_row(dw, o) + tap * tap_step, d_.c, 0.0f);
    const Index step = strip_rows(outputs);
    for (Index begin = rows.begin; begin < rows.end; begin += step) {
      const Range own{begin, std::min(begin + step, rows.end)};
      if (expand_) expand(outputs, own, strip);
      add_strip(outputs, own, dw, strip);
    }
  }

  /// strip[row, v, output] = dy[row, v - s + pad, k], zero outside.
  void expand(Range outputs, Range rows, float* strip) const {
    const Index width = outputs.size(), Q = d_.q();
    for (Index row = rows.begin; row < rows.end; ++row) {
      float* to = strip + (row - rows.begin) * pixels_ * width;
      for (Index o = outputs.begin; o < outputs.end; ++o) {
        const Index k = o % d_.k, shift = d_.pad - o / d_.k;
        const X* from = dy_ + (row * Q + shift) * d_.k + k;
        const Index first = std::clamp<Index>(-shift, 0, pixels_);
        const Index last = std::clamp<Index>(Q - shift, first, pixels_);
        float* column = to + (o - outputs.begin);
        for (Index v = 0; v < first; ++v) column[v * width] = 0.0f;
        for (Index v = first; v < last; ++v) column[v * width] = to_float(from[v * d_.k]);
        for (Index v = last; v < pixels_; ++v) column[v * width] = 0.0f;
      }
    }
  }

  void add_strip(Range outputs, Range rows, float* dw, const float* strip) const {
    RowPairs<X> pairs;
    for (Index r = 0; r < d_.r; ++r) {
      pair_rows(r, outputs, rows, strip, pairs);
      if (pairs.count == 0) continue;
      const Index tiles = (outputs.size() + kTileRows - 1) / kTileRows;
      for (Index tile = 0; tile < tiles; ++tile) {
        // Tiles of nearly equal height waste less than full ones and a remainder.
        const Index first = outputs.begin + outputs.size() * tile / tiles;
        const Index last = outputs.begin + outputs.size() * (tile + 1) / tiles;
        add_tile_row(pairs, r, {first, last}, outputs, dw);
      }
    }
  }

  /// The row pairs of tap row r: those whose input row lies inside the image.
  void pair_rows(Index r, Range outputs, Range rows, const float* strip, RowPairs<X>& pairs) const {
    const Index P = d_.p(), Q = d_.q();
    pairs.count = 0;
    for (Index row = rows.begin; row < rows.end; ++row) {
      const Index n = row / P, h = row % P * d_.stride + r - d_.pad;
      if (h < 0 || h >= d_.h) continue;
      pairs.x[pairs.count] = x_ + (n * d_.h + h) * d_.w * d_.c;
      pairs.dy[pairs.count] = expand_ ? strip + (row - rows.begin) * pixels_ * outputs.size()
                                      : plain_dy() + row * Q * d_.k;
      ++pairs.count;
    }
  }

  const float* plain_dy() const {
    if constexpr (std::is_same_v<X, float>) return dy_;
    return nullptr;  // bf16 gradients are only read through the expansion
  }

  void add_tile_row(const RowPairs<X>& pairs, Index r, Range tile, Range outputs, float* dw) const {
    float* to[kTileRows];
    const int height = static_cast<int>(tile.size());
    for (int i = 0; i < height; ++i) to[i] = dw_row(dw, tile.begin + i);
    const Index dy_step = expand_ ? outputs.size() : d_.k;
    const Index dy_first = expand_ ? tile.begin - outputs.begin : tile.begin;
    for (Index s = 0; s < (expand_ ? 1 : d_.s); ++s) {
      // Columns q of dy whose input column q * stride + shift lies inside the image.
      const Index shift = expand_ ? 0 : s - d_.pad;
      const Index first = shift < 0 ? (-shift + d_.stride - 1) / d_.stride : 0;
      const Index last = std::min(pixels_, (d_.w - 1 - shift) / d_.stride + 1);
      if (d_.w - 1 - shift < 0 || first >= last) continue;
      for (Index c = 0; c < d_.c; c += kTileChannels) {
        const int vectors = static_cast<int>(std::min(kTileChannels, d_.c - c) / kLanes);
        tile_of<X>(height, vectors)(pairs, (first * d_.stride + shift) * d_.c + c, d_.stride * d_.c,
                                    first * dy_step + dy_first, dy_step, last - first, to,
                                    (r * d_.s + s) * d_.c + c);
      }
    }
  }

  const Conv2dProblem d_;
  const bool expand_;
  const X* x_;
  const X* dy_;
  float* dw_;
  const Index outputs_, pixels_;
  int output_parts_ = 1, row_parts_ = 1;
};

template <class T, bool Expand>
void backward_filter(Context& ctx, const Conv2dProblem& d, const T* x, const T* dy, float* dw,
                     float* db) {
  Workspace ws(ctx);
  FilterGradient<T>(d, Expand, x, dy, dw).run(ws);
  if (db) channel_sum(ws, d.n * d.p() * d.q(), d.k, dy, db);
}

/// The tiles pay where a register holds at least 8 floats and the channels fill registers.
bool fills_registers(const Conv2dProblem& d, const DeviceInfo&) {
  return kLanes >= 8 && d.c % kLanes == 0;
}

bool few_outputs(const Conv2dProblem& d, const DeviceInfo& device) {
  constexpr Index kFew = 8;
  return d.k <= kFew && d.s >= 3 && d.stride == 1 && fills_registers(d, device);
}

}  // namespace

void add_conv2d_backward_filter(KernelTable& table) {
  auto& f32 = table.f32.conv2d_backward_filter;
  f32.prepend({"outer_product", fills_registers, backward_filter<float, false>});
  f32.prepend({"column_expand", few_outputs, backward_filter<float, true>});
  table.bf16_ops.conv2d_backward_filter.prepend(
      {"column_expand", few_outputs, backward_filter<bf16, true>});
}

}  // namespace subpix::kernels::cpu
