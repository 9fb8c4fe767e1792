#include <algorithm>
#include <cmath>
#include <sstream>

#include "engine/core/tensor.h"
#include "tests/engine/backends.h"
#include "tests/support/message.h"

using namespace subpix;
using namespace subpix::engine;
using namespace subpix::tests;

TEST_CASE("shapes count, compare and print", "[engine][tensor]") {
  const Shape s{2, 3, 4};
  CHECK(s.rank() == 3);
  CHECK(s.count() == 24);
  CHECK(s[0] == 2);
  CHECK(s.back() == 4);
  CHECK(s.dims() == std::vector<Index>{2, 3, 4});
  CHECK(s == Shape(std::vector<Index>{2, 3, 4}));
  CHECK(s != Shape({2, 3}));
  CHECK(Shape({2, 3}) != Shape({2, 3, 1}));
  CHECK(Shape().count() == 1);
  CHECK(Shape().str() == "[]");
  std::ostringstream text;
  text << s;
  CHECK(text.str() == "[2,3,4]");
}

TEST_CASE("impossible shapes are refused", "[engine][tensor]") {
  CHECK(error_of([] { Shape({1, 2, 3, 4, 5}); }).find("at most 4") != std::string::npos);
  CHECK(error_of([] { Shape({2, 0}); }).find("[2,0]") != std::string::npos);
  CHECK(error_of([] { Shape({-1}); }).find("[-1]") != std::string::npos);
  const Index huge = Index{1} << 40;
  CHECK(error_of([&] { Shape({huge, huge}); }).find("too many elements") != std::string::npos);
  CHECK(error_of([&] { Shape({huge, huge, huge, huge}); }).find("too many") != std::string::npos);
  CHECK(error_of([] { Shape({2, 3})[2]; }).find("no dimension 2") != std::string::npos);
}

TEST_CASE("devices open by name and describe themselves", "[engine][device]") {
  const std::vector<std::string> names = available_backends();
  REQUIRE_FALSE(names.empty());
  CHECK(std::count(names.begin(), names.end(), "reference") == 1);
  CHECK(Device::open("auto")->backend() == names.front());
  const auto reference = Device::open("reference", 2);
  CHECK(reference->backend() == "reference");
  CHECK(reference->description() == "reference (plain loops, 1 thread)");
  CHECK(reference->context().device().memory_bytes > 0);
  for (const std::string& name : names) {
    const auto device = Device::open(name, 1);
    CHECK(device->description().rfind(name + " (", 0) == 0);
    const bool host = device->context().device().compute_major == 0;
    CHECK(device->description().find(host ? "1 thread)" : "compute capability") !=
          std::string::npos);
  }
  const std::string message = input_error([] { Device::open("gpu"); });
  CHECK(message.find("'gpu'") != std::string::npos);
  CHECK(message.find("reference") != std::string::npos);
  CHECK(input_error([] { Device::open("reference", -1); }).find("-1") != std::string::npos);
}

TEST_CASE("tensors take values there and back", "[engine][tensor]") {
  on_each_backend([](Device& device) {
    const std::vector<float> values{1, 2, 3, -4, 5.5f, 6};
    const Tensor t = Tensor::from_host(device, {2, 3}, values);
    CHECK(t.to_host() == values);
    CHECK(t.dtype() == DType::F32);
    CHECK(&t.device() == &device);
    CHECK(reinterpret_cast<std::uintptr_t>(t.raw()) % 64 == 0);
    t.upload(std::vector<float>(6, 2.0f));
    CHECK(t.to_host() == std::vector<float>(6, 2.0f));

    const std::vector<std::uint8_t> bytes{0, 7, 255};
    const Tensor b = Tensor::from_bytes(device, {3}, bytes);
    CHECK(b.to_host_bytes() == bytes);
    b.upload_bytes(std::vector<std::uint8_t>{1, 2, 3});
    CHECK(b.to_host_bytes() == std::vector<std::uint8_t>{1, 2, 3});

    CHECK(Tensor::full(device, {1}, 0.1f).item() == 0.1f);
    CHECK(Tensor::full(device, {1}, 1.5f, DType::BF16).item() == 1.5f);
    CHECK(Tensor::zeros(device, {2, 2}).to_host() == std::vector<float>(4, 0.0f));
    const Tensor scalar = Tensor::full(device, Shape(), 2.0f);
    CHECK(scalar.item() == 2.0f);
  });
}

TEST_CASE("wrong use of a tensor is named", "[engine][tensor]") {
  const auto device = Device::open("reference");
  const Tensor t = Tensor::zeros(*device, {2, 3}), b = Tensor::empty(*device, {2}, DType::U8), none;
  CHECK_FALSE(none.defined());
  CHECK(error_of([&] { none.shape(); }).find("undefined") != std::string::npos);
  CHECK(error_of([&] { t.data<bf16>(); }).find("used as BF16") != std::string::npos);
  CHECK(error_of([&] { b.to_host(); }).find("type U8 was used as F32") != std::string::npos);
  CHECK(error_of([&] { t.to_host_bytes(); }).find("used as U8") != std::string::npos);
  CHECK(error_of([&] { t.item(); }).find("one element") != std::string::npos);
  CHECK(error_of([&] { t.upload(std::vector<float>(5)); }).find("5 values") != std::string::npos);
  CHECK(error_of([&] { b.set_requires_grad(true); }).find("U8") != std::string::npos);
  CHECK(error_of([&] { t.view({4}); }).find("[2,3] cannot be seen as [4]") != std::string::npos);
  CHECK(error_of([&] { t.copy_from(b); }).find("copy of [2] U8") != std::string::npos);
  CHECK(error_of([&] { Tensor::full(*device, {2}, 1.0f, DType::U8); }).find("U8") !=
        std::string::npos);
  CHECK(error_of([&] {
          t.set_grad(Tensor::zeros(*device, {3, 2}));
        }).find("[3,2]") != std::string::npos);
}

TEST_CASE("views share elements, clones do not", "[engine][tensor]") {
  on_each_backend([](Device& device) {
    const Tensor t = Tensor::from_host(device, {2, 2}, std::vector<float>{1, 2, 3, 4});
    CHECK(t.is_unique());
    const Tensor view = t.view({4}), same = t.detach(), copy = t.clone();
    CHECK_FALSE(t.is_unique());
    CHECK(copy.is_unique());
    CHECK(view.raw() == t.raw());
    CHECK(view.shape() == Shape({4}));
    CHECK(same.storage_id() == t.storage_id());
    CHECK(copy.storage_id() != t.storage_id());

    const std::uint64_t version = t.version();
    view.upload(std::vector<float>{5, 6, 7, 8});
    CHECK(t.version() > version);
    CHECK(t.version() == same.version());
    CHECK(t.to_host() == std::vector<float>{5, 6, 7, 8});
    CHECK(copy.to_host() == std::vector<float>{1, 2, 3, 4});

    const std::uint64_t before = copy.version();
    copy.copy_from(t.view({4}));
    CHECK(copy.version() > before);
    CHECK(copy.to_host() == t.to_host());
    CHECK(copy.filter<float>().id == copy.storage_id());
    CHECK(copy.filter<float>().version == copy.version());
  });
}

TEST_CASE("a tensor keeps its device alive", "[engine][tensor]") {
  Tensor t;
  {
    const auto device = Device::open("reference");
    t = Tensor::full(*device, {3}, 1.0f);
  }
  CHECK(t.to_host() == std::vector<float>(3, 1.0f));
  CHECK(t.device().memory().in_use == 64);
}

TEST_CASE("size classes waste at most an eighth", "[engine][device]") {
  std::size_t last = 0;
  for (std::size_t bytes = 1; bytes < 70'000; ++bytes) {
    const std::size_t size = size_class(bytes);
    REQUIRE(size >= bytes);
    REQUIRE(size >= last);
    REQUIRE(size % 64 == 0);
    REQUIRE(size_class(size) == size);
    REQUIRE((size - bytes) <= std::max<std::size_t>(63, bytes / 8));
    last = size;
  }
  CHECK(size_class(0) == 64);
  CHECK(size_class((std::size_t{1} << 30) + 1) == (std::size_t{1} << 30) / 8 * 9);
}

TEST_CASE("freed blocks are used again", "[engine][device]") {
  on_each_backend([](Device& device) {
    const Tensor kept = Tensor::empty(device, {1000});
    const MemoryStats start = device.memory();
    CHECK(start.in_use == size_class(4000));
    CHECK(start.reserved == start.in_use);
    CHECK(start.allocations == 1);
    {
      const Tensor a = Tensor::empty(device, {2000}), b = Tensor::empty(device, {2000});
      CHECK(device.memory().allocations == 3);
      CHECK(device.memory().in_use == start.in_use + 2 * size_class(8000));
    }
    CHECK(device.memory().in_use == start.in_use);
    CHECK(device.memory().reserved == start.in_use + 2 * size_class(8000));
    CHECK(device.memory().peak == start.in_use + 2 * size_class(8000));
    {
      // Another size of the same class.
      const Tensor a = Tensor::empty(device, {1990}), b = Tensor::empty(device, {2000});
      CHECK(device.memory().allocations == 3);
      CHECK(device.memory().requests == 5);
    }
    device.reset_peak();
    CHECK(device.memory().peak == start.in_use);
    device.trim();
    CHECK(device.memory().reserved == start.in_use);
    const Tensor c = Tensor::empty(device, {2000});
    CHECK(device.memory().allocations == 4);
  });
}

TEST_CASE("the memory limit holds for use and cache", "[engine][device]") {
  const auto device = Device::open("reference");
  constexpr Index kMib = 1 << 18;  // floats
  device->set_memory_limit(std::size_t{8} << 20);
  const Tensor a = Tensor::empty(*device, {4 * kMib});
  const std::string message = input_error([&] { Tensor::empty(*device, {5 * kMib}); });
  CAPTURE(message);
  CHECK(message.find("5 MiB") != std::string::npos);
  CHECK(message.find("limit of 8 MiB") != std::string::npos);
  CHECK(message.find("4 MiB") != std::string::npos);
  CHECK(device->memory().in_use == std::size_t{4} << 20);
  { const Tensor b = Tensor::empty(*device, {3 * kMib}); }
  CHECK(device->memory().reserved == std::size_t{7} << 20);
  // The cached 3 MiB make room for another class.
  const Tensor c = Tensor::empty(*device, {4 * kMib});
  CHECK(device->memory().reserved == std::size_t{8} << 20);
  device->set_memory_limit(0);
  const Tensor d = Tensor::empty(*device, {4 * kMib});
  CHECK(device->memory().reserved == std::size_t{12} << 20);
}

TEST_CASE("shapes that never repeat do not grow the cache without end", "[engine][device]") {
  const auto device = Device::open("reference");
  std::size_t largest = 0;
  for (Index mib = 30; mib < 120; mib += 3) {
    const Tensor t = Tensor::empty(*device, {mib << 18});
    largest = std::max(largest, device->memory().reserved);
  }
  CHECK(largest < std::size_t{3 * 120 + 64} << 20);
}

namespace {

int failures = 0;
std::size_t refused_above = 0;

}  // namespace

TEST_CASE("the cache is given back before memory counts as out", "[engine][device]") {
  // A table of our own cannot be opened by name, so the backend's one is swapped for the test.
  const auto device = Device::open("reference");
  auto& memory = const_cast<kernels::KernelTable&>(device->table()).memory;
  struct Restore {
    kernels::MemoryOps& now;
    kernels::MemoryOps before;
    ~Restore() { now = before; }
  } restore{memory, memory};
  { const Tensor cached = Tensor::empty(*device, {1000}); }
  CHECK(device->memory().reserved > 0);
  static void* (*const real)(kernels::Context&, std::size_t) = memory.allocate;
  refused_above = 1 << 20;
  memory.allocate = [](kernels::Context& ctx, std::size_t bytes) {
    if (bytes > refused_above) {
      ++failures;
      throw InputError("the backend has no more");
    }
    return real(ctx, bytes);
  };
  failures = 0;
  const std::string message = input_error([&] { Tensor::empty(*device, {1 << 19}); });
  CAPTURE(message);
  CHECK(failures == 2);
  CHECK(message.find("2 MiB") != std::string::npos);
  CHECK(message.find("out of memory on reference") != std::string::npos);
  CHECK(device->memory().reserved == 0);
  CHECK(device->memory().in_use == 0);
  CHECK(Tensor::full(*device, {7}, 1.0f).to_host() == std::vector<float>(7, 1.0f));
}
