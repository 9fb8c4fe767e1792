#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/api/kernels.h"

/// The tensors of one timed call: inputs drawn from a seed, outputs poisoned before each check.
namespace subpix::tools::bench {

using kernels::Index;

/// How an input is drawn. Integers keep sums of products exact in fp32, so that linear ops can be
/// held to equal bits whatever their order of summation.
struct Draw {
  enum class Kind : std::uint8_t { Integers, Uniform, Constant } kind = Kind::Integers;
  double low = -2.0, high = 2.0;

  static Draw integers(int low, int high) {
    return {Kind::Integers, static_cast<double>(low), static_cast<double>(high)};
  }
  static Draw uniform(double low, double high) { return {Kind::Uniform, low, high}; }
  static Draw constant(double value) { return {Kind::Constant, value, value}; }
};

/// An output as it was computed. terms: how many rounded products a value sums up, 0 where the
/// result is exact.
struct Output {
  std::string name;
  DType type;
  double terms;
  std::vector<double> values;
};

/// Operands are made in the order of a kernel's arguments. The same calls with the same seed give
/// the same inputs on every backend.
class Operands {
 public:
  Operands(kernels::Context& ctx, std::uint64_t seed);
  /// As many copies as are wanted for cold caches: inputs are copied on the device.
  Operands(kernels::Context& ctx, const Operands& like);
  ~Operands();
  Operands(const Operands&) = delete;
  Operands& operator=(const Operands&) = delete;

  template <class T>
  const T* in(Index count, Draw draw = {}) {
    return static_cast<const T*>(make(count, DTypeOf<T>::value, Role::In, draw, "", 0.0));
  }
  /// A filter with an identity of its own: backends may keep it in a layout of theirs.
  template <class T>
  kernels::Filter<T> filter(Index count, Draw draw = {}) {
    const T* data = in<T>(count, draw);
    filters_.push_back(next_filter_id());
    return {data, filters_.back(), 1};
  }
  template <class T>
  T* out(Index count, const char* name, double terms = 0.0) {
    return static_cast<T*>(make(count, DTypeOf<T>::value, Role::Out, {}, name, terms));
  }
  /// Read and written.
  template <class T>
  T* inout(Index count, const char* name, Draw draw, double terms) {
    return static_cast<T*>(make(count, DTypeOf<T>::value, Role::InOut, draw, name, terms));
  }
  /// Keeps something of the host's alive, such as a list of tensors.
  template <class T>
  T* keep(T value) {
    auto kept = std::make_shared<T>(std::move(value));
    kept_.push_back(kept);
    return kept.get();
  }

  std::size_t bytes() const { return bytes_; }
  /// Outputs become NaN (bytes: 0xa5); what is read and written gets its first values again.
  void poison();
  std::vector<Output> read() const;

 private:
  enum class Role : std::uint8_t { In, Out, InOut };
  struct Buffer {
    void* data;
    Index count;
    DType type;
    Role role;
    Draw draw;
    std::string name;
    double terms;
    std::uint64_t seed;
    std::size_t size() const { return static_cast<std::size_t>(count) * size_of(type); }
  };
  void* make(Index count, DType type, Role role, Draw draw, const char* name, double terms);
  std::vector<std::uint8_t> drawn(const Buffer& buffer) const;
  static std::uint64_t next_filter_id();

  kernels::Context& ctx_;
  std::uint64_t seed_;
  const Operands* like_ = nullptr;
  std::vector<Buffer> buffers_;
  std::vector<std::uint64_t> filters_;
  std::vector<std::shared_ptr<void>> kept_;
  std::size_t bytes_ = 0;
};

/// Empty where `got` is as `want` within the roundings that its type and its number of terms allow
/// (docs/numerics.md), else a sentence with the first wrong element. Both come from the same op in
/// the same type, so each may have been rounded the other way.
std::string compare(const std::vector<Output>& got, const std::vector<Output>& want);

}  // namespace subpix::tools::bench
