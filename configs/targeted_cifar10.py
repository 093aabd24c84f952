"""Targeted adversarial training of ResNet-18 on CIFAR-10 (paper P2, section 3.3).

Command: python -m rbjax.main --config=configs/targeted_cifar10.py
Images are attacked towards the class that is the most vulnerable, measured on the held-out 2 % of
train after each epoch.  P2 gives no recipe; this is that of `pgd_cifar10`.
Variants: `:cat`, towards class 3 all along, as an important class; `:smoke`, the simple CNN, about
a minute on two CPU cores.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.batch_size = 128
    config.num_epochs = 100
    config.dataset.name = "cifar10"
    config.dataset.validation_fraction = 0.02
    config.dataset.flip_horizontal = True
    config.dataset.crop_padding = 4
    config.model.name = "resnet18"
    config.method.name = "targeted"
    config.method.epsilon = 8 / 255
    config.method.step_size = 2 / 255
    config.method.num_steps = 10
    config.optimizer.name = "sgd"
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "step"
    config.schedule.learning_rate = 0.1
    config.schedule.milestones = (75, 90)
    config.attacks.fgsm = schema.attack("fgsm")
    config.attacks.pgd20 = schema.attack("pgd", step_size=2 / 255, num_steps=20)
    config.score.max_steps = 0
    return schema.vary(config, variant, smoke=_smoke, cat=_cat)


def _cat(config: schema.Config) -> None:
    config.method.target_class = 3


def _smoke(config: schema.Config) -> None:
    config.batch_size = 32
    config.num_epochs = 1
    config.dataset.validation_fraction = 0.002
    config.dataset.max_train_examples = 128
    config.dataset.max_test_examples = 64
    config.model.name = "simple_cnn"
    config.method.num_steps = 2
    config.attacks.pgd20.num_steps = 2
