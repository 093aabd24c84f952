"""What a training begins with: the recipe of its step, and the state before the first one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rbjax
from rbjax import config as schema
from rbjax import prng
from rbjax.config import Config
from rbjax.data import Dataset
from rbjax.models import Model
from rbjax.training import run_directory, setup
from rbjax.training.checkpoint import Checkpoints
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
            f"{method.rows_together} rows of it together on each of {num_devices} devices; "
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


def prepare_directory(
    config: Config, method: Method, recipe: Recipe, workdir: str, checkpoints: Checkpoints
) -> tuple[bool, bool]:
    """Makes a run's directory, or checks that it is this run's; its config may ask for more epochs.

    Args:
        config: a resolved config.
        method: its method.
        recipe: its recipe.
        workdir: the run directory.
        checkpoints: of the run.

    Returns:
        Whether it was there, and whether there is a checkpoint in it.

    Raises:
        ValueError: if it holds something else.
    """
    stamped, allowed, goes_on = _allowed(config, method, recipe, workdir, checkpoints)
    was_there = run_directory.prepare(workdir, stamped, **allowed)
    if goes_on:
        run_directory.replace_config(workdir, stamped)
    return was_there, bool(checkpoints.steps())


def check_directory(
    config: Config, method: Method, recipe: Recipe, workdir: str, checkpoints: Checkpoints
) -> bool:
    """Returns whether a run's directory is there; as `prepare_directory`, but writes nothing.

    Raises:
        ValueError: likewise.
    """
    stamped, allowed, _ = _allowed(config, method, recipe, workdir, checkpoints)
    return run_directory.check(workdir, stamped, **allowed)


def _allowed(
    config: Config, method: Method, recipe: Recipe, workdir: str, checkpoints: Checkpoints
) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Returns a run's config as it is kept, what of it may be another, and if epochs are added."""
    done = max(checkpoints.steps(), default=0)
    goes_on = goes_on_longer(config, method, recipe, workdir, done)
    ignored = (*schema.unaffecting_weights(), *(["num_epochs"] if goes_on else []))
    allowed = {"ignored": ignored, "usual": schema.usual(config.to_dict())}
    return schema.stamped(config.to_dict(), rbjax.__version__), allowed, goes_on


def goes_on_longer(
    config: Config, method: Method, recipe: Recipe, workdir: str, num_steps: int
) -> bool:
    """Returns whether a run is asked for more epochs, and has done nothing otherwise than these.

    That is so where the learning rate of every update so far is the same, which a constant one and
    one of steps is, and a cosine is not.

    Args:
        config: a resolved config.
        method: its method; one from outside may read how many epochs there are.
        recipe: its recipe.
        workdir: the run directory, which may be none yet.
        num_steps: that the run has made.
    """
    if not run_directory.is_run(workdir) or ":" in config.method.name:
        return False
    num_epochs = run_directory.read_config(workdir).get("num_epochs")
    if not isinstance(num_epochs, int) or num_epochs >= config.num_epochs:
        return False
    before = config.copy_and_resolve_references()
    with before.unlocked():
        before.num_epochs = num_epochs
    updates, size = jnp.arange(num_steps * method.replays), recipe.steps_per_epoch * method.replays
    there, here = (
        np.asarray(jax.vmap(setup.create_schedule(each, steps_per_epoch=size))(updates))
        for each in (before, config)
    )
    return np.array_equal(there, here)


def _steps_per_epoch(config: Config, num_examples: int, num_devices: int, origin: str) -> int:
    batch_size = config.batch_size
    if batch_size % num_devices:
        low = batch_size // num_devices * num_devices
        near = " or ".join(str(size) for size in (low, low + num_devices) if size)
        raise ValueError(
            f"batch_size = {batch_size}: must be divisible by the {num_devices} devices; "
            f"nearest: {near}"
        )
    if batch_size > num_examples:
        raise ValueError(
            f"batch_size = {batch_size}: must be at most {num_examples}, the training examples "
            + origin
        )
    return num_examples // batch_size
