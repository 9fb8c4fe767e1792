#pragma once

#include <memory>
#include <string>

#include "engine/core/debug.h"
#include "engine/core/device.h"
#include "tests/support/catch.h"

namespace subpix::tests {

/// Puts the debugging aids back as they were.
struct KeepDebug {
  KeepDebug() = default;
  KeepDebug(const KeepDebug&) = delete;
  KeepDebug& operator=(const KeepDebug&) = delete;
  ~KeepDebug() { engine::debug() = before; }
  engine::Debug before = engine::debug();
};

/// Calls body(device) for every backend of this build. Uninitialised tensors start as NaN
/// meanwhile: a cached block could otherwise still hold the right answer of the run before.
template <class Body>
void on_each_backend(Body&& body) {
  const KeepDebug keep;
  engine::debug().poison = true;
  for (const std::string& backend : engine::available_backends()) {
    CAPTURE(backend);
    const std::shared_ptr<engine::Device> device = engine::Device::open(backend, 2);
    body(*device);
  }
}

/// The message of the Error that `call` throws; the test fails if it throws none.
template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  FAIL("no Error was thrown");
  return {};
}

}  // namespace subpix::tests
