#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "engine/core/safetensors.h"
#include "tests/support/message.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"

namespace fs = std::filesystem;
using namespace subpix;
using namespace subpix::engine;
using Catch::Matchers::Contains;
using tests::input_error;
using tests::TemporaryFolder;

namespace {

void write_raw(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string length_prefix(std::uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

/// The sentence that opening a file of this header and this many data bytes gives.
std::string refusal(const std::string& header, std::size_t data_bytes) {
  const TemporaryFolder folder;
  const fs::path path = folder / "x.safetensors";
  write_raw(path, length_prefix(header.size()) + header + std::string(data_bytes, '\1'));
  const std::string text = input_error([&] { SafetensorsFile::open(path); });
  CHECK_THAT(text, Contains(path.string()) && Contains("export it again"));
  return text;
}

std::string entry(const std::string& fields) { return "{\"w\":{" + fields + "}}"; }

template <class T>
TensorToSave tensor(const std::string& name, const std::string& dtype,
                    std::vector<std::int64_t> shape, const std::vector<T>& values) {
  return {name, dtype, std::move(shape), values.data(), values.size() * sizeof(T)};
}

}  // namespace

TEST_CASE("what is saved is read back", "[engine][safetensors]") {
  const TemporaryFolder folder;
  const fs::path path = folder / "x.safetensors";
  const std::vector<float> a{1.5f,
                             -0.0f,
                             std::numeric_limits<float>::infinity(),
                             std::numeric_limits<float>::quiet_NaN(),
                             1e-45f,
                             3.0f};
  const std::vector<float> b{42.0f};
  const std::vector<float> none;
  const std::vector<std::int64_t> steps{-1, std::numeric_limits<std::int64_t>::max()};
  const std::vector<std::uint8_t> bytes{0, 127, 255};
  const std::map<std::string, std::string> metadata{{"family", "caffe"},
                                                    {"text", "quote \" slash \\ line\n \u00e4"}};
  save_safetensors(path,
                   {tensor("head.weight", "F32", {2, 3}, a), tensor("single", "F32", {}, b),
                    tensor("none", "F32", {0, 4}, none), tensor("steps", "I64", {2}, steps),
                    tensor("bytes \"\\\u00e4", "U8", {3, 1}, bytes)},
                   metadata);

  const SafetensorsFile file = SafetensorsFile::open(path);
  CHECK(file.metadata() == metadata);
  REQUIRE(file.tensors().size() == 5);
  CHECK(file.find("missing") == nullptr);
  const TensorInfo& head = file.at("head.weight");
  CHECK(head.dtype == "F32");
  CHECK(head.shape == std::vector<std::int64_t>{2, 3});
  CHECK(head.count() == 6);
  const std::vector<float> back = file.read_f32("head.weight");
  REQUIRE(back.size() == a.size());
  CHECK(std::memcmp(back.data(), a.data(), a.size() * sizeof(float)) == 0);
  CHECK(file.at("single").shape.empty());
  CHECK(file.read_f32("single") == b);
  CHECK(file.read_f32("none").empty());
  const std::vector<std::byte> raw = file.read_bytes("steps");
  REQUIRE(raw.size() == 16);
  CHECK(std::memcmp(raw.data(), steps.data(), 16) == 0);
  CHECK(file.read_bytes("bytes \"\\\u00e4").back() == std::byte{255});
  // Wide elements first, else the given order; so each is aligned to its element.
  CHECK(file.tensors().front().name == "steps");
  CHECK(file.tensors()[1].name == "head.weight");
  CHECK(file.tensors().back().dtype == "U8");
}

TEST_CASE("the file's bytes are the format's", "[engine][safetensors]") {
  const TemporaryFolder folder;
  const fs::path path = folder / "x.safetensors";
  const std::vector<float> w{1.0f, 2.0f};
  save_safetensors(path, {tensor("b", "F32", {2}, w), tensor("a", "F32", {1, 2}, w)}, {{"k", "v"}});
  std::string header =
      "{\"__metadata__\":{\"k\":\"v\"},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,"
      "8]},"
      "\"a\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[8,16]}}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::string data("\0\0\x80\x3f\0\0\0\x40", 8);
  CHECK(read_text(path, 1 << 20) == length_prefix(header.size()) + header + data + data);
}

TEST_CASE("an empty file of no tensors is a file", "[engine][safetensors]") {
  const TemporaryFolder folder;
  save_safetensors(folder / "x", {});
  CHECK(SafetensorsFile::open(folder / "x").tensors().empty());
  CHECK(fs::file_size(folder / "x") == 16);
}

TEST_CASE("half, bfloat16 and double become float", "[engine][safetensors]") {
  const TemporaryFolder folder;
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  const std::vector<double> doubles{0.1, 1e300, -1e-300, 16777217.0};
  const std::vector<std::int32_t> whole{1, 2};
  save_safetensors(folder / "x",
                   {tensor("half", "F16", {65536}, all), tensor("brain", "BF16", {256, 256}, all),
                    tensor("double", "F64", {4}, doubles), tensor("whole", "I32", {2}, whole)});
  const SafetensorsFile file = SafetensorsFile::open(folder / "x");

  const std::vector<float> half = file.read_f32("half");
  const std::vector<float> brain = file.read_f32("brain");
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(i);
    const bool negative = (i & 0x8000) != 0;
    const int exponent = static_cast<int>(i >> 10 & 31), mantissa = static_cast<int>(i & 1023);
    if (exponent == 31 && mantissa != 0) {
      REQUIRE(std::isnan(half[i]));
    } else {
      const float size = exponent == 31 ? std::numeric_limits<float>::infinity()
                         : exponent == 0
                             ? std::ldexp(static_cast<float>(mantissa), -24)
                             : std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
      REQUIRE(half[i] == (negative ? -size : size));
      REQUIRE(std::signbit(half[i]) == negative);
    }
    REQUIRE(std::bit_cast<std::uint32_t>(brain[i]) == static_cast<std::uint32_t>(i) << 16);
  }
  const std::vector<float> narrowed = file.read_f32("double");
  CHECK(narrowed[0] == 0.1f);
  CHECK(narrowed[1] == std::numeric_limits<float>::infinity());
  CHECK(narrowed[2] == 0.0f);
  CHECK(narrowed[3] == 16777216.0f);
  CHECK_THAT(input_error([&] { file.read_f32("whole"); }),
             Contains("'whole'") && Contains("I32") && Contains("export it as F32"));
}

TEST_CASE("a file written by the Python package is read", "[engine][safetensors]") {
  // safetensors.numpy.save({"b": float32 [[1, 2]], "a": float16 [0.5]}, metadata={"format": "np"})
  const std::string header =
      R"({"__metadata__":{"format":"np"},"b":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},)"
      R"("a":{"dtype":"F16","shape":[1],"data_offsets":[8,10]}}      )";
  const std::string data("\0\0\x80\x3f\0\0\0\x40\0\x38", 10);
  const TemporaryFolder folder;
  write_raw(folder / "x", length_prefix(header.size()) + header + data);
  const SafetensorsFile file = SafetensorsFile::open(folder / "x");
  CHECK(file.metadata().at("format") == "np");
  CHECK(file.read_f32("a") == std::vector<float>{0.5f});
  CHECK(file.read_f32("b") == std::vector<float>{1.0f, 2.0f});
}

TEST_CASE("tensors may stand in any order in the header", "[engine][safetensors]") {
  const TemporaryFolder folder;
  const std::string header = R"({"z":{"shape":[1],"data_offsets":[4,8],"dtype":"F32"},)"
                             R"("empty":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},)"
                             R"("a":{"data_offsets":[0,4],"dtype":"F32","shape":[1]}})";
  write_raw(folder / "x", length_prefix(header.size()) + header + std::string(8, '\0'));
  const SafetensorsFile file = SafetensorsFile::open(folder / "x");
  REQUIRE(file.tensors().size() == 3);
  CHECK(file.tensors()[0].name == "a");
  CHECK(file.tensors()[1].name == "empty");
  CHECK(file.tensors()[2].name == "z");
}

TEST_CASE("files that cannot be safetensors are refused", "[engine][safetensors]") {
  const TemporaryFolder folder;
  const fs::path path = folder / "x";
  CHECK_THAT(input_error([&] { SafetensorsFile::open(path); }), Contains("No such file"));
  CHECK_THAT(input_error([&] { SafetensorsFile::open(folder.path()); }), Contains("folder"));
  for (const std::size_t length : {0, 1, 7}) {
    write_raw(path, std::string(length, '\0'));
    CHECK_THAT(input_error([&] { SafetensorsFile::open(path); }), Contains("too few"));
  }
  write_raw(path, length_prefix(0));
  CHECK_THAT(input_error([&] { SafetensorsFile::open(path); }), Contains("'{'"));
  for (const std::uint64_t length :
       {std::uint64_t{3}, std::uint64_t{1} << 40, ~std::uint64_t{0}, ~std::uint64_t{0} - 7}) {
    write_raw(path, length_prefix(length) + "{}");
    CHECK_THAT(input_error([&] { SafetensorsFile::open(path); }),
               Contains("header length " + std::to_string(length)));
  }
  write_raw(path, "\x80\x02}q\1this is a Python pickle of some length");
  CHECK_THAT(input_error([&] { SafetensorsFile::open(path); }), Contains("header length"));

  // Sparse, so 100 MB cost nothing here; the reader must not load them either.
  write_raw(path, length_prefix(100'000'001) + "{");
  fs::resize_file(path, 100'000'100);
  CHECK_THAT(input_error([&] { SafetensorsFile::open(path); }), Contains("100000000"));
}

TEST_CASE("headers that are no header are refused", "[engine][safetensors]") {
  CHECK_THAT(refusal("[]", 0), Contains("'{'"));
  CHECK_THAT(refusal(" {}", 0), Contains("'{'"));
  CHECK_THAT(refusal("\xef\xbb\xbf{}", 0), Contains("'{'"));
  CHECK_THAT(refusal("{", 0), Contains("not valid JSON"));
  CHECK_THAT(refusal("{}x", 0), Contains("not valid JSON"));
  CHECK_THAT(refusal("{}{}", 0), Contains("not valid JSON"));
  CHECK_THAT(refusal(std::string("{}\0", 3), 0), Contains("not valid JSON"));
  CHECK_THAT(refusal("{\"w\":}", 0), Contains("not valid JSON"));
  CHECK_THAT(refusal("{'w':1}", 0), Contains("not valid JSON"));
  CHECK_THAT(refusal("{\"w\xff\":{}}", 0), Contains("UTF-8"));
  CHECK_THAT(refusal("{\"__metadata__\":{\"a\":\"\xc0\x80\"}}", 0), Contains("UTF-8"));
  CHECK_THAT(refusal("{\"w\":\"\\ud800\"}", 0), Contains("not valid"));
  CHECK_THAT(refusal("{\"w\":3}", 0), Contains("'w' is a number"));
  CHECK_THAT(refusal("{\"w\":-3}", 0), Contains("'w' is a number"));
  CHECK_THAT(refusal("{\"w\":0.5}", 0), Contains("'w' is a number"));
  CHECK_THAT(refusal("{\"w\":null}", 0), Contains("'w' is null"));
  CHECK_THAT(refusal("{\"w\":true}", 0), Contains("'w' is a truth value"));
  CHECK_THAT(refusal("{\"w\":[]}", 0), Contains("'w' is a list"));
  CHECK_THAT(refusal("{\"w\":\"F32\"}", 0), Contains("'w' is a text"));
}

TEST_CASE("nesting bombs are refused at once", "[engine][safetensors]") {
  const std::size_t depth = 1'000'000;
  CHECK_THAT(refusal("{\"w\":" + std::string(depth, '['), 0), Contains("list"));
  CHECK_THAT(refusal(entry("\"shape\":" + std::string(depth, '[')), 0), Contains("list"));
  std::string objects;
  for (std::size_t i = 0; i < depth; ++i) objects += "{\"a\":";
  CHECK_THAT(refusal(objects, 0), Contains("unknown field 'a'"));
  CHECK_THAT(refusal("{\"__metadata__\":{\"a\":{}}}", 0), Contains("metadata 'a' is an object"));
}

TEST_CASE("duplicate keys are refused", "[engine][safetensors]") {
  const std::string fields = "\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]";
  CHECK_THAT(refusal("{\"w\":{" + fields + "},\"w\":{" + fields + "}}", 1),
             Contains("'w' occurs twice"));
  CHECK_THAT(refusal("{\"w\":{" + fields + "},\"\\u0077\":{" + fields + "}}", 1),
             Contains("'w' occurs twice"));
  CHECK_THAT(refusal("{\"__metadata__\":{},\"__metadata__\":{}}", 0), Contains("occurs twice"));
  CHECK_THAT(refusal("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0), Contains("'a' twice"));
  CHECK_THAT(refusal(entry(fields + ",\"dtype\":\"U8\""), 1),
             Contains("tensor 'w'") && Contains("'dtype' twice"));
}

TEST_CASE("metadata must be texts", "[engine][safetensors]") {
  CHECK_THAT(refusal("{\"__metadata__\":3}", 0), Contains("its metadata is a number"));
  CHECK_THAT(refusal("{\"__metadata__\":[]}", 0), Contains("its metadata is a list"));
  CHECK_THAT(refusal("{\"__metadata__\":null}", 0), Contains("its metadata is null"));
  CHECK_THAT(refusal("{\"__metadata__\":{\"mean\":103.9}}", 0),
             Contains("metadata 'mean' is a number"));
  CHECK_THAT(refusal("{\"__metadata__\":{\"mean\":[1]}}", 0), Contains("'mean' is a list"));
}

TEST_CASE("fields of a tensor are checked", "[engine][safetensors]") {
  const std::string dtype = "\"dtype\":\"F32\",", shape = "\"shape\":[1],",
                    offsets = "\"data_offsets\":[0,4]";
  const auto who = Contains("tensor 'w'");
  CHECK_THAT(refusal(entry(shape + offsets), 4), who && Contains("lacks its dtype"));
  CHECK_THAT(refusal(entry(dtype + offsets), 4), who && Contains("lacks its shape"));
  CHECK_THAT(refusal("{\"w\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4),
             who && Contains("lacks its data_offsets"));
  CHECK_THAT(refusal("{\"w\":{}}", 0), who && Contains("lacks its dtype"));
  CHECK_THAT(refusal(entry(dtype + shape + offsets + ",\"strides\":[1]"), 4),
             who && Contains("unknown field 'strides'"));
  CHECK_THAT(refusal(entry("\"dtype\":3," + shape + offsets), 4), who && Contains("'dtype'"));
  CHECK_THAT(refusal(entry("\"dtype\":[]," + shape + offsets), 4), who && Contains("'dtype'"));
  CHECK_THAT(refusal(entry(dtype + "\"shape\":1," + offsets), 4), who && Contains("'shape'"));
  CHECK_THAT(refusal(entry(dtype + "\"shape\":[\"1\"]," + offsets), 4), who && Contains("text"));
  CHECK_THAT(refusal(entry(dtype + "\"shape\":[[1]]," + offsets), 4), who && Contains("list"));
  CHECK_THAT(refusal(entry(dtype + "\"shape\":[1.0]," + offsets), 4), who && Contains("'1.0'"));
  CHECK_THAT(refusal(entry(dtype + "\"shape\":[true]," + offsets), 4), who);
  CHECK_THAT(refusal(entry(dtype + "\"shape\":{}," + offsets), 4), who);
  CHECK_THAT(refusal(entry(dtype + shape + "\"data_offsets\":[0]"), 4),
             who && Contains("exactly two"));
  CHECK_THAT(refusal(entry(dtype + shape + "\"data_offsets\":[0,4,8]"), 4),
             who && Contains("exactly two"));
  CHECK_THAT(refusal(entry(dtype + shape + "\"data_offsets\":[0,\"4\"]"), 4), who);
  CHECK_THAT(refusal(entry(dtype + shape + "\"data_offsets\":{\"a\":1}"), 4), who);

  for (const char* unknown : {"F31", "f32", "", "FLOAT", "F32 "})
    CHECK_THAT(refusal(entry("\"dtype\":\"" + std::string(unknown) + "\"," + shape + offsets), 4),
               who && Contains("unknown dtype '" + std::string(unknown) + "'"));
}

TEST_CASE("impossible sizes are refused", "[engine][safetensors]") {
  const auto shaped = [](const std::string& shape) {
    return entry("\"dtype\":\"F32\",\"shape\":[" + shape + "],\"data_offsets\":[0,4]");
  };
  const auto who = Contains("tensor 'w'");
  CHECK_THAT(refusal(shaped("-1"), 4), who && Contains("negative number -1"));
  CHECK_THAT(refusal(shaped("9223372036854775808"), 4), who && Contains("impossible size"));
  CHECK_THAT(refusal(shaped("99999999999999999999999"), 4), who && Contains("below 2^64"));
  CHECK_THAT(refusal(shaped("1e3"), 4), who && Contains("'1e3'"));
  CHECK_THAT(refusal(shaped("4294967296,4294967296"), 4), who && Contains("impossible shape"));
  CHECK_THAT(refusal(shaped("9223372036854775807,2"), 4), who && Contains("impossible shape"));
  // 2^62 elements of four bytes are 2^64 bytes: wrapped around, an empty tensor.
  CHECK_THAT(refusal(entry("\"dtype\":\"F32\",\"shape\":[4611686018427387904],"
                           "\"data_offsets\":[0,0]"),
                     0),
             who && Contains("impossible shape"));
  CHECK_THAT(refusal(entry("\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]"), 2),
             who && Contains("impossible shape"));
  std::string ones = "1";
  for (int i = 0; i < 40; ++i) ones += ",1";
  CHECK_THAT(refusal(shaped(ones), 4), who && Contains("dimensions"));
  CHECK_THAT(refusal(shaped("2"), 4), who && Contains("holds 4 bytes") && Contains("takes 8"));
  CHECK_THAT(refusal(shaped("0"), 4), who && Contains("takes 0"));
}

TEST_CASE("offsets must cover the data exactly once", "[engine][safetensors]") {
  const auto one = [](const std::string& name, std::uint64_t begin, std::uint64_t end) {
    return "\"" + name + "\":{\"dtype\":\"U8\",\"shape\":[" +
           std::to_string(end >= begin ? end - begin : 0) + "],\"data_offsets\":[" +
           std::to_string(begin) + "," + std::to_string(end) + "]}";
  };
  CHECK_THAT(refusal("{" + one("w", 4, 0) + "}", 4),
             Contains("'w'") && Contains("before it begins"));
  CHECK_THAT(refusal("{" + one("w", 0, 8) + "}", 7), Contains("'w'") && Contains("cut short"));
  CHECK_THAT(refusal("{" + one("w", 0, ~std::uint64_t{0} >> 1) + "}", 7), Contains("cut short"));
  CHECK_THAT(refusal("{" + one("a", 0, 4) + "," + one("w", 3, 8) + "}", 8),
             Contains("'w'") && Contains("overlaps"));
  CHECK_THAT(refusal("{" + one("a", 0, 8) + "," + one("w", 0, 8) + "}", 8), Contains("overlaps"));
  CHECK_THAT(refusal("{" + one("a", 0, 8) + "," + one("w", 4, 4) + "}", 8), Contains("overlaps"));
  CHECK_THAT(refusal("{" + one("a", 0, 4) + "," + one("w", 5, 8) + "}", 8),
             Contains("bytes 4 to 5") && Contains("'w'"));
  CHECK_THAT(refusal("{" + one("w", 1, 8) + "}", 8), Contains("bytes 0 to 1"));
  CHECK_THAT(refusal("{" + one("w", 0, 7) + "}", 8), Contains("1 bytes follow"));
  CHECK_THAT(refusal("{}", 3), Contains("3 bytes follow"));
  CHECK_THAT(refusal(entry("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[-1,0]"), 1),
             Contains("negative number -1"));
  CHECK_THAT(refusal(entry("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0.5,1]"), 1),
             Contains("'0.5'"));
}

TEST_CASE("hostile names come out printable and short", "[engine][safetensors]") {
  const std::string text =
      refusal("{\"a\\nb\\u0000\\u001b" + std::string(100000, 'x') + "\":{}}", 0);
  CHECK(text.size() < 400);
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find('\0') == std::string::npos);
  const std::string accents = refusal(
      "{\"x" +
          [] {
            std::string many;
            for (int i = 0; i < 100; ++i) many += "\u00e4";
            return many;
          }() +
          "\":{}}",
      0);
  CHECK_THAT(accents, Contains("\u00e4...'"));
}

TEST_CASE("a damaged header never crashes the reader", "[engine][safetensors]") {
  const std::string header =
      R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"U8","shape":[],"data_offsets":[8,9]}})";
  const TemporaryFolder folder;
  const fs::path path = folder / "x";
  int refused = 0;
  for (std::size_t i = 0; i < header.size(); ++i) {
    for (const char c : {'\0', '"', '9', '}', '\xff'}) {
      std::string broken = header;
      broken[i] = c;
      write_raw(path, length_prefix(broken.size()) + broken + std::string(9, '\2'));
      try {
        const SafetensorsFile file = SafetensorsFile::open(path);
        for (const TensorInfo& t : file.tensors()) CHECK(file.read_bytes(t.name).size() <= 9);
      } catch (const InputError&) {
        ++refused;
      }
    }
    write_raw(path, length_prefix(header.size()) + header.substr(0, i));
    input_error([&] { SafetensorsFile::open(path); });
  }
  CHECK(refused > 300);
}

TEST_CASE("what cannot be saved is refused and changes nothing", "[engine][safetensors]") {
  const TemporaryFolder folder;
  const fs::path path = folder / "x";
  const std::vector<float> w{1.0f, 2.0f};
  save_safetensors(path, {tensor("w", "F32", {2}, w)});
  const std::string before = read_text(path, 1 << 20);
  const auto fails = [&](std::vector<TensorToSave> tensors) {
    CHECK_THROWS_AS(save_safetensors(path, tensors), Error);
    CHECK(read_text(path, 1 << 20) == before);
  };
  fails({tensor("w", "F32", {2}, w), tensor("w", "F32", {2}, w)});
  fails({tensor("__metadata__", "F32", {2}, w)});
  fails({tensor("w", "float", {2}, w)});
  fails({tensor("w", "F32", {3}, w)});
  fails({tensor("w", "F32", {-2, -1}, w)});
  fails({{"w", "F32", {2}, nullptr, 8}});
  fails({tensor("w\xff", "F32", {2}, w)});
  CHECK_THAT(input_error([&] { save_safetensors(folder / "no/x", {tensor("w", "F32", {2}, w)}); }),
             Contains("create the folder"));
}

TEST_CASE("a missing tensor and a wrong destination are named", "[engine][safetensors]") {
  const TemporaryFolder folder;
  const std::vector<float> w{1.0f, 2.0f};
  save_safetensors(folder / "x", {tensor("w", "F32", {2}, w)});
  const SafetensorsFile file = SafetensorsFile::open(folder / "x");
  CHECK_THAT(input_error([&] { file.read_f32("v"); }),
             Contains("'v' is missing") && Contains("x:"));
  std::vector<float> three(3);
  CHECK_THROWS_AS(file.read_f32(file.at("w"), three), Error);
  fs::resize_file(folder / "x", fs::file_size(folder / "x") - 1);
  CHECK_THAT(input_error([&] { file.read_f32("w"); }), Contains("another program"));
}

TEST_CASE("the published VGG19 file is read", "[engine][safetensors]") {
  const auto path = tests::shared_data("vgg19/vgg19_keras_conv1_1-conv3_4.safetensors");
  if (!path) return;
  const SafetensorsFile file = SafetensorsFile::open(*path);
  CHECK(file.tensors().size() == 16);
  CHECK(!file.metadata().empty());
  CHECK(file.at("features.0.weight").shape == std::vector<std::int64_t>{64, 3, 3, 3});
  CHECK(file.at("features.16.bias").shape == std::vector<std::int64_t>{256});
  double sum = 0.0;
  for (const float v : file.read_f32("features.16.weight")) sum += std::abs(v);
  CHECK(std::isfinite(sum));
  CHECK(sum > 0.0);
}
