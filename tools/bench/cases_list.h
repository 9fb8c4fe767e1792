#pragma once

#include "tools/bench/cases.h"

/// The parts that the sets are put together from, by family.
namespace subpix::tools::bench {

/// Collects cases; each gets the layer that is being described.
class CaseList {
 public:
  void layer(std::string name, Index times) {
    layer_ = std::move(name);
    times_ = times;
  }
  void add(BenchCase c) {
    c.layer = layer_;
    c.times = times_;
    cases_.push_back(std::move(c));
  }
  std::vector<BenchCase> take() { return std::move(cases_); }

 private:
  std::string layer_;
  Index times_ = 1;
  std::vector<BenchCase> cases_;
};

struct Passes {
  bool forward = true, data = true, filter = true;
};

template <class T>
void add_conv2d(CaseList& list, const kernels::Conv2dProblem& d, const Passes& passes = {});
template <class T>
void add_conv2d_activation(CaseList& list, const kernels::Conv2dActivationProblem& a);
/// Forward with statistics, backward data and filter, of a map taken in `form`.
template <class T>
void add_conv2d_norm(CaseList& list, const kernels::Conv2dProblem& d, kernels::InputForm form,
                     bool skip);
template <class T>
void add_filter_group(CaseList& list, const kernels::Conv2dProblem& d, Index filters);
/// With pixel shuffle and PReLU, and the way back through these.
template <class T>
void add_conv2d_shuffle(CaseList& list, const kernels::Conv2dProblem& d);
/// With ReLU and pooling, and the way back through these.
template <class T>
void add_conv2d_pool(CaseList& list, const kernels::Conv2dProblem& d);
void add_conv2d_wide(CaseList& list, const kernels::Conv2dProblem& d);
template <class T>
void add_dense(CaseList& list, const kernels::DenseProblem& d);

template <class T>
void add_norm(CaseList& list, const kernels::NormProblem& d);
template <class T>
void add_prelu(CaseList& list, const kernels::ChannelProblem& d);
template <class T>
void add_leaky_relu(CaseList& list, Index count);
template <class T>
void add_shuffle(CaseList& list, const kernels::ShuffleProblem& d);
template <class T>
void add_max_pool(CaseList& list, const kernels::PoolProblem& d);
template <class T>
void add_losses(CaseList& list, Index n, Index h, Index w, Index c);
template <class T>
void add_maps(CaseList& list, Index count);
/// Casts, random numbers, Adam over tensors of these sizes.
void add_untyped(CaseList& list, Index count, const std::vector<Index>& tensors);

}  // namespace subpix::tools::bench
