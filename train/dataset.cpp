#include "train/dataset.h"

#include <algorithm>
#include <cstring>

#include "engine/core/random.h"
#include "kernels/api/error.h"
#include "train/resample.h"

namespace subpix::train {
namespace {

using engine::Philox;

constexpr Index kRgb = 3;
// Philox streams of the run's seed: weights are drawn from low numbers, data from these and up.
constexpr std::uint64_t kPhotoStreams = std::uint64_t{1} << 62;
constexpr std::uint64_t kCropStreams = std::uint64_t{1} << 63;
// Words of a sample's own place in its step's stream, so that samples do not depend on each other.
constexpr std::uint64_t kWordsPerSample = 16;

/// The square of `size` pixels at (x, y) of `image`, mirrored and turned, as rows of RGB.
void copy_square(const Image& image, Index x, Index y, Index size, const CropChoice& choice,
                 std::uint8_t* out) {
  const std::uint8_t* corner = image.row(y) + x * kRgb;
  const Index last = size - 1;
  for (Index row = 0; row < size; ++row) {
    for (Index column = 0; column < size; ++column, out += kRgb) {
      Index from_row = row, from_column = column;
      // A clockwise turn brings the pixel at (last - c, r) to (r, c).
      for (int turn = 0; turn < choice.quarter_turns; ++turn) {
        const Index old_row = from_row;
        from_row = last - from_column;
        from_column = old_row;
      }
      if (choice.mirrored) from_column = last - from_column;
      std::memcpy(out, corner + from_row * image.row_bytes() + from_column * kRgb, kRgb);
    }
  }
}

}  // namespace

CropSampler::CropSampler(PhotoStore& photos, const DataConfig& config, Index scale,
                         std::uint64_t seed)
    : photos_(photos), config_(config), scale_(scale), seed_(seed) {
  SUBPIX_REQUIRE(photos.size() >= 1, "there are no photos");
}

std::vector<CropChoice> CropSampler::choose(Index step) const {
  const auto number = static_cast<std::uint64_t>(step);
  const std::size_t photos = photos_.size();
  Philox photo_random(seed_, kPhotoStreams + number);
  std::vector<CropChoice> choices(static_cast<std::size_t>(config_.batch));
  std::vector<std::size_t> taken;  // in this round, sorted
  for (std::size_t sample = 0; sample < choices.size(); ++sample) {
    if (taken.size() == photos) taken.clear();
    // The k-th of those not taken yet, so every draw takes the same number of words.
    std::size_t photo = static_cast<std::size_t>(photo_random.bounded(photos - taken.size()));
    auto place = taken.begin();
    for (; place != taken.end() && *place <= photo; ++place) ++photo;
    taken.insert(place, photo);

    CropChoice& choice = choices[sample];
    choice.photo = photo;
    Philox random(seed_, kCropStreams + number, sample * kWordsPerSample);
    const Index grid = config_.lr == LrFrom::Image ? scale_ : 1;
    const auto place_in = [&](Index size) {
      return grid * static_cast<Index>(random.bounded(
                        static_cast<std::uint64_t>((size - config_.crop) / grid + 1)));
    };
    choice.x = place_in(photos_.width(photo));
    choice.y = place_in(photos_.height(photo));
    const std::uint32_t bits = random.next();
    choice.mirrored = config_.flip && (bits & 1u) != 0;
    choice.quarter_turns = config_.rotate ? static_cast<int>(bits >> 1 & 3u) : 0;
  }
  return choices;
}

Batch CropSampler::make(Index step) const {
  Batch batch;
  batch.step = step;
  batch.count = config_.batch;
  batch.hr_size = config_.crop;
  batch.lr_size = config_.crop / scale_;
  const auto square = [](Index size) { return static_cast<std::size_t>(size * size * kRgb); };
  batch.lr.resize(static_cast<std::size_t>(batch.count) * square(batch.lr_size));
  batch.hr.resize(static_cast<std::size_t>(batch.count) * square(batch.hr_size));
  const std::vector<CropChoice> choices = choose(step);
  for (std::size_t sample = 0; sample < choices.size(); ++sample)
    copy_crop(choices[sample], batch.lr.data() + sample * square(batch.lr_size),
              batch.hr.data() + sample * square(batch.hr_size));
  return batch;
}

void CropSampler::copy_crop(const CropChoice& choice, std::uint8_t* lr, std::uint8_t* hr) const {
  const std::shared_ptr<const Photo> photo = photos_.get(choice.photo);
  copy_square(photo->hr, choice.x, choice.y, config_.crop, choice, hr);
  if (config_.lr == LrFrom::Image) {
    copy_square(photo->lr, choice.x / scale_, choice.y / scale_, config_.crop / scale_, choice, lr);
    return;
  }
  Image crop(config_.crop, config_.crop, kRgb);
  std::copy_n(hr, crop.pixels.size(), crop.pixels.data());
  const Image reduced = shrink_bicubic(crop, scale_);
  std::copy(reduced.pixels.begin(), reduced.pixels.end(), lr);
}

BatchLoader::BatchLoader(const CropSampler& sampler, Index first, Index last, Index threads)
    : sampler_(sampler), last_(last), ahead_(threads + 2), drawn_(first), handed_out_(first) {
  SUBPIX_REQUIRE(threads >= 1, "a loader needs a thread, not ", threads);
  try {
    for (Index t = 0; t < threads; ++t) threads_.emplace_back([this] { work(); });
  } catch (...) {
    stop();
    throw;
  }
}

BatchLoader::~BatchLoader() { stop(); }

void BatchLoader::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  room_.notify_all();
}

void BatchLoader::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    room_.wait(lock, [&] { return stop_ || (drawn_ < last_ && drawn_ < handed_out_ + ahead_); });
    if (stop_) return;
    const Index step = drawn_++;
    lock.unlock();
    Made made;
    try {
      made.batch = sampler_.make(step);
    } catch (...) {
      made.failure = std::current_exception();
    }
    lock.lock();
    made_.emplace(step, std::move(made));
    ready_.notify_all();
  }
}

Batch BatchLoader::next() {
  std::unique_lock lock(mutex_);
  SUBPIX_REQUIRE(handed_out_ < last_, "all batches up to step ", last_, " are handed out");
  ready_.wait(lock, [&] { return made_.contains(handed_out_); });
  auto node = made_.extract(handed_out_++);
  lock.unlock();
  room_.notify_all();
  if (node.mapped().failure) std::rethrow_exception(node.mapped().failure);
  return std::move(node.mapped().batch);
}

}  // namespace subpix::train
