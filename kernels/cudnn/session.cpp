#include "kernels/cudnn/session.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "kernels/api/context_objects.h"

namespace subpix::kernels::cudnn {
namespace {

void check_cuda(cudaError_t status, const char* action) {
  if (status == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // reported here; later calls start clean
  throw Error(concat("CUDA: ", action, ": ", cudaGetErrorString(status)));
}

cudaStream_t native(void* stream) { return static_cast<cudaStream_t>(stream); }

/// What runtime-compiled engines may ask of a workspace's address, more than a Workspace promises.
constexpr std::size_t kWorkspaceAlignment = 256;

void execute(cudnnHandle_t handle, const Plan& plan, std::initializer_list<Binding> bindings,
             void* workspace) {
  std::vector<std::int64_t> ports;
  std::vector<void*> pointers;
  for (const Binding& b : bindings) {
    ports.push_back(static_cast<std::int64_t>(b.port));
    pointers.push_back(const_cast<void*>(b.data));  // cuDNN has one type for inputs and outputs
  }
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(SUBPIX_CUDNN_ATTR(VARIANT_PACK_UNIQUE_IDS), ports)
      .set(SUBPIX_CUDNN_ATTR(VARIANT_PACK_DATA_POINTERS), pointers)
      .set(SUBPIX_CUDNN_ATTR(VARIANT_PACK_WORKSPACE), workspace)
      .finalize();
  check(library().BackendExecute(handle, plan.plan.get(), pack.get()),
        concat("running ", plan.facts.text()));
}

void* take_workspace(Workspace& ws, std::size_t bytes) {
  if (bytes == 0) return nullptr;
  const auto raw =
      reinterpret_cast<std::uintptr_t>(ws.take<std::byte>(bytes + kWorkspaceAlignment));
  return reinterpret_cast<void*>((raw + kWorkspaceAlignment - 1) / kWorkspaceAlignment *
                                 kWorkspaceAlignment);
}

/// A stream of its own for timing, because the default stream cannot be recorded, and two events.
class Stopwatch {
 public:
  Stopwatch() {
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
    check_cuda(cudaEventCreate(&begin_), "making an event");
    check_cuda(cudaEventCreate(&end_), "making an event");
  }
  ~Stopwatch() {
    if (graph_) cudaGraphExecDestroy(graph_);
    if (end_) cudaEventDestroy(end_);
    if (begin_) cudaEventDestroy(begin_);
    if (stream_) cudaStreamDestroy(stream_);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  void* stream() const { return stream_; }

  /// Microseconds of one call, without the host's part: the calls are replayed as one CUDA graph. A
  /// plan that cannot be recorded is of no use to a training step either, and throws.
  template <class Call>
  double time(Call&& call) {
    constexpr int kCalls = 10, kReplays = 5;
    call();  // loads its code
    check_cuda(cudaStreamSynchronize(stream_), "the first run of a plan");
    record([&] {
      for (int i = 0; i < kCalls; ++i) call();
    });
    check_cuda(cudaGraphLaunch(graph_, stream_), "launching a graph");
    float best = 0.0f;
    for (int i = 0; i < kReplays; ++i) {
      check_cuda(cudaEventRecord(begin_, stream_), "recording an event");
      check_cuda(cudaGraphLaunch(graph_, stream_), "launching a graph");
      check_cuda(cudaEventRecord(end_, stream_), "recording an event");
      check_cuda(cudaEventSynchronize(end_), "timing a plan");
      float milliseconds = 0.0f;
      check_cuda(cudaEventElapsedTime(&milliseconds, begin_, end_), "timing a plan");
      best = i == 0 ? milliseconds : std::min(best, milliseconds);
    }
    return 1000.0 * static_cast<double>(best) / kCalls;
  }

 private:
  template <class Work>
  void record(Work&& work) {
    if (graph_) check_cuda(cudaGraphExecDestroy(std::exchange(graph_, nullptr)), "ending a graph");
    check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "recording");
    cudaGraph_t recorded = nullptr;
    try {
      work();
    } catch (...) {
      // The stream must leave capture mode; the error that interrupted the work is the one to tell.
      static_cast<void>(cudaStreamEndCapture(stream_, &recorded));
      if (recorded) static_cast<void>(cudaGraphDestroy(recorded));
      static_cast<void>(cudaGetLastError());
      throw;
    }
    check_cuda(cudaStreamEndCapture(stream_, &recorded), "recording");
    const cudaError_t status = cudaGraphInstantiate(&graph_, recorded, 0);
    static_cast<void>(cudaGraphDestroy(recorded));
    check_cuda(status, "making a graph");
  }

  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;
};

bool recording(const Context& ctx) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(native(ctx.stream), &status),
             "asking whether a graph is recorded");
  return status != cudaStreamCaptureStatusNone;
}

/// Times the plans that `allowed` lets through, each in facts.microseconds or with its obstacle.
template <class Allowed>
void time_plans(Context& ctx, std::vector<Plan>& plans, std::initializer_list<Binding> bindings,
                Allowed&& allowed) {
  check_cuda(cudaStreamSynchronize(native(ctx.stream)), "waiting before plans are timed");
  Stopwatch watch;
  Handle& handle = handle_of(ctx);
  const cudnnHandle_t raw = handle.on(watch.stream());
  for (Plan& plan : plans) {
    if (!plan.facts.obstacle.empty() || !allowed(plan.facts)) continue;
    try {
      Workspace ws(ctx);
      void* scratch = take_workspace(ws, plan.facts.workspace);
      // The scratch memory belongs to the context's stream, the plan runs on another.
      check_cuda(cudaStreamSynchronize(native(ctx.stream)), "waiting for scratch memory");
      plan.facts.microseconds = watch.time([&] { execute(raw, plan, bindings, scratch); });
    } catch (const Error& error) {  // out of memory for the workspace too: a smaller one may do
      plan.facts.obstacle = error.what();
    }
  }
  check_cuda(cudaDeviceSynchronize(), "timing plans");
  handle.on(ctx.stream);
}

std::vector<Plan> all_plans(Context& ctx, const MakeGraph& make) {
  const cudnnHandle_t raw = handle_of(ctx).on(ctx.stream);
  const OperationGraph graph = make(raw);
  std::vector<Plan> plans;
  for (const Candidate& candidate : candidates(graph, nullptr))
    plans.push_back(make_plan(candidate, raw, nullptr));
  return plans;
}

}  // namespace

Handle::Handle() { check(library().Create(&raw_), "creating a handle"); }

Handle::~Handle() {
  if (raw_) library().Destroy(raw_);
}

cudnnHandle_t Handle::on(void* stream) {
  if (!set_ || stream != stream_)
    check(library().SetStream(raw_, native(stream)), "setting the stream of a handle");
  set_ = true;
  stream_ = stream;
  return raw_;
}

Handle& handle_of(Context& ctx) {
  return cached<Handle>(ctx, "cudnn/handle", [] { return std::make_shared<Handle>(); });
}

const Choice& choice_of(Context& ctx, const std::string& key, const PlanRule& rule,
                        const MakeGraph& make, std::initializer_list<Binding> bindings) {
  return cached<Choice>(ctx, concat("cudnn/", key, rule.tf32 ? "/tf32" : ""), [&] {
    if (recording(ctx))
      throw InputError(concat("cuDNN's plan for ", key,
                              " would be chosen while a graph is recorded, and timing is not "
                              "possible then; run the step once before, or set cuda_graph to "
                              "false"));
    std::vector<Plan> plans = all_plans(ctx, make);
    time_plans(ctx, plans, bindings,
               [&](const PlanFacts& facts) { return forbidden(facts, rule).empty(); });
    auto choice = std::make_shared<Choice>();
    std::size_t best = plans.size();
    for (std::size_t i = 0; i < plans.size(); ++i) {
      choice->facts.push_back(plans[i].facts);
      if (!plans[i].facts.obstacle.empty() || plans[i].facts.microseconds <= 0.0) continue;
      if (best == plans.size() || plans[i].facts.microseconds < plans[best].facts.microseconds)
        best = i;
    }
    if (best < plans.size()) choice->best = std::make_unique<Plan>(std::move(plans[best]));
    return choice;
  });
}

void run(Context& ctx, const Plan& plan, std::initializer_list<Binding> bindings) {
  Workspace ws(ctx);
  execute(handle_of(ctx).on(ctx.stream), plan, bindings, take_workspace(ws, plan.facts.workspace));
}

std::vector<PlanFacts> time_all(Context& ctx, const MakeGraph& make,
                                std::initializer_list<Binding> bindings,
                                std::size_t most_workspace) {
  std::vector<Plan> plans = all_plans(ctx, make);
  time_plans(ctx, plans, bindings,
             [&](const PlanFacts& facts) { return facts.workspace <= most_workspace; });
  std::vector<PlanFacts> facts;
  for (Plan& plan : plans) facts.push_back(std::move(plan.facts));
  return facts;
}

}  // namespace subpix::kernels::cudnn
