"""P5's small VGG on CIFAR-10 as the paper writes it, balanced or long-tailed, by gradient sign.

Command: python -m rbjax.main --config=configs/standard_cifar10.py
P5's paper says: the architecture with an activation after every convolution, RMSProp with rate 1e-4
and decay 1e-5, until convergence; a step of epsilon = 0.01 along the gradient's sign, true label.
The code says what the paper leaves open: batches of 32; at most 200 epochs, until the validation
loss has not fallen by 1e-4 for 20, and then the weights of the epoch where it was lowest.  Held out
is a tenth of each class of train.
Variants: `:as_published`, what the code does for its balanced model (an activation after the third
convolution of a block only, decay 1e-6, inputs only divided by 255, flips, the epoch chosen on the
test set); `:long_tailed`, an exponential profile of ratio 100; `:smoke`, a minute on two CPU cores.
One epoch alone: --config.num_epochs=1.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.batch_size = 32
    config.num_epochs = 200
    config.dataset.name = "cifar10"
    config.dataset.validation_fraction = 0.1
    config.model.name = "vgg_p5"
    config.model.activation = "paper"
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
    return schema.vary(
        config, variant, smoke=_smoke, long_tailed=_long_tailed, as_published=_as_published
    )


def _as_published(config: schema.Config) -> None:
    config.dataset.validation_fraction = 0.0
    config.dataset.validation_from = "test"
    config.dataset.flip_horizontal = True
    config.model.activation = "author"
    config.model.normalize = False
    config.optimizer.decay = 1e-6


def _long_tailed(config: schema.Config) -> None:
    config.imbalance.name = "exponential"
    config.imbalance.imbalance_ratio = 100.0


def _smoke(config: schema.Config) -> None:
    config.num_epochs = 1
    config.dataset.max_train_examples = 3200
    config.dataset.max_test_examples = 500
