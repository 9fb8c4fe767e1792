#pragma once

#include <string>
#include <vector>

#include "tools/step_options.h"

/// The floors of a step: times that no implementation of the same convolutions can pass, computed
/// from the networks' sizes and the device's ceilings. docs/benchmarking.md has the formulas.
namespace subpix::tools {

/// What a device does at most; 0: not known.
struct Ceilings {
  double flops = 0.0;    ///< floating-point operations a second, at the step's precision
  double bytes = 0.0;    ///< bytes a second, reads and writes of a device copy together
  double barrier = 0.0;  ///< seconds until all of the device has waited for all of it
};

/// One pass of a convolution (or a dense layer, a 1x1 convolution on one pixel).
struct LayerPass {
  std::string name;
  Index times;          ///< equal layers
  double flops, bytes;  ///< of one: each operand read once, each result written once
};

/// A step as far as the floors need it.
struct StepWork {
  std::vector<LayerPass> passes;
  double optimiser_bytes = 0.0;
  /// Points where everything must be done before anything can go on: one for each layer and
  /// direction, since each reads all of the last one's result, or its statistics.
  Index phases = 0;

  double flops() const;
  double bytes() const;  ///< of the passes and the optimiser
};

/// Work of a step. element: bytes of an activation and of a weight as kernels read it.
/// vgg_widths: output channels of VGG19's convolutions up to the layer of the loss.
StepWork work_of(const StepOptions& o, std::size_t element, const std::vector<Index>& vgg_widths);

struct Floor {
  double overlapped = 0.0;  ///< F0: everything at once
  double layered = 0.0;     ///< F1: one layer after another, each at its nearer ceiling
  double waiting = 0.0;     ///< F2: F1 and a barrier for each phase
};
/// Seconds; a floor that needs an unknown ceiling is 0.
Floor floor_of(const StepWork& work, const Ceilings& ceilings);

}  // namespace subpix::tools
