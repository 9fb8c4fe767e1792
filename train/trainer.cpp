#include "train/trainer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>

#include "engine/core/file.h"
#include "engine/core/plan.h"
#include "kernels/api/error.h"
#include "train/resume.h"

namespace subpix::train {

namespace fs = std::filesystem;
using engine::Device;

namespace {

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

template <class... Values>
std::string format(const char* pattern, Values... values) {
  char text[256];
  std::snprintf(text, sizeof text, pattern, values...);
  return text;
}

std::string mib(std::size_t bytes) {
  return format("%.0f MiB", static_cast<double>(bytes) / 1048576.0);
}

const std::vector<std::pair<std::string, std::string>> kDiscriminatorMetadata = {
    {"format", "pt"}, {"network", "srgan discriminator"}, {"input_range", "-1..1"}};

struct Interrupted {};  // gives up decoding

std::string describe_loss(const LossConfig& loss) {
  std::string text;
  const auto add = [&](const std::string& term, double weight) {
    text += (text.empty() ? "" : " + ") + format("%g", weight) + " " + term;
  };
  if (loss.has_pixel()) add(loss.pixel->kind == PixelKind::Mse ? "mse" : "l1", loss.pixel->weight);
  if (loss.has_vgg()) add(loss.vgg->layer, loss.vgg->weight);
  if (loss.has_adversarial()) add("adversarial", loss.adversarial->weight);
  if (loss.has_tv()) add("tv", loss.tv->weight);
  return text;
}

/// "pixel 0.0123  vgg 1.5  D(real) 0.61  D(fake) 0.38".
std::string describe_report(const StepReport& report) {
  std::string text;
  for (const TermReport& t : report.terms) text += "  " + t.name + format(" %.5g", t.loss);
  if (report.adversary)
    text += format("  D(real) %.3f  D(fake) %.3f", report.adversary->real, report.adversary->fake);
  return text;
}

}  // namespace

FolderLock::FolderLock(const fs::path& folder)
    : descriptor_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  // Some network file systems know no locks: then there is none.
  if (descriptor_ >= 0 && ::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(descriptor_);
    throw InputError(concat("another process is training in ", folder.string(),
                            "; wait for it or choose another folder with --out"));
  }
}

FolderLock::~FolderLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

struct Trainer::Impl {
  Impl(const fs::path& out_folder, Console& out_console, Signal out_signal)
      : out(out_folder),
        console(out_console),
        signal(out_signal ? std::move(out_signal) : [] { return 0; }),
        checkpoints(out_folder / "checkpoints") {}

  void claim() {
    engine::create_folder(out);
    lock.emplace(out);
  }
  bool holds_run() const {
    std::error_code unreadable;  // claim() will say why
    return checkpoints.holds_any() || fs::exists(out / "generator.safetensors", unreadable);
  }

  void open_inputs();
  void begin();
  void go_on(const CheckpointFolder::Found& found);
  int run();

  const PhaseConfig& phase() const { return config().phases[state.phase]; }
  const RunConfig& config() const { return state.config; }

  fs::path out;
  Console& console;
  Signal signal;
  std::optional<FolderLock> lock;
  CheckpointFolder checkpoints;
  RunState state;
  std::shared_ptr<Device> device;
  std::unique_ptr<PhotoStore> photos;
  std::unique_ptr<Validator> validator;
  std::unique_ptr<models::Vgg19> vgg;
  Networks networks;
  std::optional<LogFile> log;

 private:
  void print_start() const;
  bool preload();
  bool stopped_early_ = false;         // by a signal before the first step
  bool optimisers_fit_phase_ = false;  // restored from a checkpoint of this phase
  StepReport report_;                  // of the last measured step
  double rate_start_ = 0.0, images_per_s_ = 0.0, run_start_ = 0.0;
  Index rate_step_ = 0;

  int run_phase(BatchLoader& loader);
  void one_step(TrainStep& step, const Batch& batch);
  [[noreturn]] void diverged(const std::string& what) const;
  void write_log();
  std::string progress() const;
  bool validate();
  void save_checkpoint();
  void save_generator(const std::string& name) const;
  void save_discriminator() const;
  void restart_rate() {
    rate_start_ = now();
    rate_step_ = state.step;
  }
};

/// Everything that is read: device, pictures, VGG19, validation set.
void Trainer::Impl::open_inputs() {
  const RunConfig& c = config();
  check_ready(c);
  device = Device::open(c.backend, static_cast<int>(c.threads));
  if (!c.plan.empty()) engine::apply_plan(*device, c.plan);
  if (c.precision == "tf32" && !device->allow_tf32())
    throw InputError(concat("precision \"tf32\" needs a GPU (--backend cuda, or sim), not ",
                            device->backend(), "; set precision to \"fp32\""));
  state.device = device->description();
  photos = std::make_unique<PhotoStore>(c.data.train, c.data, c.model.scale);
  state.data = photos->fingerprint();
  validator = std::make_unique<Validator>(c.data.val, c.model.scale);
  state.vgg = 0;
  if (!c.uses_vgg()) return;
  std::optional<models::VggLayer> deepest;
  for (const PhaseConfig& p : c.phases) {
    if (p.steps == 0 || !p.loss.has_vgg()) continue;
    const auto layer = models::VggLayer::parse(p.loss.vgg->layer);
    if (!deepest || layer.features_index() > deepest->features_index()) deepest = layer;
  }
  vgg = std::make_unique<models::Vgg19>(*device, c.vgg.weights, *deepest);
  vgg->set_compute_type(c.compute_type());
  state.vgg = file_crc32(c.vgg.weights);
  for (const PhaseConfig& p : c.phases)
    if (p.loss.has_vgg() && vgg->input().range == 1.0f && p.loss.vgg->scale < 0.5)
      console.line(
          concat("note: ", c.vgg.weights,
                 " takes pixels from 0 to 1, so its features are "
                 "small; phase ",
                 p.name, " multiplies them by ", p.loss.vgg->scale,
                 ", which suits the original weights (docs/config.md, phases[].loss.vgg)"));
}

void Trainer::Impl::begin() {
  engine::atomic_write(out / "config.json", to_json(config()));
  engine::create_folder(out / "samples");
  engine::remove_leftover_temporaries(out);
  engine::remove_leftover_temporaries(out / "samples");
  log.emplace(LogFile::create(out / "log.jsonl"));
  print_start();
  if (!preload()) return;
  log->append({{"type", "run"},
               {"step", Index{0}},
               {"backend", device->backend()},
               {"device", device->description()},
               {"photos", static_cast<Index>(photos->size())},
               {"generator_parameters", networks.generator->parameter_count()}});
  // From here on a killed run can be resumed, and a disk that is too small is known at once.
  save_checkpoint();
}

void Trainer::Impl::go_on(const CheckpointFolder::Found& found) {
  open_inputs();
  check_same_inputs(found.state, state);
  RunConfig fresh = config();
  fresh.init.clear();  // the weights come from the checkpoint, and that file may be gone
  networks = make_networks(*device, fresh);
  if (found.has_discriminator) add_discriminator(*device, config(), networks);
  // Before a phase's first step there are no moments to go on with.
  optimisers_fit_phase_ = state.phase_step > 0;
  if (optimisers_fit_phase_) reset_optimisers(config(), phase(), networks);
  load_networks(found, networks);
  engine::atomic_write(out / "config.json", to_json(config()));
  engine::create_folder(out / "samples");
  engine::remove_leftover_temporaries(out);
  engine::remove_leftover_temporaries(out / "samples");
  log.emplace(LogFile::reopen(out / "log.jsonl", state.step, state.validation_due));
  print_start();
  console.line(concat("resumed from ", found.path.string()));
  if (found.state.device != state.device)
    console.line(concat("note: so far the run used ", found.state.device,
                        "; on another device it goes on, but not bit for bit"));
  preload();
}

void Trainer::Impl::print_start() const {
  const RunConfig& c = config();
  console.line("device: " + device->description());
  std::string changed;
  for (const std::string& line : summary(c)) changed += " " + line;
  console.line("config:" + (changed.empty() ? std::string(" defaults") : changed));
  console.line(concat(
      "data: ", photos->size(), " photos, ", mib(photos->total_bytes()), " decoded, ",
      photos->streaming() ? concat("decoded again beyond data.memory_mib = ", c.data.memory_mib)
                          : std::string("kept in memory"),
      "; ", validator->size(), " to validate on"));
  console.line(concat("generator: ", networks.generator->parameter_count(), " parameters, ",
                      c.model.blocks, c.model.blocks == 1 ? " block of " : " blocks of ",
                      c.model.channels, " channels, x", c.model.scale));
}

/// False when a signal cut it short.
bool Trainer::Impl::preload() {
  try {
    photos->preload(config().loader_threads, [&](std::size_t done) {
      if (signal() != 0) throw Interrupted{};
      console.live(concat("decoding photos: ", done, " of ", photos->size()));
    });
  } catch (const Interrupted&) {
    stopped_early_ = true;
  }
  return !stopped_early_;
}

int Trainer::Impl::run() {
  if (stopped_early_) return signal();
  run_start_ = now();
  Index last = state.step - state.phase_step;
  for (std::size_t p = state.phase; p < config().phases.size(); ++p)
    last += config().phases[p].steps;
  const CropSampler sampler(*photos, config().data, config().model.scale, config().seed);
  BatchLoader loader(sampler, state.step, last, config().loader_threads);
  if (state.validation_due) {
    // The signal that ended the run came during this validation.
    if (!validate()) return signal();
    state.validation_due = false;
    save_checkpoint();
  }
  for (;;) {
    if (state.phase_step < phase().steps) {
      if (const int stopped = run_phase(loader)) return stopped;
    } else {
      // A phase of no steps, or one that was cut down to those done.
      save_generator("generator_" + phase().name);
    }
    if (state.phase + 1 == config().phases.size()) break;
    ++state.phase;
    state.phase_step = 0;
    optimisers_fit_phase_ = false;
  }
  save_generator("generator");
  save_discriminator();
  console.line(concat("done: ", state.step, " steps, ", clock_text(now() - run_start_),
                      " in this process; weights in ", (out / "generator.safetensors").string()));
  return 0;
}

int Trainer::Impl::run_phase(BatchLoader& loader) {
  const PhaseConfig& p = phase();
  if (p.loss.has_adversarial()) add_discriminator(*device, config(), networks);
  if (!optimisers_fit_phase_) reset_optimisers(config(), p, networks);
  optimisers_fit_phase_ = true;
  console.line(concat("phase ", state.phase + 1, "/", config().phases.size(), " ", p.name, ": ",
                      p.steps, " steps, loss ", describe_loss(p.loss)));
  TrainStep step(*device, config(), p, networks, vgg.get());
  report_ = {};
  restart_rate();
  while (state.phase_step < p.steps) {
    one_step(step, loader.next());
    const bool last = state.phase_step == p.steps;
    const ValConfig& v = config().val;
    if (validator->size() > 0 && (last || (v.every > 0 && state.step % v.every == 0)))
      state.validation_due = !validate();
    const Index every = config().checkpoint.every;
    const int stopped = signal();
    if (last || stopped != 0 || (every > 0 && state.step % every == 0)) save_checkpoint();
    if (stopped != 0) {
      save_discriminator();
      console.line(concat("stopped by signal ", stopped, " after step ", state.step,
                          "; continue with --resume"));
      return stopped;
    }
    if (console.is_terminal()) console.live(progress());
  }
  return 0;
}

void Trainer::Impl::one_step(TrainStep& step, const Batch& batch) {
  SUBPIX_REQUIRE(batch.step == state.step, "step ", state.step, " got the crops of ", batch.step);
  const PhaseConfig& p = phase();
  const Index done = state.step + 1, phase_done = state.phase_step + 1;
  const Index save_every = config().checkpoint.every;
  const bool logged = phase_done == 1 || phase_done == p.steps || done % config().log.every == 0;
  const bool measured = logged || (save_every > 0 && done % save_every == 0);
  step.run(batch, state.phase_step, measured ? &report_ : nullptr);
  state.step = done;
  state.phase_step = phase_done;
  if (!measured) return;
  if (const std::string bad = report_.first_bad(); !bad.empty())
    diverged(bad + " is not a finite number");
  if (logged) write_log();
}

void Trainer::Impl::diverged(const std::string& what) const {
  std::string terms;
  for (const TermReport& t : report_.terms)
    terms += format(" loss_%s=%g grad_%s=%g", t.name.c_str(), t.loss, t.name.c_str(), t.gradient);
  if (report_.adversary) terms += format(" loss_d=%g", report_.adversary->loss);
  throw InputError(concat("training diverged at step ", state.step, " (phase ", phase().name,
                          "): ", what, " (", terms.empty() ? "" : terms.substr(1),
                          "); the last good checkpoint is ", checkpoints.newest_path().string(),
                          "; continue from it with --resume and a lower phases[", state.phase,
                          "].lr"));
}

void Trainer::Impl::write_log() {
  if (state.step > rate_step_) {
    const double seconds = now() - rate_start_;
    images_per_s_ = static_cast<double>((state.step - rate_step_) * config().data.batch) / seconds;
  }
  restart_rate();
  LogLine line{{"type", "train"},
               {"step", state.step},
               {"phase", phase().name},
               {"phase_step", state.phase_step},
               {"lr", report_.lr}};
  for (const TermReport& t : report_.terms) {
    line.emplace_back("loss_" + t.name, t.loss);
    line.emplace_back("grad_" + t.name, t.gradient);
  }
  if (report_.adversary) {
    line.emplace_back("loss_d", report_.adversary->loss);
    line.emplace_back("d_real", report_.adversary->real);
    line.emplace_back("d_fake", report_.adversary->fake);
  }
  line.emplace_back("images_per_s", images_per_s_);
  line.emplace_back("seconds", now() - run_start_);
  log->append(line);
  if (!console.is_terminal()) console.line(progress());
}

/// What is known of the phase: the losses and the rate are those of the last line of the log.
std::string Trainer::Impl::progress() const {
  const auto images = static_cast<double>((phase().steps - state.phase_step) * config().data.batch);
  return concat(phase().name, " ", state.phase_step, "/", phase().steps, describe_report(report_),
                format("  %.1f images/s  left ", images_per_s_),
                clock_text(images_per_s_ > 0.0 ? images / images_per_s_ : -1.0));
}

/// False when a signal cut it short.
bool Trainer::Impl::validate() {
  const double start = now();
  Validator::Request request;
  request.samples = config().val.samples;
  request.samples_to = out / "samples";
  request.prefix = format("step_%09lld", static_cast<long long>(state.step));
  request.stop = [&] { return signal() != 0; };
  request.progress = [&](std::size_t done) {
    console.live(concat("validating: ", done, " of ", validator->size()));
  };
  const std::optional<double> psnr = validator->run(*device, networks.best_generator(), request);
  // The pictures' memory is of other sizes than a step's and would only lie about.
  device->trim();
  if (!psnr) return false;
  const bool best = !state.best || *psnr > state.best->psnr_y;
  if (best) state.best = Best{*psnr, state.step};
  log->append({{"type", "val"},
               {"step", state.step},
               {"phase", phase().name},
               {"psnr_y", *psnr},
               {"images", static_cast<Index>(validator->size())},
               {"best_psnr_y", state.best->psnr_y},
               {"best_step", state.best->step},
               {"seconds", now() - start}});
  console.line(concat("validation at step ", state.step, ": PSNR ", format("%.4f", *psnr), " dB",
                      best ? " (best so far)" : ""));
  rate_start_ += now() - start;
  return true;
}

void Trainer::Impl::save_checkpoint() {
  const double start = now();
  if (const std::string bad = first_non_finite(networks); !bad.empty())
    diverged(bad + " holds a NaN or an infinity");
  // Before the checkpoint: who resumes from it finds the finished phase's weights.
  if (state.phase_step == phase().steps) save_generator("generator_" + phase().name);
  log->sync();
  checkpoints.save(networks, state, config().checkpoint.keep);
  save_generator("generator");
  rate_start_ += now() - start;
}

void Trainer::Impl::save_generator(const std::string& name) const {
  models::save_generator(networks.best_generator(), (out / (name + ".safetensors")).string());
}

void Trainer::Impl::save_discriminator() const {
  if (!networks.discriminator) return;
  engine::nn::save_module(*networks.discriminator, (out / "discriminator.safetensors").string(),
                          kDiscriminatorMetadata);
}

Trainer Trainer::start(const RunConfig& config, const fs::path& out, Console& console,
                       Signal signal) {
  check_ready(config);
  auto impl = std::make_unique<Impl>(out, console, std::move(signal));
  impl->state.config = config;
  const auto refuse_run = [&] {
    if (impl->holds_run())
      throw InputError(concat(out.string(),
                              " already holds a run; continue it with --resume, or choose another "
                              "folder with --out"));
  };
  refuse_run();
  // Nothing is written before all that is read was found good.
  impl->open_inputs();
  impl->networks = make_networks(*impl->device, config);
  if (const std::string bad = first_non_finite(impl->networks); !bad.empty())
    throw InputError(concat(config.init, ": ", bad,
                            " holds a NaN or an infinity; choose another file for init"));
  impl->claim();
  refuse_run();
  impl->checkpoints.remove_leftovers();
  impl->begin();
  return Trainer(std::move(impl));
}

Trainer Trainer::resume(const fs::path& out, const Adjust& adjust, Console& console,
                        Signal signal) {
  std::error_code unreadable;
  if (!fs::is_directory(out, unreadable))
    throw InputError(concat("nothing to resume: there is no folder ", out.string(),
                            "; start the run without --resume"));
  auto impl = std::make_unique<Impl>(out, console, std::move(signal));
  impl->claim();
  impl->checkpoints.remove_leftovers();
  std::vector<std::string> damaged;
  const CheckpointFolder::Found found = impl->checkpoints.newest(damaged);
  for (const std::string& sentence : damaged) console.line("note: " + sentence);
  impl->state = found.state;
  impl->state.config = adjust ? adjust(found.state.config) : found.state.config;
  check_resumable(found.state, impl->config());
  impl->go_on(found);
  return Trainer(std::move(impl));
}

int Trainer::run() { return impl_->run(); }
const RunState& Trainer::state() const { return impl_->state; }
const Networks& Trainer::networks() const { return impl_->networks; }
Device& Trainer::device() { return *impl_->device; }

Trainer::Trainer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Trainer::Trainer(Trainer&&) noexcept = default;
Trainer::~Trainer() = default;

}  // namespace subpix::train
