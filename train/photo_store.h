#pragma once

#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "train/config.h"
#include "train/image.h"

namespace subpix::train {

/// A decoded training photograph, RGB.
struct Photo {
  Image hr;
  Image lr;  ///< the whole HR picture reduced by the scale (data.lr "image"), else empty

  std::size_t bytes() const { return hr.pixels.size() + lr.pixels.size(); }
};

/// The photographs of a run, decoded once and kept as bytes as far as data.memory_mib allows.
/// Beyond it the least recently used ones are dropped and decoded again when they are drawn. What
/// get() returns does not depend on which were kept. Safe to use from several threads.
class PhotoStore {
 public:
  /// Lists the folders and reads every file's head. InputError naming the file and the remedy for a
  /// missing or empty folder, a picture smaller than the crop (after data.shrink) and, unless
  /// data.channels says convert, one that is not RGB.
  PhotoStore(const std::vector<std::string>& folders, const DataConfig& config, Index scale);

  std::size_t size() const { return entries_.size(); }
  const std::filesystem::path& path(std::size_t i) const { return entries_[i].path; }
  /// Size of photo i as get() returns it.
  Index width(std::size_t i) const { return entries_[i].width; }
  Index height(std::size_t i) const { return entries_[i].height; }
  /// What all photos together take when decoded, and whether that passes the limit.
  std::size_t total_bytes() const { return total_bytes_; }
  bool streaming() const { return total_bytes_ > limit_; }
  /// Names, sizes and order of the pictures in one number: equal numbers, equal crops.
  std::uint64_t fingerprint() const { return fingerprint_; }

  /// Photo i, decoded now unless it is at hand. InputError for a damaged file.
  std::shared_ptr<const Photo> get(std::size_t i);

  /// Decodes everything on that many threads, unless streaming. progress(done) is called now and
  /// then from the calling thread and may throw to give up. The first damaged file in order is
  /// reported.
  void preload(Index threads, const std::function<void(std::size_t)>& progress);

  struct Statistics {
    std::size_t decoded = 0;  ///< files decoded so far, repetitions included
    std::size_t bytes = 0;    ///< of the photos kept now
    std::size_t peak = 0;
  };
  Statistics statistics() const;

 private:
  struct Entry {
    std::filesystem::path path;
    Index width = 0, height = 0;
    std::shared_ptr<const Photo> photo;    // null unless kept
    std::list<std::size_t>::iterator age;  // position in recent_, if kept
    bool decoding = false;
  };
  void add_file(const std::filesystem::path& path);
  std::shared_ptr<const Photo> decode(const Entry& entry) const;
  void keep(std::size_t i, const std::shared_ptr<const Photo>& photo);

  DataConfig config_;
  Index scale_;
  std::vector<Entry> entries_;
  std::size_t total_bytes_ = 0, limit_;
  std::uint64_t fingerprint_;
  mutable std::mutex mutex_;
  std::condition_variable decoded_;
  std::list<std::size_t> recent_;  // most recently used first
  Statistics statistics_;
};

}  // namespace subpix::train
