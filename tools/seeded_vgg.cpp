#include "tools/seeded_vgg.h"

#include <cmath>
#include <deque>
#include <map>
#include <optional>

#include "engine/core/random.h"
#include "engine/core/safetensors.h"

namespace subpix::tools {

namespace {

using engine::Index;
using engine::SafetensorsFile;

struct Layer {
  int block, conv;
  Index width;  ///< of the published network
};

std::vector<Layer> layers_up_to(const models::VggLayer& last) {
  constexpr int kConvs[] = {2, 2, 4, 4, 4};
  constexpr Index kWidths[] = {64, 128, 256, 512, 512};
  std::vector<Layer> all;
  for (int block = 1; block <= last.block; ++block)
    for (int conv = 1; conv <= (block == last.block ? last.conv : kConvs[block - 1]); ++conv)
      all.push_back({block, conv, kWidths[block - 1]});
  return all;
}

std::string tensor_name(const Layer& l) {
  return concat("features.", models::VggLayer{l.block, l.conv, false}.features_index());
}

}  // namespace

CompleteVgg complete_vgg(const std::string& given, const models::VggLayer& last,
                         const std::filesystem::path& folder) {
  std::optional<SafetensorsFile> file;
  if (!given.empty()) file = SafetensorsFile::open(given);
  CompleteVgg result{given, {}, {}};
  std::deque<std::vector<float>> values;  // a deque: the tensors to save borrow from it
  std::vector<engine::TensorToSave> tensors;
  const auto keep = [&](const std::string& name, const std::vector<std::int64_t>& shape,
                        std::vector<float> data) {
    values.push_back(std::move(data));
    tensors.push_back(
        {name, "F32", shape, values.back().data(), values.back().size() * sizeof(float)});
  };
  engine::Philox random(kVggSeed);
  Index in = 3, published = 3;
  for (const Layer& layer : layers_up_to(last)) {
    const std::string weight = tensor_name(layer) + ".weight", bias = tensor_name(layer) + ".bias";
    if (file && file->find(weight) && file->find(bias) && result.drawn.empty()) {
      const auto& shape = file->at(weight).shape;
      if (shape.size() != 4 || shape[0] < 1)
        throw InputError(concat(given, ": '", weight, "' is no filter [out,in,3,3]"));
      in = shape[0];
      keep(weight, shape, file->read_f32(weight));
      keep(bias, file->at(bias).shape, file->read_f32(bias));
    } else {
      // A file of a narrow network goes on as narrow.
      const Index out =
          std::max<Index>(1, result.widths.empty() ? layer.width : in * layer.width / published);
      const auto deviation = static_cast<float>(std::sqrt(2.0 / static_cast<double>(in * 9)));
      std::vector<float> filter(static_cast<std::size_t>(out * in * 9));
      for (float& w : filter) w = deviation * random.normal();
      keep(weight, {out, in, 3, 3}, std::move(filter));
      keep(bias, {out}, std::vector<float>(static_cast<std::size_t>(out), 0.0f));
      result.drawn.push_back(concat("conv", layer.block, "_", layer.conv));
      in = out;
    }
    published = layer.width;
    result.widths.push_back(in);
  }
  if (result.drawn.empty()) return result;
  std::map<std::string, std::string> metadata = {{"family", "torchvision"},
                                                 {"channel_order", "RGB"},
                                                 {"input_range", "0..1"},
                                                 {"input_mean", "0.485,0.456,0.406"},
                                                 {"input_std", "0.229,0.224,0.225"}};
  if (file) metadata = file->metadata();
  result.path = (folder / "vgg.safetensors").string();
  engine::save_safetensors(result.path, tensors, metadata);
  return result;
}

}  // namespace subpix::tools
