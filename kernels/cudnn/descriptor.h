#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/api/error.h"
#include "kernels/cudnn/library.h"

/// cuDNN's untyped descriptors with an owner, typed attributes and errors that name the attribute.
namespace subpix::kernels::cudnn {

/// A call of cuDNN that failed; the status tells "no such engine" from a mistake of ours.
class StatusError : public Error {
 public:
  StatusError(const std::string& what, cudnnStatus_t status) : Error(what), status_(status) {}
  cudnnStatus_t status() const { return status_; }

 private:
  cudnnStatus_t status_;
};

/// "CUDNN_STATUS_BAD_PARAM: <the library's own last message>".
std::string status_text(cudnnStatus_t status);
void check(cudnnStatus_t status, const std::string& action);

struct Attribute {
  cudnnBackendAttributeName_t id;
  const char* name;
};
#define SUBPIX_CUDNN_ATTR(name) \
  ::subpix::kernels::cudnn::Attribute { CUDNN_ATTR_##name, "CUDNN_ATTR_" #name }

template <class T>
struct AttributeType;
#define SUBPIX_CUDNN_TYPE(Type, code)                                       \
  template <>                                                               \
  struct AttributeType<Type> {                                              \
    static constexpr cudnnBackendAttributeType_t value = CUDNN_TYPE_##code; \
  };
SUBPIX_CUDNN_TYPE(std::int64_t, INT64)
SUBPIX_CUDNN_TYPE(std::int32_t, INT32)
SUBPIX_CUDNN_TYPE(float, FLOAT)
SUBPIX_CUDNN_TYPE(bool, BOOLEAN)
SUBPIX_CUDNN_TYPE(char, CHAR)
SUBPIX_CUDNN_TYPE(void*, VOID_PTR)
SUBPIX_CUDNN_TYPE(cudnnHandle_t, HANDLE)
SUBPIX_CUDNN_TYPE(cudnnDataType_t, DATA_TYPE)
SUBPIX_CUDNN_TYPE(cudnnConvolutionMode_t, CONVOLUTION_MODE)
SUBPIX_CUDNN_TYPE(cudnnPointwiseMode_t, POINTWISE_MODE)
SUBPIX_CUDNN_TYPE(cudnnReduceTensorOp_t, REDUCTION_OPERATOR_TYPE)
SUBPIX_CUDNN_TYPE(cudnnGenStatsMode_t, GENSTATS_MODE)
SUBPIX_CUDNN_TYPE(cudnnBackendHeurMode_t, HEUR_MODE)
SUBPIX_CUDNN_TYPE(cudnnBackendKnobType_t, KNOB_TYPE)
SUBPIX_CUDNN_TYPE(cudnnBackendNumericalNote_t, NUMERICAL_NOTE)
SUBPIX_CUDNN_TYPE(cudnnBackendBehaviorNote_t, BEHAVIOR_NOTE)
#undef SUBPIX_CUDNN_TYPE

class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept;
  Descriptor& operator=(Descriptor&& other) noexcept;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  cudnnBackendDescriptor_t get() const { return raw_; }

  template <class T>
  Descriptor& set(Attribute a, const T& value) {
    set_raw(a, AttributeType<T>::value, 1, &value);
    return *this;
  }
  template <class T>
  Descriptor& set(Attribute a, const std::vector<T>& values) {
    set_raw(a, AttributeType<T>::value, static_cast<std::int64_t>(values.size()), values.data());
    return *this;
  }
  template <class T, std::size_t Count>
  Descriptor& set(Attribute a, const std::array<T, Count>& values) {
    set_raw(a, AttributeType<T>::value, static_cast<std::int64_t>(Count), values.data());
    return *this;
  }
  Descriptor& set(Attribute a, const Descriptor& other);
  /// Another descriptor that must outlive this one.
  Descriptor& set(Attribute a, const std::vector<const Descriptor*>& others);
  Descriptor& set_text(Attribute a, const std::string& text);

  /// Throws StatusError where cuDNN refuses.
  Descriptor& finalize();
  /// Why cuDNN refuses; empty where it is finalised now.
  std::string try_finalize();

  template <class T>
  T get(Attribute a) const {
    T value{};
    get_raw(a, AttributeType<T>::value, 1, &value);
    return value;
  }
  /// As many as there are.
  template <class T>
  std::vector<T> get_all(Attribute a) const {
    std::vector<T> values(static_cast<std::size_t>(count(a, AttributeType<T>::value)));
    if (values.empty()) return values;
    const std::int64_t got = get_raw(a, AttributeType<T>::value,
                                     static_cast<std::int64_t>(values.size()), values.data());
    values.resize(static_cast<std::size_t>(got));
    return values;
  }
  /// Descriptors of `type` that cuDNN fills in.
  std::vector<Descriptor> get_descriptors(Attribute a, cudnnBackendDescriptorType_t type) const;
  Descriptor get_descriptor(Attribute a, cudnnBackendDescriptorType_t type) const;

 private:
  void set_raw(Attribute a, cudnnBackendAttributeType_t type, std::int64_t count,
               const void* values);
  std::int64_t get_raw(Attribute a, cudnnBackendAttributeType_t type, std::int64_t count,
                       void* values) const;
  std::int64_t count(Attribute a, cudnnBackendAttributeType_t type) const;

  cudnnBackendDescriptor_t raw_ = nullptr;
  cudnnBackendDescriptorType_t type_;
};

}  // namespace subpix::kernels::cudnn
