#include "engine/core/device.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <unordered_map>

#include "engine/core/debug.h"
#include "engine/core/error.h"
#include "kernels/api/context_objects.h"
#include "kernels/reference/table.h"
#ifdef SUBPIX_HAVE_CPU
#include "kernels/cpu/table.h"
#endif
#ifdef SUBPIX_HAVE_CUDA
#include "kernels/cuda/table.h"
#endif
#ifdef SUBPIX_HAVE_CUDNN
#include "kernels/cudnn/table.h"
#endif
#ifdef SUBPIX_HAVE_SIM
#include "kernels/sim/table.h"
#endif

namespace subpix::engine {
namespace {

struct Backend {
  const char* name;
  const kernels::KernelTable& (*table)();
  int (*set_threads)(int) = nullptr;                   ///< null: single-threaded
  std::string (*library)(const kernels::DeviceInfo&);  ///< what computes
  kernels::DeviceInfo (*device)() = nullptr;           ///< null: the host
  bool automatic = true;                               ///< "auto" may choose it
  /// Empty where the backend can run here, else why not; null: always.
  std::string (*obstacle)() = nullptr;
};

#if defined(SUBPIX_HAVE_CUDA) || defined(SUBPIX_HAVE_SIM)
std::string device_text(const kernels::DeviceInfo& d) {
  return concat(d.name, ", compute capability ", d.compute_major, ".", d.compute_minor);
}
#endif

/// Best first. The only place of the engine that names kernel tables.
const std::vector<Backend>& backends() {
  static const std::vector<Backend> all = {
#ifdef SUBPIX_HAVE_CUDA
      {.name = "cuda",
       .table = kernels::cuda::table,
       .library = device_text,
       .device = kernels::cuda::device_info,
       .obstacle = kernels::cuda::obstacle},
#endif
#ifdef SUBPIX_HAVE_CPU
      {.name = "cpu",
       .table = kernels::cpu::table,
       .set_threads = kernels::cpu::set_threads,
       .library = [](const kernels::DeviceInfo&) { return kernels::cpu::library(); }},
#endif
      {.name = "reference",
       .table = kernels::reference::table,
       .library = [](const kernels::DeviceInfo&) { return std::string("plain loops"); }},
#ifdef SUBPIX_HAVE_CUDNN
      // The rival: never taken unasked, as its first step times plans.
      {.name = "cudnn",
       .table = kernels::cudnn::table,
       .library = kernels::cudnn::library,
       .device = kernels::cuda::device_info,
       .automatic = false,
       .obstacle = kernels::cudnn::obstacle},
#endif
#ifdef SUBPIX_HAVE_SIM
      {.name = "sim",
       .table = kernels::sim::table,
       .library = device_text,
       .device = kernels::sim::device_info,
       .automatic = false},
#endif
  };
  return all;
}

std::string backend_names() {
  std::string all;
  for (const Backend& b : backends()) all += (all.empty() ? "" : ", ") + std::string(b.name);
  return all;
}

std::string obstacle_of(const Backend& b) { return b.obstacle ? b.obstacle() : std::string(); }

const Backend& find_backend(const std::string& name) {
  for (const Backend& b : backends())
    if (name == b.name || (name == "auto" && b.automatic && obstacle_of(b).empty())) return b;
  throw InputError(
      concat("backend '", name, "' is not part of this build; it has: auto, ", backend_names()));
}

std::size_t host_memory_bytes() {
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  return pages > 0 && page > 0 ? static_cast<std::size_t>(pages) * static_cast<std::size_t>(page)
                               : 0;
}

/// Free blocks below this are never worth giving back.
constexpr std::size_t kCacheFloor = std::size_t{64} << 20;

/// A NaN whose two halves are NaN as bf16 too.
constexpr float kPoison = std::bit_cast<float>(0x7fc07fc0u);

std::string mib(std::size_t bytes) {
  return concat(static_cast<double>(bytes * 10 >> 20) / 10.0, " MiB");
}

}  // namespace

struct Device::Cache {
  std::unordered_map<std::size_t, std::vector<void*>> free;  // by size class
};

std::size_t size_class(std::size_t bytes) {
  constexpr std::size_t kLeast = 64;  // the alignment backends promise
  bytes = std::max(bytes, kLeast);
  const std::size_t step = std::max(kLeast, std::bit_floor(bytes) / 8);
  return (bytes + step - 1) / step * step;
}

std::vector<std::string> available_backends() {
  std::vector<std::string> names;
  for (const Backend& b : backends())
    if (obstacle_of(b).empty()) names.emplace_back(b.name);
  return names;
}

std::shared_ptr<Device> Device::open(const std::string& backend, int threads) {
  if (threads < 0) throw InputError(concat("threads must be 0 (all) or more, not ", threads));
  const Backend& found = find_backend(backend);
  if (const std::string obstacle = obstacle_of(found); !obstacle.empty())
    throw InputError(concat("backend '", found.name, "' cannot run here: ", obstacle));
  kernels::DeviceInfo info;
  if (found.device) {
    info = found.device();
  } else {
    info.threads = found.set_threads ? found.set_threads(threads) : 1;
    info.memory_bytes = host_memory_bytes();
  }
  const std::string library = found.library(info);
  return std::shared_ptr<Device>(new Device(found.name, library, found.table(), std::move(info)));
}

Device::Device(std::string backend, std::string library, const kernels::KernelTable& table,
               kernels::DeviceInfo info)
    : backend_(std::move(backend)),
      library_(std::move(library)),
      table_(&table),
      context_(std::make_unique<kernels::Context>(table, std::move(info))),
      cache_(std::make_unique<Cache>()) {
  if (table.streams.create) context_->stream = table.streams.create(*context_);
  if (debug().level >= 2)
    kernels::set_trace(*context_, [](const char* op, const char* variant, const std::string& key) {
      debug_line(concat("  ", op, " ", key, " by ", variant));
    });
}

Device::~Device() {
  trim();
  void* stream = context_->stream;
  context_.reset();  // gives its memory back on the stream
  if (stream) table_->streams.destroy(stream);
}

std::string Device::description() const {
  const int threads = context_->device().threads;
  if (context_->device().compute_major > 0) return concat(backend_, " (", library_, ")");
  return concat(backend_, " (", library_, ", ", threads, threads == 1 ? " thread)" : " threads)");
}

bool Device::allow_tf32() {
  if (context_->device().compute_major < 8) return false;
  context_->allow_tf32(true);
  return true;
}

void* Device::allocate(std::size_t bytes) {
  const std::size_t size = size_class(bytes);
  ++stats_.requests;
  if (limit_ && stats_.in_use + size > limit_)
    throw InputError(
        concat("a tensor of ", mib(size), " passes the memory limit of ", mib(limit_), ": ",
               mib(stats_.in_use),
               " are in use; use smaller tiles, crops or batches, or raise the limit"));
  void* data = nullptr;
  auto& blocks = pool_ ? pool_->free_[size] : cache_->free[size];
  if (!blocks.empty()) {
    data = blocks.back();
    blocks.pop_back();
  } else {
    data = allocate_from_backend(size);
  }
  stats_.in_use += size;
  stats_.peak = std::max(stats_.peak, stats_.in_use);
  largest_use_ = std::max(largest_use_, stats_.in_use);
  if (debug().poison)
    table_->f32.fill(*context_, {static_cast<kernels::Index>(size / sizeof(float)), kPoison},
                     static_cast<float*>(data));
  return data;
}

void* Device::allocate_from_backend(std::size_t size) {
  const std::size_t cached = stats_.reserved - stats_.in_use;
  if ((limit_ && stats_.reserved + size > limit_) || cached > 2 * largest_use_ + kCacheFloor)
    trim();
  ++stats_.allocations;
  void* data = nullptr;
  try {
    data = table_->memory.allocate(*context_, size);
  } catch (const InputError&) {
    trim();
    try {
      data = table_->memory.allocate(*context_, size);
    } catch (const InputError&) {
      throw InputError(concat("out of memory on ", description(), ": a tensor of ", mib(size),
                              " does not fit beside the ", mib(stats_.in_use),
                              " in use; use smaller tiles, crops or batches"));
    }
  }
  stats_.reserved += size;
  return data;
}

void Device::release(void* data, std::size_t bytes, MemoryPool* pool) noexcept {
  const std::size_t size = size_class(bytes);
  stats_.in_use -= size;
  (pool ? pool->free_ : cache_->free)[size].push_back(data);
}

void Device::trim() noexcept {
  for (auto& [size, blocks] : cache_->free) {
    for (void* data : blocks) {
      table_->memory.release(*context_, data, size);
      stats_.reserved -= size;
    }
    blocks.clear();
  }
}

MemoryPool::MemoryPool(std::shared_ptr<Device> device) : device_(std::move(device)) {}

// Every tensor that used a block held this pool, so all blocks are free.
MemoryPool::~MemoryPool() { trim(); }

void MemoryPool::trim() noexcept {
  for (auto& [size, blocks] : free_) {
    for (void* data : blocks) {
      device_->table_->memory.release(*device_->context_, data, size);
      device_->stats_.reserved -= size;
    }
    blocks.clear();
  }
  device_->context_->release_arena(arena_);
}

PoolScope::PoolScope(const std::shared_ptr<MemoryPool>& pool) : device_(*pool->device_) {
  SUBPIX_REQUIRE(!device_.pool_, "a memory pool is in use already");
  device_.context_->swap_arena(pool->arena_);
  device_.pool_ = pool;
}

PoolScope::~PoolScope() {
  device_.context_->swap_arena(device_.pool_->arena_);
  device_.pool_.reset();
}

void Device::synchronize() { table_->memory.synchronize(*context_); }

}  // namespace subpix::engine
