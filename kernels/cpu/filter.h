#pragma once

#include <algorithm>
#include <cstring>
#include <memory>

#include "kernels/api/context_objects.h"
#include "kernels/api/op.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cpu/parallel.h"

/// Note [Packed filters]
/// The KRSC filter of a layer is the truth; a oneDNN convolution wants it in a layout of its own.
/// That copy is kept with the filter's storage and made again only when the filter's version has
/// changed: once per optimiser step while training, never for a frozen network. Filters without an
/// identity are packed at every call. Problems that agree on the layout share the copy, so images
/// of many sizes do not multiply it.
namespace subpix::kernels::cpu {

/// How the filter is rearranged before oneDNN packs it.
enum class FilterForm {
  Plain,          ///< as it is
  Turned,         ///< turned by 180 degrees, channel axes exchanged: backward data as a convolution
  Columns,        ///< a filter of one column with S*K outputs, see Note [Column sums]
  TurnedColumns,  ///< both
};

/// Outputs of a column form: S columns of `outputs` each, padded to whole registers of oneDNN.
inline Index column_outputs(Index s, Index outputs) {
  constexpr Index kBlock = 16;
  return (s * outputs + kBlock - 1) / kBlock * kBlock;
}

/// The memory layout of the rearranged filter, before packing.
inline onednn::PlainFilter formed(FilterForm form, const Conv2dProblem& d, DType type) {
  switch (form) {
    case FilterForm::Plain:
      break;
    case FilterForm::Turned:
      return {.k = d.c,
              .c = d.k,
              .r = d.r,
              .s = d.s,
              .k_stride = 1,
              .c_stride = d.r * d.s * d.c,
              .r_stride = d.s * d.c,
              .s_stride = d.c,
              .type = type};
    case FilterForm::Columns:
      return {.k = column_outputs(d.s, d.k),
              .c = d.c,
              .r = d.r,
              .s = 1,
              .k_stride = d.r * d.c,
              .c_stride = 1,
              .r_stride = d.c,
              .s_stride = d.c,
              .type = type};
    case FilterForm::TurnedColumns: {
      const Index outputs = column_outputs(d.s, d.c);
      return {.k = outputs,
              .c = d.k,
              .r = d.r,
              .s = 1,
              .k_stride = 1,
              .c_stride = outputs,
              .r_stride = d.k * outputs,
              .s_stride = outputs,
              .type = type};
    }
  }
  return {.k = d.k,
          .c = d.c,
          .r = d.r,
          .s = d.s,
          .k_stride = d.r * d.s * d.c,
          .c_stride = 1,
          .r_stride = d.s * d.c,
          .s_stride = d.c,
          .type = type};
}

/// Writes w [K,R,S,C] into `to`, which has the layout formed(form, d); whole runs of C move.
template <class T>
void rearrange(FilterForm form, const Conv2dProblem& d, const T* w, T* to) {
  const Index last_row = d.r - 1, last_column = d.s - 1;
  const Index outputs =
      form == FilterForm::Columns ? column_outputs(d.s, d.k) : column_outputs(d.s, d.c);
  const auto place = [&](Index k, Index r, Index s) {
    switch (form) {
      case FilterForm::Turned:
        return ((k * d.r + last_row - r) * d.s + last_column - s) * d.c;
      case FilterForm::Columns:
        return ((s * d.k + k) * d.r + r) * d.c;
      case FilterForm::TurnedColumns:
        return ((last_row - r) * d.k + k) * outputs + (last_column - s) * d.c;
      case FilterForm::Plain:
        break;
    }
    return ((k * d.r + r) * d.s + s) * d.c;
  };
  parallel_ranges(d.k, d.r * d.s * d.c, [&](Range own) {
    for (Index k = own.begin; k < own.end; ++k)
      for (Index r = 0; r < d.r; ++r)
        for (Index s = 0; s < d.s; ++s)
          std::memcpy(to + place(k, r, s), w + ((k * d.r + r) * d.s + s) * d.c,
                      static_cast<std::size_t>(d.c) * sizeof(T));
  });
  // The padding outputs are computed too and must be finite numbers.
  if (form == FilterForm::Columns)
    std::fill_n(to + d.s * d.k * d.r * d.c, (outputs - d.s * d.k) * d.r * d.c, T{});
  if (form == FilterForm::TurnedColumns)
    for (Index row = 0; row < d.r * d.k; ++row)
      std::fill_n(to + row * outputs + d.s * d.c, outputs - d.s * d.c, T{});
}

/// A primitive with what its filter needs; kept in the Context's cache.
template <class Primitive>
struct Prepared {
  Primitive convolution;
  onednn::Reorder pack;
  onednn::memory uncached;  // a filter without identity: its memory is lent by the workspace

  Prepared(Primitive made, const onednn::PlainFilter& plain)
      : convolution(std::move(made)),
        pack(plain.layout(), convolution.filter_layout()),
        uncached(onednn::unbound(convolution.filter_layout())) {}

  std::size_t scratch_bytes() const {
    return std::max(convolution.scratch_bytes(), pack.scratch_bytes());
  }
};

struct PackedFilter {
  std::uint64_t version = 0;
  bool filled = false;
  onednn::memory memory;
};

/// The filter in the primitive's layout: the kept copy, refreshed where it is out of date.
/// scratch: at least prepared.scratch_bytes().
template <class T, class Primitive>
const onednn::memory& packed_filter(Context& ctx, Workspace& ws, const Conv2dProblem& d,
                                    FilterForm form, const Filter<T>& w,
                                    Prepared<Primitive>& prepared, void* scratch) {
  onednn::memory* target = &prepared.uncached;
  PackedFilter* kept = nullptr;
  if (w.id != 0) {
    const std::string key =
        std::to_string(static_cast<int>(form)) + "/" + prepared.convolution.filter_key();
    std::shared_ptr<void>& slot = derived(ctx, w.id, key);
    if (!slot) {
      auto made = std::make_shared<PackedFilter>();
      made->memory = onednn::memory(prepared.convolution.filter_layout(), onednn::engine());
      slot = std::move(made);
    }
    kept = static_cast<PackedFilter*>(slot.get());
    if (kept->filled && kept->version == w.version) return kept->memory;
    target = &kept->memory;
  } else {
    const std::size_t bytes = prepared.uncached.get_desc().get_size();
    onednn::set_pointer(*target, ws.take<std::byte>(bytes));
  }
  const T* from = w.data;
  if (form != FilterForm::Plain) {
    const onednn::PlainFilter plain = formed(form, d, DTypeOf<T>::value);
    T* rearranged = ws.take<T>(static_cast<std::size_t>(plain.k * plain.c * plain.r * plain.s));
    rearrange(form, d, w.data, rearranged);
    from = rearranged;
  }
  prepared.pack(from, *target, scratch);
  if (kept) {
    kept->filled = true;
    kept->version = w.version;
  }
  return *target;
}

}  // namespace subpix::kernels::cpu
