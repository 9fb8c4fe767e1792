#pragma once

#include <algorithm>
#include <dnnl.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/api/error.h"
#include "kernels/api/problem.h"
#include "kernels/api/types.h"

/// The only file that names oneDNN, for 2.6 and 3.x. Activations are plain nhwc. Filters are in the
/// layout that the primitive likes best: with a plain one forced on filters, 2.6 falls back to its
/// reference loops. Primitives take their scratch memory from the caller, so that nothing is
/// allocated when they run, and keep their memory objects, so that a call only sets pointers.
namespace subpix::kernels::cpu::onednn {

using dnnl::memory;
using Layout = memory::desc;

/// Both live as long as the process: primitives kept by other static objects may outlast main().
inline dnnl::engine& engine() {
  static auto* instance = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *instance;
}
inline dnnl::stream& stream() {
  static auto* instance = new dnnl::stream(engine());
  return *instance;
}

inline memory::data_type data_type(DType type) {
  return type == DType::BF16 ? memory::data_type::bf16 : memory::data_type::f32;
}

/// bf16 convolutions are compiled for AVX-512 and later only; elsewhere oneDNN refuses them.
inline bool has_bf16() {
  static const bool answer = [] {
    const auto need = static_cast<unsigned>(dnnl::cpu_isa::avx512_core);
    return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & need) == need;
  }();
  return answer;
}

/// A convolution with a rectangular filter and its own padding on every side, which the public
/// problem does not have: y[n,p,q,k] = sum x[n, p*stride+r-top, q*stride+s-left, c] * w[k,r,s,c].
struct ConvShape {
  Index n, h, w, c, k, r, s;
  Index stride = 1;
  Index top = 0, left = 0, bottom = 0, right = 0;

  Index p() const { return (h + top + bottom - r) / stride + 1; }
  Index q() const { return (w + left + right - s) / stride + 1; }
  std::string key() const {
    std::string text;
    for (const Index size : {n, h, w, c, k, r, s, stride, top, left, bottom, right})
      text.append(std::to_string(size)).push_back(',');
    return text;
  }
};

inline ConvShape shape_of(const Conv2dProblem& d) {
  return {.n = d.n,
          .h = d.h,
          .w = d.w,
          .c = d.c,
          .k = d.k,
          .r = d.r,
          .s = d.s,
          .stride = d.stride,
          .top = d.pad,
          .left = d.pad,
          .bottom = d.pad,
          .right = d.pad};
}

/// The forward convolution of dy whose result is dx, for stride 1: the filter is turned by 180
/// degrees and its channel axes change places.
inline ConvShape transposed(const Conv2dProblem& d) {
  const Index rows = d.r - 1 - d.pad, columns = d.s - 1 - d.pad;
  return {.n = d.n,
          .h = d.p(),
          .w = d.q(),
          .c = d.k,
          .k = d.c,
          .r = d.r,
          .s = d.s,
          .stride = 1,
          .top = rows,
          .left = columns,
          .bottom = rows,
          .right = columns};
}

inline Layout nhwc(Index n, Index c, Index h, Index w, DType type) {
  return Layout({n, c, h, w}, data_type(type), memory::format_tag::nhwc);
}

/// A filter of k x c x r x s in plain memory with these strides, in elements.
struct PlainFilter {
  Index k, c, r, s;
  Index k_stride, c_stride, r_stride, s_stride;
  DType type;

  Layout layout() const {
    return Layout({k, c, r, s}, data_type(type),
                  memory::dims{k_stride, c_stride, r_stride, s_stride});
  }
};

/// A text that is equal for equal layouts: packed filters of several problems share one copy by it.
inline std::string layout_key(const Layout& layout) {
  std::string text;
  const auto append = [&](const auto& values) {
    for (const auto v : values) text.append(std::to_string(v)).push_back(',');
    text.push_back(';');
  };
#if DNNL_VERSION_MAJOR >= 3
  append(layout.get_padded_dims());
  append(layout.get_strides());
  append(layout.get_inner_blks());
  append(layout.get_inner_idxs());
  append(std::vector<int>{static_cast<int>(layout.get_data_type())});
#else
  const auto& plain = layout.data;
  const auto& blocking = plain.format_desc.blocking;
  append(std::vector<Index>(plain.padded_dims, plain.padded_dims + plain.ndims));
  append(std::vector<Index>(blocking.strides, blocking.strides + plain.ndims));
  append(std::vector<Index>(blocking.inner_blks, blocking.inner_blks + blocking.inner_nblks));
  append(std::vector<Index>(blocking.inner_idxs, blocking.inner_idxs + blocking.inner_nblks));
  append(std::vector<int>{static_cast<int>(plain.data_type)});
#endif
  return text;
}

inline void set_pointer(memory& m, const void* data) {
  // oneDNN has one handle type for inputs and outputs.
  m.set_data_handle(const_cast<void*>(data));
}

inline memory unbound(const Layout& layout) { return memory(layout, engine(), DNNL_MEMORY_NONE); }

/// Calls a primitive with arguments on the stack; dnnl::primitive::execute would build a map.
template <std::size_t Count>
void execute(const dnnl::primitive& primitive, const dnnl_exec_arg_t (&arguments)[Count]) {
  const dnnl_status_t status =
      dnnl_primitive_execute(primitive.get(), stream().get(), static_cast<int>(Count), arguments);
  SUBPIX_REQUIRE(status == dnnl_success, "oneDNN could not run a primitive, status ",
                 static_cast<int>(status));
}

/// Turns oneDNN's exceptions into ours, with the problem in the message.
template <class Make>
auto made(const char* what, const std::string& key, Make&& make) {
  try {
    return make();
  } catch (const dnnl::error& e) {
    throw Error(concat("oneDNN cannot make ", what, " ", key, ": ", e.what()));
  }
}

inline dnnl::primitive_attr user_scratch() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

/// Copies between two layouts of the same filter.
class Reorder {
 public:
  Reorder(const Layout& from, const Layout& to)
      : from_(unbound(from)),
        description_(made("a reorder", "",
                          [&] {
                            return dnnl::reorder::primitive_desc(engine(), from, engine(), to,
                                                                 user_scratch());
                          })),
        primitive_(description_),
        scratch_(unbound(description_.scratchpad_desc())) {}

  std::size_t scratch_bytes() const { return description_.scratchpad_desc().get_size(); }

  void operator()(const void* from, memory& to, void* scratch) {
    set_pointer(from_, from);
    set_pointer(scratch_, scratch);
    execute(primitive_, {{DNNL_ARG_FROM, from_.get()},
                         {DNNL_ARG_TO, to.get()},
                         {DNNL_ARG_SCRATCHPAD, scratch_.get()}});
  }

 private:
  memory from_;
  dnnl::reorder::primitive_desc description_;
  dnnl::reorder primitive_;
  memory scratch_;
};

/// What a forward convolution reads and writes besides its shape.
struct ConvForm {
  DType x, w, y;
  bool bias = false;
  std::optional<float> leaky_slope =
      std::nullopt;  ///< LeakyReLU in the same pass; a NaN stays a NaN

  std::string key() const {
    std::string text = concat(name(x), name(w), name(y), bias ? "b" : "");
    if (leaky_slope) text += concat("l", *leaky_slope);
    return text;
  }
};

inline dnnl::convolution_forward::primitive_desc forward_description(const ConvShape& d,
                                                                     const ConvForm& form) {
  const Layout x = nhwc(d.n, d.c, d.h, d.w, form.x), y = nhwc(d.n, d.k, d.p(), d.q(), form.y);
  const Layout w({d.k, d.c, d.r, d.s}, data_type(form.w), memory::format_tag::any);
  const Layout bias({d.k}, memory::data_type::f32, memory::format_tag::a);
  const memory::dims strides{d.stride, d.stride}, before{d.top, d.left}, after{d.bottom, d.right};
  dnnl::primitive_attr attributes = user_scratch();
  if (form.leaky_slope) {
    dnnl::post_ops post;
#if DNNL_VERSION_MAJOR >= 3
    post.append_eltwise(dnnl::algorithm::eltwise_relu, *form.leaky_slope, 0.0f);
#else
    post.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, *form.leaky_slope, 0.0f);
#endif
    attributes.set_post_ops(post);
  }
  constexpr auto kind = dnnl::prop_kind::forward_training;
  constexpr auto direct = dnnl::algorithm::convolution_direct;
  using Description = dnnl::convolution_forward::primitive_desc;
#if DNNL_VERSION_MAJOR >= 3
  if (form.bias)
    return Description(engine(), kind, direct, x, w, bias, y, strides, before, after, attributes);
  return Description(engine(), kind, direct, x, w, y, strides, before, after, attributes);
#else
  if (form.bias)
    return Description({kind, direct, x, w, bias, y, strides, before, after}, attributes, engine());
  return Description({kind, direct, x, w, y, strides, before, after}, attributes, engine());
#endif
}

class ConvolutionForward {
 public:
  ConvolutionForward(const ConvShape& d, const ConvForm& form)
      : description_(made("a convolution", d.key(), [&] { return forward_description(d, form); })),
        primitive_(description_),
        x_(unbound(description_.src_desc())),
        y_(unbound(description_.dst_desc())),
        bias_(unbound(description_.bias_desc())),
        scratch_(unbound(description_.scratchpad_desc())),
        has_bias_(form.bias),
        filter_key_(layout_key(description_.weights_desc())) {}

  Layout filter_layout() const { return description_.weights_desc(); }
  const std::string& filter_key() const { return filter_key_; }
  std::size_t scratch_bytes() const { return description_.scratchpad_desc().get_size(); }
  const char* implementation() const { return description_.impl_info_str(); }

  void operator()(const void* x, const memory& w, const float* bias, void* y, void* scratch) {
    set_pointer(x_, x);
    set_pointer(y_, y);
    set_pointer(scratch_, scratch);
    if (has_bias_) {
      set_pointer(bias_, bias);
      execute(primitive_, {{DNNL_ARG_SRC, x_.get()},
                           {DNNL_ARG_WEIGHTS, w.get()},
                           {DNNL_ARG_BIAS, bias_.get()},
                           {DNNL_ARG_DST, y_.get()},
                           {DNNL_ARG_SCRATCHPAD, scratch_.get()}});
    } else {
      execute(primitive_, {{DNNL_ARG_SRC, x_.get()},
                           {DNNL_ARG_WEIGHTS, w.get()},
                           {DNNL_ARG_DST, y_.get()},
                           {DNNL_ARG_SCRATCHPAD, scratch_.get()}});
    }
  }

 private:
  dnnl::convolution_forward::primitive_desc description_;
  dnnl::convolution_forward primitive_;
  memory x_, y_, bias_, scratch_;
  bool has_bias_;
  std::string filter_key_;
};

inline dnnl::convolution_backward_data::primitive_desc backward_data_description(const ConvShape& d,
                                                                                 DType type) {
  const Layout dx = nhwc(d.n, d.c, d.h, d.w, type), dy = nhwc(d.n, d.k, d.p(), d.q(), type);
  const Layout w({d.k, d.c, d.r, d.s}, data_type(type), memory::format_tag::any);
  const memory::dims strides{d.stride, d.stride}, before{d.top, d.left}, after{d.bottom, d.right};
  const auto hint = forward_description(d, {.x = type, .w = type, .y = type});
  constexpr auto direct = dnnl::algorithm::convolution_direct;
  using Description = dnnl::convolution_backward_data::primitive_desc;
#if DNNL_VERSION_MAJOR >= 3
  return Description(engine(), direct, dx, w, dy, strides, before, after, hint, user_scratch());
#else
  return Description({direct, dx, w, dy, strides, before, after}, user_scratch(), engine(), hint);
#endif
}

class ConvolutionBackwardData {
 public:
  ConvolutionBackwardData(const ConvShape& d, DType type)
      : description_(made("a convolution's data gradient", d.key(),
                          [&] { return backward_data_description(d, type); })),
        primitive_(description_),
        dy_(unbound(description_.diff_dst_desc())),
        dx_(unbound(description_.diff_src_desc())),
        scratch_(unbound(description_.scratchpad_desc())),
        filter_key_(layout_key(description_.weights_desc())) {}

  Layout filter_layout() const { return description_.weights_desc(); }
  const std::string& filter_key() const { return filter_key_; }
  std::size_t scratch_bytes() const { return description_.scratchpad_desc().get_size(); }

  void operator()(const void* dy, const memory& w, void* dx, void* scratch) {
    set_pointer(dy_, dy);
    set_pointer(dx_, dx);
    set_pointer(scratch_, scratch);
    execute(primitive_, {{DNNL_ARG_DIFF_DST, dy_.get()},
                         {DNNL_ARG_WEIGHTS, w.get()},
                         {DNNL_ARG_DIFF_SRC, dx_.get()},
                         {DNNL_ARG_SCRATCHPAD, scratch_.get()}});
  }

 private:
  dnnl::convolution_backward_data::primitive_desc description_;
  dnnl::convolution_backward_data primitive_;
  memory dy_, dx_, scratch_;
  std::string filter_key_;
};

inline dnnl::convolution_backward_weights::primitive_desc backward_filter_description(
    const ConvShape& d, DType type) {
  const Layout x = nhwc(d.n, d.c, d.h, d.w, type), dy = nhwc(d.n, d.k, d.p(), d.q(), type);
  const Layout dw({d.k, d.c, d.r, d.s}, memory::data_type::f32, memory::format_tag::any);
  const memory::dims strides{d.stride, d.stride}, before{d.top, d.left}, after{d.bottom, d.right};
  const auto hint = forward_description(d, {.x = type, .w = type, .y = type});
  constexpr auto direct = dnnl::algorithm::convolution_direct;
  using Description = dnnl::convolution_backward_weights::primitive_desc;
#if DNNL_VERSION_MAJOR >= 3
  return Description(engine(), direct, x, dw, dy, strides, before, after, hint, user_scratch());
#else
  return Description({direct, x, dw, dy, strides, before, after}, user_scratch(), engine(), hint);
#endif
}

/// Writes dw in oneDNN's layout and then, by a reorder, as plain [K,R,S,C].
class ConvolutionBackwardFilter {
 public:
  ConvolutionBackwardFilter(const ConvShape& d, DType type)
      : description_(made("a convolution's filter gradient", d.key(),
                          [&] { return backward_filter_description(d, type); })),
        primitive_(description_),
        x_(unbound(description_.src_desc())),
        dy_(unbound(description_.diff_dst_desc())),
        packed_dw_(unbound(description_.diff_weights_desc())),
        scratch_(unbound(description_.scratchpad_desc())),
        plain_dw_(unbound(PlainFilter{.k = d.k,
                                      .c = d.c,
                                      .r = d.r,
                                      .s = d.s,
                                      .k_stride = d.r * d.s * d.c,
                                      .c_stride = 1,
                                      .r_stride = d.s * d.c,
                                      .s_stride = d.c,
                                      .type = DType::F32}
                              .layout())),
        unpack_(packed_dw_.get_desc(), plain_dw_.get_desc()) {}

  std::size_t packed_bytes() const { return packed_dw_.get_desc().get_size(); }
  std::size_t scratch_bytes() const {
    return std::max(description_.scratchpad_desc().get_size(), unpack_.scratch_bytes());
  }

  void operator()(const void* x, const void* dy, void* packed_dw, float* dw, void* scratch) {
    set_pointer(x_, x);
    set_pointer(dy_, dy);
    set_pointer(packed_dw_, packed_dw);
    set_pointer(scratch_, scratch);
    execute(primitive_, {{DNNL_ARG_SRC, x_.get()},
                         {DNNL_ARG_DIFF_DST, dy_.get()},
                         {DNNL_ARG_DIFF_WEIGHTS, packed_dw_.get()},
                         {DNNL_ARG_SCRATCHPAD, scratch_.get()}});
    set_pointer(plain_dw_, dw);
    unpack_(packed_dw, plain_dw_, scratch);
  }

 private:
  dnnl::convolution_backward_weights::primitive_desc description_;
  dnnl::convolution_backward_weights primitive_;
  memory x_, dy_, packed_dw_, scratch_, plain_dw_;
  Reorder unpack_;
};

}  // namespace subpix::kernels::cpu::onednn
