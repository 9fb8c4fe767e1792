#include "engine/nn/module.h"

#include <algorithm>
#include <set>

#include "engine/core/safetensors.h"

namespace subpix::engine::nn {
namespace {

using Kind = FileLayout::Kind;

/// Index of memory channel m (i, j, c) among `channels` in a file's order (c, i, j).
Index file_channel(Index m, Index channels, Index scale) {
  const Index sub_pixels = scale * scale, per_pixel = channels / sub_pixels;
  return m % per_pixel * sub_pixels + m / per_pixel;
}

void check_layout(const Shape& shape, const FileLayout& layout) {
  const bool shuffle = layout.kind == Kind::ShuffleFilter || layout.kind == Kind::ShuffleVector;
  if (layout.kind == Kind::Filter || layout.kind == Kind::ShuffleFilter)
    SUBPIX_REQUIRE(shape.rank() == 4, "a filter has 4 dimensions, not ", shape);
  if (layout.kind == Kind::ShuffleVector)
    SUBPIX_REQUIRE(shape.rank() == 1, "a bias has 1 dimension, not ", shape);
  if (shuffle)
    SUBPIX_REQUIRE(layout.scale >= 1 && shape[0] % (layout.scale * layout.scale) == 0, "the ",
                   shape[0], " channels of ", shape, " are no multiple of scale ", layout.scale,
                   " squared");
  if (layout.kind == Kind::DenseChw)
    SUBPIX_REQUIRE(shape.rank() == 2 && layout.c * layout.h * layout.w == shape[1],
                   "a matrix over pictures of ", layout.c, "x", layout.h, "x", layout.w, " is not ",
                   shape);
}

/// visit(memory index, file index) for every element of a tensor.
template <class Visit>
void for_each_element(const Shape& shape, const FileLayout& layout, Visit&& visit) {
  check_layout(shape, layout);
  const bool shuffle = layout.kind == Kind::ShuffleFilter || layout.kind == Kind::ShuffleVector;
  switch (layout.kind) {
    case Kind::AsIs:
      for (Index i = 0; i < shape.count(); ++i) visit(i, i);
      break;
    case Kind::ShuffleVector:
      for (Index i = 0; i < shape[0]; ++i) visit(i, file_channel(i, shape[0], layout.scale));
      break;
    case Kind::Filter:
    case Kind::ShuffleFilter: {
      const Index k_count = shape[0], pixels = shape[1] * shape[2], c_count = shape[3];
      for (Index k = 0; k < k_count; ++k) {
        const Index o = shuffle ? file_channel(k, k_count, layout.scale) : k;
        for (Index rs = 0; rs < pixels; ++rs)
          for (Index c = 0; c < c_count; ++c)
            visit((k * pixels + rs) * c_count + c, (o * c_count + c) * pixels + rs);
      }
      break;
    }
    case Kind::DenseChw: {
      const Index pixels = layout.h * layout.w;
      for (Index row = 0; row < shape[0]; ++row)
        for (Index hw = 0; hw < pixels; ++hw)
          for (Index c = 0; c < layout.c; ++c)
            visit(row * shape[1] + hw * layout.c + c, row * shape[1] + c * pixels + hw);
      break;
    }
  }
}

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

std::string text(const std::vector<Index>& dims) {
  std::string all = "[";
  for (std::size_t i = 0; i < dims.size(); ++i) all += (i ? "," : "") + std::to_string(dims[i]);
  return all + "]";
}

/// What keeps `file` from being the weights of `state`, one clause each: tensors of another shape
/// or type first, as they say most about the cause.
std::vector<std::string> misfits(const std::vector<NamedTensor>& state,
                                 const SafetensorsFile& file) {
  std::vector<std::string> wrong, missing, superfluous;
  std::set<std::string, std::less<>> known;
  for (const NamedTensor& entry : state) {
    known.insert(entry.name);
    const TensorInfo* found = file.find(entry.name);
    if (!found) {
      missing.push_back(concat("tensor '", entry.name, "' is missing"));
      continue;
    }
    const std::vector<Index> wanted = file_shape(entry.tensor.shape(), entry.layout);
    if (found->shape != wanted)
      wrong.push_back(concat("tensor '", entry.name, "' has shape ", text(found->shape),
                             " where the network has ", text(wanted)));
    else if (found->dtype != "F32")
      wrong.push_back(concat("tensor '", entry.name, "' has type ", found->dtype,
                             " where F32 is needed (save the weights as 32-bit floats)"));
  }
  // PyTorch's batch norm counts its calls in an integer that nothing here needs.
  for (const TensorInfo& info : file.tensors())
    if (!known.contains(info.name) && !info.name.ends_with(".num_batches_tracked"))
      superfluous.push_back(concat("the network has no tensor '", info.name, "'"));
  wrong.insert(wrong.end(), missing.begin(), missing.end());
  wrong.insert(wrong.end(), superfluous.begin(), superfluous.end());
  return wrong;
}

void check_file(const std::vector<NamedTensor>& state, const SafetensorsFile& file) {
  const std::vector<std::string> problems = misfits(state, file);
  if (problems.empty()) return;
  const std::string path = file.path().string();
  const bool related = std::any_of(state.begin(), state.end(), [&](const NamedTensor& entry) {
    return file.find(entry.name) != nullptr;
  });
  if (!related && !state.empty()) {
    const std::string has = file.tensors().empty()
                                ? "it is empty"
                                : concat("it starts with '", file.tensors()[0].name, "'");
    throw InputError(concat(
        "weight file ", path, " is of another architecture: it has none of the ", state.size(),
        " tensors of this network (the first is '", state[0].name, "'), ", has));
  }
  const std::size_t more = problems.size() - 1;
  const std::string others =
      more == 0 ? "" : concat(" (", more, more == 1 ? " more difference)" : " more differences)");
  throw InputError(concat("weight file ", path, " does not fit this network: ", problems[0], others,
                          "; use the model settings the file was made with"));
}

}  // namespace

std::vector<float> to_file(const std::vector<float>& memory, const Shape& shape,
                           const FileLayout& layout) {
  SUBPIX_REQUIRE(static_cast<Index>(memory.size()) == shape.count(), memory.size(),
                 " values for a tensor ", shape);
  std::vector<float> file(memory.size());
  for_each_element(shape, layout, [&](Index m, Index f) { file[at(f)] = memory[at(m)]; });
  return file;
}

std::vector<float> from_file(const std::vector<float>& file, const Shape& shape,
                             const FileLayout& layout) {
  SUBPIX_REQUIRE(static_cast<Index>(file.size()) == shape.count(), file.size(),
                 " values for a tensor ", shape);
  std::vector<float> memory(file.size());
  for_each_element(shape, layout, [&](Index m, Index f) { memory[at(m)] = file[at(f)]; });
  return memory;
}

std::vector<Index> file_shape(const Shape& memory_shape, const FileLayout& layout) {
  check_layout(memory_shape, layout);
  std::vector<Index> dims = memory_shape.dims();
  if (layout.kind == Kind::Filter || layout.kind == Kind::ShuffleFilter)
    return {dims[0], dims[3], dims[1], dims[2]};
  return dims;
}

std::vector<NamedTensor> Module::state() const {
  std::vector<NamedTensor> all;
  collect("", all);
  return all;
}

void Module::collect(const std::string& prefix, std::vector<NamedTensor>& out) const {
  for (const Entry& entry : entries_) {
    if (entry.child) {
      entry.child->collect(prefix + entry.tensor.name + ".", out);
      continue;
    }
    out.push_back(entry.tensor);
    out.back().name = prefix + entry.tensor.name;
  }
}

std::vector<Tensor> Module::parameters() const {
  std::vector<Tensor> all;
  for (NamedTensor& entry : state())
    if (entry.trainable) all.push_back(std::move(entry.tensor));
  return all;
}

Index Module::parameter_count() const {
  Index count = 0;
  for (const Tensor& t : parameters()) count += t.count();
  return count;
}

void Module::set_training(bool value) {
  training_ = value;
  for (const Entry& entry : entries_)
    if (entry.child) entry.child->set_training(value);
}

void Module::set_requires_grad(bool value) {
  for (const Tensor& t : parameters()) t.set_requires_grad(value);
}

void Module::clear_grad() {
  for (const Tensor& t : parameters()) t.clear_grad();
}

void Module::add(Entry entry) {
  const std::string& name = entry.tensor.name;
  SUBPIX_REQUIRE(!name.empty(), "a module's part needs a name");
  for (const Entry& other : entries_)
    SUBPIX_REQUIRE(other.tensor.name != name, "the module has a part '", name, "' already");
  entries_.push_back(std::move(entry));
}

Tensor Module::add_parameter(const std::string& name, const Tensor& value, FileLayout layout) {
  SUBPIX_REQUIRE(name.find('.') == std::string::npos, "the name '", name, "' holds a dot");
  SUBPIX_REQUIRE(value.dtype() == DType::F32, "parameter '", name, "' must be F32, not ",
                 subpix::name(value.dtype()));
  check_layout(value.shape(), layout);
  value.set_requires_grad(true);
  add({{name, value, layout, true}, nullptr});
  return value;
}

Tensor Module::add_buffer(const std::string& name, const Tensor& value) {
  SUBPIX_REQUIRE(name.find('.') == std::string::npos, "the name '", name, "' holds a dot");
  SUBPIX_REQUIRE(value.dtype() == DType::F32, "buffer '", name, "' must be F32, not ",
                 subpix::name(value.dtype()));
  add({{name, value, {}, false}, nullptr});
  return value;
}

void Module::add_child(const std::string& name, Module& child) {
  SUBPIX_REQUIRE(&child != this, "a module cannot be its own part '", name, "'");
  add({{name, Tensor(), {}, false}, &child});
}

void save_module(const Module& module, const std::string& path,
                 const std::vector<std::pair<std::string, std::string>>& metadata) {
  const std::vector<NamedTensor> state = module.state();
  std::vector<std::vector<float>> values;
  std::vector<TensorToSave> tensors;
  values.reserve(state.size());
  for (const NamedTensor& entry : state) {
    const Shape& shape = entry.tensor.shape();
    values.push_back(to_file(entry.tensor.to_host(), shape, entry.layout));
    tensors.push_back({entry.name, "F32", file_shape(shape, entry.layout), values.back().data(),
                       values.back().size() * sizeof(float)});
  }
  save_safetensors(path, tensors, {metadata.begin(), metadata.end()});
}

void load_module(Module& module, const std::string& path) {
  const std::vector<NamedTensor> state = module.state();
  const SafetensorsFile file = SafetensorsFile::open(path);
  check_file(state, file);
  // Everything is read before anything is written, so that a broken disk leaves the module whole.
  std::vector<std::vector<float>> values;
  for (const NamedTensor& entry : state)
    values.push_back(from_file(file.read_f32(entry.name), entry.tensor.shape(), entry.layout));
  for (std::size_t i = 0; i < state.size(); ++i) state[i].tensor.upload(values[i]);
}

}  // namespace subpix::engine::nn
