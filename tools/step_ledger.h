#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "kernels/api/context.h"

/// Which ops a step calls, and the least memory traffic they need: exact numbers that say what a
/// clock cannot, whether a fusion was lost or a map is read once more than before.
namespace subpix::tools {

/// The least bytes that a call of an op moves: each operand read once, each result written once.
/// op is the name of a table's entry ("add/bf16"), key its problem's. Error for an op that is not
/// known here.
double least_bytes(const std::string& op, const std::string& key);

struct OpCalls {
  std::map<std::string, std::uint64_t> variants;  ///< calls by variant
  double bytes = 0.0;
  std::uint64_t calls() const;
};

/// Listens to a context for the length of a scope. Composed ops count as the ops they are made of.
class Ledger {
 public:
  explicit Ledger(kernels::Context& ctx);
  ~Ledger();
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  const std::map<std::string, OpCalls>& ops() const { return ops_; }
  std::uint64_t calls() const;
  double bytes() const;

 private:
  kernels::Context& ctx_;
  std::map<std::string, OpCalls> ops_;
};

}  // namespace subpix::tools
