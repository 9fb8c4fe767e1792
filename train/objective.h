#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/core/tensor.h"
#include "models/srgan/discriminator.h"
#include "models/vgg/vgg19.h"
#include "train/config.h"

namespace subpix::train {

/// One term of the generator's loss at one step.
struct TermReport {
  std::string name;       ///< "pixel", "vgg", "adversarial", "tv"
  double loss = 0.0;      ///< without its weight
  double gradient = 0.0;  ///< L2 norm of weight * dloss/dSR over the whole batch
};

/// The same while it is still on the device: loss without weight, sum of squares of the gradient.
struct TermValues {
  const char* name;
  engine::Tensor loss, squares;
};
/// Waits for the device.
std::vector<TermReport> read(const std::vector<TermValues>& values);

/// The generator's loss of one phase, seen from the image: content, perceptual, adversarial and
/// total variation terms (paper section 2.2) with their weights. Each term has its own graph from
/// the SR image up, which is walked and freed before the next one starts: only one network's
/// activations live at a time, and every term's own gradient is there to be measured.
class Objective {
 public:
  /// vgg and discriminator are borrowed and may be null where the loss has no such term; vgg must
  /// have been loaded up to the layer of the loss.
  Objective(engine::Device& device, const LossConfig& loss, const models::Vgg19* vgg,
            models::Discriminator* discriminator);

  /// Sum of weight * dloss/dsr over the terms, [N,H,W,3] like sr and hr (both in [-1,1]). sr may
  /// belong to a graph, which is left alone. The discriminator judges in training mode (statistics
  /// of this batch) with frozen parameters. report, if given, is filled; that waits for the device.
  engine::Tensor gradient(const engine::Tensor& sr, const engine::Tensor& hr,
                          std::vector<TermReport>* report) const;
  /// The same without waiting.
  engine::Tensor gradient(const engine::Tensor& sr, const engine::Tensor& hr,
                          std::vector<TermValues>* values) const;
  engine::Tensor gradient(const engine::Tensor& sr, const engine::Tensor& hr,
                          std::nullptr_t) const {
    return gradient(sr, hr, static_cast<std::vector<TermValues>*>(nullptr));
  }

 private:
  engine::Tensor vgg_loss(const engine::Tensor& sr, const engine::Tensor& hr) const;

  LossConfig loss_;
  const models::Vgg19* vgg_;
  models::Discriminator* discriminator_;
  std::optional<models::VggLayer> layer_;
  engine::Tensor pixel_weight_, vgg_weight_, adversarial_weight_, tv_weight_;  // [1]
};

/// What the discriminator did in its update.
struct AdversaryReport {
  double loss = 0.0;              ///< mean of -log D(real) plus mean of -log(1 - D(fake))
  double real = 0.0, fake = 0.0;  ///< mean D(real), D(fake) before the update, 0 to 1
};

/// The same while it is still on the device.
struct AdversaryValues {
  engine::Tensor real_loss, fake_loss, real_logits, fake_logits;
};
/// Waits for the device.
AdversaryReport read(const AdversaryValues& values);

/// Accumulates the discriminator's gradients of -log D(real) - log(1 - D(fake)), each a mean over
/// the batch (paper eq. 2), real and fake with their own batch statistics. fake must not belong to
/// a graph.
void discriminator_gradients(const models::Discriminator& discriminator, const engine::Tensor& real,
                             const engine::Tensor& fake, AdversaryReport* report);
/// The same without waiting; values may be null.
void discriminator_gradients(const models::Discriminator& discriminator, const engine::Tensor& real,
                             const engine::Tensor& fake, AdversaryValues* values);
inline void discriminator_gradients(const models::Discriminator& discriminator,
                                    const engine::Tensor& real, const engine::Tensor& fake,
                                    std::nullptr_t) {
  discriminator_gradients(discriminator, real, fake, static_cast<AdversaryValues*>(nullptr));
}

}  // namespace subpix::train
