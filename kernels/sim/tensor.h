#pragma once

#include <bit>
#include <cstdint>

/// How tensor cores read their operands.
namespace subpix::sim {

inline float bf16_value(std::uint32_t bits) { return std::bit_cast<float>(bits << 16); }
/// The low 13 bits of an fp32 operand are ignored.
inline float tf32_value(std::uint32_t bits) { return std::bit_cast<float>(bits & 0xFFFFE000u); }

// The loops over a tile's products are compiled twice, the wider one for processors that have AVX2.
#define SUBPIX_SIM_VECTOR __attribute__((target_clones("avx2", "default")))

}  // namespace subpix::sim
