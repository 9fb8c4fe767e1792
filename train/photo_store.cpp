#include "train/photo_store.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <exception>
#include <thread>

#include "kernels/api/error.h"
#include "train/resample.h"

namespace subpix::train {
namespace {

namespace fs = std::filesystem;

constexpr Index kRgb = 3;
constexpr std::uint64_t kFnvOffset = 0xcbf29ce484222325u, kFnvPrime = 0x100000001b3u;

/// Fowler, Noll and Vo's 64-bit hash (FNV-1a), carried on over several texts.
void mix(std::uint64_t& hash, const std::string& text) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * kFnvPrime;
  hash = hash * kFnvPrime;  // a zero byte: the boundary between texts
}

const char* channels_in_words(Index channels) {
  return channels == 1 ? "grey" : channels == 2 ? "grey and alpha" : "RGB and alpha";
}

void check_channels(const fs::path& path, Index channels, ChannelRule rule) {
  if (rule == ChannelRule::Convert || channels == kRgb) return;
  throw InputError(concat(path.string(), " has ", channels,
                          channels == 1 ? " channel" : " channels", " (",
                          channels_in_words(channels),
                          ") but training needs RGB; convert or remove the file, or set "
                          "data.channels to \"convert\" to repeat grey and drop alpha"));
}

/// Grey repeated, alpha dropped.
Image as_rgb(Image image) {
  if (image.channels == kRgb) return image;
  Image rgb(image.width, image.height, kRgb);
  const bool grey = image.channels <= 2;
  const std::uint8_t* from = image.pixels.data();
  for (std::size_t i = 0; i < rgb.pixels.size(); i += kRgb, from += image.channels)
    for (std::size_t c = 0; c < kRgb; ++c) rgb.pixels[i + c] = from[grey ? 0 : c];
  return rgb;
}

Index reduced(Index size, double factor) {
  return static_cast<Index>(std::floor(static_cast<double>(size) / factor));
}

/// A whole factor keeps the ratio exact and leaves a part of a pixel at the edge, which the caller
/// cuts off; any other factor is rounded to whole sizes.
Image shrunk(const Image& image, double factor) {
  if (factor == std::floor(factor)) return shrink_bicubic(image, static_cast<Index>(factor));
  return resize_bicubic(image, reduced(image.width, factor), reduced(image.height, factor));
}

}  // namespace

PhotoStore::PhotoStore(const std::vector<std::string>& folders, const DataConfig& config,
                       Index scale)
    : config_(config),
      scale_(scale),
      limit_(static_cast<std::size_t>(config.memory_mib) << 20),
      fingerprint_(kFnvOffset) {
  const std::vector<fs::path> paths(folders.begin(), folders.end());
  for (const fs::path& file : list_images(paths)) add_file(file);
}

void PhotoStore::add_file(const fs::path& path) {
  const ImageInfo info = read_image_info(path);
  check_channels(path, info.channels, config_.channels);
  Entry entry;
  entry.path = path;
  entry.width = reduced(info.width, config_.shrink);
  entry.height = reduced(info.height, config_.shrink);
  if (entry.width < config_.crop || entry.height < config_.crop) {
    const std::string after = config_.shrink > 1.0
                                  ? concat(" after data.shrink = ", config_.shrink, " (",
                                           info.width, "x", info.height, " in the file)")
                                  : std::string();
    throw InputError(concat(path.string(), " is ", entry.width, "x", entry.height, after,
                            ", smaller than a crop of ", config_.crop, "x", config_.crop,
                            "; remove it or lower data.crop"));
  }
  std::size_t lr_pixels = 0;
  if (config_.lr == LrFrom::Image) {
    entry.width -= entry.width % scale_;
    entry.height -= entry.height % scale_;
    lr_pixels = static_cast<std::size_t>((entry.width / scale_) * (entry.height / scale_));
  }
  total_bytes_ += (static_cast<std::size_t>(entry.width * entry.height) + lr_pixels) * kRgb;
  std::error_code ignored;
  mix(fingerprint_, path.filename().string());
  mix(fingerprint_, concat(fs::file_size(path, ignored), " ", info.width, "x", info.height));
  entries_.push_back(std::move(entry));
}

std::shared_ptr<const Photo> PhotoStore::decode(const Entry& entry) const {
  Image image = load_image(entry.path);
  check_channels(entry.path, image.channels, config_.channels);
  image = as_rgb(std::move(image));
  if (config_.shrink > 1.0) image = shrunk(image, config_.shrink);
  if (image.width < entry.width || image.height < entry.height)
    throw InputError(
        concat(entry.path.string(), " changed since the run started; start the run again"));
  auto photo = std::make_shared<Photo>();
  photo->hr = image.width == entry.width && image.height == entry.height
                  ? std::move(image)
                  : crop(image, 0, 0, entry.width, entry.height);
  if (config_.lr == LrFrom::Image) photo->lr = shrink_bicubic(photo->hr, scale_);
  return photo;
}

void PhotoStore::keep(std::size_t i, const std::shared_ptr<const Photo>& photo) {
  Entry& entry = entries_[i];
  entry.photo = photo;
  recent_.push_front(i);
  entry.age = recent_.begin();
  statistics_.bytes += photo->bytes();
  while (statistics_.bytes > limit_ && recent_.size() > 1) {
    Entry& oldest = entries_[recent_.back()];
    recent_.pop_back();
    statistics_.bytes -= oldest.photo->bytes();
    oldest.photo.reset();
  }
  statistics_.peak = std::max(statistics_.peak, statistics_.bytes);
}

std::shared_ptr<const Photo> PhotoStore::get(std::size_t i) {
  SUBPIX_REQUIRE(i < entries_.size(), "there is no photo ", i, " of ", entries_.size());
  Entry& entry = entries_[i];
  std::unique_lock lock(mutex_);
  // Another thread may be decoding it: its result serves both.
  decoded_.wait(lock, [&] { return !entry.decoding; });
  if (entry.photo) {
    recent_.splice(recent_.begin(), recent_, entry.age);
    return entry.photo;
  }
  entry.decoding = true;
  lock.unlock();
  std::shared_ptr<const Photo> photo;
  std::exception_ptr failure;
  try {
    photo = decode(entry);
  } catch (...) {
    failure = std::current_exception();
  }
  lock.lock();
  entry.decoding = false;
  ++statistics_.decoded;
  if (photo) keep(i, photo);
  lock.unlock();
  decoded_.notify_all();
  if (failure) std::rethrow_exception(failure);
  return photo;
}

void PhotoStore::preload(Index threads, const std::function<void(std::size_t)>& progress) {
  if (streaming()) return;
  std::atomic<std::size_t> next{0}, done{0};
  std::atomic<bool> stop{false};
  std::mutex failure_mutex;
  std::size_t failed_at = entries_.size();
  std::exception_ptr failure;
  const auto work = [&] {
    // The flag is asked before a number is drawn: whoever holds a number decodes its file, so when
    // a file fails, all files before it have been tried.
    while (!stop) {
      const std::size_t i = next++;
      if (i >= entries_.size()) break;
      try {
        get(i);
      } catch (...) {
        const std::lock_guard lock(failure_mutex);
        if (i < failed_at) {
          failed_at = i;
          failure = std::current_exception();
        }
        stop = true;
      }
      ++done;
    }
  };
  std::vector<std::jthread> workers;
  for (Index t = 0; t < threads; ++t) workers.emplace_back(work);
  try {
    while (done < entries_.size() && !stop) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      progress(done);
    }
  } catch (...) {
    stop = true;
    throw;  // the threads are joined on the way out
  }
  workers.clear();
  if (failure) std::rethrow_exception(failure);
}

PhotoStore::Statistics PhotoStore::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

}  // namespace subpix::train
