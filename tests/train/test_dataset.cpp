#include "train/dataset.h"

#include <algorithm>
#include <fstream>
#include <set>

#include "tests/support/catch.h"
#include "tests/support/message.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/pictures.h"
#include "train/resample.h"

namespace subpix::train {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;
using subpix::tests::input_error;
using subpix::tests::TemporaryFolder;
using tests::make_photo;
using tests::write_photos;

constexpr Index kScale = 4;

DataConfig small(Index crop = 16, Index batch = 4) {
  DataConfig c;
  c.crop = crop;
  c.batch = batch;
  return c;
}

Image square(const std::vector<std::uint8_t>& bytes, Index sample, Index size) {
  Image image(size, size, 3);
  std::copy_n(bytes.begin() + sample * size * size * 3, size * size * 3, image.pixels.begin());
  return image;
}

Image mirrored(const Image& in) {
  Image out(in.width, in.height, 3);
  for (Index y = 0; y < in.height; ++y)
    for (Index x = 0; x < in.width; ++x)
      std::copy_n(in.row(y) + 3 * x, 3, out.row(y) + 3 * (in.width - 1 - x));
  return out;
}

/// A quarter turn clockwise: the left column, read upwards, becomes the top row.
Image turned(const Image& in) {
  Image out(in.height, in.width, 3);
  for (Index y = 0; y < in.height; ++y)
    for (Index x = 0; x < in.width; ++x)
      std::copy_n(in.row(y) + 3 * x, 3, out.row(x) + 3 * (in.height - 1 - y));
  return out;
}

/// What a choice says, the plain way.
Image expected(const Image& image, Index x, Index y, Index size, const CropChoice& choice) {
  Image part = crop(image, x, y, size, size);
  if (choice.mirrored) part = mirrored(part);
  for (int i = 0; i < choice.quarter_turns; ++i) part = turned(part);
  return part;
}

struct Photos {
  TemporaryFolder folder;
  Photos(int count, Index width, Index height) {
    write_photos(folder.path(), count, width, height);
  }
  std::vector<std::string> folders() const { return {folder.path().string()}; }
};

}  // namespace

TEST_CASE("crops are a function of seed, step and sample", "[dataset]") {
  const Photos photos(6, 40, 36);
  PhotoStore store(photos.folders(), small(), kScale), again(photos.folders(), small(), kScale);
  const CropSampler a(store, small(), kScale, 7), b(again, small(), kScale, 7),
      other(store, small(), kScale, 8);
  // Asked in another order, by another object.
  const auto late = b.choose(1000);
  for (const Index step : {0, 1, 2, 1000}) CHECK(a.choose(step) == b.choose(step));
  CHECK(a.choose(1000) == late);
  CHECK(a.choose(0) != a.choose(1));
  CHECK(a.choose(0) != other.choose(0));
  CHECK(a.make(3).hr == b.make(3).hr);
  CHECK(a.make(3).lr == b.make(3).lr);
}

TEST_CASE("crops lie within their photo, aligned, each from another photo, and reach everywhere",
          "[dataset]") {
  const Photos photos(6, 41, 35);  // 40x32 once cropped to the scale
  const bool whole = GENERATE(true, false);
  DataConfig config = small();
  config.lr = whole ? LrFrom::Image : LrFrom::Crop;
  PhotoStore store(photos.folders(), config, kScale);
  CHECK(store.width(0) == (whole ? 40 : 41));
  CHECK(store.height(0) == (whole ? 32 : 35));
  const CropSampler sampler(store, config, kScale, 1);
  std::set<Index> xs, ys;
  std::set<std::size_t> used;
  std::set<std::pair<bool, int>> turns;
  for (Index step = 0; step < 300; ++step) {
    std::set<std::size_t> in_batch;
    for (const CropChoice& c : sampler.choose(step)) {
      CHECK(in_batch.insert(c.photo).second);
      REQUIRE(c.photo < store.size());
      REQUIRE((c.x >= 0 && c.x + config.crop <= store.width(c.photo)));
      REQUIRE((c.y >= 0 && c.y + config.crop <= store.height(c.photo)));
      if (whole) REQUIRE((c.x % kScale == 0 && c.y % kScale == 0));
      xs.insert(c.x);
      ys.insert(c.y);
      used.insert(c.photo);
      turns.insert({c.mirrored, c.quarter_turns});
    }
  }
  CHECK(used.size() == 6);
  CHECK(turns.size() == 8);
  CHECK(xs.size() == (whole ? 7u : 26u));
  CHECK(ys.size() == (whole ? 5u : 20u));

  config.flip = config.rotate = false;
  const CropSampler plain(store, config, kScale, 1);
  for (const CropChoice& c : plain.choose(5)) {
    CHECK_FALSE(c.mirrored);
    CHECK(c.quarter_turns == 0);
  }
}

TEST_CASE("with fewer photos than crops every photo comes before one comes again", "[dataset]") {
  const Photos photos(3, 20, 20);
  PhotoStore store(photos.folders(), small(16, 8), kScale);
  const CropSampler sampler(store, small(16, 8), kScale, 1);
  for (Index step = 0; step < 20; ++step) {
    std::vector<int> count(3, 0);
    const auto choices = sampler.choose(step);
    for (std::size_t i = 0; i < 6; ++i) ++count[choices[i].photo];
    CHECK(count == std::vector<int>{2, 2, 2});
  }
}

TEST_CASE("HR and LR crops show the same place", "[dataset]") {
  const Photos photos(4, 47, 43);
  DataConfig config = small(24, 4);
  config.lr = GENERATE(LrFrom::Image, LrFrom::Crop);
  PhotoStore store(photos.folders(), config, kScale);
  const CropSampler sampler(store, config, kScale, 3);
  for (Index step = 0; step < 12; ++step) {
    const auto choices = sampler.choose(step);
    const Batch batch = sampler.make(step);
    REQUIRE(batch.hr_size == 24);
    REQUIRE(batch.lr_size == 6);
    for (Index i = 0; i < batch.count; ++i) {
      const CropChoice& c = choices[static_cast<std::size_t>(i)];
      CAPTURE(step, i, c.mirrored, c.quarter_turns);
      const Image file = load_image(store.path(c.photo));
      const Image hr = square(batch.hr, i, 24), lr = square(batch.lr, i, 6);
      CHECK(hr == expected(file, c.x, c.y, 24, c));
      if (config.lr == LrFrom::Image) {
        const Image small_photo = shrink_bicubic(crop(file, 0, 0, 44, 40), kScale);
        CHECK(lr == expected(small_photo, c.x / kScale, c.y / kScale, 6, c));
      } else {
        CHECK(lr == shrink_bicubic(hr, kScale));
      }
      // Independently of how either was cut: the mean over 4x4 HR pixels is near the LR pixel.
      double squares = 0.0;
      for (Index y = 0; y < 6; ++y)
        for (Index x = 0; x < 6; ++x)
          for (Index channel = 0; channel < 3; ++channel) {
            double mean = 0.0;
            for (Index k = 0; k < 16; ++k)
              mean += hr.row(4 * y + k / 4)[(4 * x + k % 4) * 3 + channel] / 16.0;
            const double difference = mean - lr.row(y)[x * 3 + channel];
            squares += difference * difference / 108.0;
          }
      CHECK(squares < 60.0);
    }
  }
}

TEST_CASE("any number of loader threads hands out the same batches in order", "[dataset]") {
  const Photos photos(5, 32, 32);
  PhotoStore store(photos.folders(), small(), kScale);
  const CropSampler sampler(store, small(), kScale, 1);
  for (const Index threads : {1, 2, 5}) {
    BatchLoader loader(sampler, 10, 40, threads);
    for (Index step = 10; step < 40; ++step) {
      const Batch batch = loader.next();
      REQUIRE(batch.step == step);
      const Batch direct = sampler.make(step);
      REQUIRE(batch.hr == direct.hr);
      REQUIRE(batch.lr == direct.lr);
    }
    CHECK_THROWS_AS(loader.next(), Error);
  }
  // One that nobody asks ends without waiting for anybody.
  const BatchLoader unused(sampler, 0, 1'000'000, 3);
}

TEST_CASE("beyond the memory limit photos are decoded again and batches stay the same",
          "[dataset]") {
  const Photos photos(12, 256, 200);  // 150 KiB each, 1.8 MiB in all
  DataConfig config = small(32, 4);
  PhotoStore roomy(photos.folders(), config, kScale);
  CHECK_FALSE(roomy.streaming());
  config.memory_mib = 1;
  PhotoStore tight(photos.folders(), config, kScale);
  CHECK(tight.streaming());
  CHECK(tight.fingerprint() == roomy.fingerprint());
  roomy.preload(2, [](std::size_t) {});
  tight.preload(2, [](std::size_t) {});
  CHECK(roomy.statistics().decoded == 12);
  CHECK(roomy.statistics().bytes == roomy.total_bytes());
  CHECK(tight.statistics().decoded == 0);
  const CropSampler a(roomy, config, kScale, 1), b(tight, config, kScale, 1);
  BatchLoader first(a, 0, 30, 1), second(b, 0, 30, 3);
  for (int i = 0; i < 30; ++i) {
    const Batch x = first.next(), y = second.next();
    REQUIRE(x.hr == y.hr);
    REQUIRE(x.lr == y.lr);
  }
  CHECK(roomy.statistics().decoded == 12);
  CHECK(tight.statistics().decoded > 20);
  CHECK(tight.statistics().peak <= std::size_t{1} << 20);
}

TEST_CASE("data.shrink reduces every photo first", "[dataset]") {
  const Photos photos(1, 90, 70);
  DataConfig config = small(16, 1);
  config.shrink = 2.0;
  PhotoStore whole(photos.folders(), config, kScale);
  CHECK(whole.width(0) == 44);  // 45, cropped to the scale
  CHECK(whole.height(0) == 32);
  const Image file = load_image(whole.path(0));
  CHECK(whole.get(0)->hr == crop(shrink_bicubic(file, 2), 0, 0, 44, 32));
  CHECK(whole.get(0)->lr == shrink_bicubic(whole.get(0)->hr, kScale));
  config.shrink = 2.5;
  PhotoStore part(photos.folders(), config, kScale);
  CHECK(part.get(0)->hr == crop(resize_bicubic(file, 36, 28), 0, 0, 36, 28));
  config.shrink = 6.0;
  CHECK_THAT(input_error([&] { PhotoStore(photos.folders(), config, kScale); }),
             Contains("photo_0.png is 15x11 after data.shrink = 6 (90x70 in the file)"));
}

TEST_CASE("folders: missing, empty, several, nested", "[dataset]") {
  const TemporaryFolder folder;
  const auto open = [&](std::vector<std::string> folders) {
    return input_error([&] { PhotoStore(folders, small(), kScale); });
  };
  CHECK_THAT(open({(folder / "none").string()}), Contains("none"));
  CHECK_THAT(open({folder.path().string()}), Contains(folder.path().string()));
  write_photos(folder / "a/deep/er", 2, 20, 20);
  write_photos(folder / "b", 3, 20, 20, 2);
  PhotoStore store({(folder / "a").string(), (folder / "b").string()}, small(), kScale);
  CHECK(store.size() == 5);
  PhotoStore other_order({(folder / "b").string(), (folder / "a").string()}, small(), kScale);
  CHECK(other_order.fingerprint() != store.fingerprint());
  fs::rename(folder / "a", folder / "moved");
  PhotoStore moved({(folder / "moved").string(), (folder / "b").string()}, small(), kScale);
  CHECK(moved.fingerprint() == store.fingerprint());
  fs::remove(folder / "b/photo_1.png");
  PhotoStore fewer({(folder / "moved").string(), (folder / "b").string()}, small(), kScale);
  CHECK(fewer.fingerprint() != store.fingerprint());
}

TEST_CASE("a picture smaller than the crop is named before anything is decoded", "[dataset]") {
  const Photos photos(2, 40, 40);
  save_png(photos.folder / "tiny.png", make_photo(40, 15, 9));
  const std::string text = input_error([&] { PhotoStore(photos.folders(), small(), kScale); });
  CHECK_THAT(text, Contains("tiny.png is 40x15") && Contains("16x16") && Contains("data.crop"));
}

TEST_CASE("pictures that are not RGB are refused or converted", "[dataset]") {
  const Photos photos(1, 24, 24);
  Image grey(24, 24, 1), rgba(24, 24, 4);
  for (std::size_t i = 0; i < grey.pixels.size(); ++i)
    grey.pixels[i] = static_cast<std::uint8_t>(i);
  for (std::size_t i = 0; i < rgba.pixels.size(); ++i)
    rgba.pixels[i] = static_cast<std::uint8_t>(i * 7);
  DataConfig convert = small();
  convert.channels = ChannelRule::Convert;

  save_png(photos.folder / "z.png", grey);
  CHECK_THAT(input_error([&] { PhotoStore(photos.folders(), small(), kScale); }),
             Contains("z.png has 1 channel (grey)") && Contains("data.channels"));
  PhotoStore with_grey(photos.folders(), convert, kScale);
  const Image& from_grey = with_grey.get(1)->hr;
  REQUIRE(from_grey.channels == 3);
  for (std::size_t i = 0; i < from_grey.pixels.size(); ++i)
    REQUIRE(from_grey.pixels[i] == grey.pixels[i / 3]);

  save_png(photos.folder / "z.png", rgba);
  CHECK_THAT(input_error([&] { PhotoStore(photos.folders(), small(), kScale); }),
             Contains("z.png has 4 channels (RGB and alpha)") && Contains("data.channels"));
  PhotoStore with_alpha(photos.folders(), convert, kScale);
  const Image& from_rgba = with_alpha.get(1)->hr;
  REQUIRE(from_rgba.channels == 3);
  for (std::size_t i = 0; i < from_rgba.pixels.size(); ++i)
    REQUIRE(from_rgba.pixels[i] == rgba.pixels[i / 3 * 4 + i % 3]);
}

TEST_CASE("a truncated JPEG is named, whether decoded at the start or on the way", "[dataset]") {
  const TemporaryFolder folder;
  DataConfig config = small(8, 2);
  for (const char* name : {"a.jpg", "b.jpg", "c.jpg"})
    fs::copy_file(tests::fixture("baseline.jpg"), folder / name);
  PhotoStore good({folder.path().string()}, config, kScale);
  CHECK_NOTHROW(good.preload(2, [](std::size_t) {}));
  fs::resize_file(folder / "b.jpg", fs::file_size(folder / "b.jpg") - 60);

  PhotoStore store({folder.path().string()}, config, kScale);  // the head is sound
  CHECK_THAT(input_error([&] { store.preload(2, [](std::size_t) {}); }), Contains("b.jpg"));

  // In the loader's threads, as when streaming: it comes out of next().
  const CropSampler sampler(store, config, kScale, 1);
  BatchLoader loader(sampler, 0, 20, 2);
  CHECK_THAT(input_error([&] {
               for (int i = 0; i < 20; ++i) loader.next();
             }),
             Contains("b.jpg"));
}

TEST_CASE("of several damaged files the first in order is named", "[dataset]") {
  const TemporaryFolder folder;
  write_photos(folder.path(), 8, 64, 64);
  for (const char* name : {"photo_2.png", "photo_5.png", "photo_7.png"})
    fs::resize_file(folder / name, fs::file_size(folder / name) / 2);
  for (int i = 0; i < 10; ++i) {
    PhotoStore store({folder.path().string()}, small(), kScale);
    CHECK_THAT(input_error([&] { store.preload(4, [](std::size_t) {}); }), Contains("photo_2.png"));
  }
}

}  // namespace subpix::train
