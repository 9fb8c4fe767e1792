#include "models/vgg/vgg19.h"

#include <algorithm>
#include <cmath>
#include <locale>
#include <sstream>

#include "engine/core/safetensors.h"
#include "engine/ops/fused.h"

namespace subpix::models {

using engine::Device;
using engine::Index;
using engine::SafetensorsFile;
using engine::Tensor;
namespace ops = engine::ops;

namespace {

constexpr int kBlocks = 5;
constexpr std::array<int, kBlocks> kConvsOfBlock = {2, 2, 4, 4, 4};
constexpr Index kKernel = 3;
constexpr const char* kHowToConvert =
    "tools/convert_vgg19.py writes it from torchvision's vgg19, docs/weights.md lists the keys";

bool is_layer(int block, int conv) {
  return block >= 1 && block <= kBlocks && conv >= 1 &&
         conv <= kConvsOfBlock[static_cast<std::size_t>(block - 1)];
}

std::string conv_name(int block, int conv) { return concat("conv", block, "_", conv); }

std::string weight_name(int block, int conv) {
  return concat("features.", VggLayer{block, conv, false}.features_index(), ".weight");
}

bool comes_after(const VggLayer& a, const VggLayer& b) {
  return std::pair(a.block, a.conv) > std::pair(b.block, b.conv);
}

/// Calls visit(block, conv) for conv1_1 ... `last` in order.
template <class Visit>
void each_conv(const VggLayer& last, Visit&& visit) {
  for (int block = 1; block <= last.block; ++block) {
    const int convs =
        block == last.block ? last.conv : kConvsOfBlock[static_cast<std::size_t>(block - 1)];
    for (int conv = 1; conv <= convs; ++conv) visit(block, conv);
  }
}

// --- what a file declares ------------------------------------------------------------------------

[[noreturn]] void refuse_input(const SafetensorsFile& file, const std::string& reason) {
  throw InputError(concat(file.path().string(), ": ", reason,
                          "; a VGG19 file must declare channel_order, input_range, input_mean and "
                          "input_std in its metadata (",
                          kHowToConvert, ")"));
}

std::string declared(const SafetensorsFile& file, const std::string& key) {
  const auto it = file.metadata().find(key);
  if (it == file.metadata().end()) refuse_input(file, concat("the metadata has no '", key, "'"));
  return it->second;
}

std::array<float, 3> three_numbers(const SafetensorsFile& file, const std::string& key) {
  const std::string value = declared(file, key);
  std::istringstream in(value);
  in.imbue(std::locale::classic());
  std::array<float, 3> numbers{};
  bool good = true;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    char comma = ',';
    if (i > 0) good = good && in >> comma && comma == ',';
    good = good && in >> numbers[i] && std::isfinite(numbers[i]);
  }
  if (!good || !(in >> std::ws).eof())
    refuse_input(file, concat("'", key, "' is '", value, "', not three numbers with commas"));
  return numbers;
}

VggInput read_input(const SafetensorsFile& file) {
  VggInput input;
  if (const auto it = file.metadata().find("family"); it != file.metadata().end())
    input.family = it->second;
  input.channel_order = declared(file, "channel_order");
  if (input.channel_order != "RGB" && input.channel_order != "BGR")
    refuse_input(file, concat("channel_order is '", input.channel_order, "', not RGB or BGR"));
  const std::string range = declared(file, "input_range");
  if (range != "0..1" && range != "0..255")
    refuse_input(file, concat("input_range is '", range, "', not 0..1 or 0..255"));
  input.range = range == "0..1" ? 1.0f : 255.0f;
  input.mean = three_numbers(file, "input_mean");
  input.std = three_numbers(file, "input_std");
  for (const float s : input.std)
    if (!(s > 0.0f)) refuse_input(file, concat("input_std holds ", s, ", it must be positive"));
  return input;
}

// --- weights -------------------------------------------------------------------------------------

/// "conv1_1 to conv3_4": the layers that the file holds without a gap.
std::string held_layers(const SafetensorsFile& file) {
  std::string last;
  bool gap = false;
  each_conv({kBlocks, 4, false}, [&](int block, int conv) {
    gap = gap || !file.find(weight_name(block, conv));
    if (!gap) last = conv_name(block, conv);
  });
  return last.empty() ? "no layer from conv1_1 on"
                      : concat("conv1_1 to ", last, last == "conv1_1" ? " only" : "");
}

/// Not through Shape, which refuses what a foreign file may hold (rank 5, size 0).
std::string text(const std::vector<std::int64_t>& dims) {
  std::string all = "[";
  for (std::size_t i = 0; i < dims.size(); ++i) all += (i ? "," : "") + std::to_string(dims[i]);
  return all + "]";
}

std::vector<float> read_f32(const SafetensorsFile& file, const std::string& name,
                            const std::vector<std::int64_t>& wanted) {
  const engine::TensorInfo& info = file.at(name);
  if (info.dtype != "F32")
    throw InputError(concat(file.path().string(), ": '", name, "' is ", info.dtype,
                            "; convert the file to F32"));
  if (info.shape != wanted)
    throw InputError(concat(file.path().string(), ": '", name, "' has shape ", text(info.shape),
                            ", not ", text(wanted), "; this is no VGG19"));
  return file.read_f32(name);
}

/// OIHW to KRSC. reverse_input: the file's first channel is blue where ours is red.
std::vector<float> to_krsc(const std::vector<float>& oihw, Index k, Index c, bool reverse_input) {
  constexpr Index kTaps = kKernel * kKernel;
  std::vector<float> krsc(oihw.size());
  for (Index o = 0; o < k; ++o)
    for (Index i = 0; i < c; ++i) {
      const Index to = reverse_input ? c - 1 - i : i;
      for (Index tap = 0; tap < kTaps; ++tap)
        krsc[static_cast<std::size_t>((o * kTaps + tap) * c + to)] =
            oihw[static_cast<std::size_t>((o * c + i) * kTaps + tap)];
    }
  return krsc;
}

}  // namespace

// --- VggLayer
// --------------------------------------------------------------------------------------

VggLayer VggLayer::parse(const std::string& text) {
  VggLayer layer{0, 0, true};
  const auto digit = [&](std::size_t i) {
    return text[i] >= '0' && text[i] <= '9' ? text[i] - '0' : 0;
  };
  const bool paper = text.starts_with("VGG") && text.size() == 5;
  const bool conv = text.starts_with("conv") && text.size() == 7 && text[5] == '_';
  const bool relu = text.starts_with("relu") && text.size() == 7 && text[5] == '_';
  if (paper) layer = {digit(3), digit(4), true};
  if (conv || relu) layer = {digit(4), digit(6), relu};
  if (!is_layer(layer.block, layer.conv))
    throw InputError(concat("'", text,
                            "' is no VGG19 layer; valid are convI_J and reluI_J with I_J from 1_1, "
                            "1_2, 2_1, 2_2, 3_1 to 3_4, 4_1 to 4_4, 5_1 to 5_4, and the paper's "
                            "VGGIJ = reluI_J (VGG22, VGG54)"));
  return layer;
}

std::string VggLayer::str() const { return concat(after_relu ? "relu" : "conv", block, "_", conv); }

int VggLayer::features_index() const {
  SUBPIX_REQUIRE(is_layer(block, conv), "VGG19 has no layer ", block, "_", conv);
  int index = 0;
  for (int b = 1; b < block; ++b)
    index += 2 * kConvsOfBlock[static_cast<std::size_t>(b - 1)] + 1;  // conv, ReLU, ..., pool
  return index + 2 * (conv - 1);
}

// --- Vgg19
// -----------------------------------------------------------------------------------------

Vgg19::Vgg19(Device& device, const std::string& path, const VggLayer& last) : last_(last) {
  SUBPIX_REQUIRE(is_layer(last.block, last.conv), "VGG19 has no layer ", last.block, "_",
                 last.conv);
  const SafetensorsFile file = SafetensorsFile::open(path);
  input_ = read_input(file);
  const bool bgr = input_.channel_order == "BGR";

  // x in [-1,1] is (x + 1) / 2 * range in the file's units.
  std::array<float, 3> scale{}, shift{};
  for (std::size_t c = 0; c < 3; ++c) {
    const std::size_t at = bgr ? 2 - c : c;
    const double half = input_.range / 2.0, mean = input_.mean[at], std = input_.std[at];
    scale[c] = static_cast<float>(half / std);
    shift[c] = static_cast<float>((half - mean) / std);
  }
  scale_ = Tensor::from_host(device, {3}, scale);
  shift_ = Tensor::from_host(device, {3}, shift);

  Index channels = 3;
  each_conv(last, [&](int block, int conv) {
    const std::string weight = weight_name(block, conv);
    const std::string bias = weight.substr(0, weight.size() - 6) + "bias";
    for (const std::string& name : {weight, bias})
      if (!file.find(name))
        throw InputError(concat(path, " cannot give ", last.str(), ": it has no tensor '", name,
                                "' (", conv_name(block, conv), "), it holds ", held_layers(file),
                                "; choose an earlier layer or a complete file (", kHowToConvert,
                                ")"));
    const auto& shape = file.at(weight).shape;
    const Index k = shape.empty() ? 1 : std::max<Index>(shape[0], 1);
    const std::vector<float> oihw = read_f32(file, weight, {k, channels, kKernel, kKernel});
    const bool reverse_input = bgr && block == 1 && conv == 1;
    convs_.push_back({Tensor::from_host(device, {k, kKernel, kKernel, channels},
                                        to_krsc(oihw, k, channels, reverse_input)),
                      Tensor::from_host(device, {k}, read_f32(file, bias, {k})), block, conv});
    channels = k;
  });
}

Tensor Vgg19::features(const Tensor& image, const VggLayer& layer) const {
  SUBPIX_REQUIRE(image.shape().rank() == 4 && image.dim(3) == 3, "VGG19 takes [N,H,W,3], not ",
                 image.shape());
  SUBPIX_REQUIRE(!comes_after(layer, last_), "VGG19 was loaded up to ", last_.str(), ", not ",
                 layer.str());
  // Normalised before the first convolution pads: its border is the mean colour, as in training.
  Tensor x = ops::cast(ops::channel_affine(image, scale_, shift_), compute_type_);
  for (const Conv& c : convs_) {
    const bool wanted = c.block == layer.block && c.conv == layer.conv;
    if (wanted && !layer.after_relu) return ops::conv2d(x, c.weight, c.bias, 1, kKernel / 2);
    const bool pool_follows = c.conv == kConvsOfBlock[static_cast<std::size_t>(c.block - 1)];
    if (!wanted && pool_follows) {
      x = ops::prefers_fused_pool(x, c.weight)
              ? ops::conv2d_relu_pool(x, c.weight, c.bias)
              : ops::max_pool2(ops::conv2d_activation(x, c.weight, c.bias, 1, kKernel / 2,
                                                      ops::Activation::Relu));
      continue;
    }
    x = ops::conv2d_activation(x, c.weight, c.bias, 1, kKernel / 2, ops::Activation::Relu);
    if (wanted) return x;
  }
  throw Error(concat("VGG19 has no layer ", layer.str()));
}

}  // namespace subpix::models
