#include "tools/step_floor.h"

#include <algorithm>

#include "tools/network_layers.h"

namespace subpix::tools {

namespace {

using kernels::Conv2dProblem;

constexpr Index kGradient = 4;  // bytes of a weight's gradient and of the optimiser's state

struct Passes {
  bool forward = true, data = true, filter = true;
};

void add(StepWork& work, const NetworkLayer& layer, const Passes& passes, std::size_t element) {
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

/// What Adam reads and writes: weight and two moments both ways, the gradient, and the copy that
/// kernels of a narrower type read.
double adam_bytes(const std::vector<NetworkLayer>& layers, std::size_t element) {
  double weights = 0.0;
  for (const NetworkLayer& layer : layers)
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
  const std::vector<NetworkLayer> g = generator_layers(
      {.blocks = o.blocks, .channels = o.channels, .scale = static_cast<int>(o.scale)},
      training ? o.batch : 1, h, w);
  for (const NetworkLayer& layer : g) {
    // Nobody asks for the gradient of the picture.
    add(work, layer, {true, training && &layer != &g.front(), training}, element);
    work.phases += layer.times;
  }
  if (!training) return work;
  // Forward and backward, between them the loss, at the end the optimiser.
  work.phases = 2 * work.phases + 2;
  work.optimiser_bytes = adam_bytes(g, element);
  if (o.mode != "srgan") return work;

  const std::vector<NetworkLayer> d = discriminator_layers(o.batch, o.crop);
  const auto layers = static_cast<Index>(d.size());
  for (int half = 0; half < 2; ++half)
    for (const NetworkLayer& layer : d)
      add(work, layer, {true, &layer != &d.front(), true}, element);
  for (const NetworkLayer& layer : d) add(work, layer, {true, true, false}, element);
  work.phases += 2 * 2 * layers + 2 * layers;
  work.optimiser_bytes += adam_bytes(d, element);
  const std::vector<NetworkLayer> v = vgg19_layers(o.batch, o.crop, vgg_widths);
  for (const NetworkLayer& layer : v) {
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
