"""What a training begins with: the recipe of its step, and the state before the first one."""

from __future__ import annotations

from typing import Any

import jax

from rbjax import prng
from rbjax.config import Config
from rbjax.data import Dataset
from rbjax.models import Model
from rbjax.training import setup
from rbjax.training.method import Method
from rbjax.training.state import TrainState, create_state
from rbjax.training.step import Recipe


def begin(
    config: Config,
    model: Model,
    method: Method,
    num_devices: int,
    train_set: Dataset,
    variables: Any = None,
    *,
    origin: str | None = None,
) -> tuple[Recipe, TrainState]:
    """Returns the recipe for a training set, and the state before the first step, on the host.

    Args:
        config: a resolved config.
        model: its model.
        method: its method.
        num_devices: how many a batch is divided over.
        train_set: what is trained on.
        variables: initial weights; None: drawn.
        origin: where the training set is from, for a message.

    Raises:
        ValueError: if the batch size does not fit the devices, the method or the training set.
    """
    origin = origin or f"of {config.dataset.name} after validation and imbalance"
    steps_per_epoch = _steps_per_epoch(config, train_set.num_examples, num_devices, origin)
    whole = num_devices * method.rows_together
    if config.batch_size % whole:
        raise ValueError(
            f"batch_size = {config.batch_size}: method {config.method.name} keeps "
            f"{method.rows_together} rows of it together on each of {num_devices} local devices; "
            f"it must be a multiple of {whole}"
        )
    recipe = Recipe(
        model=model,
        method=method,
        loss_fn=setup.create_loss(config, train_set.class_counts),
        # The schedule counts updates of the weights.
        optimizer=setup.create_optimizer(config, steps_per_epoch=steps_per_epoch * method.replays),
        augment=setup.create_augment(config, train_set.info),
        steps_per_epoch=steps_per_epoch,
        ema_decay=None if method.average is not None else config.optimizer.ema_decay,
        mixup_alpha=config.dataset.mixup_alpha,
        repeats=config.sampler.name != "uniform",
    )
    state = create_state(
        prng.named(prng.key(config.seed), "init"),
        model,
        method,
        recipe.optimizer,
        num_rows=config.batch_size,
        ema=config.optimizer.ema_decay is not None,
        variables=variables,
        class_counts=train_set.class_counts,
    )
    return recipe, jax.device_get(state)


def _steps_per_epoch(config: Config, num_examples: int, num_devices: int, origin: str) -> int:
    batch_size = config.batch_size
    if batch_size % num_devices:
        low = batch_size // num_devices * num_devices
        near = " or ".join(str(size) for size in (low, low + num_devices) if size)
        raise ValueError(
            f"batch_size = {batch_size}: must be divisible by the {num_devices} local devices; "
            f"nearest: {near}"
        )
    if batch_size > num_examples:
        raise ValueError(
            f"batch_size = {batch_size}: must be at most {num_examples}, the training examples "
            + origin
        )
    return num_examples // batch_size
