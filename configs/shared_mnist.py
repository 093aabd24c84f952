"""Shared adversarial training on MNIST (Mummadi et al. 2019), with P4's simple CNN.

Command: python -m rbjax.main --config=configs/shared_mnist.py
Heaps of 64 images share a perturbation of 0.2 in linf, crafted by 4 steps of half of that; half of
the loss is of the clean images, losses above -log 0.2 are truncated while crafting, and labels are
smoothed.  The authors train on CIFAR-10 and Cityscapes with sigma from 0.3 to 0.9; the smoothing of
0.1, widths, 10 epochs of batches of 128 and a triangular rate up to 2e-3 are ours.
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
    config.method.name = "shared"
    config.method.epsilon = 0.2
    config.method.num_steps = 4
    config.method.heap_size = 64
    config.method.sigma = 0.5
    config.loss.label_smoothing = 0.1
    config.optimizer.name = "adam"
    config.schedule.name = "triangular"
    config.schedule.learning_rate = 1e-4
    config.schedule.max_learning_rate = 2e-3
    config.schedule.half_cycle_epochs = 5.0
    config.attacks.pgd20 = schema.attack("pgd", num_steps=20)
    config.attacks.universal = schema.attack("universal")
    config.score.max_steps = 0
    return schema.vary(config, variant, smoke=_smoke)


def _smoke(config: schema.Config) -> None:
    config.num_epochs = 1
    config.dataset.max_train_examples = 2560
    config.dataset.max_test_examples = 500
    config.model.widths = (8, 16)
    config.method.num_steps = 2
    config.schedule.half_cycle_epochs = 0.5
    config.attacks.pgd20.num_steps = 2
    config.attacks.universal.num_epochs = 1
    config.attacks.universal.max_examples = 500
