"""MART on CIFAR-10 (Wang et al. 2020), with ResNet-18.

Command: python -m rbjax.main --config=configs/mart_cifar10.py
The authors' recipe for it: beta 5, 10 steps, SGD with momentum 0.9 and weight decay 3.5e-3, batches
of 128, rate 0.01 divided by 10 at epochs 75, 90 and 100 of 120, pad-and-crop by 4 and horizontal
flips.  They train at epsilon 0.031 with steps of 0.007; here it is 8/255 and 2/255.  2 % of train
is held out.
Variant: `:smoke`, the simple CNN, about a minute on two CPU cores.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.batch_size = 128
    config.num_epochs = 120
    config.dataset.name = "cifar10"
    config.dataset.validation_fraction = 0.02
    config.dataset.flip_horizontal = True
    config.dataset.crop_padding = 4
    config.model.name = "resnet18"
    config.method.name = "mart"
    config.method.epsilon = 8 / 255
    config.method.step_size = 2 / 255
    config.method.num_steps = 10
    config.method.beta = 5.0
    config.optimizer.name = "sgd"
    config.optimizer.weight_decay = 3.5e-3
    config.schedule.name = "step"
    config.schedule.learning_rate = 0.01
    config.schedule.milestones = (75, 90, 100)
    config.attacks.fgsm = schema.attack("fgsm")
    config.attacks.pgd20 = schema.attack("pgd", step_size=2 / 255, num_steps=20)
    config.score.max_steps = 0
    return schema.vary(config, variant, smoke=_smoke)


def _smoke(config: schema.Config) -> None:
    config.batch_size = 32
    config.num_epochs = 1
    config.dataset.max_train_examples = 128
    config.dataset.max_test_examples = 64
    config.model.name = "simple_cnn"
    config.method.num_steps = 2
    config.attacks.pgd20.num_steps = 2
