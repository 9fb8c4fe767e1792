#pragma once

#include <string>
#include <vector>

#include "engine/nn/module.h"

namespace subpix::engine {

/// Adam over a fixed list of F32 tensors (kernels::AdamProblem has the formula). One kernel call a
/// step; nothing is allocated after the constructor.
class Adam {
 public:
  struct Options {
    float beta1 = 0.9f, beta2 = 0.999f, eps = 1e-8f;
  };
  /// Takes the trainable tensors of the list (a module's state()); all on one device. Weights are
  /// written in place, so a graph that saved them cannot be walked after step().
  Adam(std::vector<nn::NamedTensor> parameters, Options options);

  /// One update with learning rate lr. Every parameter must have an F32 gradient, else Error naming
  /// the parameter, before anything is changed. Counts the step.
  void step(double lr) {
    set_rate(lr);
    update();
  }
  /// The two halves of step(), and what a replayed graph that holds the second one leaves to do:
  /// the rate and the step's number go to device memory, then the kernel reads them there.
  void set_rate(double lr);
  void update();
  void note_update();  ///< the weights were written
  /// Forgets the gradients: call it before each backward pass that shall not add to the last one.
  void clear_grad();
  std::int64_t steps() const { return steps_; }

  /// Moments under "<name>.m" and "<name>.v" (memory order) for checkpoints; set_steps after a
  /// load.
  std::vector<nn::NamedTensor> state() const;
  void set_steps(std::int64_t steps);

 private:
  std::vector<nn::NamedTensor> parameters_;
  std::vector<Tensor> m_, v_;
  std::vector<kernels::AdamTensor> list_;  // the pointers of this step
  Tensor scalars_;                         // [2] step_size, inv_sqrt_bias2
  kernels::AdamProblem problem_{};
  std::int64_t steps_ = 0;
};

}  // namespace subpix::engine
