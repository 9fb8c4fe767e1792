#include "kernels/sim/fiber.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <new>

#include "kernels/sim/engine.h"

#if !defined(__x86_64__)
#error "the simulator's fiber switch is written for x86-64: configure with -DSUBPIX_SIM=OFF"
#endif

// Present when the program is linked with AddressSanitizer, null otherwise, so that the simulator
// itself is compiled once for all flavours.
extern "C" {
[[gnu::weak]] void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom,
                                                  std::size_t size);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom,
                                                   std::size_t* size);
[[gnu::weak]] void __asan_poison_memory_region(const volatile void* p, std::size_t size);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void* p, std::size_t size);
[[gnu::weak]] void __lsan_disable();
[[gnu::weak]] void __lsan_enable();
void subpix_sim_switch(void** save, void* load);
}

// The callee-saved registers go onto the stack that is left and come from the one that is entered;
// everything else is saved by the caller, as for any function call.
asm(R"(
.text
.type subpix_sim_switch, @function
subpix_sim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size subpix_sim_switch, .-subpix_sim_switch
)");

namespace subpix::sim {
namespace {

constexpr std::size_t kGuard = 4096;
constexpr std::size_t kStack = std::size_t{64} << 10;
constexpr std::size_t kSanitizedStack = std::size_t{256} << 10;  // red zones make frames larger

void allocate_stack(Fiber& fiber) {
  const std::size_t bytes = address_sanitizer() ? kSanitizedStack : kStack;
  void* p = mmap(nullptr, bytes + kGuard, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  mprotect(p, kGuard, PROT_NONE);
  fiber.stack = static_cast<unsigned char*>(p) + kGuard;
  fiber.stack_bytes = bytes;
}

// --- SIGSEGV -------------------------------------------------------------------------------------

alignas(16) unsigned char signal_stack[64 << 10];
struct sigaction previous_action;
stack_t previous_stack;

void on_crash(int, siginfo_t* info, void*) {
  char text[512];
  const Thread* t = current;
  if (t) {
    const auto* address = static_cast<const unsigned char*>(info->si_addr);
    const bool overflow = address >= t->fiber.stack - kGuard && address < t->fiber.stack;
    const int n = std::snprintf(
        text, sizeof text, "simulator: %s at %p in %s\n",
        overflow ? "stack overflow (a kernel's local arrays and calls must fit 64 KiB)"
        : info->si_code == SI_KERNEL ? "misaligned vector access or impossible address"
                                     : "access to a bad address",
        info->si_addr, describe(*t).c_str());
    if (n > 0) static_cast<void>(!write(2, text, static_cast<std::size_t>(n)));
  }
  // Back to what was there before: the faulting instruction runs again and is handled as ever.
  sigaction(SIGSEGV, &previous_action, nullptr);
}

}  // namespace

void prepare(Fiber& fiber, unsigned colour, void (*entry)()) {
  if (!fiber.stack) allocate_stack(fiber);
  unpoison(fiber.stack, fiber.stack_bytes);  // an abandoned fiber leaves poisoned frames behind
  fiber.sanitizer_stack = nullptr;
  auto** top = reinterpret_cast<void**>(fiber.stack + fiber.stack_bytes - (colour & 15u) * 256u);
  *--top = nullptr;  // the return address of entry: ends backtraces
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;  // callee-saved registers
  fiber.stack_pointer = top;
}

void switch_fiber(Fiber& from, Fiber& to, bool dying) {
  if (__sanitizer_start_switch_fiber)
    __sanitizer_start_switch_fiber(dying ? nullptr : &from.sanitizer_stack, to.stack,
                                   to.stack_bytes);
  subpix_sim_switch(&from.stack_pointer, to.stack_pointer);
  if (__sanitizer_finish_switch_fiber)
    __sanitizer_finish_switch_fiber(from.sanitizer_stack, nullptr, nullptr);
}

void fiber_started() {
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
}

void adopt_host_stack(Fiber& fiber) {
  static thread_local void* stack = nullptr;
  static thread_local std::size_t bytes = 0;
  pthread_attr_t attributes;
  if (!stack && pthread_getattr_np(pthread_self(), &attributes) == 0) {
    pthread_attr_getstack(&attributes, &stack, &bytes);
    pthread_attr_destroy(&attributes);
  }
  fiber.stack = static_cast<unsigned char*>(stack);
  fiber.stack_bytes = bytes;
}

CrashReporter::CrashReporter() {
  if (address_sanitizer()) return;  // it reports itself, and names the thread through a hook
  stack_t alternative{};
  alternative.ss_sp = signal_stack;
  alternative.ss_size = sizeof signal_stack;
  sigaltstack(&alternative, &previous_stack);
  struct sigaction action {};
  action.sa_sigaction = on_crash;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, &previous_action);
}

CrashReporter::~CrashReporter() {
  if (address_sanitizer()) return;
  sigaction(SIGSEGV, &previous_action, nullptr);
  sigaltstack(&previous_stack, nullptr);
}

bool address_sanitizer() { return __asan_poison_memory_region != nullptr; }
void poison(const void* p, std::size_t bytes) {
  if (__asan_poison_memory_region) __asan_poison_memory_region(p, bytes);
}
void unpoison(const void* p, std::size_t bytes) {
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(p, bytes);
}

LeakPause::LeakPause() {
  if (__lsan_disable) __lsan_disable();
}
LeakPause::~LeakPause() {
  if (__lsan_enable) __lsan_enable();
}

}  // namespace subpix::sim

// Called by AddressSanitizer before its report.
extern "C" void __asan_on_error() {
  if (const subpix::sim::Thread* t = subpix::sim::current)
    std::fprintf(stderr, "simulator: in %s\n", subpix::sim::describe(*t).c_str());
}
