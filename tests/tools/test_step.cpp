// What step_bench counts and computes besides time: floors, the ledger of ops, reference steps,
// drawn VGG layers.

#include <filesystem>

#include "engine/core/safetensors.h"
#include "kernels/reference/table.h"
#include "models/vgg/vgg19.h"
#include "tests/models/fixture.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"
#include "tools/network_layers.h"
#include "tools/seeded_vgg.h"
#include "tools/step_floor.h"
#include "tools/step_ledger.h"
#include "tools/step_options.h"

namespace subpix::tools {
namespace {

/// Round numbers near those of a large GPU; the tests' expectations are computed from them.
constexpr Ceilings kCeilings = {790e12, 4.3e12, 1.2e-6};

StepWork reference_work(const std::string& name) {
  const StepOptions o = options_of(reference_step(name));
  return work_of(o, 2, o.mode == "srgan" ? vgg19_widths() : std::vector<Index>{});
}

/// A file with the first four convolutions of the fixture.
std::string short_vgg(const std::filesystem::path& path) {
  const auto whole = engine::SafetensorsFile::open(tests::fixture_path("vgg_rgb"));
  std::vector<std::vector<std::byte>> bytes;
  std::vector<engine::TensorToSave> tensors;
  for (const engine::TensorInfo& t : whole.tensors())
    if (t.name.starts_with("features.") && t.name.find('.', 9) == 10 && t.name[9] <= '7') {
      bytes.push_back(whole.read_bytes(t.name));
      tensors.push_back({t.name, t.dtype, t.shape, nullptr, t.bytes()});
    }
  for (std::size_t i = 0; i < bytes.size(); ++i) tensors[i].data = bytes[i].data();
  engine::save_safetensors(path, tensors, whole.metadata());
  return path.string();
}

}  // namespace

// The expected numbers come from tables made by another program, before this one was written.
TEST_CASE("work and floors of the reference steps") {
  struct Expected {
    const char* step;
    double gflop, megabytes;  // of the convolutions
    Index phases;
    double overlapped_us, layered_us, waiting_us;
  };
  const Expected expected =
      GENERATE(Expected{"srresnet-16", 122.4, 396.1, 76, 154.9, 165.7, 256.9},
               Expected{"srresnet-64", 489.5, 1547.0, 76, 619.6, 630.4, 721.6},
               Expected{"srgan-vgg54-16", 691.7, 2108.0, 168, 875.5, 1186.0, 1387.0},
               Expected{"srgan-vgg54-64", 2767.0, 6622.0, 168, 3502.0, 3953.0, 4155.0});
  CAPTURE(expected.step);
  const StepWork work = reference_work(expected.step);
  const Floor floor = floor_of(work, kCeilings);
  CHECK(work.flops() / 1e9 == Approx(expected.gflop).epsilon(1e-3));
  CHECK((work.bytes() - work.optimiser_bytes) / 1e6 == Approx(expected.megabytes).epsilon(1e-3));
  CHECK(work.phases == expected.phases);
  CHECK(floor.overlapped * 1e6 == Approx(expected.overlapped_us).epsilon(1e-3));
  // The tables' optimiser has biases and norms as well.
  CHECK(floor.layered * 1e6 == Approx(expected.layered_us).epsilon(2e-3));
  CHECK(floor.waiting * 1e6 == Approx(expected.waiting_us).epsilon(2e-3));
}

TEST_CASE("inference has the work of one forward pass") {
  const StepWork work = reference_work("infer-480x320");
  CHECK(work.flops() / 1e9 == Approx(681.4).epsilon(1e-3));
  CHECK(work.bytes() / 1e6 == Approx(2142.0).epsilon(1e-3));
  CHECK(work.phases == 37);
  CHECK(work.optimiser_bytes == 0.0);
}

TEST_CASE("a floor without its ceiling is none") {
  const StepWork work = reference_work("srresnet-16");
  Ceilings c = kCeilings;
  c.barrier = 0.0;
  CHECK(floor_of(work, c).layered > 0.0);
  CHECK(floor_of(work, c).waiting == 0.0);
  c.bytes = 0.0;
  CHECK(floor_of(work, c).overlapped == 0.0);
  CHECK(floor_of(work, c).layered == 0.0);
}

TEST_CASE("a network of two layers counts exactly") {
  StepOptions o;
  o.blocks = 1;
  o.channels = 8;
  o.crop = 8;
  o.scale = 2;
  o.batch = 3;
  const StepWork work = work_of(o, 4, {});
  // head, twice a block's, trunk, one stage up, tail; without the head's data pass.
  CHECK(work.passes.size() == 3 * 5 - 1);
  const auto named = [&](const std::string& name) {
    for (const LayerPass& p : work.passes)
      if (p.name == name) return p;
    throw Error("no pass " + name);
  };
  const LayerPass blocks = named("G.blocks backward filter");
  CHECK(blocks.times == 2);
  CHECK(blocks.flops == 2.0 * 3 * 4 * 4 * 8 * 9 * 8);
  CHECK(blocks.bytes == 4.0 * (2 * 3 * 4 * 4 * 8 + 8 * 9 * 8));
  CHECK(named("G.up1 forward").bytes == 4.0 * (3 * 16 * 8 + 3 * 16 * 32 + 32 * 9 * 8));
  CHECK_THROWS(named("G.head backward data"));
}

TEST_CASE("the ledger knows every op") {
  const kernels::KernelTable& table = kernels::reference::table();
  kernels::for_each_op(table, [](const auto& op) {
    INFO(op.name());
    CHECK(least_bytes(op.name(), "n2h4w4c8k16r3s3st1p1rows32in4out4x2filters3count9") > 0.0);
  });
  CHECK_THROWS_WITH(least_bytes("conv3d/f32", "n1"), Catch::Contains("conv3d"));
  CHECK_THROWS_WITH(least_bytes("adam", "rows3"), Catch::Contains("'c'"));
}

TEST_CASE("bytes of an op from its problem's key") {
  const kernels::Conv2dProblem conv{2, 8, 6, 16, 32, 3, 3, 2, 1};
  CHECK(least_bytes("conv2d_forward/bf16", conv.key()) == conv.bytes(2));
  CHECK(least_bytes("conv2d_backward_filter/bf16", conv.key()) ==
        conv.bytes(2) + 2.0 * static_cast<double>(conv.w_count()));
  CHECK(least_bytes("conv2d_activation_forward/f32", conv.key() + "leaky0.2") == conv.bytes(4));
  const auto x = static_cast<double>(conv.x_count());
  CHECK(least_bytes("conv2d_norm_backward_data/bf16", conv.key() + "normleaky0.2skip") ==
        conv.bytes(2) + 2.0 * 2.0 * x);
  CHECK(least_bytes("conv2d_norm_backward_data/bf16", conv.key()) == conv.bytes(2));
  CHECK(least_bytes("conv2d_backward_filter_group/f32", conv.key() + "filters5") ==
        5.0 * conv.bytes(4));
  CHECK(least_bytes("pixel_shuffle_forward/f32", kernels::ShuffleProblem{2, 3, 4, 5, 2}.key()) ==
        2.0 * 4 * 2 * 3 * 4 * 5 * 4);
  // An odd row is dropped: 5x4 gives 2x2.
  CHECK(least_bytes("max_pool_forward/bf16", kernels::PoolProblem{3, 5, 4, 8}.key()) ==
        2.0 * (3 * 5 * 4 * 8 + 3 * 2 * 2 * 8) + 3 * 2 * 2 * 8);
  CHECK(least_bytes("batchnorm_backward/bf16", kernels::NormProblem{100, 8, 1e-3f}.key()) ==
        3.0 * 2 * 800);
  CHECK(least_bytes("dense_forward/f32", kernels::DenseProblem{2, 3, 5}.key()) ==
        4.0 * (2 * 3 + 2 * 5 + 3 * 5));
}

TEST_CASE("a step that does not exist is answered with the nearest") {
  CHECK(options_of(reference_step("infer-1920x1080")).width == 1920);
  CHECK_THROWS_WITH(reference_step("srgan-vgg45-16"), Catch::Contains("'srgan-vgg54-16'"));
}

TEST_CASE("VGG layers that a file lacks are drawn, and the rest is kept") {
  const tests::TemporaryFolder folder;
  const std::string given = short_vgg(folder / "short.safetensors");
  const models::VggLayer held = models::VggLayer::parse("conv2_2");
  const CompleteVgg same = complete_vgg(given, held, folder.path());
  CHECK(same.path == given);
  CHECK(same.drawn.empty());
  const models::VggLayer last = models::VggLayer::parse("conv3_2");
  const CompleteVgg more = complete_vgg(given, last, folder.path());
  CHECK(more.drawn == std::vector<std::string>{"conv3_1", "conv3_2"});
  CHECK(more.widths.size() == 6);
  const auto before = engine::SafetensorsFile::open(given);
  const auto after = engine::SafetensorsFile::open(more.path);
  CHECK(before.read_f32("features.0.weight") == after.read_f32("features.0.weight"));
  CHECK(before.metadata() == after.metadata());
  // Twice as wide as the layer before, as in the published network.
  CHECK(more.widths[4] == 2 * more.widths[3]);
  const auto device = engine::Device::open("reference", 1);
  CHECK_NOTHROW(models::Vgg19(*device, more.path, last));
  const CompleteVgg all = complete_vgg("", last, folder.path());
  CHECK(all.drawn.size() == 6);
  CHECK(all.widths[5] == 256);
  CHECK_NOTHROW(models::Vgg19(*device, all.path, last));
}

}  // namespace subpix::tools
