#pragma once

#include <string>

#include "train/checkpoint.h"

namespace subpix::train {

/// What may change when a run is resumed (docs/config.md, "Resuming"): where and how it runs, what
/// it reports and keeps; of the current phase its steps (not below those done) and learning rates;
/// later phases entirely. InputError naming the key for anything else.
void check_resumable(const RunState& saved, const RunConfig& wanted);

/// The photographs and the VGG19 file may have moved but must be the same. InputError otherwise.
void check_same_inputs(const RunState& saved, const RunState& now);

/// Whether a key may change at resume whatever the phase: for the documentation's test.
bool may_change(const std::string& path);

}  // namespace subpix::train
