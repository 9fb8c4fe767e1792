#pragma once

#include <cstddef>

/// Threads of control on stacks of their own, switched by a dozen instructions.
namespace subpix::sim {

/// A stack and the place where it stopped. Stacks are kept for the next launch.
struct Fiber {
  void* stack_pointer = nullptr;
  unsigned char* stack = nullptr;  ///< lowest usable byte; a guard page lies below
  std::size_t stack_bytes = 0;
  void* sanitizer_stack = nullptr;
};

/// Makes the fiber start at `entry` when it is switched to. entry never returns. `colour` moves the
/// top of the stack by a few cache lines, so that the hot parts of many stacks spread over cache
/// sets.
void prepare(Fiber& fiber, unsigned colour, void (*entry)());

/// Stops `from`, continues `to`. dying: `from` is never continued.
void switch_fiber(Fiber& from, Fiber& to, bool dying = false);

/// The first thing a new fiber does.
void fiber_started();

/// Describes the stack the caller runs on, so that it can be switched away from.
void adopt_host_stack(Fiber& fiber);

/// While one lives, SIGSEGV on a simulated thread prints which one it was before the process dies.
class CrashReporter {
 public:
  CrashReporter();
  ~CrashReporter();
  CrashReporter(const CrashReporter&) = delete;
  CrashReporter& operator=(const CrashReporter&) = delete;
};

/// AddressSanitizer's, doing nothing without it.
bool address_sanitizer();
void poison(const void* p, std::size_t bytes);
void unpoison(const void* p, std::size_t bytes);

/// While one lives, allocations of this host thread are not looked for by LeakSanitizer.
class LeakPause {
 public:
  LeakPause();
  ~LeakPause();
  LeakPause(const LeakPause&) = delete;
  LeakPause& operator=(const LeakPause&) = delete;
};

}  // namespace subpix::sim
