"""A job small enough to run many times: digits, a tiny network, universal training."""

import pytest

from rbjax import command_line
from rbjax import config as schema
from rbjax.train import train


@pytest.fixture(scope="session")
def job():
    """Returns a function that makes the config given to `command_line.resolve`."""

    def make(**changes):
        config = schema.default()
        config.batch_size = 64
        config.num_epochs = 3
        config.dataset.max_train_examples = 512  # whole dispatches: one program
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


@pytest.fixture(scope="session")
def finished(job, tmp_path_factory):
    """The folder of the job of two epochs, trained once: to be read or copied, not written to."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    train(command_line.resolve(job(num_epochs=2), str(workdir)), str(workdir))
    return workdir
