#include "train/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "engine/core/file.h"
#include "engine/core/safetensors.h"
#include "engine/ops/ops.h"
#include "kernels/api/error.h"

namespace subpix::train {
namespace {

namespace fs = std::filesystem;
namespace nn = engine::nn;
using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "subpix checkpoint";
constexpr int kVersion = 1;
constexpr const char* kPrefix = "step_";
constexpr const char* kStateFile = "state.json";
constexpr const char* kGenerator = "generator.safetensors";
constexpr const char* kAverage = "generator_average.safetensors";
constexpr const char* kGeneratorAdam = "generator_adam.safetensors";
constexpr const char* kDiscriminator = "discriminator.safetensors";
constexpr const char* kDiscriminatorAdam = "discriminator_adam.safetensors";
constexpr std::uint64_t kLargestState = 16 << 20;

std::uint32_t text_crc32(const std::string& text) {
  return static_cast<std::uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(text.size())));
}

std::string hex(std::uint64_t value, int digits) {
  std::string text(static_cast<std::size_t>(digits), '0');
  for (auto place = text.rbegin(); place != text.rend(); ++place, value >>= 4)
    *place = "0123456789abcdef"[value & 15u];
  return text;
}

std::uint64_t from_hex(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size())
    throw InputError(concat("'", text, "' is no hexadecimal number"));
  return value;
}

bool is_complete(const fs::path& checkpoint) {
  std::error_code unreadable;
  return fs::exists(checkpoint / kStateFile, unreadable);
}

std::string folder_name(Index step) {
  std::string digits = std::to_string(step);
  constexpr std::size_t kDigits = 9;
  if (digits.size() < kDigits) digits.insert(0, kDigits - digits.size(), '0');
  return kPrefix + digits;
}

/// The step in a folder's name, or -1.
Index step_of(const fs::path& path) {
  const std::string name = path.filename().string();
  const std::string_view prefix = kPrefix;
  Index step = -1;
  if (!name.starts_with(prefix)) return -1;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + prefix.size(), end, step);
  return error == std::errc() && stop == end && step >= 0 ? step : -1;
}

void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);  // best effort: some network file systems cannot
  ::close(descriptor);
}

/// The state file goes first: a removal that is cut short leaves nothing that looks complete.
void remove_checkpoint(const fs::path& path) {
  std::error_code ignored;
  fs::remove(path / kStateFile, ignored);
  fs::remove_all(path, ignored);
}

/// Renames; a checkpoint of the same step that stood there is exchanged, so that one of the two is
/// there at every moment, and then removed.
void put_in_place(const fs::path& partial, const fs::path& final_path) {
  if (::renameat2(AT_FDCWD, partial.c_str(), AT_FDCWD, final_path.c_str(), RENAME_EXCHANGE) == 0) {
    remove_checkpoint(partial);
    return;
  }
  remove_checkpoint(final_path);  // usually not there; or this file system cannot exchange
  std::error_code error;
  fs::rename(partial, final_path, error);
  if (error)
    throw InputError(concat("cannot name the checkpoint ", final_path.string(), ": ",
                            error.message(), "; check the disk that holds it"));
}

void save_moments(const engine::Adam& adam, const fs::path& path) {
  const std::vector<nn::NamedTensor> state = adam.state();
  std::vector<std::vector<float>> values;
  std::vector<engine::TensorToSave> tensors;
  values.reserve(state.size());
  for (const nn::NamedTensor& entry : state) {
    values.push_back(entry.tensor.to_host());
    tensors.push_back({entry.name, "F32", entry.tensor.shape().dims(), values.back().data(),
                       values.back().size() * sizeof(float)});
  }
  engine::save_safetensors(path, tensors, {{"content", "Adam moments in memory order"}});
}

void load_moments(engine::Adam& adam, const fs::path& path, std::int64_t updates) {
  const auto file = engine::SafetensorsFile::open(path);
  const std::vector<nn::NamedTensor> state = adam.state();
  for (const nn::NamedTensor& entry : state) {
    const engine::TensorInfo& info = file.at(entry.name);
    if (info.dtype != "F32" || info.shape != entry.tensor.shape().dims())
      throw InputError(concat(path.string(), ": ", entry.name, " does not fit this run's ",
                              entry.tensor.shape(), "; the checkpoint belongs to another run"));
    entry.tensor.upload(file.read_f32(entry.name));
  }
  adam.set_steps(updates);
}

Json describe_file(const fs::path& path) {
  return {{"bytes", fs::file_size(path)}, {"crc32", hex(file_crc32(path), 8)}};
}

Json describe(const RunState& s, const Networks& n) {
  Json j;
  j["format"] = kFormat;
  j["version"] = kVersion;
  j["step"] = s.step;
  j["phase"] = s.phase;
  j["phase_step"] = s.phase_step;
  j["generator_updates"] = n.generator_adam ? n.generator_adam->steps() : 0;
  j["discriminator_updates"] = n.discriminator_adam ? n.discriminator_adam->steps() : 0;
  j["validation_due"] = s.validation_due;
  j["best"] = s.best ? Json{{"psnr_y", s.best->psnr_y}, {"step", s.best->step}} : Json(nullptr);
  j["data"] = hex(s.data, 16);
  j["vgg"] = hex(s.vgg, 8);
  j["device"] = s.device;
  j["config"] = Json::parse(to_json(s.config));
  return j;
}

/// Everything of state.json but the list of files. nlohmann's exceptions say what is missing.
void read_state(const Json& j, const fs::path& path, CheckpointFolder::Found& found) {
  RunState& s = found.state;
  s.step = j.at("step").get<Index>();
  s.phase = j.at("phase").get<std::size_t>();
  s.phase_step = j.at("phase_step").get<Index>();
  found.generator_updates = j.at("generator_updates").get<std::int64_t>();
  found.discriminator_updates = j.at("discriminator_updates").get<std::int64_t>();
  s.validation_due = j.at("validation_due").get<bool>();
  if (const Json& best = j.at("best"); !best.is_null())
    s.best = Best{best.at("psnr_y").get<double>(), best.at("step").get<Index>()};
  s.data = from_hex(j.at("data").get<std::string>());
  s.vgg = static_cast<std::uint32_t>(from_hex(j.at("vgg").get<std::string>()));
  s.device = j.at("device").get<std::string>();
  s.config = parse_config(j.at("config").dump(), path.string());
  if (s.phase >= s.config.phases.size())
    throw InputError(concat("phase ", s.phase, " is not in its config"));
}

CheckpointFolder::Found read_checkpoint(const fs::path& path) {
  CheckpointFolder::Found found;
  found.path = path;
  try {
    Json j = Json::parse(engine::read_text(path / kStateFile, kLargestState));
    if (j.at("format") != kFormat || j.at("version") != kVersion)
      throw InputError("it was written by another version");
    const std::uint64_t expected = from_hex(j.at("crc32").get<std::string>());
    j.erase("crc32");
    if (text_crc32(j.dump()) != expected) throw InputError("state.json fails its checksum");
    for (const auto& [name, info] : j.at("files").items())
      if (fs::file_size(path / name) != info.at("bytes").get<std::uint64_t>() ||
          file_crc32(path / name) != from_hex(info.at("crc32").get<std::string>()))
        throw InputError(name + " fails its checksum");
    read_state(j, path / kStateFile, found);
    found.has_discriminator = j.at("files").contains(kDiscriminator);
  } catch (const nlohmann::json::exception& error) {
    throw InputError(concat("state.json is damaged (", error.what(), ")"));
  } catch (const fs::filesystem_error& error) {
    throw InputError(concat("a file is missing (", error.what(), ")"));
  }
  return found;
}

}  // namespace

std::uint32_t file_crc32(const fs::path& path) {
  const engine::InputFile file(path);
  std::vector<std::byte> block(std::size_t{1} << 20);
  uLong crc = crc32(0, nullptr, 0);
  for (std::uint64_t at = 0; at < file.size(); at += block.size()) {
    const std::size_t count =
        static_cast<std::size_t>(std::min<std::uint64_t>(block.size(), file.size() - at));
    file.read_at(at, std::span(block).first(count));
    crc = crc32(crc, reinterpret_cast<const Bytef*>(block.data()), static_cast<uInt>(count));
  }
  return static_cast<std::uint32_t>(crc);
}

std::string first_non_finite(const Networks& n) {
  const auto search = [](const std::vector<nn::NamedTensor>& state, const std::string& prefix) {
    for (const nn::NamedTensor& entry : state)
      if (engine::ops::reduce(entry.tensor, kernels::Reduction::CountNonFinite).item() != 0.0f)
        return prefix + entry.name;
    return std::string();
  };
  std::string name = search(n.generator->state(), "generator ");
  if (name.empty() && n.average) name = search(n.average->state(), "generator average ");
  if (name.empty() && n.generator_adam)
    name = search(n.generator_adam->state(), "generator moments ");
  if (name.empty() && n.discriminator) name = search(n.discriminator->state(), "discriminator ");
  if (name.empty() && n.discriminator_adam)
    name = search(n.discriminator_adam->state(), "discriminator moments ");
  return name;
}

bool CheckpointFolder::holds_any() const { return !list().empty(); }

std::vector<std::pair<Index, fs::path>> CheckpointFolder::list() const {
  std::vector<std::pair<Index, fs::path>> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder_, error), end; !error && entry != end;
       entry.increment(error))
    if (const Index step = step_of(entry->path()); step >= 0)
      found.emplace_back(step, entry->path());
  std::sort(found.begin(), found.end(), std::greater<>());
  return found;
}

fs::path CheckpointFolder::newest_path() const {
  for (const auto& [step, path] : list())
    if (is_complete(path)) return path;
  return {};
}

void CheckpointFolder::remove_leftovers() const {
  std::error_code error;
  std::vector<fs::path> leftovers;
  for (fs::directory_iterator entry(folder_, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const bool half_removed = step_of(entry->path()) >= 0 && !is_complete(entry->path());
    if (name.starts_with(std::string(".") + kPrefix) || half_removed)
      leftovers.push_back(entry->path());
  }
  for (const fs::path& path : leftovers) remove_checkpoint(path);
}

fs::path CheckpointFolder::save(const Networks& n, const RunState& state, Index keep) const {
  const fs::path final_path = folder_ / folder_name(state.step);
  const fs::path partial = folder_ / ("." + folder_name(state.step));
  try {
    engine::create_folder(folder_);
    remove_checkpoint(partial);
    engine::create_folder(partial);
    Json files = Json::object();
    const auto generator = [&](const models::Generator* g, const char* name) {
      if (!g) return;
      models::save_generator(*g, (partial / name).string());
      files[name] = describe_file(partial / name);
    };
    const auto moments = [&](const engine::Adam* adam, const char* name) {
      if (!adam) return;
      save_moments(*adam, partial / name);
      files[name] = describe_file(partial / name);
    };
    generator(n.generator.get(), kGenerator);
    generator(n.average.get(), kAverage);
    moments(n.generator_adam.get(), kGeneratorAdam);
    if (n.discriminator) {
      nn::save_module(*n.discriminator, (partial / kDiscriminator).string());
      files[kDiscriminator] = describe_file(partial / kDiscriminator);
    }
    moments(n.discriminator_adam.get(), kDiscriminatorAdam);
    Json j = describe(state, n);
    j["files"] = files;
    j["crc32"] = hex(text_crc32(j.dump()), 8);
    engine::atomic_write(partial / kStateFile, j.dump(2) + "\n");
    put_in_place(partial, final_path);
    sync_folder(folder_);
  } catch (const InputError& error) {
    remove_checkpoint(partial);
    const fs::path last = newest_path();
    throw InputError(
        concat(error.what(), last.empty() ? std::string(" (no checkpoint was written before)")
                                          : concat(" (the last good checkpoint is ", last.string(),
                                                   "; continue from it with "
                                                   "--resume)")));
  }
  rotate(state.step, keep);
  return final_path;
}

void CheckpointFolder::rotate(Index step, Index keep) const {
  Index kept = 0;
  for (const auto& [its_step, path] : list())
    if (its_step > step || ++kept > keep) remove_checkpoint(path);
}

CheckpointFolder::Found CheckpointFolder::newest(std::vector<std::string>& damaged) const {
  const auto all = list();
  for (const auto& [step, path] : all) {
    try {
      return read_checkpoint(path);
    } catch (const InputError& error) {
      damaged.push_back(concat("checkpoint ", path.string(), " is not usable: ", error.what()));
    }
  }
  if (all.empty())
    throw InputError(concat("nothing to resume: there is no checkpoint in ", folder_.string(),
                            "; start the run without --resume"));
  throw InputError(concat("nothing to resume: none of the ", all.size(), " checkpoints in ",
                          folder_.string(), " is usable; ", damaged.front()));
}

void load_networks(const CheckpointFolder::Found& found, Networks& n) {
  const fs::path& path = found.path;
  nn::load_module(*n.generator, (path / kGenerator).string());
  if (n.average) nn::load_module(*n.average, (path / kAverage).string());
  if (n.discriminator) nn::load_module(*n.discriminator, (path / kDiscriminator).string());
  if (n.generator_adam)
    load_moments(*n.generator_adam, path / kGeneratorAdam, found.generator_updates);
  if (n.discriminator_adam)
    load_moments(*n.discriminator_adam, path / kDiscriminatorAdam, found.discriminator_updates);
}

}  // namespace subpix::train
