#include "train/interrupt.h"

#include <atomic>
#include <csignal>

namespace subpix::train {
namespace {

// Written by a signal handler on any thread, so it must be lock-free.
std::atomic<int> noted{0};
static_assert(std::atomic<int>::is_always_lock_free);
struct sigaction before_int, before_term;

}  // namespace

InterruptGuard::InterruptGuard() {
  noted = 0;
  struct sigaction action {};
  action.sa_handler = [](int signal) { noted = signal; };
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, &before_int);
  sigaction(SIGTERM, &action, &before_term);
}

InterruptGuard::~InterruptGuard() {
  sigaction(SIGINT, &before_int, nullptr);
  sigaction(SIGTERM, &before_term, nullptr);
}

int InterruptGuard::received() { return noted; }

}  // namespace subpix::train
