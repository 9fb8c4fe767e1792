#include "tools/bench/cases.h"

#include "tools/bench/cases_list.h"
#include "tools/network_layers.h"

namespace subpix::tools::bench {

using kernels::Activation;
using kernels::Conv2dProblem;
using kernels::InputForm;

namespace {

constexpr Index kChannels = 64;

Index rows_of(const Conv2dProblem& d) { return d.n * d.p() * d.q(); }

/// The generator's layers as a training step calls them: composed of plain ops, and fused.
template <class T>
void add_generator(CaseList& list, const SetOptions& o) {
  const Index low = o.crop / 4;
  const std::vector<NetworkLayer> layers =
      generator_layers({.blocks = o.blocks, .channels = kChannels, .scale = 4}, o.batch, low, low);
  for (const NetworkLayer& layer : layers) {
    const Conv2dProblem& d = layer.conv;
    list.layer(layer.name, layer.times);
    // The gradient of the picture is asked for by nobody.
    add_conv2d<T>(list, d, {.data = layer.name != "G.head"});
    if (layer.name == "G.head") add_prelu<T>(list, {.rows = rows_of(d), .c = d.k});
    if (layer.name == "G.blocks") {
      add_conv2d_norm<T>(list, d, InputForm::Plain, true);
      add_conv2d_norm<T>(list, d, InputForm::NormPRelu, false);
      add_norm<T>(list, {.rows = rows_of(d), .c = d.k});
      add_prelu<T>(list, {.rows = rows_of(d), .c = d.k});
      add_maps<T>(list, d.y_count());
      list.layer(layer.name, 1);
      add_filter_group<T>(list, d, layer.times + 1);
    }
    if (layer.name.starts_with("G.up")) {
      add_conv2d_shuffle<T>(list, d);
      add_shuffle<T>(list, {.n = d.n, .h = d.p(), .w = d.q(), .c = kChannels});
    }
    if (layer.name == "G.tail" && std::is_same_v<T, bf16>) add_conv2d_wide(list, d);
  }
  list.layer("G.loss", 1);
  add_losses<T>(list, o.batch, o.crop, o.crop, 3);
}

template <class T>
void add_discriminator(CaseList& list, const SetOptions& o) {
  for (const NetworkLayer& layer : discriminator_layers(o.batch, o.crop)) {
    const Conv2dProblem& d = layer.conv;
    list.layer(layer.name, layer.times);
    if (layer.name.starts_with("D.dense")) {
      add_dense<T>(list, {d.n, d.c, d.k});
      continue;
    }
    add_conv2d<T>(list, d);
    if (layer.name == "D.conv1") {
      add_conv2d_activation<T>(list,
                               {.conv = d, .activation = Activation::LeakyRelu, .slope = 0.2f});
      add_leaky_relu<T>(list, d.y_count());
    } else {
      add_conv2d_norm<T>(
          list, d, layer.name == "D.conv2" ? InputForm::Plain : InputForm::NormLeakyRelu, false);
      add_norm<T>(list, {.rows = rows_of(d), .c = d.k});
    }
  }
}

template <class T>
void add_vgg(CaseList& list, const SetOptions& o) {
  for (const NetworkLayer& layer : vgg19_layers(o.batch, o.crop, vgg19_widths())) {
    const Conv2dProblem& d = layer.conv;
    list.layer(layer.name, layer.times);
    add_conv2d<T>(list, d, {.filter = false});  // its weights are frozen
    if (layer.pooled) {
      add_conv2d_pool<T>(list, d);
      add_max_pool<T>(list, {d.n, d.p(), d.q(), d.k});
    } else {
      add_conv2d_activation<T>(list, {.conv = d, .activation = Activation::Relu});
    }
  }
}

/// Sizes that are no multiple of any tile.
template <class T>
void add_edge(CaseList& list) {
  const Conv2dProblem convolutions[] = {
      {1, 17, 33, 1, 64, 3, 3, 1, 1},  {2, 13, 9, 3, 5, 9, 9, 1, 4},
      {1, 19, 23, 17, 19, 3, 3, 2, 1}, {3, 31, 29, 65, 33, 3, 3, 1, 1},
      {1, 41, 27, 72, 40, 5, 5, 1, 2}, {1, 61, 47, 64, 3, 9, 9, 1, 4}};
  for (const Conv2dProblem& d : convolutions) {
    add_conv2d<T>(list, d);
    add_conv2d_norm<T>(list, d, InputForm::NormPRelu, true);
  }
  add_dense<T>(list, {3, 1001, 37});
  add_norm<T>(list, {.rows = 1999, .c = 65});
  add_prelu<T>(list, {.rows = 4097, .c = 3, .shared = true});
  add_max_pool<T>(list, {2, 31, 29, 17});
  add_shuffle<T>(list, {2, 13, 9, 5, 2});
  add_maps<T>(list, 100003);
}

std::vector<Index> generator_tensors(const SetOptions& o) {
  std::vector<Index> all;
  for (const NetworkLayer& layer :
       generator_layers({.blocks = o.blocks, .channels = kChannels, .scale = 4}, 1, 1, 1))
    for (Index i = 0; i < layer.times; ++i) all.push_back(layer.conv.w_count());
  return all;
}

}  // namespace

const std::vector<std::string>& set_names() {
  static const std::vector<std::string> names = {"srgan", "vgg", "edge"};
  return names;
}

std::vector<BenchCase> cases_of(const std::string& set, const SetOptions& o) {
  CaseList list;
  if (set == "srgan") {
    add_generator<float>(list, o);
    add_generator<bf16>(list, o);
    add_discriminator<float>(list, o);
    add_discriminator<bf16>(list, o);
    list.layer("G.optimiser", 1);
    add_untyped(list, o.batch * o.crop * o.crop * 3, generator_tensors(o));
  } else if (set == "vgg") {
    add_vgg<float>(list, o);
    add_vgg<bf16>(list, o);
  } else if (set == "edge") {
    add_edge<float>(list);
    add_edge<bf16>(list);
    add_untyped(list, 100003, {1, 3, 1000, 33, 4097});
  } else {
    throw InputError(unknown_name("set", set, set_names()));
  }
  return list.take();
}

std::vector<BenchCase> cases_of(const Conv2dProblem& d) {
  d.validate();
  CaseList list;
  const auto typed = [&]<class T>(T) {
    add_conv2d<T>(list, d);
    add_conv2d_activation<T>(list, {.conv = d, .activation = Activation::Relu});
    add_conv2d_norm<T>(list, d, InputForm::NormPRelu, false);
    if (d.k % 4 == 0) add_conv2d_shuffle<T>(list, d);
    if (d.p() >= 2 && d.q() >= 2) add_conv2d_pool<T>(list, d);
  };
  typed(0.0f);
  typed(bf16{});
  add_conv2d_wide(list, d);
  return list.take();
}

}  // namespace subpix::tools::bench
