#pragma once

// The engine's errors are the library's: Error, InputError, concat, SUBPIX_REQUIRE.
#include "kernels/api/error.h"
