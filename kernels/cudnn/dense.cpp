// Dense layers by cuBLASLt, opened at first use like cuDNN. Its matrices are column-major: a
// row-major [rows, columns] of ours is its columns x rows.

#include <cublasLt.h>
#include <dlfcn.h>

#include <memory>
#include <type_traits>

#include "kernels/api/context_objects.h"
#include "kernels/cudnn/operands.h"
#include "kernels/cudnn/variants.h"

namespace subpix::kernels::cudnn {
namespace {

#define SUBPIX_CUBLASLT_FUNCTIONS(X) \
  X(Create)                          \
  X(Destroy)                         \
  X(Matmul)                          \
  X(MatmulDescCreate)                \
  X(MatmulDescDestroy)               \
  X(MatmulDescSetAttribute)          \
  X(MatrixLayoutCreate)              \
  X(MatrixLayoutDestroy)             \
  X(MatmulPreferenceCreate)          \
  X(MatmulPreferenceDestroy)         \
  X(MatmulPreferenceSetAttribute)    \
  X(MatmulAlgoGetHeuristic)

struct Lt {
#define SUBPIX_MEMBER(name) decltype(&::cublasLt##name) name = nullptr;
  SUBPIX_CUBLASLT_FUNCTIONS(SUBPIX_MEMBER)
#undef SUBPIX_MEMBER
  bool complete = false;
};

Lt open() {
  Lt lt;
  const std::string file = concat("libcublasLt.so.", CUBLAS_VER_MAJOR);
  // Beside the toolkit of the build, else on the loader's path.
  void* handle = dlopen(concat(SUBPIX_CUBLASLT_FOLDER "/", file).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) return lt;
  lt.complete = true;
#define SUBPIX_FIND(name)                                                         \
  lt.name = reinterpret_cast<decltype(lt.name)>(dlsym(handle, "cublasLt" #name)); \
  lt.complete = lt.complete && lt.name;
  SUBPIX_CUBLASLT_FUNCTIONS(SUBPIX_FIND)
#undef SUBPIX_FIND
  return lt;
}

const Lt& lt() {
  static const Lt once = open();
  return once;
}

void check(cublasStatus_t status, const char* action) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(concat("cuBLASLt: ", action, " gave status ", static_cast<int>(status)));
}

/// A cuBLASLt object with its owner.
template <class Raw, auto Destroy>
struct Owner {
  Raw raw = nullptr;
  Owner() = default;
  ~Owner() {
    if (raw) (lt().*Destroy)(raw);
  }
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;
};
using LtHandle = Owner<cublasLtHandle_t, &Lt::Destroy>;

constexpr std::size_t kMostWorkspace = std::size_t{32} << 20;
constexpr std::uint32_t kAlignment = 16;  // see Operands

/// D = op(A) * op(B), fp32 sums; all column-major, without gaps.
struct Product {
  bool transpose_a, transpose_b;
  Index m, n, k;
  DType in, out;
  bool bias;  ///< [m], of fp32, added to every column

  std::string key() const {
    return concat("cublaslt/", transpose_a, transpose_b, ",", m, ",", n, ",", k, name(in),
                  name(out), bias ? "b" : "");
  }
};

cudaDataType_t cuda_type(DType type) { return type == DType::BF16 ? CUDA_R_16BF : CUDA_R_32F; }

/// A product with the algorithm that the library's heuristic puts first, kept in the context.
class Multiplication {
 public:
  Multiplication(cublasLtHandle_t handle, const Product& p) {
    check(lt().MatmulDescCreate(&operation_.raw, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a description");
    const cublasOperation_t ta = p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                            tb = p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    set(CUBLASLT_MATMUL_DESC_TRANSA, ta);
    set(CUBLASLT_MATMUL_DESC_TRANSB, tb);
    if (p.bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_32F);
    }
    layout(a_, p.in, p.transpose_a ? p.k : p.m, p.transpose_a ? p.m : p.k);
    layout(b_, p.in, p.transpose_b ? p.n : p.k, p.transpose_b ? p.k : p.n);
    layout(d_, p.out, p.m, p.n);
    Owner<cublasLtMatmulPreference_t, &Lt::MatmulPreferenceDestroy> wishes;
    check(lt().MatmulPreferenceCreate(&wishes.raw), "a preference");
    const auto wish = [&](cublasLtMatmulPreferenceAttributes_t which, const auto& value) {
      check(lt().MatmulPreferenceSetAttribute(wishes.raw, which, &value, sizeof value),
            "setting a preference");
    };
    wish(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kMostWorkspace);
    // Sums of a split reduction are added in memory of their own, in order: equal bits each time.
    wish(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    for (const auto which :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      wish(which, kAlignment);
    int found = 0;
    const cublasStatus_t status = lt().MatmulAlgoGetHeuristic(
        handle, operation_.raw, a_.raw, b_.raw, d_.raw, d_.raw, wishes.raw, 1, &result_, &found);
    usable_ = status == CUBLAS_STATUS_SUCCESS && found > 0;
  }

  bool usable() const { return usable_; }

  void operator()(Context& ctx, cublasLtHandle_t handle, const void* a, const void* b,
                  const float* bias, void* d) {
    if (bias) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    const float one = 1.0f, zero = 0.0f;
    Workspace ws(ctx);
    void* scratch = result_.workspaceSize ? ws.take<std::byte>(result_.workspaceSize) : nullptr;
    check(lt().Matmul(handle, operation_.raw, &one, a, a_.raw, b, b_.raw, &zero, d, d_.raw, d,
                      d_.raw, &result_.algo, scratch, result_.workspaceSize,
                      static_cast<cudaStream_t>(ctx.stream)),
          "a product");
  }

 private:
  using Layout = Owner<cublasLtMatrixLayout_t, &Lt::MatrixLayoutDestroy>;

  template <class Value>
  void set(cublasLtMatmulDescAttributes_t which, const Value& value) {
    check(lt().MatmulDescSetAttribute(operation_.raw, which, &value, sizeof value),
          "setting an attribute");
  }
  static void layout(Layout& to, DType type, Index rows, Index columns) {
    check(lt().MatrixLayoutCreate(&to.raw, cuda_type(type), static_cast<std::uint64_t>(rows),
                                  static_cast<std::uint64_t>(columns), rows),
          "a layout");
  }

  Owner<cublasLtMatmulDesc_t, &Lt::MatmulDescDestroy> operation_;
  Layout a_, b_, d_;
  cublasLtMatmulHeuristicResult_t result_{};
  bool usable_ = false;
};

/// False where the library has nothing for the product.
template <class In, class Out>
bool multiply(Context& ctx, const Product& p, const In* a, const In* b, const float* bias, Out* d) {
  auto& handle = cached<LtHandle>(ctx, "cublaslt/handle", [] {
    auto made = std::make_shared<LtHandle>();
    check(lt().Create(&made->raw), "a handle");
    return made;
  });
  auto& product = cached<Multiplication>(
      ctx, p.key(), [&] { return std::make_shared<Multiplication>(handle.raw, p); });
  if (!product.usable()) return false;
  Operands operands(ctx);
  const In* const a_in = operands.in(a, p.m * p.k);
  const In* const b_in = operands.in(b, p.k * p.n);
  const float* const bias_in = bias ? operands.in(bias, p.m) : nullptr;
  Out* const out = operands.out(d, p.m * p.n);
  product(ctx, handle.raw, a_in, b_in, bias_in, out);
  operands.finish();
  return true;
}

constexpr const char* kVariant = "cublaslt";

template <class T>
void forward(Context& ctx, const DenseProblem& d, const T* x, Filter<T> w, const float* bias,
             T* y) {
  constexpr DType type = DTypeOf<T>::value;
  const Product p{.transpose_a = true,
                  .transpose_b = false,
                  .m = d.out,
                  .n = d.n,
                  .k = d.in,
                  .in = type,
                  .out = type,
                  .bias = bias != nullptr};
  if (!multiply(ctx, p, w.data, x, bias, y))
    run_on_cuda(ctx, cuda::table().typed<T>().dense_forward, kVariant, d, x, w, bias, y);
}

template <class T>
void backward_data(Context& ctx, const DenseProblem& d, const T* dy, Filter<T> w, T* dx) {
  constexpr DType type = DTypeOf<T>::value;
  const Product p{.transpose_a = false,
                  .transpose_b = false,
                  .m = d.in,
                  .n = d.n,
                  .k = d.out,
                  .in = type,
                  .out = type,
                  .bias = false};
  if (!multiply(ctx, p, w.data, dy, nullptr, dx))
    run_on_cuda(ctx, cuda::table().typed<T>().dense_backward_data, kVariant, d, dy, w, dx);
}

template <class T>
void backward_filter(Context& ctx, const DenseProblem& d, const T* x, const T* dy, float* dw,
                     float* db) {
  const Product p{.transpose_a = false,
                  .transpose_b = true,
                  .m = d.in,
                  .n = d.out,
                  .k = d.n,
                  .in = DTypeOf<T>::value,
                  .out = DType::F32,
                  .bias = false};
  if (!multiply(ctx, p, x, dy, nullptr, dw) ||
      (db && !channel_sums(ctx, {.n = d.n, .h = 1, .w = 1, .c = d.out}, dy, db)))
    run_on_cuda(ctx, cuda::table().typed<T>().dense_backward_filter, kVariant, d, x, dy, dw, db);
}

template <class T>
void add_typed(TypedOps<T>& ops) {
  // Asked at each call and not when the table is made: tables are made where there is no library.
  constexpr auto found = [](const DenseProblem&, const DeviceInfo&) { return lt().complete; };
  ops.dense_forward.prepend({kVariant, found, forward<T>});
  ops.dense_backward_data.prepend({kVariant, found, backward_data<T>});
  ops.dense_backward_filter.prepend({kVariant, found, backward_filter<T>});
}

}  // namespace

void add_dense(KernelTable& table) {
  add_typed(table.f32);
  add_typed(table.bf16_ops);
}

}  // namespace subpix::kernels::cudnn
