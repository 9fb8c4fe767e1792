#include "tools/step_floor.h"

#include <algorithm>
#include <array>

#include "kernels/api/error.h"

namespace subpix::tools {

namespace {

using kernels::Conv2dProblem;

constexpr Index kGradient = 4;       // bytes of a weight's gradient and of the optimiser's state
constexpr Index kDenseUnits = 1024;  // of the discriminator
constexpr Index kDiscriminatorMaps = 64;

/// A layer of a network, `times` times over.
struct Layer {
  std::string name;
  Conv2dProblem conv;
  Index times = 1;
};

struct Passes {
  bool forward = true, data = true, filter = true;
};

void add(StepWork& work, const Layer& layer, const Passes& passes, std::size_t element) {
  const Conv2dProblem& c = layer.conv;
  const auto e = static_cast<double>(element);
  const double maps = e * static_cast<double>(c.x_count() + c.y_count());
  const auto weights = static_cast<double>(c.w_count());
  const auto pass = [&](const char* name, double bytes) {
    work.passes.push_back({layer.name + name, layer.times, c.flops(), bytes});
  };
  if (passes.forward) pass(" forward", maps + e * weights);
  if (passes.data) pass(" backward data", maps + e * weights);
  if (passes.filter) pass(" backward filter", maps + static_cast<double>(kGradient) * weights);
}

Index stages_of(const StepOptions& o) { return o.scale == 2 ? 1 : 2; }

std::vector<Layer> generator(const StepOptions& o, Index n, Index h, Index w) {
  const Index c = o.channels;
  std::vector<Layer> all = {{"g.head", {n, h, w, 3, c, 9, 9, 1, 4}},
                            {"g.blocks", {n, h, w, c, c, 3, 3, 1, 1}, 2 * o.blocks},
                            {"g.trunk", {n, h, w, c, c, 3, 3, 1, 1}}};
  for (Index stage = 0; stage < stages_of(o); ++stage) {
    const Index up = Index{1} << stage;
    all.push_back({concat("g.up", stage + 1), {n, up * h, up * w, c, 4 * c, 3, 3, 1, 1}});
  }
  all.push_back({"g.tail", {n, o.scale * h, o.scale * w, c, 3, 9, 9, 1, 4}});
  return all;
}

std::vector<Layer> discriminator(Index n, Index crop) {
  std::vector<Layer> all;
  Index side = crop, in = 3;
  for (Index i = 0; i < 8; ++i) {
    const Index out = kDiscriminatorMaps << (i / 2), stride = 1 + i % 2;
    all.push_back({concat("d.conv", i + 1), {n, side, side, in, out, 3, 3, stride, 1}});
    side = all.back().conv.p();
    in = out;
  }
  all.push_back({"d.dense1", {n, 1, 1, in * side * side, kDenseUnits, 1, 1}});
  all.push_back({"d.dense2", {n, 1, 1, kDenseUnits, 1, 1, 1}});
  return all;
}

std::vector<Layer> vgg(Index n, Index crop, const std::vector<Index>& widths) {
  constexpr std::array<std::size_t, 4> kPooled = {2, 4, 8, 12};  // convolutions before each pooling
  std::vector<Layer> all;
  Index side = crop, in = 3;
  for (std::size_t i = 0; i < widths.size(); ++i) {
    if (std::find(kPooled.begin(), kPooled.end(), i) != kPooled.end()) side /= 2;
    all.push_back({concat("v.conv", i + 1), {n, side, side, in, widths[i], 3, 3, 1, 1}});
    in = widths[i];
  }
  return all;
}

/// What Adam reads and writes: weight and two moments both ways, the gradient, and the copy that
/// kernels of a narrower type read.
double adam_bytes(const std::vector<Layer>& layers, std::size_t element) {
  double weights = 0.0;
  for (const Layer& layer : layers)
    weights += static_cast<double>(layer.conv.w_count() * layer.times);
  const double copy = element < 4 ? static_cast<double>(element) : 0.0;
  return weights * (7.0 * static_cast<double>(kGradient) + copy);
}

}  // namespace

double StepWork::flops() const {
  double sum = 0.0;
  for (const LayerPass& p : passes) sum += static_cast<double>(p.times) * p.flops;
  return sum;
}

double StepWork::bytes() const {
  double sum = optimiser_bytes;
  for (const LayerPass& p : passes) sum += static_cast<double>(p.times) * p.bytes;
  return sum;
}

StepWork work_of(const StepOptions& o, std::size_t element, const std::vector<Index>& vgg_widths) {
  StepWork work;
  const bool training = o.mode != "infer";
  const Index h = training ? o.crop / o.scale : o.height;
  const Index w = training ? o.crop / o.scale : o.width;
  const std::vector<Layer> g = generator(o, training ? o.batch : 1, h, w);
  for (const Layer& layer : g) {
    // Nobody asks for the gradient of the picture.
    add(work, layer, {true, training && &layer != &g.front(), training}, element);
    work.phases += layer.times;
  }
  if (!training) return work;
  // Forward and backward, between them the loss, at the end the optimiser.
  work.phases = 2 * work.phases + 2;
  work.optimiser_bytes = adam_bytes(g, element);
  if (o.mode != "srgan") return work;

  const std::vector<Layer> d = discriminator(o.batch, o.crop);
  const auto layers = static_cast<Index>(d.size());
  for (int half = 0; half < 2; ++half)
    for (const Layer& layer : d) add(work, layer, {true, &layer != &d.front(), true}, element);
  for (const Layer& layer : d) add(work, layer, {true, true, false}, element);
  work.phases += 2 * 2 * layers + 2 * layers;
  work.optimiser_bytes += adam_bytes(d, element);
  const std::vector<Layer> v = vgg(o.batch, o.crop, vgg_widths);
  for (const Layer& layer : v) {
    add(work, layer, {true, false, false}, element);  // of HR
    add(work, layer, {true, true, false}, element);   // of SR
  }
  work.phases += 2 * static_cast<Index>(v.size());
  return work;
}

Floor floor_of(const StepWork& work, const Ceilings& ceilings) {
  Floor floor;
  if (ceilings.flops <= 0.0 || ceilings.bytes <= 0.0) return floor;
  floor.overlapped = std::max(work.flops() / ceilings.flops, work.bytes() / ceilings.bytes);
  floor.layered = work.optimiser_bytes / ceilings.bytes;
  for (const LayerPass& p : work.passes)
    floor.layered +=
        static_cast<double>(p.times) * std::max(p.flops / ceilings.flops, p.bytes / ceilings.bytes);
  if (ceilings.barrier > 0.0)
    floor.waiting = floor.layered + static_cast<double>(work.phases) * ceilings.barrier;
  return floor;
}

}  // namespace subpix::tools
