#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "kernels/api/error.h"
#include "train/image_check.h"

namespace subpix::train {
namespace {

constexpr char kCut[] = "it is cut short";

struct Problem {
  std::string text;
};

[[noreturn]] void damaged(const char* what) {
  throw Problem{concat("its data is damaged (", what, ")")};
}

enum Marker : int {
  kSof0 = 0xc0,
  kSof1 = 0xc1,
  kSof2 = 0xc2,
  kDht = 0xc4,
  kJpg = 0xc8,
  kDac = 0xcc,
  kSof15 = 0xcf,
  kRst0 = 0xd0,
  kSoi = 0xd8,
  kEoi = 0xd9,
  kSos = 0xda,
  kDri = 0xdd,
  kApp1 = 0xe1,
  kTem = 0x01,
};

bool is_restart(int marker) { return marker >= kRst0 && marker < kRst0 + 8; }
bool is_frame(int marker) {
  return marker >= kSof0 && marker <= kSof15 && marker != kDht && marker != kJpg && marker != kDac;
}

/// A code table of T.81 annex C with a direct lookup for short codes.
struct Huffman {
  static constexpr int kLookupBits = 9;
  bool defined = false;
  std::array<std::uint16_t, 1 << kLookupBits> lookup{};  ///< length << 8 | symbol; 0 if longer
  std::array<std::int32_t, 18>
      end_code{};  ///< first code beyond those of a length, left-aligned to 16
  std::array<std::int32_t, 17> first_code{};
  std::array<int, 17> first_symbol{};
  std::vector<std::uint8_t> symbols;

  void build(const std::uint8_t* counts) {
    lookup.fill(0);
    std::int32_t code = 0;
    int symbol = 0;
    for (int length = 1; length <= 16; ++length) {
      const auto l = static_cast<std::size_t>(length);
      first_code[l] = code;
      first_symbol[l] = symbol;
      const int count = counts[length - 1];
      if (code + count > 1 << length) damaged("impossible code table");
      for (int i = 0; i < count; ++i, ++code, ++symbol) {
        if (length > kLookupBits) continue;
        const int spread = kLookupBits - length;
        const auto entry =
            static_cast<std::uint16_t>(length << 8 | symbols[static_cast<std::size_t>(symbol)]);
        std::fill_n(lookup.begin() + (code << spread), std::size_t{1} << spread, entry);
      }
      end_code[l] = code << (16 - length);
      code <<= 1;
    }
    defined = true;
  }
};

/// The bits of one scan; byte stuffing removed, stops at the first marker.
class BitReader {
 public:
  BitReader(FileBytes file, std::size_t at) : file_(file), at_(at) {}

  /// The next 16 bits, zeros behind the end.
  std::uint32_t peek16() {
    if (count_ < 16) fill();
    return static_cast<std::uint32_t>(buffer_ >> 48);
  }

  /// Takes bits that must be in the file. n <= 16.
  void skip(int n) {
    if (count_ < n) fill();
    if (count_ < n) throw Problem{kCut};
    buffer_ <<= n;
    count_ -= n;
  }

  std::uint32_t take(int n) {
    if (n == 0) return 0;
    const std::uint32_t value = peek16() >> (16 - n);
    skip(n);
    return value;
  }

  int decode(const Huffman& table) {
    const std::uint32_t bits = peek16();
    if (const std::uint16_t entry = table.lookup[bits >> (16 - Huffman::kLookupBits)]) {
      skip(entry >> 8);
      return entry & 0xff;
    }
    for (int length = Huffman::kLookupBits + 1; length <= 16; ++length) {
      const auto l = static_cast<std::size_t>(length);
      if (static_cast<std::int32_t>(bits) >= table.end_code[l]) continue;
      const std::int32_t code = static_cast<std::int32_t>(bits >> (16 - length));
      skip(length);
      return table
          .symbols[static_cast<std::size_t>(table.first_symbol[l] + code - table.first_code[l])];
    }
    // No code begins with these bits: the zeros behind the end, or garbage.
    if (count_ < 16) throw Problem{kCut};
    damaged("unknown code");
  }

  /// Where the reader has come to once the rest of the last byte is dropped.
  std::size_t next_marker() {
    while (at_ + 1 < file_.size() &&
           !(file_[at_] == 0xff && file_[at_ + 1] != 0x00 && file_[at_ + 1] != 0xff))
      ++at_;
    return at_;
  }

  /// Goes on behind a restart marker. Whole bytes of data before it would mean that blocks got
  /// lost.
  void restart(int expected) {
    const std::size_t at = next_marker();
    if (at + 1 >= file_.size()) throw Problem{kCut};
    if (file_[at + 1] != kRst0 + expected) damaged("restart marker missing");
    at_ = at + 2;
    buffer_ = 0;
    count_ = 0;
  }

 private:
  void fill() {
    while (count_ <= 56 && at_ < file_.size()) {
      const std::uint8_t byte = file_[at_];
      if (byte == 0xff) {
        if (at_ + 1 >= file_.size() || file_[at_ + 1] != 0x00) return;
        ++at_;
      }
      ++at_;
      buffer_ |= std::uint64_t{byte} << (56 - count_);
      count_ += 8;
    }
  }

  FileBytes file_;
  std::size_t at_;
  std::uint64_t buffer_ = 0;  ///< next bit on top
  int count_ = 0;
};

struct Component {
  int id = 0, h = 1, v = 1;
  std::int64_t blocks_x = 0, blocks_y = 0;  ///< of the component alone
  std::int64_t stride = 0, rows = 0;        ///< padded to whole MCUs
  const Huffman* dc = nullptr;
  const Huffman* ac = nullptr;
  std::array<int, 64> missing_bits;  ///< per coefficient; -1 before its first scan
  /// Progressive only: which coefficients of each block are non-zero so far. Refinement scans hold
  /// one bit for each of them.
  std::vector<std::uint64_t> nonzero;
};

struct Scan {
  std::vector<Component*> components;
  int first = 0, last = 63;  ///< Ss and Se
  int high = 0, low = 0;     ///< Ah and Al
  std::int64_t band_end_run = 0;
};

class Checker {
 public:
  explicit Checker(FileBytes file) : file_(file) {}

  JpegReport run(bool head_only) {
    try {
      walk(head_only);
    } catch (const Problem& problem) {
      report_.problem = problem.text;
    }
    return report_;
  }

 private:
  std::uint32_t byte(std::size_t at) const {
    if (at >= file_.size()) throw Problem{kCut};
    return file_[at];
  }
  std::uint32_t word(std::size_t at) const { return byte(at) << 8 | byte(at + 1); }

  void walk(bool head_only) {
    at_ = 2;  // behind SOI, which told the format
    for (;;) {
      while (byte(at_) != 0xff) ++at_;  // padding that some cameras leave
      while (byte(at_) == 0xff) ++at_;
      const int marker = static_cast<int>(byte(at_++));
      if (marker == kEoi) return finish();
      if (marker == 0 || marker == kTem || marker == kSoi || is_restart(marker)) continue;
      const std::size_t length = word(at_);
      if (length < 2) damaged("segment length");
      if (length > file_.size() - at_) throw Problem{kCut};
      const FileBytes body = file_.subspan(at_ + 2, length - 2);
      at_ += length;
      if (marker == kDht) {
        read_tables(body);
      } else if (is_frame(marker)) {
        if (marker > kSof2)
          throw Problem{"it is a lossless or arithmetic-coded JPEG, which is not supported"};
        progressive_ = marker == kSof2;
        read_frame(body);
      } else if (marker == kDri) {
        if (body.size() != 2) damaged("segment length");
        restart_interval_ = body[0] << 8 | body[1];
      } else if (marker == kApp1) {
        read_exif(body);
      } else if (marker == kSos) {
        if (head_only) return;
        read_scan(body);
      }
    }
  }

  void finish() const {
    if (components_.empty()) throw Problem{"it holds no picture data"};
    for (const Component& c : components_) {
      if (c.missing_bits[0] < 0) throw Problem{kCut};
      for (const int bits : c.missing_bits)
        if (bits > 0) throw Problem{kCut};
    }
  }

  void read_tables(FileBytes body) {
    while (!body.empty()) {
      const unsigned kind = body[0] >> 4, slot = body[0] & 15;
      if (kind > 1 || slot > 3 || body.size() < 17) damaged("code table");
      std::size_t total = 0;
      for (int i = 1; i <= 16; ++i) total += body[static_cast<std::size_t>(i)];
      if (total > 256 || body.size() < 17 + total) damaged("code table");
      Huffman& table = tables_[kind][slot];
      table.symbols.assign(body.begin() + 17, body.begin() + 17 + static_cast<long>(total));
      table.build(&body[1]);
      body = body.subspan(17 + total);
    }
  }

  void read_frame(FileBytes body) {
    if (!components_.empty()) damaged("second frame");
    if (body.size() < 6 || body.size() < 6 + std::size_t{body[5]} * 3) damaged("frame header");
    if (body[0] != 8) throw Problem{"it is a JPEG of 12 bits per sample, which is not supported"};
    const std::int64_t height = body[1] << 8 | body[2], width = body[3] << 8 | body[4];
    if (width == 0 || height == 0) throw Problem{"its header tells no size"};
    const std::size_t count = body[5];
    if (count < 1 || count > 4) damaged("frame header");
    int h_max = 1, v_max = 1;
    for (std::size_t i = 0; i < count; ++i) {
      Component c;
      c.id = body[6 + i * 3];
      c.h = body[7 + i * 3] >> 4;
      c.v = body[7 + i * 3] & 15;
      if (c.h < 1 || c.h > 4 || c.v < 1 || c.v > 4) damaged("frame header");
      c.missing_bits.fill(-1);
      h_max = std::max(h_max, c.h);
      v_max = std::max(v_max, c.v);
      components_.push_back(std::move(c));
    }
    const auto divide_up = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
    mcus_x_ = divide_up(width, 8 * h_max);
    mcus_y_ = divide_up(height, 8 * v_max);
    for (Component& c : components_) {
      c.blocks_x = divide_up(divide_up(width * c.h, h_max), 8);
      c.blocks_y = divide_up(divide_up(height * c.v, v_max), 8);
      c.stride = mcus_x_ * c.h;
      c.rows = mcus_y_ * c.v;
    }
  }

  void read_scan(FileBytes body) {
    Scan scan;
    const std::size_t count = body.empty() ? 0 : body[0];
    if (count < 1 || count > components_.size() || body.size() < 4 + count * 2)
      damaged("scan header");
    for (std::size_t i = 0; i < count; ++i) {
      const auto found = std::find_if(components_.begin(), components_.end(),
                                      [&](const Component& c) { return c.id == body[1 + i * 2]; });
      const unsigned dc = body[2 + i * 2] >> 4, ac = body[2 + i * 2] & 15;
      if (found == components_.end() || dc > 3 || ac > 3) damaged("scan header");
      found->dc = &tables_[0][dc];
      found->ac = &tables_[1][ac];
      scan.components.push_back(&*found);
    }
    if (progressive_) {
      scan.first = body[1 + count * 2];
      scan.last = body[2 + count * 2];
      scan.high = body[3 + count * 2] >> 4;
      scan.low = body[3 + count * 2] & 15;
      if (scan.last > 63 || scan.first > scan.last || scan.low > 13 ||
          (scan.first == 0 && scan.last != 0) || (scan.first > 0 && count != 1))
        damaged("scan header");
    }
    for (Component* c : scan.components) {
      if (progressive_) c->nonzero.resize(static_cast<std::size_t>(c->stride * c->rows));
      const bool needs_dc = scan.first == 0 && scan.high == 0, needs_ac = scan.last > 0;
      if ((needs_dc && !c->dc->defined) || (needs_ac && !c->ac->defined)) damaged("no code table");
      for (int k = scan.first; k <= scan.last; ++k)
        c->missing_bits[static_cast<std::size_t>(k)] = scan.low;
    }
    BitReader bits(file_, at_);
    read_blocks(bits, scan);
    at_ = bits.next_marker();
  }

  void read_blocks(BitReader& bits, Scan& scan) {
    // A scan of one component runs over its own blocks, one of several over whole MCUs.
    const bool single = scan.components.size() == 1;
    const std::int64_t mcus_x = single ? scan.components[0]->blocks_x : mcus_x_;
    const std::int64_t mcus_y = single ? scan.components[0]->blocks_y : mcus_y_;
    std::int64_t until_restart = restart_interval_;
    int restarts = 0;
    for (std::int64_t y = 0; y < mcus_y; ++y) {
      for (std::int64_t x = 0; x < mcus_x; ++x) {
        if (restart_interval_ > 0 && until_restart-- == 0) {
          bits.restart(restarts++ % 8);
          until_restart = restart_interval_ - 1;
          scan.band_end_run = 0;
        }
        if (single) {
          read_block(bits, scan, *scan.components[0], y * scan.components[0]->stride + x);
          continue;
        }
        for (Component* c : scan.components)
          for (std::int64_t v = 0; v < c->v; ++v)
            for (std::int64_t h = 0; h < c->h; ++h)
              read_block(bits, scan, *c, (y * c->v + v) * c->stride + x * c->h + h);
      }
    }
  }

  void read_block(BitReader& bits, Scan& scan, Component& c, std::int64_t block) {
    if (!progressive_) return read_sequential(bits, c);
    if (scan.first == 0) {
      if (scan.high == 0)
        read_dc(bits, c);
      else
        bits.skip(1);
      return;
    }
    std::uint64_t& nonzero = c.nonzero[static_cast<std::size_t>(block)];
    if (scan.high == 0)
      read_first_band(bits, scan, *c.ac, nonzero);
    else
      refine_band(bits, scan, *c.ac, nonzero);
  }

  static void read_dc(BitReader& bits, const Component& c) {
    const int size = bits.decode(*c.dc);
    if (size > 15) damaged("coefficient size");
    bits.skip(size);
  }

  static void read_sequential(BitReader& bits, const Component& c) {
    read_dc(bits, c);
    for (int k = 1; k < 64; ++k) {
      const int symbol = bits.decode(*c.ac);
      const int run = symbol >> 4, size = symbol & 15;
      if (size == 0 && run < 15) return;
      k += run;
      if (k > 63) damaged("too many coefficients");
      bits.skip(size);
    }
  }

  static void read_first_band(BitReader& bits, Scan& scan, const Huffman& ac,
                              std::uint64_t& nonzero) {
    if (scan.band_end_run > 0) {
      --scan.band_end_run;
      return;
    }
    for (int k = scan.first; k <= scan.last; ++k) {
      const int symbol = bits.decode(ac);
      const int run = symbol >> 4, size = symbol & 15;
      if (size == 0 && run < 15) {
        scan.band_end_run = (std::int64_t{1} << run) - 1 + bits.take(run);
        return;
      }
      k += run;
      if (k > scan.last) damaged("too many coefficients");
      bits.skip(size);
      if (size > 0) nonzero |= std::uint64_t{1} << k;
    }
  }

  static void refine_band(BitReader& bits, Scan& scan, const Huffman& ac, std::uint64_t& nonzero) {
    int k = scan.first;
    while (scan.band_end_run == 0 && k <= scan.last) {
      const int symbol = bits.decode(ac);
      int run = symbol >> 4;
      const int size = symbol & 15;
      if (size > 1) damaged("coefficient size");
      if (size == 0 && run < 15) {
        scan.band_end_run = (std::int64_t{1} << run) + bits.take(run);
        break;
      }
      if (size == 1) bits.skip(1);  // the sign of a coefficient that becomes non-zero
      // Its place: behind `run` zeros, while each non-zero one on the way takes a correction bit.
      for (;; ++k) {
        if (k > scan.last) {
          if (size == 1) damaged("too many coefficients");
          break;
        }
        if (nonzero >> k & 1) {
          bits.skip(1);
        } else if (run-- == 0) {
          break;
        }
      }
      if (size == 1) nonzero |= std::uint64_t{1} << k;
      ++k;
    }
    if (scan.band_end_run > 0) {
      for (; k <= scan.last; ++k)
        if (nonzero >> k & 1) bits.skip(1);
      --scan.band_end_run;
    }
  }

  // Exif is a TIFF file inside APP1; of its first directory only the orientation matters here.
  // Anything odd in it leaves the picture as it is: metadata must not make a picture unreadable.
  void read_exif(FileBytes body) {
    if (body.size() < 14 || std::memcmp(body.data(), "Exif\0\0", 6) != 0) return;
    const FileBytes tiff = body.subspan(6);
    const bool little = tiff[0] == 'I';
    const auto number = [&](std::size_t at, std::size_t bytes) {
      std::uint32_t value = 0;
      for (std::size_t i = 0; i < bytes; ++i)
        value = value << 8 | tiff[at + (little ? bytes - 1 - i : i)];
      return value;
    };
    const std::size_t directory = number(4, 4);
    if (directory > tiff.size() - 2) return;
    const std::size_t entries = number(directory, 2);
    for (std::size_t i = 0; i < entries; ++i) {
      const std::size_t at = directory + 2 + i * 12;
      if (at + 12 > tiff.size()) return;
      constexpr std::uint32_t kOrientation = 0x0112, kShort = 3;
      if (number(at, 2) != kOrientation || number(at + 2, 2) != kShort) continue;
      const std::uint32_t value = number(at + 8, 2);
      if (value >= 1 && value <= 8) report_.orientation = static_cast<int>(value);
      return;
    }
  }

  FileBytes file_;
  std::size_t at_ = 0;
  JpegReport report_;
  bool progressive_ = false;
  std::int64_t restart_interval_ = 0;
  std::int64_t mcus_x_ = 0, mcus_y_ = 0;
  std::vector<Component> components_;
  std::array<std::array<Huffman, 4>, 2> tables_;  ///< DC, AC
};

}  // namespace

JpegReport check_jpeg(FileBytes file) { return Checker(file).run(false); }

JpegReport check_jpeg_head(FileBytes file) { return Checker(file).run(true); }

}  // namespace subpix::train
