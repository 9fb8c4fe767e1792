#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <string>
#include <vector>

#include "engine/core/error.h"

namespace subpix::engine {

using Index = std::int64_t;

/// Up to four dimensions, each at least 1, row-major, outermost first. Activations are N,H,W,C;
/// filters K,R,S,C; matrices out,in; vectors one dimension; a scalar has none and one element.
/// Throws Error for more dimensions, a size below 1 and a product that passes 2^58.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<Index> dims);
  explicit Shape(const std::vector<Index>& dims);

  int rank() const { return rank_; }
  Index operator[](int i) const {
    SUBPIX_REQUIRE(i >= 0 && i < rank_, "shape ", str(), " has no dimension ", i);
    return dims_[static_cast<std::size_t>(i)];
  }
  /// The innermost dimension: channels of an activation.
  Index back() const { return (*this)[rank_ - 1]; }
  Index count() const;
  bool operator==(const Shape& other) const = default;
  std::string str() const;  ///< "[4,24,24,64]"
  std::vector<Index> dims() const;

 private:
  void assign(const Index* dims, std::size_t rank);
  std::array<Index, 4> dims_{};
  int rank_ = 0;
};

inline std::ostream& operator<<(std::ostream& out, const Shape& s) { return out << s.str(); }

}  // namespace subpix::engine
