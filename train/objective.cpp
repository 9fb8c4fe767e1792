#include "train/objective.h"

#include <cmath>

#include "engine/autograd/node.h"
#include "engine/ops/ops.h"

namespace subpix::train {

using engine::Device;
using engine::Tensor;
namespace ops = engine::ops;

namespace {

/// 1 / (what the loss is divided by) for a map [N,H,W,C].
double reduction_factor(Reduction reduction, const Tensor& map) {
  const engine::Index divisor =
      reduction == Reduction::Mean ? map.count() : map.count() / map.shape().back();
  return 1.0 / static_cast<double>(divisor);
}

/// A frozen network costs no filter gradients; parameters get their flag back at the end.
class Frozen {
 public:
  explicit Frozen(engine::nn::Module& module) : module_(module) {
    module_.set_requires_grad(false);
  }
  ~Frozen() { module_.set_requires_grad(true); }
  Frozen(const Frozen&) = delete;
  Frozen& operator=(const Frozen&) = delete;

 private:
  engine::nn::Module& module_;
};

double mean_sigmoid(const Tensor& logits) {
  double sum = 0.0;
  for (const float logit : logits.to_host()) sum += 1.0 / (1.0 + std::exp(-double{logit}));
  return sum / static_cast<double>(logits.count());
}

}  // namespace

std::vector<TermReport> read(const std::vector<TermValues>& values) {
  std::vector<TermReport> report;
  for (const TermValues& t : values)
    report.push_back({t.name, double{t.loss.item()}, std::sqrt(double{t.squares.item()})});
  return report;
}

AdversaryReport read(const AdversaryValues& v) {
  return {double{v.real_loss.item()} + double{v.fake_loss.item()}, mean_sigmoid(v.real_logits),
          mean_sigmoid(v.fake_logits)};
}

Objective::Objective(Device& device, const LossConfig& loss, const models::Vgg19* vgg,
                     models::Discriminator* discriminator)
    : loss_(loss), vgg_(vgg), discriminator_(discriminator) {
  const auto constant = [&](double value) {
    return Tensor::full(device, {1}, static_cast<float>(value));
  };
  if (loss_.has_pixel()) pixel_weight_ = constant(loss_.pixel->weight);
  if (loss_.has_vgg()) {
    SUBPIX_REQUIRE(vgg_, "a vgg loss needs the VGG19 network");
    layer_ = models::VggLayer::parse(loss_.vgg->layer);
    vgg_weight_ = constant(loss_.vgg->weight);
  }
  if (loss_.has_adversarial()) {
    SUBPIX_REQUIRE(discriminator_, "an adversarial loss needs the discriminator");
    adversarial_weight_ = constant(loss_.adversarial->weight);
  }
  if (loss_.has_tv()) tv_weight_ = constant(loss_.tv->weight);
}

Tensor Objective::vgg_loss(const Tensor& sr, const Tensor& hr) const {
  const VggLoss& c = *loss_.vgg;
  Tensor target;
  {
    const engine::NoGrad no_grad;
    target = vgg_->features(hr, *layer_);
  }
  const Tensor map = vgg_->features(sr, *layer_);
  // Multiplying both maps by c.scale multiplies the loss by its square, or by itself for L1.
  const double factor = reduction_factor(c.reduction, map);
  if (c.distance == Distance::L1)
    return ops::l1_loss(map, target, static_cast<float>(c.scale * factor));
  return ops::mse_loss(map, target, static_cast<float>(c.scale * c.scale * factor));
}

Tensor Objective::gradient(const Tensor& sr, const Tensor& hr,
                           std::vector<TermReport>* report) const {
  std::vector<TermValues> values;
  const Tensor sum = gradient(sr, hr, report ? &values : nullptr);
  if (report) *report = read(values);
  return sum;
}

Tensor Objective::gradient(const Tensor& sr, const Tensor& hr,
                           std::vector<TermValues>* values) const {
  const Tensor image = sr.detach();
  image.set_requires_grad(true);
  Tensor sum;
  if (values) values->clear();
  const auto add = [&](const char* name, const Tensor& weight, const Tensor& loss) {
    engine::backward(loss, weight);
    Tensor gradient = image.grad();
    image.clear_grad();
    if (values)
      values->push_back(
          {name, loss.detach(), ops::reduce(gradient, kernels::Reduction::SumSquares)});
    const engine::NoGrad no_grad;
    sum = sum.defined() ? ops::add(sum, gradient) : gradient;
  };
  if (loss_.has_pixel()) {
    const auto factor = static_cast<float>(reduction_factor(loss_.pixel->reduction, image));
    add("pixel", pixel_weight_,
        loss_.pixel->kind == PixelKind::Mse ? ops::mse_loss(image, hr, factor)
                                            : ops::l1_loss(image, hr, factor));
  }
  if (loss_.has_vgg()) add("vgg", vgg_weight_, vgg_loss(image, hr));
  if (loss_.has_adversarial()) {
    const Frozen frozen(*discriminator_);
    const Tensor logits = (*discriminator_)(image);
    const float mean = 1.0f / static_cast<float>(logits.count());
    add("adversarial", adversarial_weight_, ops::bce_with_logits(logits, 1.0f, mean));
  }
  if (loss_.has_tv()) {
    const auto factor = static_cast<float>(reduction_factor(loss_.tv->reduction, image));
    add("tv", tv_weight_, ops::total_variation(image, factor, loss_.tv->squared));
  }
  SUBPIX_REQUIRE(sum.defined(), "the loss has no term");
  return sum;
}

void discriminator_gradients(const models::Discriminator& discriminator, const Tensor& real,
                             const Tensor& fake, AdversaryReport* report) {
  AdversaryValues values;
  discriminator_gradients(discriminator, real, fake, report ? &values : nullptr);
  if (report) *report = read(values);
}

void discriminator_gradients(const models::Discriminator& discriminator, const Tensor& real,
                             const Tensor& fake, AdversaryValues* values) {
  SUBPIX_REQUIRE(!fake.requires_grad(), "the fake images must be detached");
  // Walking back before the other half goes forward halves the activations that live at a time.
  const auto half = [&](const Tensor& image, float label, Tensor* loss_out, Tensor* logits_out) {
    const Tensor logits = discriminator(image);
    const Tensor loss =
        ops::bce_with_logits(logits, label, 1.0f / static_cast<float>(logits.count()));
    engine::backward(loss);
    if (!values) return;
    *loss_out = loss.detach();
    *logits_out = logits.detach();
  };
  AdversaryValues none;
  AdversaryValues& v = values ? *values : none;
  half(real, 1.0f, &v.real_loss, &v.real_logits);
  half(fake, 0.0f, &v.fake_loss, &v.fake_logits);
}

}  // namespace subpix::train
