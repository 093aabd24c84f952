"""LDAM with deferred re-weighting on long-tailed CIFAR-10 (Cao et al. 2019), with ResNet-18.

Command: python -m rbjax.main --config=configs/ldam_drw_cifar10.py
The paper's recipe: class counts from 5,000 down to 50, margins of at most 0.5 on a cosine head of
scale 30, class weights by the effective number (beta 0.9999) from epoch 160 of 200, SGD with
momentum 0.9 and weight decay 2e-4, batches of 128, rate 0.1 times 0.01 at epochs 160 and 180 (as in
the authors' code), pad-and-crop by 4 and horizontal flips.  The paper trains a ResNet-32, and warms
its rate up for 5 epochs.
Variants: `:cross_entropy`, without any remedy, whose backbone configs/crt_cifar10.py takes;
`:smoke`, half a minute on two CPU cores, with the simple CNN.
With PGD training: --config.method.name=pgd --config.method.epsilon=8/255.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.batch_size = 128
    config.num_epochs = 200
    config.dataset.name = "cifar10"
    config.dataset.flip_horizontal = True
    config.dataset.crop_padding = 4
    config.imbalance.name = "exponential"
    config.imbalance.imbalance_ratio = 100.0
    config.model.name = "resnet18"
    config.model.head = "cosine"
    config.loss.name = "ldam"
    config.loss.class_weights = "effective_number"
    config.loss.start_epoch = 160
    config.optimizer.name = "sgd"
    config.optimizer.weight_decay = 2e-4
    config.schedule.name = "step"
    config.schedule.learning_rate = 0.1
    config.schedule.gamma = 0.01
    config.schedule.milestones = (160, 180)
    config.attacks.fgsm = schema.attack("fgsm")
    config.score.max_steps = 0
    return schema.vary(config, variant, smoke=_smoke, cross_entropy=_cross_entropy)


def _cross_entropy(config: schema.Config) -> None:
    config.model.head = "linear"
    config.loss.name = "cross_entropy"
    config.loss.class_weights = "none"
    config.loss.start_epoch = 0


def _smoke(config: schema.Config) -> None:
    config.batch_size = 32
    config.num_epochs = 2
    config.loss.start_epoch = 1
    config.imbalance.imbalance_ratio = 10.0
    config.model.name = "simple_cnn"
    config.schedule.learning_rate = 0.01
    config.dataset.max_train_examples = 1280
    config.dataset.max_test_examples = 500
