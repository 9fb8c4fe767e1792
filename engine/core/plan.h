#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "engine/core/device.h"

/// Plan files: which variant of an op is used for which problem on one device, as kernel_tune
/// measured it. docs/formats.md has the format.
namespace subpix::engine {

struct PlanEntry {
  std::string op;       ///< "conv2d_forward/f32"
  std::string problem;  ///< its key
  std::string variant;
  double us = 0;  ///< microseconds a call, measured
};

struct Plan {
  std::string device;  ///< Device::description()
  std::string code;    ///< code_version() of the program that measured
  std::string origin;  ///< date, commit and command, for people
  std::vector<PlanEntry> entries;
};

/// The program's version and a hash over names and order of all ops and variants of a backend:
/// what a plan's names refer to.
std::string code_version(const kernels::KernelTable& table);

/// Atomic. InputError when the file cannot be written.
void write_plan(const std::filesystem::path& path, const Plan& plan);
/// InputError that names the file and what is wrong with it.
Plan read_plan(const std::filesystem::path& path);

/// Makes the device choose as the plan says. InputError if the plan was made on another device (its
/// number of threads counts) or by a program with other kernels, or names a variant that does not
/// exist; nothing is changed then.
void apply_plan(Device& device, const std::filesystem::path& path);

}  // namespace subpix::engine
