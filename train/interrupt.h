#pragma once

namespace subpix::train {

/// While one lives, the first SIGINT and SIGTERM are only noted, so that the trainer can finish its
/// step and write a checkpoint; a second signal of the same kind ends the process as usual. One at
/// a time.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  /// The number of the signal that came, or 0.
  static int received();
};

}  // namespace subpix::train
