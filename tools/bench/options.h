#pragma once

#include <CLI/CLI.hpp>

#include "tools/bench/selection.h"

namespace subpix::tools::bench {

/// The options that choose calls, the same for every tool.
inline void add_selection_options(CLI::App& app, Selection& s) {
  app.add_option("--set", s.sets, "srgan, vgg, edge")->delimiter(',');
  app.add_option("--op", s.ops, "conv2d_forward, or conv2d_forward/bf16")->delimiter(',');
  app.add_option("--layer", s.layers, "G.blocks, or a network: G, D, VGG")->delimiter(',');
  app.add_option("--dtype", s.dtype, "default: both")->check(CLI::IsMember({"fp32", "bf16"}));
  app.add_option("--problem", s.problem,
                 "one convolution instead of a set: N,H,W,C,K,R,S[,stride[,pad]]");
  app.add_option("--batch", s.sizes.batch)->check(CLI::Range(1, 4096))->capture_default_str();
  app.add_option("--crop", s.sizes.crop, "HR pixels, a multiple of 32")
      ->check(CLI::Range(32, 4096))
      ->capture_default_str();
  app.add_option("--blocks", s.sizes.blocks, "of the generator")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
}

}  // namespace subpix::tools::bench
