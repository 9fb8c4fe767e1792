#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/sim/race.h"

/// Note [Deferred]: asynchronous work is done as late as the programming model allows, and its
/// destination holds poison until then, so a forgotten wait cannot pass unnoticed.
namespace subpix::sim {

/// Groups of operations that one thread starts, commits and waits for in order.
template <class Operation>
struct Groups {
  std::vector<Operation> operations;
  std::vector<std::size_t> ends;  ///< of the committed groups, as indices into operations
  std::size_t done = 0;           ///< operations finished
  std::size_t groups_done = 0;

  void commit() { ends.push_back(operations.size()); }
  /// finish(operation) for the groups that may not stay unfinished when `pending` groups may.
  template <class Finish>
  void wait(std::size_t pending, Finish&& finish) {
    while (ends.size() - groups_done > pending) {
      for (const std::size_t end = ends[groups_done]; done < end; ++done) finish(operations[done]);
      ++groups_done;
    }
    if (done == operations.size() && groups_done == ends.size()) clear();
  }
  bool empty() const { return done == operations.size(); }
  void clear() {
    operations.clear();
    ends.clear();
    done = groups_done = 0;
  }
};

struct CpAsync {
  unsigned char* dst;
  const unsigned char* src;
  int bytes;
  bool valid;
  Site site;
};

struct BulkStore {
  TensorMap map;
  const unsigned char* src;
  int corner[5];
  std::vector<unsigned char> snapshot;  ///< the source when the store was started
  Where where;
};

/// A bulk copy or TMA load on its way.
struct BulkLoad {
  TensorMap map;  ///< base null: a plain copy
  const unsigned char* src = nullptr;
  unsigned char* dst = nullptr;
  std::uint32_t bytes = 0;
  int corner[5] = {}, offset_w = 0, offset_h = 0;
  std::uint64_t* bar = nullptr;
  Block* block = nullptr;
  std::uint32_t agent = 0, clock = 0;  ///< under which its writes are known
  Where where;
};
/// Delivers pending bulk load number i of the gang.
void deliver(std::size_t i);

struct MBarrier {
  std::uint64_t* word = nullptr;  ///< in shared memory; holds a tag and this one's number
  std::uint32_t arrivals = 0, pending = 0, phase = 0;
  std::int64_t bytes = 0;  ///< announced and not yet delivered
  Knowledge current, completed[2];
  struct Wait {
    Thread* thread;
    std::uint32_t parity;
  };
  std::vector<Wait> waiting;
};
MBarrier& mbarrier_at(std::uint64_t* bar, Where where);
/// A bulk load's bytes have arrived.
void mbarrier_complete_bytes(std::uint64_t* bar, const BulkLoad& load);
/// Empty, or what is wrong with the mbarriers of the gang that has ended.
std::string unfinished_mbarrier();
/// For a deadlock: what the mbarriers that threads wait for lack.
std::string awaited_mbarriers();

}  // namespace subpix::sim
