#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "train/config.h"
#include "train/step.h"

namespace subpix::train {

/// The best validation so far.
struct Best {
  double psnr_y = 0.0;
  Index step = 0;
};

/// Where a run stands, weights aside. Random numbers and the place in the data follow from
/// config.seed and step alone (see CropSampler).
struct RunState {
  RunConfig config;
  Index step = 0;               ///< finished steps of the whole run
  std::size_t phase = 0;        ///< index of the current phase ...
  Index phase_step = 0;         ///< ... and its finished steps
  bool validation_due = false;  ///< a signal came before the validation of this step was done
  std::optional<Best> best;
  std::uint64_t data = 0;  ///< PhotoStore::fingerprint()
  std::uint32_t vgg = 0;   ///< crc32 of the VGG19 file, 0 without
  std::string device;      ///< Device::description()
};

/// Name of the first tensor of weights, statistics or moments that holds a NaN or an infinity, or
/// empty. Waits for the device.
std::string first_non_finite(const Networks& networks);

/// The checkpoints of a run: folders step_NNNNNNNNN with weight files, moments and state.json
/// (docs/formats.md). A folder is filled under a hidden name, forced to the disk and renamed, so
/// under its own name it is complete; checksums in state.json tell what a broken disk did later.
class CheckpointFolder {
 public:
  explicit CheckpointFolder(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// Whether any folder step_* is there, complete or not.
  bool holds_any() const;
  /// Removes what a killed process left half-written. Only while no other process uses the folder.
  void remove_leftovers() const;

  /// Writes a checkpoint, then removes all but the newest `keep` up to this step, and those of
  /// later steps (a damaged one that the run was resumed before). An InputError leaves the earlier
  /// ones alone and names the newest of them.
  std::filesystem::path save(const Networks& networks, const RunState& state, Index keep) const;

  struct Found {
    std::filesystem::path path;
    RunState state;
    std::int64_t generator_updates = 0, discriminator_updates = 0;
    bool has_discriminator = false;
  };
  /// The newest checkpoint whose files are all there with their checksums; damaged ones are
  /// reported as sentences. InputError if there is none.
  Found newest(std::vector<std::string>& damaged) const;

  /// Path of the newest complete one, unchecked, or empty.
  std::filesystem::path newest_path() const;

 private:
  std::vector<std::pair<Index, std::filesystem::path>> list() const;  // newest first
  void rotate(Index step, Index keep) const;
  std::filesystem::path folder_;
};

/// Loads what a checkpoint holds into networks made for its config, with their optimisers.
void load_networks(const CheckpointFolder::Found& found, Networks& networks);

/// crc32 (that of zlib and Python's zlib.crc32) of a file's content.
std::uint32_t file_crc32(const std::filesystem::path& path);

}  // namespace subpix::train
