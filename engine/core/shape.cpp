#include "engine/core/shape.h"

namespace subpix::engine {
namespace {

// Bytes are counted in size_t and pointers differ by ptrdiff_t: leave room for the element size.
constexpr Index kMaxCount = Index{1} << 58;

std::string text(const Index* dims, std::size_t rank) {
  std::string all = "[";
  for (std::size_t i = 0; i < rank; ++i) all += (i ? "," : "") + std::to_string(dims[i]);
  return all + "]";
}

}  // namespace

Shape::Shape(std::initializer_list<Index> dims) { assign(dims.begin(), dims.size()); }
Shape::Shape(const std::vector<Index>& dims) { assign(dims.data(), dims.size()); }

void Shape::assign(const Index* dims, std::size_t rank) {
  SUBPIX_REQUIRE(rank <= dims_.size(), "a shape has at most 4 dimensions, not ", text(dims, rank));
  Index product = 1;
  for (std::size_t i = 0; i < rank; ++i) {
    SUBPIX_REQUIRE(dims[i] >= 1, "every dimension must be at least 1 in shape ", text(dims, rank));
    SUBPIX_REQUIRE(product <= kMaxCount / dims[i], "shape ", text(dims, rank),
                   " has too many elements");
    product *= dims[i];
    dims_[i] = dims[i];
  }
  rank_ = static_cast<int>(rank);
}

Index Shape::count() const {
  Index product = 1;
  for (int i = 0; i < rank_; ++i) product *= dims_[static_cast<std::size_t>(i)];
  return product;
}

std::string Shape::str() const { return text(dims_.data(), static_cast<std::size_t>(rank_)); }

std::vector<Index> Shape::dims() const { return {dims_.begin(), dims_.begin() + rank_}; }

}  // namespace subpix::engine
