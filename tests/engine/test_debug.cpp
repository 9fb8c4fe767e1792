#include <fcntl.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <sstream>

#include "engine/ops/ops.h"
#include "tests/engine/backends.h"
#include "tests/support/temporary_folder.h"

using namespace subpix;
using namespace subpix::engine;
using namespace subpix::tests;

namespace {

/// What `call` writes to stderr.
std::string stderr_of(const std::function<void()>& call) {
  const TemporaryFolder folder;
  const std::string path = folder / "stderr";
  std::fflush(stderr);
  const int before = ::dup(STDERR_FILENO);
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT, 0600);
  REQUIRE(before >= 0);
  REQUIRE(file >= 0);
  ::dup2(file, STDERR_FILENO);
  call();
  std::fflush(stderr);
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  ::close(file);
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

void small_step(Device& device) {
  const Tensor w = Tensor::full(device, {2, 3}, 1.0f).set_requires_grad(true);
  backward(ops::l1_loss(ops::dense(Tensor::full(device, {1, 3}, 1.0f), w, Tensor()),
                        Tensor::zeros(device, {1, 2}), 1.0f));
}

}  // namespace

TEST_CASE("each debug level adds its lines", "[engine][debug]") {
  const KeepDebug keep;
  const auto printed = [](int level) {
    debug().level = level;
    const auto device = Device::open("reference");
    return stderr_of([&] { small_step(*device); });
  };
  CHECK(printed(0).empty());

  const std::string ops = printed(1);
  INFO(ops);
  CHECK(has(ops, "subpix: dense [1,2] F32\nsubpix: l1_loss [1] F32\n"));
  CHECK(has(ops, "subpix: dense backward, argument 1, [2,3] F32\n"));
  CHECK_FALSE(has(ops, " by "));

  const std::string variants = printed(2);
  INFO(variants);
  CHECK(has(variants, "dense_forward/f32 n1in3out2 by reference"));
  CHECK(has(variants, "dense_backward_filter/f32 n1in3out2 by reference"));
  CHECK_FALSE(has(variants, "in use"));

  const std::string graph = printed(3);
  INFO(graph);
  CHECK(has(graph, "l1_loss [1] F32 in use "));
  CHECK(has(graph, "subpix: backward\n#"));
  CHECK(has(graph, "leaf [2,3]\n"));
}

TEST_CASE("the not-finite check names op and shape", "[engine][debug]") {
  const KeepDebug keep;
  on_each_backend([](Device& device) {
    const Tensor x = Tensor::full(device, {2, 3}, 3e38f).set_requires_grad(true);
    debug().nan_check = false;
    ops::scale(x, 10.0f);
    debug().nan_check = true;
    const std::string forward = error_of([&] { ops::scale(x, 10.0f); });
    INFO(forward);
    CHECK(has(forward, "scale gave 6 values that are not finite among the 6 of [2,3]"));

    const Tensor y = ops::reshape(x, {6});
    const std::string walk =
        error_of([&] { backward(y, Tensor::full(device, {6}, std::nanf(""))); });
    INFO(walk);
    CHECK(has(walk, "reshape backward, argument 0, gave 6 values that are not finite"));
    CHECK(has(walk, "[2,3]"));
    small_step(device);  // finite work passes
  });
}

TEST_CASE("poison reaches every uninitialised element", "[engine][debug]") {
  on_each_backend([](Device& device) {
    for (const DType dtype : {DType::F32, DType::BF16})
      for (int round = 0; round < 2; ++round)  // a block from the backend, then one from the cache
        for (const float v : Tensor::empty(device, {37}, dtype).to_host()) CHECK(std::isnan(v));
  });
}
