#pragma once

// Catch2 2.13 (Debian 12); the one place to change for 3.x.
#include <catch2/catch.hpp>
