"""Classifier re-training on long-tailed CIFAR-10 (Kang et al. 2020), with ResNet-18.

Commands: python -m rbjax.main --config=configs/ldam_drw_cifar10.py:cross_entropy
          python -m rbjax.main --config=configs/crt_cifar10.py
The first trains the backbone on the data as they are, the second a new head on batches in which
all classes are alike: 10 epochs, SGD with momentum 0.9 and weight decay 5e-4, a cosine from rate
0.2, as published.  The authors train on photographs (ImageNet-LT and others), cropped at random
sizes, in batches of 512 that hold 4 images of a class in a row; here CIFAR's images are padded and
cropped, batches are of 128 at the same rate, and one class follows another.  Their epoch takes each
class as often as the largest has images; here an epoch has as many images as the training set.
Variant: `:smoke`, half a minute on two CPU cores, after configs/ldam_drw_cifar10.py:smoke.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.batch_size = 128
    config.num_epochs = 10
    config.dataset.name = "cifar10"
    config.dataset.flip_horizontal = True
    config.dataset.crop_padding = 4
    config.imbalance.name = "exponential"
    config.imbalance.imbalance_ratio = 100.0
    config.sampler.name = "class_aware"
    config.model.name = "resnet18"
    config.method.name = "crt"
    config.method.backbone = "runs/ldam_drw_cifar10_cross_entropy"
    config.optimizer.name = "sgd"
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 0.2
    config.attacks.fgsm = schema.attack("fgsm")
    config.score.max_steps = 0
    return schema.vary(config, variant, smoke=_smoke)


def _smoke(config: schema.Config) -> None:
    config.batch_size = 32
    config.num_epochs = 2
    config.imbalance.imbalance_ratio = 10.0
    config.model.name = "simple_cnn"
    config.method.backbone = "runs/ldam_drw_cifar10_smoke"
    config.schedule.learning_rate = 0.01
    config.dataset.max_train_examples = 1280
    config.dataset.max_test_examples = 500
