#include "engine/core/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "kernels/api/error.h"
#include "kernels/api/types.h"

namespace subpix::engine {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "files are little-endian");

constexpr std::uint64_t kPrefixBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr std::size_t kMaxRank = 32;
constexpr char kMetadataKey[] = "__metadata__";
constexpr char kDamaged[] = "the file is damaged or no safetensors file: copy or export it again";

struct DTypeWidth {
  std::string_view name;
  unsigned bits;
};
constexpr std::array kDTypes{
    DTypeWidth{"F32", 32},        DTypeWidth{"F16", 16},    DTypeWidth{"BF16", 16},
    DTypeWidth{"F64", 64},        DTypeWidth{"I64", 64},    DTypeWidth{"I32", 32},
    DTypeWidth{"I16", 16},        DTypeWidth{"I8", 8},      DTypeWidth{"U64", 64},
    DTypeWidth{"U32", 32},        DTypeWidth{"U16", 16},    DTypeWidth{"U8", 8},
    DTypeWidth{"BOOL", 8},        DTypeWidth{"C64", 64},    DTypeWidth{"F8_E5M2", 8},
    DTypeWidth{"F8_E4M3", 8},     DTypeWidth{"F8_E8M0", 8}, DTypeWidth{"F8_E4M3FNUZ", 8},
    DTypeWidth{"F8_E5M2FNUZ", 8}, DTypeWidth{"F6_E2M3", 6}, DTypeWidth{"F6_E3M2", 6},
    DTypeWidth{"F4", 4},
};

/// 0 for an unknown type.
unsigned bits_of(std::string_view dtype) {
  for (const DTypeWidth& known : kDTypes)
    if (known.name == dtype) return known.bits;
  return 0;
}

/// Text of unknown origin for a message: short, one line, printable. (Not "quoted": for a
/// std::string that name finds std::quoted.)
std::string shown(std::string_view text) {
  constexpr std::size_t kLongest = 80;
  std::string out = "'";
  for (const char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  // Cutting may have split a character.
  if (text.size() > kLongest) {
    while (!out.empty() && (static_cast<unsigned char>(out.back()) & 0xc0) == 0x80) out.pop_back();
    if (static_cast<unsigned char>(out.back()) >= 0xc0) out.pop_back();
    out += "...";
  }
  return out + "'";
}

template <class... Parts>
[[noreturn]] void refuse(const fs::path& path, const Parts&... parts) {
  throw InputError(concat("cannot read ", path.string(), ": ", parts...));
}

/// Bytes of a tensor, or nothing if the product overflows or is no whole number of bytes.
std::optional<std::uint64_t> bytes_of(const std::vector<std::int64_t>& shape, unsigned bits) {
  std::uint64_t count = 1;
  for (const std::int64_t d : shape)
    if (d < 0 || __builtin_mul_overflow(count, static_cast<std::uint64_t>(d), &count))
      return std::nullopt;
  std::uint64_t total_bits = 0;
  if (__builtin_mul_overflow(count, std::uint64_t{bits}, &total_bits) || total_bits % 8 != 0)
    return std::nullopt;
  return total_bits / 8;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += concat(i == 0 ? "" : ", ", shape[i]);
  return text + "]";
}

/// Builds the tables while the JSON is being read, so that nothing the format forbids (duplicate
/// keys, nesting, wrong kinds) is ever stored. Depth 1: the file's object, 2: one tensor or the
/// metadata, 3: shape or offsets.
class HeaderReader : public nlohmann::json_sax<json> {
 public:
  explicit HeaderReader(const fs::path& path) : path_(path) {}

  std::vector<TensorInfo> tensors;
  std::map<std::string, std::string> metadata;

  bool start_object(std::size_t) override {
    if (where_ == Where::Start) {
      where_ = Where::File;
    } else if (where_ == Where::File) {
      where_ = key_ == kMetadataKey ? Where::Metadata : Where::Tensor;
      if (where_ == Where::Tensor) {
        tensors.emplace_back().name = key_;
        has_dtype_ = has_shape_ = has_offsets_ = false;
      }
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool key(std::string& text) override {
    if (where_ == Where::File) {
      if (!names_.insert(text).second) fail(shown(text), " occurs twice in its header; ", kDamaged);
    } else if (where_ == Where::Metadata) {
      if (metadata.contains(text)) fail("its metadata has ", shown(text), " twice; ", kDamaged);
    } else {
      bool* seen = text == "dtype"          ? &has_dtype_
                   : text == "shape"        ? &has_shape_
                   : text == "data_offsets" ? &has_offsets_
                                            : nullptr;
      if (!seen) fail(tensor(), " has the unknown field ", shown(text), "; ", kDamaged);
      if (*seen) fail(tensor(), " has the field ", shown(text), " twice; ", kDamaged);
      *seen = true;
    }
    key_ = text;
    return true;
  }

  bool end_object() override {
    if (where_ == Where::Tensor && !(has_dtype_ && has_shape_ && has_offsets_))
      fail(tensor(), " lacks its ",
           !has_dtype_   ? "dtype"
           : !has_shape_ ? "shape"
                         : "data_offsets",
           "; ", kDamaged);
    where_ = where_ == Where::File ? Where::End : Where::File;
    return true;
  }

  bool start_array(std::size_t) override {
    if (where_ != Where::Tensor || key_ == "dtype") unexpected("a list");
    where_ = key_ == "shape" ? Where::Shape : Where::Offsets;
    offsets_ = 0;
    return true;
  }

  bool end_array() override {
    if (where_ == Where::Offsets && offsets_ != 2) fail_offsets();
    where_ = Where::Tensor;
    return true;
  }

  bool string(std::string& text) override {
    if (where_ == Where::Metadata) {
      metadata.emplace(key_, text);
    } else if (where_ == Where::Tensor && key_ == "dtype") {
      if (bits_of(text) == 0)
        fail(tensor(), " has the unknown dtype ", shown(text), "; ", "export it again as F32");
      tensors.back().dtype = text;
    } else {
      unexpected("a text");
    }
    return true;
  }

  bool number_unsigned(std::uint64_t value) override {
    if (where_ == Where::Shape) {
      std::vector<std::int64_t>& shape = tensors.back().shape;
      if (shape.size() == kMaxRank)
        fail(tensor(), " has more than ", kMaxRank, " dimensions; ", kDamaged);
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        fail(tensor(), " has the impossible size ", value, " in its shape; ", kDamaged);
      shape.push_back(static_cast<std::int64_t>(value));
    } else if (where_ == Where::Offsets) {
      if (offsets_ == 2) fail_offsets();
      (offsets_ == 0 ? tensors.back().begin : tensors.back().end) = value;
      ++offsets_;
    } else {
      unexpected("a number");
    }
    return true;
  }

  bool number_integer(std::int64_t value) override {
    if (where_ == Where::Shape || where_ == Where::Offsets)
      fail(tensor(), " has the negative number ", value, " in its ",
           where_ == Where::Shape ? "shape" : "data_offsets", "; ", kDamaged);
    unexpected("a number");
  }

  // A whole number beyond 64 bits arrives here as well.
  bool number_float(double, const std::string& text) override {
    if (where_ == Where::Shape || where_ == Where::Offsets)
      fail(tensor(), " has ", shown(text), " in its ",
           where_ == Where::Shape ? "shape" : "data_offsets",
           ", which is no whole number below 2^64; ", kDamaged);
    unexpected("a number");
  }

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a truth value"); }
  bool binary(json::binary_t&) override { unexpected("binary data"); }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    const bool utf8 = std::string_view(error.what()).find("UTF-8") != std::string_view::npos;
    fail("its header is ", utf8 ? "not valid UTF-8" : "not valid JSON", " at byte ", position, "; ",
         kDamaged);
  }

 private:
  enum class Where { Start, File, Metadata, Tensor, Shape, Offsets, End };

  std::string tensor() const { return concat("tensor ", shown(tensors.back().name)); }

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    refuse(path_, parts...);
  }

  [[noreturn]] void fail_offsets() const {
    fail(tensor(), " must have exactly two data_offsets; ", kDamaged);
  }

  [[noreturn]] void unexpected(std::string_view kind) const {
    switch (where_) {
      case Where::Start:
        fail("its header is ", kind, " where an object belongs; ", kDamaged);
      case Where::Metadata:
        fail("its metadata ", shown(key_), " is ", kind, " where a text belongs; ", kDamaged);
      case Where::File:
        fail(key_ == kMetadataKey ? "its metadata" : concat("tensor ", shown(key_)), " is ", kind,
             " where an object belongs; ", kDamaged);
      default:
        fail(tensor(), " has ", kind, " in the wrong place (at ", shown(key_), "); ", kDamaged);
    }
  }

  const fs::path& path_;
  Where where_ = Where::Start;
  std::string key_;
  std::set<std::string> names_;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
  int offsets_ = 0;
};

/// Each tensor's size against its offsets, then all offsets against the file: sorted by begin they
/// must cover the data section exactly once.
void check_layout(const fs::path& path, std::vector<TensorInfo>& tensors,
                  std::uint64_t data_bytes) {
  for (const TensorInfo& t : tensors) {
    const std::string who = concat("tensor ", shown(t.name));
    if (t.begin > t.end)
      refuse(path, who, " ends at byte ", t.end, " before it begins at ", t.begin, "; ", kDamaged);
    if (t.end > data_bytes)
      refuse(path, who, " reaches to byte ", t.end, " of ", data_bytes,
             " bytes of data: the file is cut short; copy or export it again");
    const std::optional<std::uint64_t> expected = bytes_of(t.shape, bits_of(t.dtype));
    if (!expected)
      refuse(path, who, " has the impossible shape ", shape_text(t.shape), " of ", t.dtype, "; ",
             kDamaged);
    if (*expected != t.bytes())
      refuse(path, who, " holds ", t.bytes(), " bytes, but ", shape_text(t.shape), " of ", t.dtype,
             " takes ", *expected, "; ", kDamaged);
  }
  // Tensors without elements may share their offset; the header's order decides between them.
  std::stable_sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::uint64_t covered = 0;
  for (const TensorInfo& t : tensors) {
    if (t.begin < covered)
      refuse(path, "tensor ", shown(t.name), " overlaps the one before it at byte ", t.begin, "; ",
             kDamaged);
    if (t.begin > covered)
      refuse(path, "nothing owns the bytes ", covered, " to ", t.begin, " before tensor ",
             shown(t.name), "; ", kDamaged);
    covered = t.end;
  }
  if (covered != data_bytes)
    refuse(path, data_bytes - covered, " bytes follow the last tensor; ", kDamaged);
}

float half_to_float(std::uint16_t h) {
  const std::uint32_t sign = std::uint32_t{h & 0x8000u} << 16;
  const std::uint32_t exponent = (h >> 10) & 0x1fu;
  const std::uint32_t mantissa = h & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    // Subnormal: mantissa * 2^-24, exact in fp32.
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -value : value;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

}  // namespace

std::int64_t TensorInfo::count() const {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

SafetensorsFile SafetensorsFile::open(const fs::path& path) {
  SafetensorsFile result{InputFile(path)};
  const InputFile& file = result.file_;
  if (file.size() < kPrefixBytes)
    refuse(path, "it has ", file.size(), " bytes, too few for a safetensors file; ", kDamaged);
  std::uint64_t header_bytes = 0;
  file.read_at(0, std::as_writable_bytes(std::span(&header_bytes, 1)));
  if (header_bytes > file.size() - kPrefixBytes)
    refuse(path, "its header length ", header_bytes, " is more than the file's ", file.size(),
           " bytes; ", kDamaged);
  if (header_bytes > kMaxHeaderBytes)
    refuse(path, "its header of ", header_bytes, " bytes is over the format's limit of ",
           kMaxHeaderBytes, "; ", kDamaged);

  std::string header(static_cast<std::size_t>(header_bytes), '\0');
  file.read_at(kPrefixBytes, std::as_writable_bytes(std::span(header.data(), header.size())));
  // A JSON reader would let white space and a byte order mark pass.
  if (header.empty() || header.front() != '{')
    refuse(path, "its header does not begin with '{'; ", kDamaged);
  // The JSON reader takes a zero byte for the end of its input and would not look at what follows.
  if (const std::size_t zero = header.find('\0'); zero != std::string::npos)
    refuse(path, "its header is not valid JSON at byte ", zero + 1, "; ", kDamaged);
  HeaderReader reader(path);
  json::sax_parse(header, &reader);
  check_layout(path, reader.tensors, file.size() - kPrefixBytes - header_bytes);

  result.data_start_ = kPrefixBytes + header_bytes;
  result.tensors_ = std::move(reader.tensors);
  result.metadata_ = std::move(reader.metadata);
  for (std::size_t i = 0; i < result.tensors_.size(); ++i)
    result.index_.emplace(result.tensors_[i].name, i);
  return result;
}

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const TensorInfo& SafetensorsFile::at(std::string_view name) const {
  const TensorInfo* info = find(name);
  if (!info)
    refuse(path(), "tensor ", shown(name), " is missing among its ", tensors_.size(),
           "; check that the file belongs to this network");
  return *info;
}

void SafetensorsFile::read_bytes(const TensorInfo& info, std::span<std::byte> destination) const {
  SUBPIX_REQUIRE(destination.size() == info.bytes(), "tensor ", info.name, " has ", info.bytes(),
                 " bytes, the destination ", destination.size());
  file_.read_at(data_start_ + info.begin, destination);
}

std::vector<std::byte> SafetensorsFile::read_bytes(std::string_view name) const {
  const TensorInfo& info = at(name);
  std::vector<std::byte> bytes(static_cast<std::size_t>(info.bytes()));
  read_bytes(info, bytes);
  return bytes;
}

void SafetensorsFile::read_f32(const TensorInfo& info, std::span<float> destination) const {
  SUBPIX_REQUIRE(static_cast<std::int64_t>(destination.size()) == info.count(), "tensor ",
                 info.name, " has ", info.count(), " elements, the destination ",
                 destination.size());
  if (info.dtype == "F32") return read_bytes(info, std::as_writable_bytes(destination));

  const auto convert = [&]<class Stored>(Stored, auto to_f32) {
    // In pieces, so that a conversion never needs the tensor twice.
    constexpr std::size_t kPiece = std::size_t{1} << 16;
    std::vector<Stored> piece(std::min(kPiece, destination.size()));
    for (std::size_t done = 0; done < destination.size(); done += piece.size()) {
      const std::span stored =
          std::span(piece).first(std::min(piece.size(), destination.size() - done));
      file_.read_at(data_start_ + info.begin + done * sizeof(Stored),
                    std::as_writable_bytes(stored));
      std::transform(stored.begin(), stored.end(), destination.begin() + static_cast<long>(done),
                     to_f32);
    }
  };
  if (info.dtype == "F16") {
    convert(std::uint16_t{}, half_to_float);
  } else if (info.dtype == "BF16") {
    convert(std::uint16_t{}, [](std::uint16_t bits) { return to_float(bf16{bits}); });
  } else if (info.dtype == "F64") {
    convert(double{}, [](double v) { return static_cast<float>(v); });
  } else {
    refuse(path(), "tensor ", shown(info.name), " has dtype ", info.dtype,
           " where F32, F16, BF16 or F64 belongs; export it as F32");
  }
}

std::vector<float> SafetensorsFile::read_f32(std::string_view name) const {
  const TensorInfo& info = at(name);
  std::vector<float> values(static_cast<std::size_t>(info.count()));
  read_f32(info, values);
  return values;
}

void save_safetensors(const fs::path& path, const std::vector<TensorToSave>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::set<std::string_view> names;
  for (const TensorToSave& t : tensors) {
    SUBPIX_REQUIRE(t.name != kMetadataKey, "no tensor can be called ", kMetadataKey);
    SUBPIX_REQUIRE(names.insert(t.name).second, "two tensors are called ", t.name);
    const unsigned bits = bits_of(t.dtype);
    SUBPIX_REQUIRE(bits != 0, "tensor ", t.name, " has the unknown dtype ", t.dtype);
    const std::optional<std::uint64_t> expected = bytes_of(t.shape, bits);
    SUBPIX_REQUIRE(expected == t.bytes, "tensor ", t.name, " ", shape_text(t.shape), " of ",
                   t.dtype, " comes with ", t.bytes, " bytes");
    SUBPIX_REQUIRE(t.data || t.bytes == 0, "tensor ", t.name, " has no data");
  }
  std::vector<const TensorToSave*> order;
  for (const TensorToSave& t : tensors) order.push_back(&t);
  std::stable_sort(order.begin(), order.end(), [](const TensorToSave* a, const TensorToSave* b) {
    return bits_of(a->dtype) > bits_of(b->dtype);
  });

  std::string header = "{";
  try {
    if (!metadata.empty()) header += concat('"', kMetadataKey, "\":", json(metadata).dump());
    std::uint64_t begin = 0;
    for (const TensorToSave* t : order) {
      if (header.size() > 1) header += ',';
      header += concat(json(t->name).dump(), ":{\"dtype\":\"", t->dtype,
                       "\",\"shape\":", json(t->shape).dump(), ",\"data_offsets\":[", begin, ",",
                       begin + t->bytes, "]}");
      begin += t->bytes;
    }
  } catch (const json::exception&) {
    throw Error(
        concat("cannot write ", path.string(), ": a name or its metadata is not valid UTF-8"));
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::uint64_t header_bytes = header.size();
  SUBPIX_REQUIRE(header_bytes <= kMaxHeaderBytes, "the header of ", path.string(), " would have ",
                 header_bytes, " bytes, over the format's limit");

  AtomicFile file(path);
  file.write(&header_bytes, sizeof header_bytes);
  file.write(header);
  for (const TensorToSave* t : order) file.write(t->data, static_cast<std::size_t>(t->bytes));
  file.commit();
}

}  // namespace subpix::engine
