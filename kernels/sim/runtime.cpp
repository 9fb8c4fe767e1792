#include "kernels/sim/runtime.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "kernels/sim/engine.h"
#include "kernels/sim/memory.h"
#include "kernels/sim/symbols.h"

namespace subpix::sim {
namespace {

struct Graph;

/// A piece of queued work. It runs after those it waits for.
struct Work {
  std::function<void(Work&)> run;
  std::vector<std::shared_ptr<Work>> after;
  std::uint32_t stream = 0;
  std::uint64_t sequence = 0;  ///< in its stream, from 1
  StreamOrder known;           ///< up to where it is ordered after other streams, and its own
  bool cleanup = false;        ///< runs even after an error
  bool done = false;
};
using WorkPtr = std::shared_ptr<Work>;

struct Stream {
  std::uint32_t number = 0;
  std::uint64_t sequence = 0;
  WorkPtr last;
  std::vector<WorkPtr> waits;  ///< from events, for the next piece of work
  // While a capture goes on:
  Graph* graph = nullptr;
  int tail = -1;  ///< the node of the graph that came last
  std::vector<int> node_waits;
};

struct Event {
  WorkPtr work;            ///< what it marks
  Graph* graph = nullptr;  ///< or, recorded during a capture, this node
  int node = -1;
};

struct Node {
  std::function<void(Work&)> run;
  std::vector<int> after;
  std::uint32_t stream;
};

struct Graph {
  std::vector<Node> nodes;
  Stream* origin = nullptr;
  std::set<Stream*> streams;  ///< that take part in the capture
  bool open = true;
};

std::recursive_mutex mutex;  // launches may come from several threads
using Lock = std::lock_guard<std::recursive_mutex>;

std::map<std::uint32_t, std::unique_ptr<Stream>> streams;
std::uint32_t next_stream = 1;
std::vector<WorkPtr> queue;  // not done, in the order it was queued
StreamOrder host_order;      // what the host has waited for

// Not local to stream_of(): made on its first use, it would be gone before statics that were made
// earlier and still wait for it when the program ends.
Stream default_stream;

Stream& stream_of(void* handle) {
  if (!handle) return default_stream;
  auto* s = static_cast<Stream*>(handle);
  const auto it = streams.find(s->number);
  SUBPIX_REQUIRE(it != streams.end() && it->second.get() == s, "the stream was destroyed");
  return *s;
}

void merge(StreamOrder& into, const StreamOrder& from) {
  for (const auto& [stream, sequence] : from) into[stream] = std::max(into[stream], sequence);
}

WorkPtr enqueue(Stream& s, std::function<void(Work&)> run, std::vector<WorkPtr> after) {
  auto work = std::make_shared<Work>();
  work->run = std::move(run);
  work->stream = s.number;
  work->sequence = ++s.sequence;
  work->known = host_order;
  work->after = std::move(after);
  for (WorkPtr& w : work->after) {
    merge(work->known, w->known);
    w = w->done ? nullptr : w;
  }
  std::erase(work->after, nullptr);
  work->known[s.number] = work->sequence;
  queue.push_back(work);
  return work;
}

/// Queues on a stream, or records where the stream is being captured.
void add(void* handle, std::function<void(Work&)> run, bool cleanup = false) {
  const Lock lock(mutex);
  Stream& s = stream_of(handle);
  if (s.graph) {
    Node node{std::move(run), std::move(s.node_waits), s.number};
    s.node_waits.clear();
    if (s.tail >= 0) node.after.push_back(s.tail);
    s.tail = static_cast<int>(s.graph->nodes.size());
    s.graph->nodes.push_back(std::move(node));
    return;
  }
  std::vector<WorkPtr> after = std::move(s.waits);
  s.waits.clear();
  if (s.last) after.push_back(s.last);
  s.last = enqueue(s, std::move(run), std::move(after));
  s.last->cleanup = cleanup;
}

void refuse_in_capture(const char* what) {
  const auto capturing = [](const Stream& s) { return s.graph != nullptr; };
  bool any = capturing(stream_of(nullptr));
  for (const auto& [number, s] : streams) any = any || capturing(*s);
  if (any) throw Error(concat(what, " while a stream is being captured"));
}

// --- running -------------------------------------------------------------------------------------

bool ready(const Work& w) {
  return std::all_of(w.after.begin(), w.after.end(), [](const WorkPtr& a) { return a->done; });
}

void collect(const WorkPtr& w, std::set<const Work*>& needed) {
  std::vector<const Work*> stack{w.get()};
  while (!stack.empty()) {
    const Work* next = stack.back();
    stack.pop_back();
    if (next->done || !needed.insert(next).second) continue;
    for (const WorkPtr& a : next->after) stack.push_back(a.get());
  }
}

/// Which of the queue runs next, see Schedule; only ready ones may.
std::size_t choose(const std::set<const Work*>& needed) {
  std::vector<std::size_t> candidates;
  for (std::size_t i = 0; i < queue.size(); ++i) {
    if (!ready(*queue[i])) continue;
    if (config().schedule != Schedule::Fifo) {
      candidates.push_back(i);
    } else if (needed.empty() || needed.contains(queue[i].get())) {
      return i;
    }
  }
  SUBPIX_REQUIRE(!candidates.empty(), "queued work waits for itself");
  if (config().schedule == Schedule::Lifo) return candidates.back();
  const std::uint64_t moment = totals.launches + totals.copies + queue.size();
  return candidates[scramble(config().seed * 0x9E3779B97F4A7C15u + moment) % candidates.size()];
}

/// After an error, as on a device: nothing that was queued runs any more, but memory is given back.
void drop_all() {
  for (const WorkPtr& w : std::exchange(queue, {})) {
    if (w->cleanup) w->run(*w);
    w->done = true;
    w->after.clear();
    w->run = nullptr;
  }
}

/// When the program ends: what nobody waited for does not run, but released memory is given back,
/// so that a leak checker sees only what was never released.
bool ending = false;
void end_of_program() {
  ending = true;
  try {
    drop_all();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "simulator, at the end of the program: %s\n", e.what());
  }
}

/// With nothing queued, what the host has waited for need not be remembered.
void forget_the_past() {
  if (!queue.empty()) return;
  forget_streams(host_order);
  std::erase_if(host_order, [](const auto& entry) {
    return entry.first != 0 && !streams.contains(entry.first);
  });
  for (const auto& [number, s] : streams)
    if (s->last) s->last->known = {{number, s->last->sequence}};
  if (Stream& s = stream_of(nullptr); s.last) s.last->known = {{0, s.last->sequence}};
}

/// Runs until `target` is done; null: until nothing is left.
void run_until(const WorkPtr& target) {
  std::set<const Work*> needed;
  if (target) collect(target, needed);
  while (target ? !target->done : !queue.empty()) {
    const std::size_t i = choose(needed);
    const WorkPtr work = queue[i];
    queue.erase(queue.begin() + static_cast<std::ptrdiff_t>(i));
    try {
      work->run(*work);
    } catch (...) {
      work->done = true;
      drop_all();
      throw;
    }
    work->done = true;
    work->after.clear();
    work->run = nullptr;
    needed.erase(work.get());
  }
  if (target) {
    merge(host_order, target->known);
  } else {
    for (const auto& [number, s] : streams) host_order[number] = s->sequence;
    host_order[0] = stream_of(nullptr).sequence;
  }
  forget_the_past();
}

void check_device_range(const void* p, std::size_t bytes, const char* what) {
  if (bytes == 0) return;
  const Allocation* a = find_allocation(p);
  if (!a || !a->contains(static_cast<const unsigned char*>(p) + bytes - 1))
    throw Error(concat(what, " of ", bytes, " bytes ", describe_address(p)));
}

void begin_copy(const Work& w, std::size_t bytes) {
  begin_work(1, w.stream, w.sequence, w.known);
  ++totals.copies;
  totals.copied_bytes += bytes;
}

}  // namespace

// --- launches and copies -------------------------------------------------------------------------

void launch(LaunchRequest request, void* stream) {
  check_launch(request);
  add(stream, [request = std::move(request)](Work& w) {
    run_launch(request, w.stream, w.sequence, w.known);
  });
}

void* allocate(std::size_t bytes, void*) {
  const Lock lock(mutex);
  refuse_in_capture("device memory cannot be allocated");
  // Runs after the destructors of statics that are completed later, as contexts are.
  [[maybe_unused]] static const int registered = std::atexit(end_of_program);
  return allocate_device(bytes);
}

void release(void* data, void* stream) {
  if (!data) return;
  const Lock lock(mutex);
  refuse_in_capture("device memory cannot be released");
  if (ending) return release_device(data);
  add(
      stream, [data](Work&) { release_device(data); }, true);
}

void copy_to_device(void* device, const void* host, std::size_t bytes, void* stream) {
  const auto* from = static_cast<const unsigned char*>(host);
  // The caller may reuse its buffer at once, so the bytes are taken now.
  add(stream, [device, bytes, data = std::vector<unsigned char>(from, from + bytes)](Work& w) {
    begin_copy(w, bytes);
    check_device_range(device, bytes, "copy to the device: a write");
    copy_access(device, bytes, true);
    if (bytes > 0) std::memcpy(device, data.data(), bytes);
  });
}

void copy_to_device_async(void* device, const void* host, std::size_t bytes, void* stream) {
  // Read when the copy runs: a buffer that the caller changed before is copied changed.
  add(stream, [device, host, bytes](Work& w) {
    begin_copy(w, bytes);
    check_device_range(device, bytes, "copy to the device: a write");
    copy_access(device, bytes, true);
    if (bytes > 0) std::memcpy(device, host, bytes);
  });
}

void copy_to_host_async(void* host, const void* device, std::size_t bytes, void* stream) {
  if (bytes > 0) std::memset(host, kPoison, bytes);
  add(stream, [host, device, bytes](Work& w) {
    begin_copy(w, bytes);
    check_device_range(device, bytes, "copy to the host: a read");
    copy_access(device, bytes, false);
    if (bytes > 0) std::memcpy(host, device, bytes);
  });
}

void copy(void* to, const void* from, std::size_t bytes, void* stream) {
  add(stream, [to, from, bytes](Work& w) {
    begin_copy(w, bytes);
    check_device_range(from, bytes, "copy on the device: a read");
    check_device_range(to, bytes, "copy on the device: a write");
    copy_access(from, bytes, false);
    copy_access(to, bytes, true);
    if (bytes > 0) std::memmove(to, from, bytes);
  });
}

void fill_bytes(void* device, int value, std::size_t bytes, void* stream) {
  add(stream, [device, value, bytes](Work& w) {
    begin_copy(w, bytes);
    check_device_range(device, bytes, "fill: a write");
    copy_access(device, bytes, true);
    if (bytes > 0) std::memset(device, value, bytes);
  });
}

void* allocate_pinned(std::size_t bytes) {
  void* p = std::malloc(std::max<std::size_t>(bytes, 1));
  if (!p) throw InputError(concat("out of host memory: ", bytes, " bytes could not be had"));
  std::memset(p, kPoison, bytes);
  return p;
}
void release_pinned(void* host) { std::free(host); }

// --- streams and events --------------------------------------------------------------------------

void* create_stream() {
  const Lock lock(mutex);
  const std::uint32_t number = next_stream++;
  auto& s = streams[number] = std::make_unique<Stream>();
  s->number = number;
  return s.get();
}

void destroy_stream(void* stream) {
  if (!stream) return;
  const Lock lock(mutex);
  synchronize(stream);  // what was queued on it still runs, and its number is not used again
  streams.erase(stream_of(stream).number);
}

void synchronize(void* stream) {
  const Lock lock(mutex);
  Stream& s = stream_of(stream);
  if (s.graph) throw Error("the host cannot wait for a stream that is being captured");
  if (s.last) run_until(s.last);
  for (const WorkPtr& w : std::exchange(s.waits, {})) run_until(w);
}

void synchronize_device() {
  const Lock lock(mutex);
  refuse_in_capture("the host cannot wait for the device");
  run_until(nullptr);
}

void* create_event() { return new Event; }
void destroy_event(void* event) { delete static_cast<Event*>(event); }

void record(void* event, void* stream) {
  const Lock lock(mutex);
  Stream& s = stream_of(stream);
  auto* e = static_cast<Event*>(event);
  *e = {};
  if (s.graph) {
    e->graph = s.graph;
    // A node of its own, so that waits which have not met any work yet are passed on.
    if (s.tail < 0 || !s.node_waits.empty()) add(stream, [](Work&) {});
    e->node = s.tail;
    return;
  }
  if (!s.waits.empty()) add(stream, [](Work&) {});
  e->work = s.last;
}

void wait(void* stream, void* event) {
  const Lock lock(mutex);
  Stream& s = stream_of(stream);
  const auto* e = static_cast<const Event*>(event);
  if (e->graph) {
    if (!e->graph->open) throw Error("the event was recorded in a capture that has ended");
    if (!s.graph) {  // the stream joins the capture
      s.graph = e->graph;
      s.tail = -1;
      s.graph->streams.insert(&s);
    }
    if (s.graph != e->graph) throw Error("an event of one capture is waited for in another");
    s.node_waits.push_back(e->node);
    return;
  }
  if (s.graph) throw Error("a stream that is being captured cannot wait for an event from outside");
  if (e->work) s.waits.push_back(e->work);
}

void synchronize_event(void* event) {
  const Lock lock(mutex);
  const auto* e = static_cast<const Event*>(event);
  if (e->graph) throw Error("the host cannot wait for an event of a capture");
  if (e->work) run_until(e->work);
}

std::size_t pending() {
  const Lock lock(mutex);
  return queue.size();
}

// --- graphs --------------------------------------------------------------------------------------

void begin_capture(void* stream) {
  const Lock lock(mutex);
  Stream& s = stream_of(stream);
  if (!stream) throw Error("the default stream cannot be captured");
  if (s.graph) throw Error("the stream is being captured already");
  s.graph = new Graph;
  s.graph->origin = &s;
  s.graph->streams.insert(&s);
  s.tail = -1;
}

void* end_capture(void* stream) {
  const Lock lock(mutex);
  Stream& s = stream_of(stream);
  if (!s.graph || s.graph->origin != &s) throw Error("no capture began on this stream");
  std::unique_ptr<Graph> graph(s.graph);
  if (!s.node_waits.empty()) add(stream, [](Work&) {});
  graph->open = false;
  // Every branch must have come back to the stream where it began.
  std::vector<bool> joined(graph->nodes.size(), false);
  if (s.tail >= 0) joined[static_cast<std::size_t>(s.tail)] = true;
  for (std::size_t i = graph->nodes.size(); i-- > 0;)
    if (joined[i])
      for (const int before : graph->nodes[i].after)
        joined[static_cast<std::size_t>(before)] = true;
  bool loose = false;
  for (Stream* member : graph->streams) {
    if (member->tail >= 0 && !joined[static_cast<std::size_t>(member->tail)]) loose = true;
    member->graph = nullptr;
    member->tail = -1;
    member->node_waits.clear();
  }
  graph->streams.clear();
  if (loose)
    throw Error(
        "the capture ended while another stream had work in it: record an event there and wait for "
        "it on the stream where the capture began");
  return graph.release();
}

void launch_graph(void* handle, void* stream) {
  const Lock lock(mutex);
  Stream& s = stream_of(stream);
  if (s.graph) throw Error("a graph inside a capture is not modelled");
  const auto* graph = static_cast<const Graph*>(handle);
  add(stream, [](Work&) { ++totals.graph_launches; });
  const WorkPtr root = s.last;
  // Branches are ordered only as the graph says, so each is a stream of its own for this launch.
  std::map<std::uint32_t, Stream> branches;
  std::vector<WorkPtr> works, leaves{root};
  for (const Node& node : graph->nodes) {
    std::vector<WorkPtr> after{root};
    for (const int before : node.after) after.push_back(works[static_cast<std::size_t>(before)]);
    const auto [branch, fresh] = branches.try_emplace(node.stream);
    if (fresh) branch->second.number = next_stream++;
    works.push_back(enqueue(branch->second, node.run, std::move(after)));
    leaves.push_back(works.back());
  }
  s.last = enqueue(
      s, [](Work&) {}, std::move(leaves));
}

void destroy_graph(void* graph) { delete static_cast<Graph*>(graph); }

}  // namespace subpix::sim
