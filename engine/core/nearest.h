#pragma once

#include <string>
#include <vector>

namespace subpix::engine {

/// Edits (insert, delete, replace a character) from a to b.
std::size_t edit_distance(const std::string& a, const std::string& b);

/// The candidate with the fewest edits, the first of equals; empty if there is none.
std::string nearest(const std::string& name, const std::vector<std::string>& candidates);

}  // namespace subpix::engine
