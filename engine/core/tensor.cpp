#include "engine/core/tensor.h"

#include <atomic>

#include "engine/autograd/node.h"

namespace subpix::engine {
namespace {

std::uint64_t next_storage_id() {
  static std::atomic<std::uint64_t> last{0};  // 0 means "do not cache" to kernels::Filter
  return ++last;
}

std::size_t bytes_of(const Shape& shape, DType dtype) {
  return static_cast<std::size_t>(shape.count()) * size_of(dtype);
}

}  // namespace

Storage::Storage(std::shared_ptr<Device> device, std::size_t bytes)
    : device_(std::move(device)),
      pool_(device_->pool()),
      bytes_(bytes),
      data_(device_->allocate(bytes)),
      id_(next_storage_id()) {}

Storage::~Storage() {
  device_->context().forget(id_);
  device_->release(data_, bytes_, pool_.get());
}

struct Tensor::Impl {
  Shape shape;
  DType dtype = DType::F32;
  std::shared_ptr<Storage> storage;

  Tensor bf16_copy;
  std::uint64_t bf16_copy_version = 0;  // of the storage, when the copy was made

  bool requires_grad = false;
  Tensor grad;
  std::shared_ptr<Node> node;
  // The accumulator holds the leaf, so the leaf must not hold the accumulator.
  std::weak_ptr<Node> accumulator;
};

Tensor Tensor::empty(Device& device, const Shape& shape, DType dtype) {
  auto impl = std::make_shared<Impl>();
  impl->shape = shape;
  impl->dtype = dtype;
  impl->storage = std::make_shared<Storage>(device.shared_from_this(), bytes_of(shape, dtype));
  return Tensor(std::move(impl));
}

Tensor Tensor::full(Device& device, const Shape& shape, float value, DType dtype) {
  Tensor t = empty(device, shape, dtype);
  const kernels::ElementProblem p{shape.count(), value};
  SUBPIX_REQUIRE(dtype != DType::U8, "full() fills F32 and BF16 tensors, not U8");
  if (dtype == DType::F32)
    device.table().f32.fill(device.context(), p, t.data<float>());
  else
    device.table().bf16_ops.fill(device.context(), p, t.data<bf16>());
  return t;
}

Tensor Tensor::from_host(Device& device, const Shape& shape, std::span<const float> values) {
  Tensor t = empty(device, shape);
  t.upload(values);
  return t;
}

Tensor Tensor::from_bytes(Device& device, const Shape& shape,
                          std::span<const std::uint8_t> values) {
  Tensor t = empty(device, shape, DType::U8);
  t.upload_bytes(values);
  return t;
}

Tensor::Impl& Tensor::impl() const {
  SUBPIX_REQUIRE(impl_, "an undefined tensor was used");
  return *impl_;
}

const Shape& Tensor::shape() const { return impl().shape; }
DType Tensor::dtype() const { return impl().dtype; }
Device& Tensor::device() const { return impl().storage->device(); }
void* Tensor::raw() const { return impl().storage->data(); }
std::uint64_t Tensor::storage_id() const { return impl().storage->id(); }
std::uint64_t Tensor::version() const { return impl().storage->version(); }
void Tensor::bump_version() const { impl().storage->bump_version(); }

bool Tensor::is_unique() const {
  return impl_ && impl_.use_count() == 1 && impl_->storage.use_count() == 1;
}

void Tensor::check_dtype(DType wanted) const {
  SUBPIX_REQUIRE(dtype() == wanted, "a tensor ", shape(), " of type ", name(dtype()),
                 " was used as ", name(wanted));
}

Tensor Tensor::bf16_copy() const {
  Impl& i = impl();
  if (i.bf16_copy_version == version()) return i.bf16_copy;
  Device& d = device();
  const float* from = data<float>();
  if (!i.bf16_copy.defined()) i.bf16_copy = empty(d, shape(), DType::BF16);
  d.table().cast_to_bf16(d.context(), {count()}, from, i.bf16_copy.data<bf16>());
  i.bf16_copy.bump_version();
  i.bf16_copy_version = version();
  return i.bf16_copy;
}

Tensor Tensor::existing_bf16_copy() const { return impl().bf16_copy; }

void Tensor::bf16_copy_written() const {
  Impl& i = impl();
  i.bf16_copy.bump_version();
  i.bf16_copy_version = version();
}

std::vector<float> Tensor::to_host() const {
  Device& d = device();
  const auto n = static_cast<std::size_t>(count());
  std::vector<float> values(n);
  if (dtype() == DType::BF16) {
    std::vector<bf16> stored(n);
    d.table().memory.copy_to_host(d.context(), stored.data(), raw(), n * sizeof(bf16));
    for (std::size_t i = 0; i < n; ++i) values[i] = to_float(stored[i]);
  } else {
    d.table().memory.copy_to_host(d.context(), values.data(), data<float>(), n * sizeof(float));
  }
  return values;
}

std::vector<std::uint8_t> Tensor::to_host_bytes() const {
  Device& d = device();
  std::vector<std::uint8_t> values(static_cast<std::size_t>(count()));
  d.table().memory.copy_to_host(d.context(), values.data(), data<std::uint8_t>(), values.size());
  return values;
}

float Tensor::item() const {
  SUBPIX_REQUIRE(count() == 1, "item() needs one element, the tensor is ", shape());
  return to_host()[0];
}

void Tensor::upload(std::span<const float> values) const {
  SUBPIX_REQUIRE(static_cast<Index>(values.size()) == count(), values.size(),
                 " values do not fill a tensor ", shape());
  Device& d = device();
  d.table().memory.copy_to_device(d.context(), data<float>(), values.data(), values.size_bytes());
  bump_version();
}

void Tensor::upload_bytes(std::span<const std::uint8_t> values) const {
  SUBPIX_REQUIRE(static_cast<Index>(values.size()) == count(), values.size(),
                 " bytes do not fill a tensor ", shape());
  Device& d = device();
  d.table().memory.copy_to_device(d.context(), data<std::uint8_t>(), values.data(), values.size());
  bump_version();
}

void Tensor::copy_from(const Tensor& other) const {
  SUBPIX_REQUIRE(other.count() == count() && other.dtype() == dtype(), "copy of ", other.shape(),
                 " ", name(other.dtype()), " into ", shape(), " ", name(dtype()));
  Device& d = device();
  SUBPIX_REQUIRE(&other.device() == &d, "copy between devices ", other.device().backend(), " and ",
                 d.backend());
  if (raw() == other.raw()) return;
  d.table().memory.copy(d.context(), raw(), other.raw(), bytes_of(shape(), dtype()));
  bump_version();
}

Tensor Tensor::clone() const {
  Tensor t = empty(device(), shape(), dtype());
  t.copy_from(*this);
  return t;
}

Tensor Tensor::detach() const { return view(shape()); }

Tensor Tensor::view(const Shape& shape) const {
  SUBPIX_REQUIRE(shape.count() == count(), "a tensor ", this->shape(), " cannot be seen as ",
                 shape);
  auto other = std::make_shared<Impl>();
  other->shape = shape;
  other->dtype = dtype();
  other->storage = impl().storage;
  return Tensor(std::move(other));
}

const Tensor& Tensor::set_requires_grad(bool value) const {
  SUBPIX_REQUIRE(is_leaf(), "only a leaf can be told to require a gradient; tensor ", shape(),
                 " is the result of an op");
  SUBPIX_REQUIRE(!value || dtype() != DType::U8, "a U8 tensor has no gradient");
  impl().requires_grad = value;
  return *this;
}

bool Tensor::requires_grad() const { return impl().node || impl().requires_grad; }
bool Tensor::is_leaf() const { return !impl().node; }
Tensor Tensor::grad() const { return impl().grad; }

void Tensor::set_grad(const Tensor& grad) const {
  if (grad.defined()) {
    SUBPIX_REQUIRE(is_leaf(), "only leaves hold gradients; tensor ", shape(),
                   " is the result of an op");
    SUBPIX_REQUIRE(grad.shape() == shape(), "a gradient ", grad.shape(), " for a tensor ", shape());
    SUBPIX_REQUIRE(grad.dtype() == dtype() || grad.dtype() == DType::F32, "a gradient of type ",
                   name(grad.dtype()), " for a tensor of type ", name(dtype()));
    SUBPIX_REQUIRE(!grad.requires_grad(), "a gradient must not be part of a graph");
    SUBPIX_REQUIRE(grad.impl_ != impl_, "a tensor cannot be its own gradient");
  }
  impl().grad = grad;
}

const std::shared_ptr<Node>& Tensor::node() const { return impl().node; }

void Tensor::set_node(std::shared_ptr<Node> node) const {
  node->set_output(shape(), dtype());
  impl().node = std::move(node);
}

std::shared_ptr<Node> Tensor::gradient_edge() const {
  if (!impl_) return nullptr;
  if (impl_->node) return impl_->node;
  if (!impl_->requires_grad) return nullptr;
  std::shared_ptr<Node> accumulator = impl_->accumulator.lock();
  if (!accumulator) {
    accumulator = make_accumulator(*this);
    impl_->accumulator = accumulator;
  }
  return accumulator;
}

}  // namespace subpix::engine
