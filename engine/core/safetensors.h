#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/file.h"

namespace subpix::engine {

/// One entry of a safetensors header.
struct TensorInfo {
  std::string name;
  std::string dtype;  ///< as in the file: "F32", "BF16", "F16", "F64", "I64", "U8", ...
  std::vector<std::int64_t> shape;  ///< outermost first; empty for a single value
  std::uint64_t begin = 0;          ///< bytes from the start of the data section
  std::uint64_t end = 0;

  std::int64_t count() const;  ///< elements
  std::uint64_t bytes() const { return end - begin; }
};

/// A safetensors file opened for reading (https://github.com/huggingface/safetensors, "Format"):
/// 8 bytes little-endian header length, a JSON header, raw little-endian data in C order.
/// The header is taken for hostile: whatever the format forbids (lengths beyond the file, duplicate
/// names, holes, overlaps, trailing bytes, overflowing shapes, unknown types, broken UTF-8, ...) is
/// an InputError that names file, tensor and remedy. Data is read when asked for, straight into its
/// destination. Reading is safe from several threads.
class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  /// In the order of their data.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// nullptr if there is none of that name.
  const TensorInfo* find(std::string_view name) const;
  /// An InputError if there is none of that name.
  const TensorInfo& at(std::string_view name) const;

  std::vector<std::byte> read_bytes(std::string_view name) const;
  void read_bytes(const TensorInfo& info, std::span<std::byte> destination) const;

  /// F32 as stored; F16 and BF16 widened exactly; F64 rounded to nearest even. Any other dtype is
  /// an InputError. A caller that wants F32 only asks info.dtype first.
  std::vector<float> read_f32(std::string_view name) const;
  void read_f32(const TensorInfo& info, std::span<float> destination) const;

 private:
  explicit SafetensorsFile(InputFile file) : file_(std::move(file)) {}

  InputFile file_;
  std::uint64_t data_start_ = 0;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::map<std::string, std::string> metadata_;
};

/// A tensor to be written; `data` is borrowed, `bytes` must be what dtype and shape say.
struct TensorToSave {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  const void* data = nullptr;
  std::uint64_t bytes = 0;
};

/// Writes the file atomically (see AtomicFile). The data keeps the given order, except that wider
/// element types come first, so that every tensor is aligned to its element (PyTorch cannot read it
/// otherwise). The same input gives the same bytes. The header is padded with spaces to a multiple
/// of 8.
void save_safetensors(const std::filesystem::path& path, const std::vector<TensorToSave>& tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace subpix::engine
