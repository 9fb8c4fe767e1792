#pragma once

#include "engine/core/random.h"
#include "engine/nn/init.h"
#include "engine/nn/module.h"
#include "engine/ops/fused.h"
#include "engine/ops/ops.h"

namespace subpix::engine::nn {

/// 2-D convolution with "same" zero padding ((kernel-1)/2). Parameters weight [K,R,S,C], bias [K].
class Conv2d : public Module {
 public:
  struct Options {
    Index in, out, kernel;
    Index stride = 1;
    bool bias = true;
    Index shuffle = 1;  ///< > 1: the output feeds a pixel shuffle of this scale (channel order)
    InitKind init = InitKind::KaimingNormal;
    float init_slope = 0.0f;  ///< negative slope of the activation that follows
  };
  Conv2d(Device& device, const Options& options, Philox& random);
  Tensor operator()(const Tensor& x) const;
  Tensor forward_activation(const Tensor& x, ops::Activation activation, float slope) const;
  Tensor forward_wide(const Tensor& x) const;  ///< F32 from a BF16 map
  Index stride() const { return options_.stride; }

  Tensor weight, bias;  ///< bias undefined without
 private:
  Options options_;
};

/// Parameters weight (gamma) [C] = 1, bias (beta) [C] = 0; buffers running_mean = 0, running_var
/// = 1.
class BatchNorm2d : public Module {
 public:
  explicit BatchNorm2d(Device& device, Index channels, float eps = 1e-5f, float momentum = 0.1f);
  Tensor operator()(const Tensor& x) const;
  /// For ops that take the norm apart (engine/ops/fused.h); training only.
  ops::BatchNormParameters parts() const;

  Tensor weight, bias, running_mean, running_var;

 private:
  float eps_, momentum_;
};

/// Parameter weight [C] or [1] (shared), starts at 0.25.
class PRelu : public Module {
 public:
  PRelu(Device& device, Index channels, bool shared, float start = 0.25f);
  Tensor operator()(const Tensor& x) const;
  Tensor weight;
};

/// Parameters weight [out,in], bias [out]. chw: the input is an image of that many channels, rows
/// and columns flattened in memory order (H,W,C); the file's columns are C,H,W. c = 0: a plain
/// vector.
class Dense : public Module {
 public:
  struct Chw {
    Index c = 0, h = 0, w = 0;
  };
  Dense(Device& device, Index in, Index out, Philox& random, Chw chw, float init_slope);
  Tensor operator()(const Tensor& x) const;  ///< x [n,in]
  Tensor weight, bias;
};

}  // namespace subpix::engine::nn
