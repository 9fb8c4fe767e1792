#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "engine/core/device.h"
#include "train/checkpoint.h"
#include "train/dataset.h"
#include "train/report.h"
#include "train/validation.h"

namespace subpix::train {

/// One process in a run folder at a time; the system lets go of it even after kill -9.
class FolderLock {
 public:
  /// InputError if another process holds it.
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_;
};

/// A run in a folder: phases after phases, log, validation, checkpoints (docs/training.md).
class Trainer {
 public:
  /// Asked after every step: the number of a signal that shall end the run, or 0.
  using Signal = std::function<int()>;

  /// A new run. InputError, before anything is trained, if the folder holds a run already or cannot
  /// be written, and for whatever is wrong with config, pictures and weight files.
  static Trainer start(const RunConfig& config, const std::filesystem::path& out, Console& console,
                       Signal signal);
  /// Continues from the newest valid checkpoint. adjust turns the run's config into the wanted one.
  /// InputError if there is nothing to resume or the change is not possible (see check_resumable).
  using Adjust = std::function<RunConfig(const RunConfig&)>;
  static Trainer resume(const std::filesystem::path& out, const Adjust& adjust, Console& console,
                        Signal signal);

  Trainer(Trainer&&) noexcept;
  ~Trainer();

  /// Trains to the end, or until signal() answers: then the step is finished and a checkpoint
  /// written. Returns 0 or the signal's number. InputError when the loss or a weight is no longer
  /// finite, naming step, terms and last good checkpoint, or when a file cannot be read or written.
  int run();

  const RunState& state() const;
  const Networks& networks() const;
  engine::Device& device();

 private:
  struct Impl;
  explicit Trainer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace subpix::train
