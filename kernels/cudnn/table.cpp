#include "kernels/cudnn/table.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "kernels/cuda/table.h"
#include "kernels/cudnn/session.h"
#include "kernels/cudnn/variants.h"

namespace subpix::kernels::cudnn {
namespace {

/// Puts the composition of plain ops first: a step on this backend shall spend its time in cuDNN's
/// convolutions, not in hand-written kernels that fuse them with other work.
template <class Op>
void prefer_composed(Op& op) {
  auto list = op.variants();
  const auto is_composed = [](const auto& v) { return std::string_view(v.name) == "composed"; };
  std::stable_partition(list.begin(), list.end(), is_composed);
  op.replace(std::move(list));
}

template <class T>
void prefer_composed_convolutions(TypedOps<T>& ops) {
  prefer_composed(ops.conv2d_norm_forward);
  prefer_composed(ops.conv2d_norm_backward_filter);
  prefer_composed(ops.conv2d_backward_filter_group);
  prefer_composed(ops.conv2d_norm_backward_data);
  prefer_composed(ops.conv2d_shuffle_forward);
  prefer_composed(ops.conv2d_pool_forward);
}

}  // namespace

const KernelTable& table() {
  static const KernelTable instance = [] {
    KernelTable t = cuda::table();
    t.name = "cudnn";
    prefer_composed_convolutions(t.f32);
    prefer_composed_convolutions(t.bf16_ops);
    add_conv2d(t);
    add_dense(t);
    return t;
  }();
  return instance;
}

std::string obstacle() {
  // The device first: opening the library takes longer than asking for one.
  if (std::string reason = cuda::obstacle(); !reason.empty()) return reason;
  return library_obstacle();
}

std::string library(const DeviceInfo& device) {
  return concat("cuDNN ", version_text(), " on ", device.name, ", compute capability ",
                device.compute_major, ".", device.compute_minor);
}

std::string device_properties_text(Context& ctx) {
  return device_properties_json(handle_of(ctx).on(ctx.stream));
}

}  // namespace subpix::kernels::cudnn
