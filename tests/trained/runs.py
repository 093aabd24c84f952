"""Run directories to load: one that was trained once, and some that never were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import rbjax
from rbjax import config as schema
from rbjax import methods
from rbjax.training import run_directory, setup
from rbjax.training.state import create_state
from tests.contracts.test_methods import options

TRAINED = str(Path(__file__).parents[1] / "fixtures" / "run_v0")
IMAGES: Any = np.random.default_rng(0).random((3, 16, 16, 1)).astype(np.float32)


def config_of(method="standard", **fields):
    """Returns the resolved config of a tiny network on the digits."""
    config = schema.default()
    config.model.update(name="mlp", widths=(2,))
    for name, group in {"method": {"name": method, **options(method)}, **fields}.items():
        config[name].update(group)
    return schema.resolve(config)


def made(folder, config, *, steps=(0,), best=None):
    """Makes a run directory of weights that were never trained; returns them by step."""
    run_directory.prepare(folder, schema.stamped(config.to_dict(), rbjax.__version__))
    model = setup.create_model(config, setup.info(config))
    method = methods.create(config.method.name, **setup.options(config, "method"))
    states, ema = {}, config.optimizer.ema_decay is not None
    extra = {} if best is None else {"selection": {"step": best}}
    for step in steps:
        key = jax.random.key(step)
        state = create_state(key, model, method, optax.sgd(0.1), num_rows=8, ema=ema)
        states[step] = jax.device_get(state)
        if step == best:
            setup.best_checkpoints(folder).save(step, {"variables": states[step].variables})
        setup.checkpoints(folder, keep=2).save(step, states[step], extra=extra)
    return states
