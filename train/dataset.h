#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "train/photo_store.h"

namespace subpix::train {

/// The crops of one step, ready for upload.
struct Batch {
  Index step = 0;
  Index count = 0, lr_size = 0, hr_size = 0;
  std::vector<std::uint8_t> lr;  ///< [count, lr_size, lr_size, 3]
  std::vector<std::uint8_t> hr;  ///< [count, hr_size, hr_size, 3]
};

/// Where one crop of a batch comes from and how it is turned.
struct CropChoice {
  std::size_t photo = 0;
  Index x = 0, y = 0;     ///< upper left HR corner; multiples of the scale with data.lr "image"
  bool mirrored = false;  ///< left and right exchanged, before turning
  int quarter_turns = 0;  ///< clockwise, 0 to 3
  bool operator==(const CropChoice&) const = default;
};

/// Crops of a photo store as a function of (seed, step, sample) and nothing else: the position in
/// the data is the step number, so a resumed run goes on with the crops an uninterrupted one would
/// see, and any number of threads makes the same batches.
class CropSampler {
 public:
  CropSampler(PhotoStore& photos, const DataConfig& config, Index scale, std::uint64_t seed);

  /// The crops of a step. No photo comes twice before all have come once (paper section 3.2: each
  /// crop of a batch from another image).
  std::vector<CropChoice> choose(Index step) const;
  Batch make(Index step) const;

 private:
  void copy_crop(const CropChoice& choice, std::uint8_t* lr, std::uint8_t* hr) const;

  PhotoStore& photos_;
  DataConfig config_;
  Index scale_;
  std::uint64_t seed_;
};

/// Makes the batches of steps first..last-1 ahead on its own threads and hands them out in order.
class BatchLoader {
 public:
  BatchLoader(const CropSampler& sampler, Index first, Index last, Index threads);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  /// The batch of the next step; waits for it. What went wrong while it was made is thrown here.
  Batch next();

 private:
  struct Made {
    Batch batch;
    std::exception_ptr failure;
  };
  void work();
  void stop();

  const CropSampler& sampler_;
  const Index last_, ahead_;
  Index drawn_, handed_out_;  // the next step to make, to hand out
  std::map<Index, Made> made_;
  bool stop_ = false;
  std::mutex mutex_;
  std::condition_variable room_, ready_;
  std::vector<std::jthread> threads_;  // last: they end before anything above dies
};

}  // namespace subpix::train
