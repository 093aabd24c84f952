"""RPR of every MNIST test image under P4's simple CNN, trained first where that is not yet done.

Command: python -m rbjax.main --config=configs/rpr_mnist.py
P4 says: two small convolutions, max pooling, one dense layer; Adam with its default rate; at most
28 random pixels (the square root of their number); MAX_STEPS = 250.  P4 does not say, and this
config takes: widths 16 and 32, batches of 128, 4 epochs.
Variant: `:smoke`, about a minute on two CPU cores.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.task = "score"
    config.batch_size = 128
    config.num_epochs = 4
    config.dataset.name = "mnist"
    config.model.name = "simple_cnn"
    config.model.widths = (16, 32)
    config.optimizer.name = "adam"
    config.schedule.name = "constant"
    config.schedule.learning_rate = 1e-3
    config.score.perturbation = "random_pixels"
    config.score.max_steps = 250
    return schema.vary(config, variant, smoke=_smoke)


def _smoke(config: schema.Config) -> None:
    config.num_epochs = 1
    config.dataset.max_train_examples = 12800
    config.dataset.max_test_examples = 500
    config.score.max_steps = 50
