"""Where a model runs: JAX functions on the devices, black boxes on the host."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import Partial

from rbjax.rpr.lanes import Dataset, Draws, Lanes, advance, classify
from rbjax.typing import Array, Key, LogitsFn, Perturbation

_AXIS = "data"


class Runner(Protocol):
    """What scoring asks of a model; arrays have a leading axis of devices."""

    @property
    def num_devices(self) -> int:
        """Devices a block is dealt to."""
        ...

    def place(self, tree: Any) -> Any:
        """Returns numpy arrays with a leading axis of devices, where the model wants them."""
        ...

    def classify(self, dataset: Dataset, batch_size: int) -> np.ndarray:
        """Returns (D, R) bool, whether each image as it is is classified right."""
        ...

    def advance(
        self,
        key: Key,
        dataset: Dataset,
        lanes: Lanes,
        draws: Draws,
        num_iterations: int,
        enough_lanes: int,
    ) -> Lanes:
        """Returns the lanes after `rpr.lanes.advance`, on the host."""
        ...


class Compiled(NamedTuple):
    """A JAX function, compiled once for each number of lanes."""

    devices: tuple[Any, ...]
    logits_fn: LogitsFn
    perturbation: Perturbation

    @property
    def num_devices(self) -> int:
        """Devices a block is dealt to."""
        return len(self.devices)

    def place(self, tree: Any) -> Any:
        """Returns the arrays on the devices."""
        return jax.device_put(tree, _shardings(self.devices)[0])

    def classify(self, dataset: Dataset, batch_size: int) -> np.ndarray:
        """Returns (D, R) bool, whether each image as it is is classified right."""
        programs = _programs(self.devices, isinstance(self.logits_fn, Partial))
        return np.asarray(programs.classify(batch_size, self.logits_fn, dataset))

    def advance(
        self,
        key: Key,
        dataset: Dataset,
        lanes: Lanes,
        draws: Draws,
        num_iterations: int,
        enough_lanes: int,
    ) -> Lanes:
        """Returns the lanes after `rpr.lanes.advance`, on the host."""
        programs = _programs(self.devices, isinstance(self.logits_fn, Partial))
        key = jax.device_put(key, _shardings(self.devices)[1])
        lanes = programs.advance(
            self.perturbation,
            self.logits_fn,
            key,
            dataset,
            self.place(lanes),
            draws,
            num_iterations,
            enough_lanes,
        )
        return jax.device_get(lanes)


def compile_for(
    devices: Sequence[Any], logits_fn: LogitsFn, perturbation: Perturbation
) -> Compiled:
    """Returns a JAX function's runner, its weights on the devices."""
    if isinstance(logits_fn, Partial):
        logits_fn = jax.device_put(logits_fn, _shardings(tuple(devices))[1])
    return Compiled(tuple(devices), logits_fn, perturbation)


class _Programs(NamedTuple):
    advance: Callable[..., Lanes]
    classify: Callable[..., Array]


@functools.cache
def _programs(devices: tuple[Any, ...], is_partial: bool) -> _Programs:
    """Returns the compiled parts; a plain logits function is part of the program."""
    static = (0,) if is_partial else (0, 1)
    return _Programs(
        advance=jax.pmap(
            advance,
            axis_name=_AXIS,
            in_axes=(None, None, None, 0, 0, None, None, None),
            static_broadcasted_argnums=static,
            devices=devices,
        ),
        classify=jax.pmap(
            classify,
            axis_name=_AXIS,
            in_axes=(None, None, 0),
            static_broadcasted_argnums=static,
            devices=devices,
        ),
    )


def _shardings(devices: tuple[Any, ...]) -> tuple[NamedSharding, NamedSharding]:
    """Returns where arrays with an axis of devices go, and where those without one do."""
    mesh = Mesh(np.asarray(devices), (_AXIS,))
    return NamedSharding(mesh, PartitionSpec(_AXIS)), NamedSharding(mesh, PartitionSpec())
