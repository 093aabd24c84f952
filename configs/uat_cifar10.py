"""Universal adversarial training on CIFAR-10 (paper P1's method for universal perturbations).

Command: python -m rbjax.main --config=configs/uat_cifar10.py
P1 says: Adam, cross-entropy, random horizontal and vertical flips, random rotation, a cyclical
learning rate.  P1 does not say, and this config takes: ResNet-18 (CIFAR form), epsilon 8/255 in
linf, the simultaneous form with the un-clipped loss (Shafahi et al. 2020, algorithm 4), rotation
up to 15 degrees, 30 epochs of batches of 128, triangular cycles between 1e-5 and 1e-3 whose half
is 5 epochs (three whole cycles).  2 % of train is held out, to validate each epoch class by class.
Variant: `:smoke`, the simple CNN, about a minute on two CPU cores.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.batch_size = 128
    config.num_epochs = 30
    config.dataset.name = "cifar10"
    config.dataset.validation_fraction = 0.02
    config.dataset.flip_horizontal = True
    config.dataset.flip_vertical = True
    config.dataset.rotation_degrees = 15.0
    config.dataset.fill = "mean"
    config.model.name = "resnet18"
    config.method.name = "universal"
    config.method.epsilon = 8 / 255
    config.method.form = "simultaneous"
    config.loss.name = "cross_entropy"
    config.optimizer.name = "adam"
    config.schedule.name = "triangular"
    config.schedule.learning_rate = 1e-5
    config.schedule.max_learning_rate = 1e-3
    config.schedule.half_cycle_epochs = 5.0
    config.attacks.fgsm = schema.attack("fgsm")
    config.attacks.pgd20 = schema.attack("pgd", step_size=2 / 255, num_steps=20)
    config.attacks.universal = schema.attack("universal")
    config.score.max_steps = 0
    return schema.vary(config, variant, smoke=_smoke)


def _smoke(config: schema.Config) -> None:
    config.batch_size = 32
    config.num_epochs = 1
    config.dataset.max_train_examples = 256
    config.dataset.max_test_examples = 64
    config.model.name = "simple_cnn"
    config.schedule.half_cycle_epochs = 1.0
    config.attacks.pgd20.num_steps = 2
    config.attacks.universal.num_epochs = 1
    config.attacks.universal.max_examples = 128
