#include "kernels/api/context.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/api/context_objects.h"
#include "kernels/api/kernels.h"

namespace subpix::kernels {

namespace {

constexpr std::size_t kAlignment = 64;  // a cache line, and one AVX-512 register
constexpr std::size_t kSmallestChunk = std::size_t{1} << 20;  // so that small needs share one chunk

/// The names of `op`'s variants in this table, or null where the table has no such op.
const std::vector<std::string>* variants_of(const KernelTable& table, const std::string& op,
                                            std::vector<std::string>& names) {
  bool found = false;
  for_each_op(table, [&](const auto& entry) {
    if (op != entry.name()) return;
    found = true;
    for (const auto& variant : entry.variants()) names.emplace_back(variant.name);
  });
  return found ? &names : nullptr;
}

}  // namespace

Context::Context(const KernelTable& table, DeviceInfo device)
    : table_(&table), device_(std::move(device)) {
  SUBPIX_REQUIRE(table.memory.allocate && table.memory.release, "table '", table.name,
                 "' has no memory functions");
  objects_ = new Objects;  // last: nothing may throw after it
}

Context::~Context() {
  // Cached library objects may use the backend's memory functions or streams, so they go first.
  objects_->derived.clear();
  objects_->cache.clear();
  release_arena(arena_);
  delete objects_;
}

void Context::override_variant(const std::string& op, const std::string& variant) {
  std::vector<std::string> names;
  if (!variants_of(*table_, op, names))
    throw InputError(concat("backend '", table_->name, "' has no op '", op,
                            "'; op names look like conv2d_forward/f32"));
  if (variant.empty()) {
    objects_->overrides.erase(op);
    return;
  }
  if (std::find(names.begin(), names.end(), variant) == names.end()) {
    std::string all;
    for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
    throw InputError(concat("backend '", table_->name, "' has no variant '", variant, "' of ", op,
                            "; variants: ", all));
  }
  objects_->overrides[op] = variant;
}

void Context::plan_variant(const std::string& op, const std::string& key,
                           const std::string& variant) {
  objects_->plan[{op, key}] = variant;
}

const std::string* Context::chosen(std::string_view op, const std::string& key,
                                   bool* forced) const {
  const auto& overrides = objects_->overrides;
  const auto& plan = objects_->plan;
  if (const auto it = overrides.find(op); it != overrides.end()) {
    *forced = true;
    return &it->second;
  }
  *forced = false;
  if (plan.empty()) return nullptr;
  const auto it = plan.find({std::string(op), key});
  return it == plan.end() ? nullptr : &it->second;
}

bool Context::has_choices() const {
  return !objects_->overrides.empty() || !objects_->plan.empty();
}

bool Context::traced() const { return static_cast<bool>(objects_->trace); }

void Context::trace(const char* op, const char* variant, const std::string& key) const {
  objects_->trace(op, variant, key);
}

void set_trace(Context& ctx, Trace trace) { ctx.objects().trace = std::move(trace); }

void Context::forget(std::uint64_t storage_id) { objects_->derived.erase(storage_id); }

std::size_t Context::workspace_bytes() const {
  std::size_t sum = 0;
  for (const Arena::Chunk& chunk : arena_.chunks) sum += chunk.size;
  return sum;
}

void Context::trim_workspace() {
  SUBPIX_REQUIRE(workspace_depth_ == 0, "the workspace is in use by ", workspace_depth_, " scopes");
  release_arena(arena_);
  arena_.peak = 0;
}

void Context::swap_arena(Arena& other) {
  SUBPIX_REQUIRE(workspace_depth_ == 0, "the workspace is in use by ", workspace_depth_, " scopes");
  std::swap(arena_, other);
}

void Context::release_arena(Arena& arena) {
  for (const Arena::Chunk& chunk : arena.chunks)
    table_->memory.release(*this, chunk.data, chunk.size);
  arena.chunks.clear();
}

void* Context::workspace_take(std::size_t bytes) {
  SUBPIX_REQUIRE(bytes <= std::numeric_limits<std::size_t>::max() / 2, "a workspace request of ",
                 bytes, " bytes");
  const std::size_t need =
      (std::max<std::size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  auto room = std::find_if(arena_.chunks.begin(), arena_.chunks.end(),
                           [&](const Arena::Chunk& c) { return c.size - c.used >= need; });
  if (room == arena_.chunks.end()) {
    // After the chunks were merged (see ~Workspace) the first request brings back the whole need at
    // once.
    const std::size_t wanted = arena_.chunks.empty() ? arena_.peak : 0;
    const std::size_t size = std::max({need, wanted, kSmallestChunk});
    arena_.chunks.reserve(arena_.chunks.size() + 1);
    auto* data = static_cast<std::byte*>(table_->memory.allocate(*this, size));
    arena_.chunks.push_back(Arena::Chunk{data, size, 0});
    room = arena_.chunks.end() - 1;
  }
  void* data = room->data + room->used;
  room->used += need;
  std::size_t used = 0;
  for (const Arena::Chunk& chunk : arena_.chunks) used += chunk.used;
  arena_.peak = std::max(arena_.peak, used);
  return data;
}

Workspace::Workspace(Context& ctx) : ctx_(ctx), depth_(++ctx.workspace_depth_) {
  mark_.reserve(ctx.arena_.chunks.size());
  for (const Context::Arena::Chunk& chunk : ctx.arena_.chunks) mark_.push_back(chunk.used);
}

Workspace::~Workspace() {
  --ctx_.workspace_depth_;
  for (std::size_t i = 0; i < ctx_.arena_.chunks.size(); ++i)
    ctx_.arena_.chunks[i].used = i < mark_.size() ? mark_[i] : 0;
  // A growing need leaves several chunks behind. Giving them up lets the next scope take one chunk
  // of the largest need, so that the arena never holds much more than that. Release is ordered
  // after the work already queued, as for any other memory of the backend.
  if (ctx_.workspace_depth_ == 0 && ctx_.arena_.chunks.size() > 1) ctx_.release_arena(ctx_.arena_);
}

void* Workspace::take_bytes(std::size_t count, std::size_t size) {
  SUBPIX_REQUIRE(depth_ == ctx_.workspace_depth_,
                 "memory was asked of an outer Workspace while an inner one is open");
  SUBPIX_REQUIRE(count <= std::numeric_limits<std::size_t>::max() / size, "a workspace request of ",
                 count, " elements");
  return ctx_.workspace_take(count * size);
}

}  // namespace subpix::kernels
