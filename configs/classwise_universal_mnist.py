"""Class-wise universal adversarial training on MNIST (Benz et al. 2021), with P4's simple CNN.

Command: python -m rbjax.main --config=configs/classwise_universal_mnist.py
A perturbation of 0.2 in linf for each digit, learnt beside the weights (Shafahi et al. 2020,
algorithm 4); then one for all images and one a class, both crafted anew.  The authors train on
CIFAR-10; widths, 10 epochs of batches of 128 and a triangular rate up to 2e-3 are ours.
Variant: `:smoke`, about a minute on two CPU cores.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.batch_size = 128
    config.num_epochs = 10
    config.dataset.name = "mnist"
    config.dataset.validation_fraction = 0.02
    config.model.name = "simple_cnn"
    config.method.name = "classwise_universal"
    config.method.epsilon = 0.2
    config.optimizer.name = "adam"
    config.schedule.name = "triangular"
    config.schedule.learning_rate = 1e-4
    config.schedule.max_learning_rate = 2e-3
    config.schedule.half_cycle_epochs = 5.0
    config.attacks.universal = schema.attack("universal")
    config.attacks.each_class = schema.attack("universal_classwise")
    config.score.max_steps = 0
    return schema.vary(config, variant, smoke=_smoke)


def _smoke(config: schema.Config) -> None:
    config.num_epochs = 1
    config.dataset.max_train_examples = 2560
    config.dataset.max_test_examples = 500
    config.model.widths = (8, 16)
    config.schedule.half_cycle_epochs = 0.5
    config.attacks.universal.num_epochs = 1
    config.attacks.universal.max_examples = 500
    config.attacks.each_class.num_epochs = 1
    config.attacks.each_class.max_examples = 500
