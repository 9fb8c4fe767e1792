#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/sim/async.h"
#include "kernels/sim/barrier.h"
#include "kernels/sim/counters.h"
#include "kernels/sim/entry.h"
#include "kernels/sim/fiber.h"
#include "kernels/sim/race.h"
#include "kernels/sim/runtime.h"
#include "kernels/sim/sim.h"
#include "kernels/sim/warp.h"
#include "kernels/sim/wgmma.h"

/// The state of a running launch, shared by the simulator's sources.
///
/// Note [Gangs]: blocks that must be resident together run together, each thread as a fiber: one
/// block, or a cluster, or the whole grid of a cooperative launch. A fiber runs until it has to
/// wait; then the next ready one is switched to. When none is ready, a pending bulk copy is
/// delivered; when there is none of those either, it is a deadlock. Gangs run one after another.
namespace subpix::sim {

struct Thread {
  uint3 index{}, block_index{};
  dim3 block_dim, grid_dim;
  std::uint32_t linear = 0;  ///< within the block
  std::uint32_t lane = 0, warp = 0;
  std::uint32_t agent = 0;  ///< within the gang
  Block* block = nullptr;

  Fiber fiber;
  enum class State : std::uint8_t { Ready, Waiting, Done } state = State::Done;
  const char* waiting_in = "";
  Where waiting_at;

  Groups<CpAsync> copies;
  Groups<BulkStore> stores;
  WgmmaThread wgmma;

  Knowledge knowledge;
  std::shared_ptr<const Clock> published;  ///< what the last __threadfence made visible
};

struct Block {
  uint3 index{};
  std::uint32_t number = 0;        ///< in the grid
  std::uint32_t rank = 0;          ///< in the gang
  std::uint32_t first_thread = 0;  ///< agent of its thread 0
  std::uint32_t thread_count = 0;
  unsigned char* smem = nullptr;
  std::uint32_t smem_bytes = 0;
  Barrier barriers[16];
  std::vector<Warp> warps;
  std::vector<Warpgroup> warpgroups;
  std::unique_ptr<Shadow> shadow;
  std::size_t shadow_bytes = 0;
  BlockOrder order;
  std::vector<WarpLog> logs;

  bool contains(const void* p, std::size_t bytes) const {
    const auto offset = static_cast<std::size_t>(static_cast<const unsigned char*>(p) - smem);
    return offset < smem_bytes && bytes <= smem_bytes - offset;
  }
  std::uint32_t offset(const void* p) const {
    return static_cast<std::uint32_t>(static_cast<const unsigned char*>(p) - smem);
  }
};

/// Threads that can run, in the order they became ready.
class ReadyQueue {
 public:
  void reset(std::size_t capacity);
  bool empty() const { return count_ == 0; }
  void push(Thread* t) { ring_[(head_ + count_++) & (ring_.size() - 1)] = t; }
  Thread* pop();

 private:
  std::vector<Thread*> ring_;
  std::size_t head_ = 0, count_ = 0;
};

inline constexpr std::uint32_t kBulkAgents = 64;

struct Gang {
  const LaunchRequest* launch = nullptr;
  std::uint32_t serial = 0;                ///< of this gang, over all launches
  std::uint32_t first_serial = 0;          ///< of the launch's first gang
  std::vector<std::uint32_t> block_order;  ///< first block of each gang of the launch, as they run

  std::vector<std::unique_ptr<Thread>>
      threads;  ///< kept for later launches; the first `thread_count`
  std::vector<std::unique_ptr<Block>> blocks;  ///< likewise
  std::uint32_t thread_count = 0, block_count = 0, live = 0;

  ReadyQueue ready;
  std::uint64_t random = 1;
  Fiber host;
  std::string error;

  Barrier barrier;  ///< of the cluster or the grid
  std::vector<FlagWait> flag_waits;
  std::unordered_map<const void*, Knowledge> flags;
  std::vector<BulkLoad> bulk_loads;  ///< not yet delivered
  std::vector<MBarrier> mbarriers;
  std::uint32_t next_bulk_agent = 0;
  std::uint32_t bulk_clocks[kBulkAgents] = {};

  // Agents beyond the threads, see Note [Happens before].
  std::uint32_t warpgroups_per_block() const {
    return (thread_count / block_count + kWarpgroup - 1) / kWarpgroup;
  }
  std::uint32_t warpgroup_agent(const Thread& t) const {
    return thread_count + t.block->rank * warpgroups_per_block() + t.linear / kWarpgroup;
  }
  std::uint32_t bulk_agent(std::uint32_t slot) const {
    return thread_count + block_count * warpgroups_per_block() + slot;
  }

  unsigned char* arena = nullptr;  ///< shared memory of all blocks, each followed by a red zone
  std::size_t arena_bytes = 0, arena_stride = 0;
  bool in_arena(const void* p) const {
    return static_cast<std::size_t>(static_cast<const unsigned char*>(p) - arena) < arena_bytes;
  }
  /// The block whose shared memory holds these bytes, or null.
  Block* owner(const void* p, std::size_t bytes);
};
extern Gang gang;

/// The thread that runs, null on the host.
extern constinit thread_local Thread* current [[gnu::tls_model("initial-exec")]];

// --- schedule.cpp --------------------------------------------------------------------------------
void make_ready(Thread& t);
/// Stops the running thread until somebody makes it ready again.
void park(const char* what, Where where);
/// Lets others who can run go first, before asynchronous work that is waited for is done.
void defer();
std::uint64_t draw();
/// A hash: equal inputs, equal outputs, no pattern.
std::uint64_t scramble(std::uint64_t x);
/// Throws Error for a launch that every device refuses.
void check_launch(const LaunchRequest& request);
/// Runs all blocks of a launch; throws Error.
void run_launch(const LaunchRequest& request, std::uint32_t stream, std::uint64_t sequence,
                const StreamOrder& known);

// --- texts ---------------------------------------------------------------------------------------
std::string describe(const Thread& t);  ///< "block (0,0,0) thread (3,0,0) of axpby_kernel<float>"
std::string describe(Where where);      ///< "axpby.cu:31"

}  // namespace subpix::sim
