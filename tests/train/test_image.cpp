#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "engine/core/file.h"
#include "engine/core/random.h"
#include "tests/support/message.h"
#include "tests/support/temporary_folder.h"
#include "train/image.h"
#include "train/png_writer.h"

namespace fs = std::filesystem;
using namespace subpix;
using namespace subpix::train;
using Catch::Matchers::Contains;
using tests::input_error;
using tests::TemporaryFolder;
using Bytes = std::vector<std::byte>;

namespace {

Image noise(std::int64_t width, std::int64_t height, std::int64_t channels,
            std::uint64_t seed = 1) {
  Image image(width, height, channels);
  engine::Philox random(seed);
  for (std::uint8_t& p : image.pixels) p = static_cast<std::uint8_t>(random.next());
  return image;
}

Bytes fixture(const std::string& name) {
  return engine::read_file(fs::path(SUBPIX_SOURCE_DIR) / "tests/train/fixtures" / name, 1 << 20);
}

void append(Bytes& to, const std::string& text) {
  for (const char c : text) to.push_back(static_cast<std::byte>(c));
}

void append_big_endian(Bytes& to, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) to.push_back(static_cast<std::byte>(value >> shift));
}

/// PNG chunks by hand, for files that no writer would make.
struct RawPng {
  Bytes bytes;
  RawPng() { append(bytes, "\x89PNG\r\n\x1a\n"); }
  RawPng& chunk(const std::string& type, const std::string& data) {
    append_big_endian(bytes, static_cast<std::uint32_t>(data.size()));
    append(bytes, type + data);
    const std::string summed = type + data;
    append_big_endian(
        bytes, static_cast<std::uint32_t>(::crc32(0, reinterpret_cast<const Bytef*>(summed.data()),
                                                  static_cast<uInt>(summed.size()))));
    return *this;
  }
  RawPng& header(std::uint32_t width, std::uint32_t height, char bits, char type) {
    Bytes size;
    append_big_endian(size, width);
    append_big_endian(size, height);
    std::string data(reinterpret_cast<const char*>(size.data()), 8);
    return chunk("IHDR", data + bits + type + std::string(3, '\0'));
  }
  RawPng& data(const std::string& rows) {
    std::string packed(::compressBound(rows.size()), '\0');
    uLongf length = packed.size();
    ::compress(reinterpret_cast<Bytef*>(packed.data()), &length,
               reinterpret_cast<const Bytef*>(rows.data()), rows.size());
    packed.resize(length);
    return chunk("IDAT", packed);
  }
  const Bytes& end() { return chunk("IEND", "").bytes; }
};

Bytes bmp(std::int32_t width, std::int32_t height, const std::string& rows) {
  std::string file = "BM" + std::string(52, '\0');
  const auto put = [&](std::size_t at, std::int32_t value) {
    std::memcpy(&file[at], &value, sizeof value);
  };
  put(2, static_cast<std::int32_t>(54 + rows.size()));
  put(10, 54);
  put(14, 40);
  put(18, width);
  put(22, height);
  put(26, 1 | 24 << 16);
  Bytes bytes;
  append(bytes, file + rows);
  return bytes;
}

/// Greatest difference from the picture that fixtures/make_jpegs.py draws.
int fixture_error(const Image& image) {
  int worst = 0;
  for (std::int64_t y = 0; y < image.height; ++y)
    for (std::int64_t x = 0; x < image.width; ++x)
      for (std::int64_t c = 0; c < image.channels; ++c) {
        const std::int64_t expected = c == 0 ? 6 * x : c == 1 ? 10 * y : 255 - 3 * (x + y);
        const std::int64_t error = image.row(y)[x * image.channels + c] - expected;
        worst = std::max(worst, static_cast<int>(std::abs(error)));
      }
  return worst;
}

std::string decode_error(const Bytes& bytes) {
  const std::string text = input_error([&] { decode_image(bytes, "photos/x.y"); });
  CHECK_THAT(text, Catch::Matchers::StartsWith("cannot read photos/x.y: "));
  return text;
}

}  // namespace

TEST_CASE("PNG keeps every pixel of 1 to 4 channels", "[train][image]") {
  const TemporaryFolder folder;
  for (std::int64_t channels = 1; channels <= 4; ++channels) {
    for (const auto& [width, height] : {std::pair{1, 1}, {1, 7}, {7, 1}, {65, 33}}) {
      const Image image = noise(width, height, channels);
      const fs::path path = folder / "a.png";
      save_png(path, image);
      ImageInfo info;
      CHECK(load_image(path, {}, &info) == image);
      CHECK(info.format == ImageFormat::Png);
      CHECK(info.channels == channels);
      CHECK(info.bits == 8);
      const ImageInfo head = read_image_info(path);
      CHECK(head.width == width);
      CHECK(head.height == height);
      CHECK(head.channels == channels);
    }
  }
}

TEST_CASE("PNG rows can be written in strips, with the same bytes", "[train][image]") {
  const TemporaryFolder folder;
  const Image image = noise(31, 20, 3);
  save_png(folder / "whole.png", image);
  PngWriter writer(folder / "strips.png", 31, 20, 3);
  writer.write_rows(image.row(0), 7);
  writer.write_rows(image.row(7), 0);
  CHECK(!fs::exists(folder / "strips.png"));
  PngWriter moved = std::move(writer);
  moved.write_rows(image.row(7), 13);
  moved.close();
  CHECK(engine::read_file(folder / "strips.png", 1 << 20) ==
        engine::read_file(folder / "whole.png", 1 << 20));
}

TEST_CASE("a PNG that is not finished leaves nothing", "[train][image]") {
  const TemporaryFolder folder;
  const Image image = noise(31, 20, 3);
  {
    PngWriter writer(folder / "a.png", 31, 20, 3);
    writer.write_rows(image.row(0), 7);
    CHECK_THROWS_AS(writer.close(), Error);
    CHECK_THROWS_AS(writer.write_rows(image.row(7), 14), Error);
  }
  CHECK(fs::is_empty(folder.path()));
  CHECK_THROWS_AS(PngWriter(folder / "a.png", 0, 1, 3), Error);
  CHECK_THROWS_AS(PngWriter(folder / "a.png", 1, 1, 5), Error);
}

TEST_CASE("a PNG that cannot be written is named", "[train][image]") {
  const TemporaryFolder folder;
  CHECK_THAT(input_error([&] { save_png(folder / "no/a.png", noise(2, 2, 3)); }),
             Contains("no/a.png") && Contains("create the folder"));
  if (fs::is_character_file("/dev/full")) {
    CHECK_THAT(input_error([] { save_png("/dev/full", noise(300, 300, 3)); }),
               Contains("No space left on device"));
  }
}

TEST_CASE("baseline, progressive and grey JPEGs are read", "[train][image]") {
  for (const char* name : {"baseline.jpg", "progressive.jpg", "grey.jpg"}) {
    CAPTURE(name);
    ImageInfo info;
    const Image image = decode_image(fixture(name), name, {}, &info);
    CHECK(image.width == 37);
    CHECK(image.height == 21);
    CHECK(image.channels == (std::string(name) == "grey.jpg" ? 1 : 3));
    CHECK(info.format == ImageFormat::Jpeg);
    CHECK(info.channels == image.channels);
    // Quality 95; the subsampled colours of baseline.jpg are the coarsest.
    CHECK(fixture_error(image) <= (std::string(name) == "baseline.jpg" ? 14 : 6));
  }
}

TEST_CASE("a JPEG cut short anywhere is refused", "[train][image]") {
  for (const char* name : {"baseline.jpg", "progressive.jpg", "grey.jpg"}) {
    const Bytes whole = fixture(name);
    const Image image = decode_image(whole, name);
    for (std::size_t length = 0; length < whole.size(); ++length) {
      CAPTURE(name, length);
      Bytes cut(whole.begin(), whole.begin() + static_cast<long>(length));
      const std::string text = decode_error(cut);
      if (length > 3) CHECK_THAT(text, Contains("cut short"));
      // The same with an end marker put behind, as recovery tools do. Without the end marker alone
      // nothing is missing.
      if (length < 2 || length + 2 > whole.size()) continue;
      cut.push_back(std::byte{0xff});
      cut.push_back(std::byte{0xd9});
      if (length + 2 == whole.size())
        CHECK(decode_image(cut, name) == image);
      else
        decode_error(cut);
    }
  }
}

TEST_CASE("bytes after the end of a JPEG do no harm", "[train][image]") {
  Bytes bytes = fixture("baseline.jpg");
  const Image image = decode_image(bytes, "x");
  append(bytes, "a phone's motion picture \xff\xd8\xff");
  CHECK(decode_image(bytes, "x") == image);
}

TEST_CASE("garbage in a JPEG never crashes the reader", "[train][image]") {
  engine::Philox random(3);
  for (const char* name : {"baseline.jpg", "progressive.jpg", "grey.jpg"}) {
    const Bytes whole = fixture(name);
    int refused = 0;
    for (int repeat = 0; repeat < 500; ++repeat) {
      Bytes broken = whole;
      const std::size_t from = random.bounded(broken.size());
      const std::size_t to = std::min(broken.size(), from + 1 + random.bounded(40));
      for (std::size_t i = from; i < to; ++i) broken[i] = static_cast<std::byte>(random.next());
      try {
        const Image image = decode_image(broken, "x", {1 << 20, 1 << 20});
        CHECK(static_cast<std::int64_t>(image.pixels.size()) ==
              image.width * image.height * image.channels);
      } catch (const InputError&) {
        ++refused;
      }
    }
    CHECK(refused > 150);
  }
}

TEST_CASE("a lost restart interval is noticed", "[train][image]") {
  // stb_image would stop there and leave the rest of the picture grey.
  Bytes bytes = fixture("grey.jpg");
  for (std::size_t i = 0; i + 1 < bytes.size(); ++i)
    if (bytes[i] == std::byte{0xff} && bytes[i + 1] == std::byte{0xd0}) {
      bytes[i + 1] = std::byte{0xd1};
      CHECK_THAT(decode_error(bytes), Contains("restart marker"));
      return;
    }
  FAIL("the fixture has no restart marker");
}

TEST_CASE("kinds of JPEG that cannot be decoded are named", "[train][image]") {
  const Bytes whole = fixture("baseline.jpg");
  for (std::size_t i = 0; i + 1 < whole.size(); ++i) {
    if (whole[i] != std::byte{0xff} || whole[i + 1] != std::byte{0xc0}) continue;
    Bytes other = whole;
    other[i + 1] = std::byte{0xc9};
    CHECK_THAT(decode_error(other), Contains("arithmetic"));
    other = whole;
    other[i + 4] = std::byte{12};
    CHECK_THAT(decode_error(other), Contains("12 bits"));
    return;
  }
  FAIL("the fixture has no frame");
}

TEST_CASE("an Exif orientation turns the picture upright", "[train][image]") {
  const Bytes plain = fixture("baseline.jpg");
  const Image stored = decode_image(plain, "x");
  for (const bool little : {true, false}) {
    for (int orientation = 1; orientation <= 8; ++orientation) {
      CAPTURE(little, orientation);
      const auto number = [&](unsigned value, int count) {
        std::string text;
        for (int i = 0; i < count; ++i)
          text += static_cast<char>(value >> 8 * (little ? i : count - 1 - i));
        return text;
      };
      std::string body("Exif\0\0", 6);
      body += (little ? "II" : "MM") + number(42, 2) + number(8, 4) + number(2, 2);
      body += number(0x0100, 2) + number(3, 2) + number(1, 4) + number(99, 2) + number(0, 2);
      body += number(0x0112, 2) + number(3, 2) + number(1, 4) +
              number(static_cast<unsigned>(orientation), 2) + number(0, 2);
      Bytes tagged(plain.begin(), plain.begin() + 2);
      append(tagged, "\xff\xe1" + std::string(1, '\0') + static_cast<char>(body.size() + 2) + body);
      tagged.insert(tagged.end(), plain.begin() + 2, plain.end());

      ImageInfo info;
      const Image upright = decode_image(tagged, "x", {}, &info);
      const bool swapped = orientation >= 5;
      REQUIRE(upright.width == (swapped ? stored.height : stored.width));
      REQUIRE(info.width == upright.width);
      REQUIRE(info.height == upright.height);
      // Exif 2.3, 4.6.4: where the stored row 0 and column 0 lie in the upright picture.
      const std::int64_t w = upright.width, h = upright.height;
      int different = 0;
      for (std::int64_t row = 0; row < stored.height; ++row) {
        for (std::int64_t column = 0; column < stored.width; ++column) {
          std::int64_t x = 0, y = 0;
          switch (orientation) {
            case 1:
              x = column, y = row;
              break;  // row 0 top, column 0 left
            case 2:
              x = w - 1 - column, y = row;
              break;  // top, right
            case 3:
              x = w - 1 - column, y = h - 1 - row;
              break;  // bottom, right
            case 4:
              x = column, y = h - 1 - row;
              break;  // bottom, left
            case 5:
              x = row, y = column;
              break;  // left, top
            case 6:
              x = w - 1 - row, y = column;
              break;  // right, top
            case 7:
              x = w - 1 - row, y = h - 1 - column;
              break;  // right, bottom
            default:
              x = row, y = h - 1 - column;
              break;  // left, bottom
          }
          for (int c = 0; c < 3; ++c)
            different += upright.row(y)[x * 3 + c] != stored.row(row)[column * 3 + c] ? 1 : 0;
        }
      }
      CHECK(different == 0);

      const TemporaryFolder folder;
      engine::atomic_write(folder / "x.jpg", std::span<const std::byte>(tagged));
      const ImageInfo head = read_image_info(folder / "x.jpg");
      CHECK(head.width == upright.width);
      CHECK(head.height == upright.height);
    }
  }
}

TEST_CASE("a damaged or truncated PNG is refused", "[train][image]") {
  const TemporaryFolder folder;
  save_png(folder / "a.png", noise(19, 11, 3));
  const Bytes whole = engine::read_file(folder / "a.png", 1 << 20);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    const std::string text =
        decode_error(Bytes(whole.begin(), whole.begin() + static_cast<long>(length)));
    if (length > 8) CHECK_THAT(text, Contains("cut short"));
  }
  for (std::size_t i = 8; i < whole.size(); ++i) {
    CAPTURE(i);
    Bytes broken = whole;
    broken[i] ^= std::byte{0x10};
    decode_error(broken);
  }
}

TEST_CASE("PNGs of 16 bits, with a palette or transparency are read", "[train][image]") {
  ImageInfo info;
  // Two RGB pixels of 16 bits: the upper bytes count.
  const std::string deep("\0\x12\xff\x34\xff\x56\xff\xff\x80\x00\x80\x7f\x7f", 13);
  Image image = decode_image(RawPng().header(2, 1, 16, 2).data(deep).end(), "x", {}, &info);
  CHECK(image.pixels == std::vector<std::uint8_t>{0x12, 0x34, 0x56, 0xff, 0x00, 0x7f});
  CHECK(info.bits == 16);
  CHECK(info.channels == 3);

  const std::string palette("\x01\x02\x03\xf0\xf1\xf2", 6);
  image = decode_image(
      RawPng().header(2, 1, 8, 3).chunk("PLTE", palette).data(std::string("\0\1\0", 3)).end(), "x",
      {}, &info);
  CHECK(image.pixels == std::vector<std::uint8_t>{0xf0, 0xf1, 0xf2, 1, 2, 3});
  CHECK(info.channels == 3);

  image = decode_image(RawPng()
                           .header(2, 1, 8, 3)
                           .chunk("PLTE", palette)
                           .chunk("tRNS", std::string("\x80", 1))
                           .data(std::string("\0\1\0", 3))
                           .end(),
                       "x", {}, &info);
  CHECK(image.pixels == std::vector<std::uint8_t>{0xf0, 0xf1, 0xf2, 255, 1, 2, 3, 128});
  CHECK(info.channels == 4);

  // One bit of grey becomes black and white.
  image = decode_image(RawPng().header(3, 1, 1, 0).data(std::string("\0\xa0", 2)).end(), "x");
  CHECK(image.pixels == std::vector<std::uint8_t>{255, 0, 255});
}

TEST_CASE("PNGs that claim too much are refused before decoding", "[train][image]") {
  const std::string row(4, '\0');
  CHECK_THAT(decode_error(RawPng().header(0, 1, 8, 2).data(row).end()), Contains("x.y"));
  CHECK_THAT(decode_error(RawPng().header(1, 0, 8, 2).data(row).end()), Contains("x.y"));
  CHECK_THAT(decode_error(RawPng().header(16385, 16384, 8, 0).data(row).end()),
             Contains("16385x16384") && Contains("268435456"));
  CHECK_THAT(decode_error(RawPng().header(0x7fffffff, 0x7fffffff, 16, 6).data(row).end()),
             Contains("x.y"));
  // Allowed by the limit, but the data is missing.
  CHECK_THAT(decode_error(RawPng().header(1000, 1000, 8, 2).data(row).end()),
             Contains("no sound PNG"));
  CHECK_THAT(decode_error(RawPng().header(1, 1, 8, 2).end()), Contains("no picture data"));
  CHECK_THAT(decode_error(RawPng().chunk("IEND", "").bytes), Contains("header is damaged"));

  const ImageLimits narrow{1 << 20, 5};
  const Bytes six = RawPng().header(3, 2, 8, 0).data(std::string(8, '\0')).end();
  CHECK_THAT(input_error([&] { decode_image(six, "x", narrow); }), Contains("3x2"));
  CHECK(decode_image(six, "x", {1 << 20, 6}).pixels.size() == 6);
  CHECK_THAT(input_error([&] { decode_image(six, "x", {10, 6}); }), Contains("more than the 10"));
}

TEST_CASE("a small PNG cannot unpack into a large memory", "[train][image]") {
  // One pixel, but 64 MiB of zeros in 64 KiB of data.
  const Bytes bomb =
      RawPng().header(1, 1, 8, 2).data(std::string(std::size_t{64} << 20, '\0')).end();
  CHECK(bomb.size() < 100000);
  CHECK_THAT(decode_error(bomb), Contains("no sound PNG"));
}

TEST_CASE("BMPs are read, and refused when cut short", "[train][image]") {
  // Rows from the bottom, BGR, padded to 4 bytes.
  const std::string rows("\1\2\3\4\5\6\0\0\7\x8\x9\xa\xb\xc\0\0", 16);
  const Bytes whole = bmp(2, 2, rows);
  ImageInfo info;
  CHECK(decode_image(whole, "x", {}, &info).pixels ==
        std::vector<std::uint8_t>{9, 8, 7, 12, 11, 10, 3, 2, 1, 6, 5, 4});
  CHECK(info.format == ImageFormat::Bmp);
  CHECK(info.channels == 3);
  CHECK(decode_image(bmp(2, -2, rows), "x").pixels ==
        std::vector<std::uint8_t>{3, 2, 1, 6, 5, 4, 9, 8, 7, 12, 11, 10});
  for (std::size_t length = 2; length < whole.size(); ++length) {
    CAPTURE(length);
    CHECK_THAT(decode_error(Bytes(whole.begin(), whole.begin() + static_cast<long>(length))),
               Contains("cut short") || Contains("damaged"));
  }
  decode_error(bmp(0, 2, rows));
  decode_error(bmp(2, 0, rows));
  decode_error(bmp(-2, 2, rows));
  decode_error(bmp(0x7fffffff, 0x7fffffff, rows));
  decode_error(bmp(2, std::int32_t{-0x7fffffff} - 1, rows));
  Bytes packed = whole;
  packed[30] = std::byte{1};
  CHECK_THAT(decode_error(packed), Contains("compressed BMP"));
}

TEST_CASE("files that are no pictures are refused", "[train][image]") {
  Bytes bytes;
  CHECK_THAT(decode_error(bytes), Contains("empty"));
  append(bytes, "GIF89a and so on");
  CHECK_THAT(decode_error(bytes), Contains("no JPEG, PNG or BMP"));
  const TemporaryFolder folder;
  CHECK_THAT(input_error([&] { load_image(folder / "a.png"); }),
             Contains("a.png") && Contains("No such file"));
  CHECK_THAT(input_error([&] { load_image(folder.path()); }), Contains("folder"));
  engine::atomic_write(folder / "a.png", "text");
  CHECK_THAT(input_error([&] { read_image_info(folder / "a.png"); }), Contains("a.png"));
  // The content tells the format, not the name.
  save_png(folder / "really a png.jpg", noise(3, 3, 1));
  CHECK(load_image(folder / "really a png.jpg").channels == 1);
}

TEST_CASE("pictures are listed in order, whatever their case", "[train][image]") {
  const TemporaryFolder folder;
  fs::create_directories(folder / "b/deep");
  fs::create_directories(folder / "c");
  for (const char* name : {"z.JPG", "a.png", "B.Jpeg", "b/x.BMP", "b/deep/y.jpeg", "text.txt",
                           ".hidden.png", "c/picture", "a.gif"})
    engine::atomic_write(folder / name, "x");
  fs::create_directory(folder / "folder.png");
  fs::create_directory(folder / ".git");
  engine::atomic_write(folder / ".git/a.png", "x");
  const auto names = [&](const std::vector<fs::path>& paths) {
    std::string text;
    for (const fs::path& path : paths)
      text += path.lexically_relative(folder.path()).generic_string() + " ";
    return text;
  };
  CHECK(names(list_images({folder.path()})) == "B.Jpeg a.png b/deep/y.jpeg b/x.BMP z.JPG ");
  CHECK(names(list_images({folder.path()}, false)) == "B.Jpeg a.png z.JPG ");
  CHECK(names(list_images({folder / "b", folder.path()})) ==
        "b/deep/y.jpeg b/x.BMP B.Jpeg a.png z.JPG ");
  CHECK(list_images({folder.path().string() + "/./b/", folder / "b"}).size() == 2);

  fs::create_directory_symlink(folder.path(), folder / "b/up");
  fs::create_symlink(folder / "a.png", folder / "b/link.png");
  fs::create_symlink(folder / "missing", folder / "b/dangling.png");
  CHECK(names(list_images({folder / "b"})) ==
        "b/deep/y.jpeg b/link.png b/up/B.Jpeg b/up/a.png "
        "b/up/z.JPG b/x.BMP ");
}

TEST_CASE("folders without pictures are named", "[train][image]") {
  const TemporaryFolder folder;
  CHECK_THAT(input_error([&] { list_images({}); }), Contains("no folder"));
  CHECK_THAT(input_error([&] { list_images({folder / "missing"}); }),
             Contains("missing does not exist"));
  CHECK_THAT(input_error([&] { list_images({folder.path()}); }),
             Contains(folder.path().string()) && Contains("holds no"));
  fs::create_directory(folder / "sub");
  engine::atomic_write(folder / "sub/a.png", "x");
  CHECK_THAT(input_error([&] { list_images({folder.path()}, false); }),
             Contains("subfolders are not looked into"));
  CHECK_THAT(input_error([&] { list_images({folder / "sub/a.png"}); }), Contains("is a file"));
  engine::atomic_write(folder / "text", "x");
  CHECK_THAT(input_error([&] {
               list_images({folder.path(), folder / "missing"});
             }),
             Contains("missing does not exist"));
}

TEST_CASE("crop takes the named part", "[train][image]") {
  const Image image = noise(9, 7, 3);
  const Image part = crop(image, 2, 3, 4, 2);
  for (std::int64_t y = 0; y < 2; ++y)
    for (std::int64_t i = 0; i < 12; ++i) CHECK(part.row(y)[i] == image.row(y + 3)[2 * 3 + i]);
  CHECK(crop(image, 0, 0, 9, 7) == image);
  CHECK_THROWS_AS(crop(image, 6, 0, 4, 1), Error);
  CHECK_THROWS_AS(crop(image, -1, 0, 4, 1), Error);
  CHECK_THROWS_AS(crop(image, 0, 0, 0, 1), Error);
  CHECK_THROWS_AS(Image(0, 1, 3), Error);
  CHECK_THROWS_AS(Image(std::int64_t{1} << 40, std::int64_t{1} << 40, 3), Error);
}

TEST_CASE("grey and opaque pictures become RGB, transparent ones are refused", "[train][image]") {
  Image image(2, 1, 4);
  image.pixels = {1, 2, 3, 255, 4, 5, 6, 255};
  CHECK(to_rgb(image, "x").pixels == std::vector<std::uint8_t>{1, 2, 3, 4, 5, 6});
  image.pixels[7] = 254;
  CHECK_THAT(input_error([&] { to_rgb(image, "photo.png"); }),
             Contains("photo.png") && Contains("transparent") && Contains("flatten"));
  Image grey(2, 1, 2);
  grey.pixels = {7, 255, 8, 255};
  CHECK(without_alpha(grey, "x").pixels == std::vector<std::uint8_t>{7, 8});
  CHECK(to_rgb(grey, "x").pixels == std::vector<std::uint8_t>{7, 7, 7, 8, 8, 8});
  const Image rgb = noise(3, 3, 3);
  CHECK(to_rgb(rgb, "x") == rgb);
  const Image plain = noise(3, 3, 1);
  CHECK(without_alpha(plain, "x") == plain);
}
