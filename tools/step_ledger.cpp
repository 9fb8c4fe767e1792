#include "tools/step_ledger.h"

#include <cctype>
#include <functional>
#include <string_view>

#include "kernels/api/context_objects.h"
#include "kernels/api/problem.h"

namespace subpix::tools {

namespace {

using kernels::Conv2dProblem;

/// The words and numbers of a problem's key: "n16h24skip" is n 16, h 24, skip 0.
class Key {
 public:
  Key(const std::string& op, const std::string& text) : op_(op), text_(text) {
    std::size_t i = 0;
    while (i < text.size()) {
      const std::size_t word = i;
      while (i < text.size() && !std::isdigit(static_cast<unsigned char>(text[i]))) ++i;
      const std::size_t number = i;
      while (i < text.size() && std::isdigit(static_cast<unsigned char>(text[i]))) ++i;
      // A slope or an eps, of which the bytes know nothing: its digits are no size.
      const std::string digits = text.substr(number, i - number);
      values_.emplace(text.substr(word, number - word), digits.empty() ? 0.0 : std::stod(digits));
    }
  }
  double at(const char* word) const {
    const auto found = values_.find(word);
    if (found == values_.end())
      throw Error(concat("the ledger finds no '", word, "' in the problem '", text_, "' of ", op_));
    return found->second;
  }
  bool holds(const char* word) const { return text_.find(word) != std::string::npos; }
  Conv2dProblem conv() const {
    const auto size = [&](const char* word) { return static_cast<kernels::Index>(at(word)); };
    return {size("n"), size("h"), size("w"),  size("c"), size("k"),
            size("r"), size("s"), size("st"), size("p")};
  }
  /// Elements of a map, whichever way the key writes it.
  double count() const {
    if (values_.contains("count")) return at("count");
    if (values_.contains("rows")) return at("rows") * at("c");
    const double scale = values_.contains("x") ? at("x") : 1.0;
    return at("n") * at("h") * at("w") * at("c") * scale * scale;
  }

 private:
  const std::string &op_, &text_;
  std::map<std::string, double, std::less<>> values_;
};

using Bytes = std::function<double(const Key&, double e)>;

/// `maps` maps of the key's size.
Bytes maps(double how_many) {
  return [how_many](const Key& k, double e) { return how_many * e * k.count(); };
}

double x_of(const Key& k) { return static_cast<double>(k.conv().x_count()); }
double w_of(const Key& k) { return static_cast<double>(k.conv().w_count()); }
double y_of(const Key& k) { return static_cast<double>(k.conv().y_count()); }

constexpr double kFloat = 4.0;  // gradients of filters, logits and images are fp32 in every type

double convolution(const Key& k, double e) { return e * (x_of(k) + w_of(k) + y_of(k)); }
double filter_gradient(const Key& k, double e) {
  return e * (x_of(k) + y_of(k)) + kFloat * w_of(k);
}
double data_gradient(const Key& k, double e) {
  const int more = (k.holds("skip") ? 1 : 0) + (k.holds("norm") ? 1 : 0);
  return convolution(k, e) + more * e * x_of(k);
}
double shuffled(const Key& k, double e) {
  return convolution(k, e) + (k.holds("prelu") ? e * y_of(k) : 0.0);
}
// Each pooled element keeps a byte that says where it came from.
double pooled_of(const Key& k) {
  return k.at("n") *
         static_cast<double>(static_cast<int>(k.at("h")) / 2 * (static_cast<int>(k.at("w")) / 2)) *
         k.at("c");
}
double pooling(const Key& k, double e) { return e * (k.count() + pooled_of(k)) + pooled_of(k); }
double convolution_pooled(const Key& k, double e) {
  const Conv2dProblem c = k.conv();
  const auto y = static_cast<double>(c.n * (c.p() / 2) * (c.q() / 2) * c.k);
  return e * (x_of(k) + w_of(k) + y) + y;
}
double dense(const Key& k, double e) {
  return e * (k.at("n") * (k.at("in") + k.at("out")) + k.at("in") * k.at("out"));
}
double dense_filter(const Key& k, double e) {
  return e * k.at("n") * (k.at("in") + k.at("out")) + kFloat * k.at("in") * k.at("out");
}

const std::map<std::string, Bytes, std::less<>>& table() {
  static const std::map<std::string, Bytes, std::less<>> all = {
      {"conv2d_forward", convolution},
      {"conv2d_backward_data", convolution},
      {"conv2d_backward_filter", filter_gradient},
      {"conv2d_activation_forward", convolution},
      {"conv2d_norm_forward", convolution},
      {"conv2d_norm_backward_filter", filter_gradient},
      {"conv2d_backward_filter_group",
       [](const Key& k, double e) { return k.at("filters") * filter_gradient(k, e); }},
      {"conv2d_norm_backward_data", data_gradient},
      {"conv2d_shuffle_forward", shuffled},
      {"conv2d_pool_forward", convolution_pooled},
      {"conv2d_wide_forward",
       [](const Key& k, double) { return 2.0 * (x_of(k) + w_of(k)) + kFloat * y_of(k); }},
      {"batchnorm_forward", maps(2)},
      {"batchnorm_backward", maps(3)},
      {"batchnorm_inference", maps(2)},
      {"norm_backward_apply", maps(3)},
      {"norm_add_forward", maps(3)},
      {"norm_activation_forward", maps(2)},
      {"prelu_forward", maps(2)},
      {"prelu_backward", maps(3)},
      {"prelu_shuffle_backward", maps(3)},
      {"leaky_relu_forward", maps(2)},
      {"leaky_relu_backward", maps(3)},
      {"pixel_shuffle_forward", maps(2)},
      {"pixel_shuffle_backward", maps(2)},
      {"max_pool_forward", pooling},
      {"max_pool_backward", pooling},
      {"max_pool_relu_backward",
       [](const Key& k, double e) { return pooling(k, e) + e * pooled_of(k); }},
      {"dense_forward", dense},
      {"dense_backward_data", dense},
      {"dense_backward_filter", dense_filter},
      {"add", maps(3)},
      {"axpby", maps(3)},
      {"scale", maps(2)},
      {"fill", maps(1)},
      {"channel_affine", maps(2)},
      {"from_bytes", [](const Key& k, double e) { return (1.0 + e) * k.count(); }},
      {"to_bytes", [](const Key& k, double e) { return (1.0 + e) * k.count(); }},
      {"reduce", maps(1)},
      {"mse_loss", maps(3)},
      {"l1_loss", maps(3)},
      {"bce_with_logits", maps(2)},
      {"total_variation", maps(2)},
      {"cast_to_bf16", [](const Key& k, double) { return 6.0 * k.count(); }},
      {"cast_to_float", [](const Key& k, double) { return 6.0 * k.count(); }},
      {"philox_uniform", maps(1)},
      {"philox_normal", maps(1)},
      // Weight and two moments read and written, the gradient read.
      {"adam", maps(7)},
  };
  return all;
}

}  // namespace

double least_bytes(const std::string& op, const std::string& key) {
  const std::size_t slash = op.find('/');
  const auto found = table().find(std::string_view(op).substr(0, slash));
  if (found == table().end())
    throw Error(concat("the ledger does not know the op '", op, "': add it to its table"));
  const bool narrow = slash != std::string::npos && op.substr(slash + 1) == "bf16";
  return found->second(Key(op, key), narrow ? 2.0 : kFloat);
}

std::uint64_t OpCalls::calls() const {
  std::uint64_t sum = 0;
  for (const auto& [variant, times] : variants) sum += times;
  return sum;
}

Ledger::Ledger(kernels::Context& ctx) : ctx_(ctx) {
  kernels::set_trace(ctx, [this](const char* op, const char* variant, const std::string& key) {
    if (std::string_view(variant) == "composed") return;  // its parts come next
    OpCalls& entry = ops_[op];
    ++entry.variants[variant];
    entry.bytes += least_bytes(op, key);
  });
}

Ledger::~Ledger() { kernels::set_trace(ctx_, {}); }

std::uint64_t Ledger::calls() const {
  std::uint64_t sum = 0;
  for (const auto& [op, entry] : ops_) sum += entry.calls();
  return sum;
}

double Ledger::bytes() const {
  double sum = 0.0;
  for (const auto& [op, entry] : ops_) sum += entry.bytes;
  return sum;
}

}  // namespace subpix::tools
