"""A job small enough to run many times: digits, a tiny network, universal training."""

import pytest

from rbjax import config as schema


@pytest.fixture
def job():
    """Returns a function that makes the config given to `command_line.resolve`."""

    def make(**changes):
        config = schema.default()
        config.batch_size = 64
        config.num_epochs = 3
        config.dataset.max_train_examples = 640
        config.dataset.max_test_examples = 40
        config.dataset.validation_fraction = 0.1
        config.dataset.rotation_degrees = 5.0
        config.method.update(name="universal", epsilon=0.1)
        config.optimizer.ema_decay = 0.9
        config.attacks.fgsm = schema.attack("fgsm")
        config.attacks.universal = schema.attack("universal", num_epochs=1, max_examples=64)
        config.score.max_steps = 5
        config.validation.attack = "none"  # a program less to compile
        config.diagnostics = 0
        for path, value in changes.items():
            *groups, field = path.split("__")
            node = config
            for group in groups:
                node = node[group]
            node[field] = value
        return config

    return make
