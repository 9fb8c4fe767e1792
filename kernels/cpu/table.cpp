#include "kernels/cpu/table.h"

#include <omp.h>

#include "kernels/api/error.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cpu/variants.h"
#include "kernels/reference/table.h"

namespace subpix::kernels::cpu {

namespace {

KernelTable make_table() {
  KernelTable table = reference::table();
  table.name = "cpu";
  add_conv2d(table);
  add_conv2d_bordered(table);
  add_conv2d_backward_filter(table);
  add_conv2d_winograd(table);
  add_conv2d_columns(table);
  add_norm(table);
  add_activation(table);
  add_shape_pool(table);
  add_dense(table);
  add_elementwise(table);
  add_loss(table);
  add_adam(table);
  add_random(table);
  return table;
}

}  // namespace

const KernelTable& table() {
  static const KernelTable instance = make_table();
  return instance;
}

int set_threads(int threads) {
  SUBPIX_REQUIRE(threads >= 0, "the number of threads is ", threads, ", it must not be negative");
  const int count = threads > 0 ? threads : omp_get_num_procs();
  omp_set_num_threads(count);
  return count;
}

std::string library() {
  const dnnl_version_t* v = dnnl_version();
  return concat("oneDNN ", v->major, ".", v->minor, ".", v->patch);
}

}  // namespace subpix::kernels::cpu
