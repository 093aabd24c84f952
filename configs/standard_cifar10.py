"""P5's small VGG on CIFAR-10, balanced or long-tailed, attacked by gradient sign.

Command: python -m rbjax.main --config=configs/standard_cifar10.py
P5 says: the architecture, RMSProp with rate 1e-4 and decay 1e-5 (its code has 1e-6), cross-entropy,
a step of epsilon = 0.01 along the gradient's sign, true label.  Its code says: batches of 32,
images in [0, 1], horizontal flips; at most 200 epochs, until the validation loss has not fallen by
1e-4 for 20, and then the weights of the epoch where it was lowest.  It holds out a fifth of train,
but for the balanced model, whose epoch it chooses on the test images; here each has the fifth.
Variants: `:long_tailed`, an exponential profile of ratio 100; `:smoke`, a minute on two CPU cores.
One epoch alone: --config.num_epochs=1.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.batch_size = 32
    config.num_epochs = 200
    config.dataset.name = "cifar10"
    config.dataset.validation_fraction = 0.2
    config.dataset.flip_horizontal = True
    config.model.name = "vgg_p5"
    config.model.normalize = False
    config.optimizer.name = "rmsprop"
    config.optimizer.decay = 1e-5
    config.schedule.name = "constant"
    config.schedule.learning_rate = 1e-4
    config.schedule.early_stop = "loss"
    config.schedule.early_stop_patience = 20
    config.schedule.early_stop_min_change = 1e-4
    config.attacks.gradient_sign = schema.attack("fgsm", epsilon=0.01)
    config.attacks.iterative = schema.attack(
        "iterative_gradient_sign", epsilon=0.01, step_size=0.01, num_steps=5, projected=False
    )
    config.score.max_steps = 0
    return schema.vary(config, variant, smoke=_smoke, long_tailed=_long_tailed)


def _long_tailed(config: schema.Config) -> None:
    config.imbalance.name = "exponential"
    config.imbalance.imbalance_ratio = 100.0


def _smoke(config: schema.Config) -> None:
    config.num_epochs = 1
    config.dataset.max_train_examples = 3200
    config.dataset.max_test_examples = 500
