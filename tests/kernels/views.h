#pragma once

#include <cstddef>
#include <vector>

#include "kernels/api/context.h"
#include "kernels/api/kernels.h"

namespace subpix::tests {

/// Device memory with `shift` unused elements in front of a view, and one behind it.
template <class T>
class View {
 public:
  View(kernels::Context& ctx, std::vector<T> values, std::size_t shift)
      : ctx_(ctx), n_(values.size()), shift_(shift), bytes_((n_ + shift + 1) * sizeof(T)) {
    base_ = static_cast<T*>(ctx.table().memory.allocate(ctx, bytes_));
    if (n_ > 0) ctx.table().memory.copy_to_device(ctx, data(), values.data(), n_ * sizeof(T));
  }
  ~View() { ctx_.table().memory.release(ctx_, base_, bytes_); }
  View(const View&) = delete;
  View& operator=(const View&) = delete;
  T* data() const { return base_ + shift_; }
  std::vector<T> read() const {
    std::vector<T> values(n_);
    ctx_.table().memory.copy_to_host(ctx_, values.data(), data(), n_ * sizeof(T));
    return values;
  }

 private:
  kernels::Context& ctx_;
  std::size_t n_, shift_, bytes_;
  T* base_;
};

}  // namespace subpix::tests
