"""ResNet-18 on CIFAR-100 at P1's three levels of distribution bias.

Command: python -m rbjax.main --config=configs/standard_cifar100.py:long_tailed
P1 says: Adam, cross-entropy, horizontal and vertical flips and rotations after normalising (so that
what comes from outside is the mean colour), cyclical learning rates.  It prints neither rates nor
epochs nor the ratio of its levels (its figure 1); triangular from 1e-5 to 1e-4 over two epochs and
40 epochs of batches of 32 are its authors' earlier code, the ratio of 100 is the field's most used.
Variants: `:balanced` (the config as it is), `:linear`, `:long_tailed`; `:smoke`, a few steps.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.batch_size = 32
    config.num_epochs = 40
    config.dataset.name = "cifar100"
    config.dataset.flip_horizontal = True
    config.dataset.flip_vertical = True
    config.dataset.rotation_degrees = 15.0
    config.dataset.fill = "mean"
    config.model.name = "resnet18"
    config.optimizer.name = "adam"
    config.optimizer.gradient_clip = 1.0
    config.schedule.name = "triangular"
    config.schedule.learning_rate = 1e-5
    config.schedule.max_learning_rate = 1e-4
    config.schedule.half_cycle_epochs = 2.0
    config.score.max_steps = 0
    return schema.vary(
        config,
        variant,
        balanced=lambda config: None,
        linear=_linear,
        long_tailed=_long_tailed,
        smoke=_smoke,
    )


def _linear(config: schema.Config) -> None:
    config.imbalance.name = "linear"
    config.imbalance.imbalance_ratio = 100.0


def _long_tailed(config: schema.Config) -> None:
    config.imbalance.name = "exponential"
    config.imbalance.imbalance_ratio = 100.0


def _smoke(config: schema.Config) -> None:
    config.num_epochs = 1
    config.dataset.max_train_examples = 640
    config.dataset.max_test_examples = 200
    config.corruptions.name = "fog+impulse_noise"
