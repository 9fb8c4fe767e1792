#include "kernels/cudnn/descriptor.h"

#include <utility>

namespace subpix::kernels::cudnn {
namespace {

const char* name_of(cudnnBackendDescriptorType_t type) {
  switch (type) {
#define SUBPIX_CASE(name)                 \
  case CUDNN_BACKEND_##name##_DESCRIPTOR: \
    return #name;
    SUBPIX_CASE(TENSOR)
    SUBPIX_CASE(CONVOLUTION)
    SUBPIX_CASE(POINTWISE)
    SUBPIX_CASE(REDUCTION)
    SUBPIX_CASE(OPERATION_CONVOLUTION_FORWARD)
    SUBPIX_CASE(OPERATION_CONVOLUTION_BACKWARD_DATA)
    SUBPIX_CASE(OPERATION_CONVOLUTION_BACKWARD_FILTER)
    SUBPIX_CASE(OPERATION_POINTWISE)
    SUBPIX_CASE(OPERATION_REDUCTION)
    SUBPIX_CASE(OPERATION_GEN_STATS)
    SUBPIX_CASE(OPERATIONGRAPH)
    SUBPIX_CASE(ENGINE)
    SUBPIX_CASE(ENGINECFG)
    SUBPIX_CASE(ENGINEHEUR)
    SUBPIX_CASE(EXECUTION_PLAN)
    SUBPIX_CASE(KNOB_CHOICE)
    SUBPIX_CASE(VARIANT_PACK)
    SUBPIX_CASE(DEVICEPROP)
#undef SUBPIX_CASE
    default:
      return "a descriptor";
  }
}

}  // namespace

std::string status_text(cudnnStatus_t status) {
  char message[512] = "";
  library().GetLastErrorString(message, sizeof message);
  std::string text = library().GetErrorString(status);
  if (message[0]) text += concat(": ", message);
  return text;
}

void check(cudnnStatus_t status, const std::string& action) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  throw StatusError(concat("cuDNN ", version_text(), ": ", action, ": ", status_text(status)),
                    status);
}

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) : type_(type) {
  check(library().BackendCreateDescriptor(type, &raw_), concat("creating ", name_of(type)));
}

Descriptor::~Descriptor() {
  if (raw_) library().BackendDestroyDescriptor(raw_);
}

Descriptor::Descriptor(Descriptor&& other) noexcept
    : raw_(std::exchange(other.raw_, nullptr)), type_(other.type_) {}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(raw_, other.raw_);
  std::swap(type_, other.type_);
  return *this;
}

void Descriptor::set_raw(Attribute a, cudnnBackendAttributeType_t type, std::int64_t count,
                         const void* values) {
  check(library().BackendSetAttribute(raw_, a.id, type, count, values),
        concat("setting ", a.name, " of ", name_of(type_)));
}

Descriptor& Descriptor::set(Attribute a, const Descriptor& other) {
  set_raw(a, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &other.raw_);
  return *this;
}

Descriptor& Descriptor::set(Attribute a, const std::vector<const Descriptor*>& others) {
  std::vector<cudnnBackendDescriptor_t> raw;
  for (const Descriptor* other : others) raw.push_back(other->raw_);
  set_raw(a, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(raw.size()), raw.data());
  return *this;
}

Descriptor& Descriptor::set_text(Attribute a, const std::string& text) {
  set_raw(a, CUDNN_TYPE_CHAR, static_cast<std::int64_t>(text.size() + 1), text.c_str());
  return *this;
}

Descriptor& Descriptor::finalize() {
  check(library().BackendFinalize(raw_), concat("finalising ", name_of(type_)));
  return *this;
}

std::string Descriptor::try_finalize() {
  const cudnnStatus_t status = library().BackendFinalize(raw_);
  return status == CUDNN_STATUS_SUCCESS ? std::string() : status_text(status);
}

std::int64_t Descriptor::get_raw(Attribute a, cudnnBackendAttributeType_t type, std::int64_t wanted,
                                 void* values) const {
  std::int64_t got = 0;
  check(library().BackendGetAttribute(raw_, a.id, type, wanted, &got, values),
        concat("reading ", a.name, " of ", name_of(type_)));
  return got;
}

std::int64_t Descriptor::count(Attribute a, cudnnBackendAttributeType_t type) const {
  return get_raw(a, type, 0, nullptr);
}

std::vector<Descriptor> Descriptor::get_descriptors(Attribute a,
                                                    cudnnBackendDescriptorType_t type) const {
  std::vector<Descriptor> all;
  const std::int64_t most = count(a, CUDNN_TYPE_BACKEND_DESCRIPTOR);
  std::vector<cudnnBackendDescriptor_t> raw;
  for (std::int64_t i = 0; i < most; ++i) raw.push_back(all.emplace_back(type).raw_);
  if (raw.empty()) return all;
  const std::int64_t got = get_raw(a, CUDNN_TYPE_BACKEND_DESCRIPTOR, most, raw.data());
  while (static_cast<std::int64_t>(all.size()) > got) all.pop_back();
  return all;
}

Descriptor Descriptor::get_descriptor(Attribute a, cudnnBackendDescriptorType_t type) const {
  Descriptor one(type);
  get_raw(a, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &one.raw_);
  return one;
}

}  // namespace subpix::kernels::cudnn
