#include "tools/bench/operands.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/core/random.h"

namespace subpix::tools::bench {

namespace {

// Filters of the engine count up from 1 in the same context.
constexpr std::uint64_t kFirstFilterId = std::uint64_t{1} << 62;

void put(std::uint8_t* to, DType type, double value) {
  if (type == DType::F32) {
    const auto v = static_cast<float>(value);
    std::memcpy(to, &v, sizeof v);
  } else if (type == DType::BF16) {
    const bf16 v = to_bf16(static_cast<float>(value));
    std::memcpy(to, &v, sizeof v);
  } else {
    *to = static_cast<std::uint8_t>(value);
  }
}

double get(const std::uint8_t* from, DType type) {
  if (type == DType::U8) return *from;
  if (type == DType::BF16) {
    bf16 v;
    std::memcpy(&v, from, sizeof v);
    return to_float(v);
  }
  float v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

}  // namespace

Operands::Operands(kernels::Context& ctx, std::uint64_t seed) : ctx_(ctx), seed_(seed) {}

Operands::Operands(kernels::Context& ctx, const Operands& like)
    : ctx_(ctx), seed_(like.seed_), like_(&like) {}

Operands::~Operands() {
  for (const std::uint64_t id : filters_) ctx_.forget(id);
  for (const Buffer& b : buffers_) ctx_.table().memory.release(ctx_, b.data, b.size());
}

std::uint64_t Operands::next_filter_id() {
  static std::uint64_t next = kFirstFilterId;
  return next++;
}

std::vector<std::uint8_t> Operands::drawn(const Buffer& b) const {
  engine::Philox random(b.seed);
  std::vector<std::uint8_t> bytes(b.size());
  const std::size_t step = size_of(b.type);
  const double span = b.draw.high - b.draw.low;
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    double v = b.draw.low;
    if (b.draw.kind == Draw::Kind::Integers)
      v += static_cast<double>(random.next() % static_cast<std::uint32_t>(span + 1.0));
    else if (b.draw.kind == Draw::Kind::Uniform)
      v += span * static_cast<double>(random.next() >> 8) * 0x1p-24;
    put(bytes.data() + at, b.type, v);
  }
  return bytes;
}

void* Operands::make(Index count, DType type, Role role, Draw draw, const char* name,
                     double terms) {
  // Any odd factor: neighbouring buffers draw from different keys.
  const std::uint64_t seed = seed_ + 0x9e3779b97f4a7c15u * (buffers_.size() + 1);
  Buffer b{nullptr, count, type, role, draw, name, terms, seed};
  b.data = ctx_.table().memory.allocate(ctx_, b.size());
  buffers_.push_back(b);
  bytes_ += b.size();
  if (role != Role::Out) {
    if (like_)
      ctx_.table().memory.copy(ctx_, b.data, like_->buffers_[buffers_.size() - 1].data, b.size());
    else
      ctx_.table().memory.copy_to_device(ctx_, b.data, drawn(b).data(), b.size());
  }
  return b.data;
}

void Operands::poison() {
  for (const Buffer& b : buffers_) {
    if (b.role == Role::In) continue;
    std::vector<std::uint8_t> bytes;
    if (b.role == Role::InOut) {
      bytes = drawn(b);
    } else {
      // All ones is a NaN in fp32 and bf16.
      bytes.assign(b.size(), b.type == DType::U8 ? 0xa5 : 0xff);
    }
    ctx_.table().memory.copy_to_device(ctx_, b.data, bytes.data(), bytes.size());
  }
}

std::vector<Output> Operands::read() const {
  std::vector<Output> all;
  for (const Buffer& b : buffers_) {
    if (b.role == Role::In) continue;
    std::vector<std::uint8_t> bytes(b.size());
    ctx_.table().memory.copy_to_host(ctx_, bytes.data(), b.data, bytes.size());
    Output& out = all.emplace_back(Output{b.name, b.type, b.terms, {}});
    const std::size_t step = size_of(b.type);
    out.values.reserve(static_cast<std::size_t>(b.count));
    for (std::size_t at = 0; at < bytes.size(); at += step)
      out.values.push_back(get(bytes.data() + at, b.type));
  }
  return all;
}

std::string compare(const std::vector<Output>& got, const std::vector<Output>& want) {
  for (std::size_t k = 0; k < want.size(); ++k) {
    const Output &g = got[k], &w = want[k];
    double largest = 1.0;
    for (const double v : w.values)
      if (std::isfinite(v)) largest = std::max(largest, std::fabs(v));
    const double roundoff = w.type == DType::BF16 ? 0x1p-8 : 0x1p-24;
    const double sums = (4.0 + 4.0 * std::sqrt(std::min(w.terms, 1024.0))) * 0x1p-24 * largest;
    for (std::size_t i = 0; i < w.values.size(); ++i) {
      const double a = g.values[i], b = w.values[i];
      // No case computes a NaN: one in `want` is a hole that its oracle left, and proves nothing.
      if (std::isnan(b)) return concat(w.name, "[", i, "]: the oracle left a NaN");
      if (a == b) continue;
      const double bound = w.terms == 0.0 ? 0.0 : 2.0 * roundoff * std::fabs(b) + sums;
      if (std::fabs(a - b) <= bound) continue;
      return concat(w.name, "[", i, "] is ", a, ", not ", b,
                    bound > 0.0 ? concat(" within ", bound) : std::string());
    }
  }
  return {};
}

}  // namespace subpix::tools::bench
