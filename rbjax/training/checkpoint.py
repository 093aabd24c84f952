"""Checkpoints: Orbax writes them, a manifest of SHA-256 digests says whether they are intact.

Orbax commits a step by renaming its folder, and does not check what it reads back: a flipped bit
loads silently.  A step therefore counts only once its manifest, with the digest of every file, is
in place, and an older step is deleted only after that: a run killed at any moment still has the
previous step.  Leaves are stored by name as host arrays, so that a checkpoint from any number of
devices can be restored on any other, and part of a state (the weights alone) can be read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging as python_logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils

from rbjax import atomic, processes
from rbjax.inputs import check_integer
from rbjax.training import intact
from rbjax.training.intact import AGAIN, BEFORE, MANIFEST

PyTree = Any

_SECONDS_TO_END = 0.3
_RENAMED = {"method_state.replicated": "method_state.replicated.delta"}
"""What leaves of earlier versions are called today: universal training's perturbation was one."""


class Restored(NamedTuple):
    """What `Checkpoints.restore_latest` returns."""

    step: int
    state: PyTree
    """In the structure, dtypes and placement of the template."""
    extra: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: their folder; made by the first `save`.
        keep: how many of the newest steps are kept, >= 1.

    Raises:
        ValueError: if `keep` is below 1.
    """

    directory: Path
    keep: int = 2

    def __post_init__(self) -> None:
        check_integer("checkpoint.keep", self.keep, low=1)
        # Orbax fails late on a relative path, and leaves a temporary folder.
        object.__setattr__(self, "directory", Path(self.directory).resolve())

    def save(
        self,
        step: int,
        state: PyTree,
        *,
        extra: Mapping[str, Any] | None = None,
        again: bool = False,
    ) -> None:
        """Writes one checkpoint; once this returns, it is on the disk.

        Damaged and unfinished steps in its way are replaced.  With several processes, all of them
        must call it.

        Args:
            step: updates made, >= 0; newer than every intact step.
            state: a tree of arrays and numbers of any dtype, on any devices.
            extra: anything JSON can hold, for example the position in the data.
            again: whether it takes the place of the same step, which stays until it is written.

        Raises:
            ValueError: if the step is not newer, or a leaf is a typed key.
            FullDiskError: if there is no room for it; older steps stay.
        """
        _quiet_orbax()
        arrays = {}
        for name, leaf in _named_leaves(state).items():
            if isinstance(leaf, jax.Array):
                if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                    raise ValueError(
                        f"{name} is a typed key; keys are derived from the seed and never stored"
                    )
                # What other processes hold parts of is gathered.
                if not (leaf.is_fully_addressable or leaf.is_fully_replicated):
                    leaf = multihost_utils.process_allgather(leaf, tiled=True)
            arrays[name] = np.asarray(leaf)
        processes.of_first(lambda: self._write(int(step), arrays, extra or {}, again))

    def _write(
        self, step: int, arrays: Mapping[str, Any], extra: Mapping[str, Any], again: bool
    ) -> None:
        path = self.directory / f"{step}{AGAIN if again else ''}"
        self.directory.mkdir(parents=True, exist_ok=True)
        self._clear_the_way(step + again)
        try:
            with atomic.room(self.directory), _quiet_writes():
                # Asked before: where Orbax finds out, its threads print tracebacks of their own.
                atomic.check_room(self.directory, sum(x.nbytes for x in arrays.values()))
                self._write_files(path, arrays, extra)
        except BaseException:  # half a checkpoint helps nobody, and takes room
            shutil.rmtree(path, ignore_errors=True)
            self._delete_temporary()
            raise

    def _write_files(self, path: Path, arrays: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
        with _checkpointer() as checkpointer:
            checkpointer.save(
                path,
                args=ocp.args.Composite(
                    # Orbax refuses arrays of no elements; the template says all about them.
                    state=ocp.args.StandardSave({k: v for k, v in arrays.items() if v.size}),
                    extra=ocp.args.JsonSave(atomic.plain(extra)),
                ),
            )
        digests = {}
        for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != MANIFEST):
            atomic.sync(file)
            digests[file.relative_to(path).as_posix()] = intact.digest(file)
        atomic.write_json(path / MANIFEST, digests)
        atomic.sync(path.parent)
        if path.suffix == AGAIN:
            path.with_suffix("").rename(path.with_suffix(BEFORE))
            intact.recover(self.directory)
        self._delete_old()

    def restore_latest(self, template: PyTree, *, partial: bool = False) -> Restored | None:
        """Reads the newest intact checkpoint, with a warning for every newer one that is damaged.

        Args:
            template: a state, or `jax.ShapeDtypeStruct`s, with the expected shapes and dtypes.  A
                leaf on devices (or with a sharding) is restored there, any other as numpy.
            partial: whether the checkpoint may hold more than the template, for example
                `{"variables": ...}` of a whole training state.

        Returns:
            Step, state and extra; None if there is no checkpoint.  No file is changed.

        Raises:
            ValueError: if none of the checkpoints is intact, or the newest intact one has names,
                shapes or dtypes other than the template's.
        """
        _quiet_orbax()
        return _shared(template, lambda: self._latest(template, partial))

    def _latest(self, template: PyTree, partial: bool) -> Restored | None:
        damages: list[str] = []
        for step in self.steps():
            damage = intact.damage(self.directory / str(step))
            if damage is None:
                return _restore(self.directory / str(step), template, partial)
            damages.append(f"step {step}: {damage}")
            logging.warning("skipping the checkpoint of step %d: %s", step, damage)
        if not damages:
            return None
        raise ValueError(
            f"none of the checkpoints in {self.directory} is intact ({'; '.join(damages)}); "
            "restore one from a copy, or delete the folder to start over"
        )

    def restore(self, step: int, template: PyTree, *, partial: bool = False) -> Restored | None:
        """Reads the checkpoint of one step.

        Args:
            step: its step.
            template: as for `restore_latest`.
            partial: as for `restore_latest`.

        Returns:
            As `restore_latest`; None if it is not there.

        Raises:
            ValueError: if it is damaged, or is not of the template's form.
        """
        _quiet_orbax()
        return _shared(template, lambda: self._of(step, template, partial))

    def _of(self, step: int, template: PyTree, partial: bool) -> Restored | None:
        if step not in self.steps():
            return None
        if (damage := intact.damage(self.directory / str(step))) is not None:
            raise ValueError(f"the checkpoint of step {step} in {self.directory}: {damage}")
        return _restore(self.directory / str(step), template, partial)

    def delete_after(self, step: int) -> None:
        """Deletes what a run that goes on from a step is going to make again."""

        def delete() -> None:
            for newer in (s for s in self.steps() if s > step):
                intact.delete(self.directory / str(newer))

        processes.of_first(delete)

    def steps(self) -> list[int]:
        """Returns the steps that have a folder, intact or not, newest first."""
        if not self.directory.is_dir():
            return []
        names = [p.name for p in self.directory.iterdir() if p.is_dir()]
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def has(self, step: int) -> bool:
        """Whether the checkpoint of a step is there and intact."""
        return processes.of_first(
            lambda: step in self.steps() and intact.damage(self.directory / str(step)) is None
        )

    def _clear_the_way(self, step: int) -> None:
        """Deletes what a killed run left behind, and damaged steps that are newer."""
        for newer in (s for s in self.steps() if s >= step):
            if intact.damage(self.directory / str(newer)) is None:
                raise ValueError(
                    f"step {step} cannot be saved: {self.directory} already holds an intact "
                    f"step {newer}"
                )
            intact.delete(self.directory / str(newer))
        self._delete_temporary()

    def _delete_temporary(self) -> None:
        for leftover in self.directory.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _delete_old(self) -> None:
        """Keeps only the newest finished steps."""
        steps = self.steps()
        finished = [s for s in steps if (self.directory / str(s) / MANIFEST).exists()]
        for step in set(steps) - set(finished[: self.keep]):
            intact.delete(self.directory / str(step))


def _shared(template: PyTree, read: Callable[[], Restored | None]) -> Restored | None:
    """Returns, in every process, what process 0 reads: others may not see its files yet."""
    if jax.process_count() == 1:
        return read()
    mine: list[Restored | None] = [None]

    def first() -> Any:
        mine[0] = read()
        return mine[0] and [mine[0].step, atomic.plain(mine[0].extra)]

    told = processes.of_first(first)
    if told is None:
        return None
    expected, form = jax.tree.flatten(template)
    own = expected if mine[0] is None else jax.tree.leaves(mine[0].state)
    own = [np.zeros(x.shape, x.dtype) if mine[0] is None else np.asarray(x) for x in own]
    leaves = [
        _placed(array, getattr(leaf, "sharding", None))
        for array, leaf in zip(processes.arrays_of_first(own), expected, strict=True)
    ]
    return Restored(told[0], form.unflatten(leaves), told[1])


def _placed(array: Any, sharding: Any) -> Any:
    """Returns an array where a template has it; without a sharding as numpy."""
    if sharding is None:
        return array
    if sharding.is_fully_addressable:
        # Copied: on CPU a device array may share numpy's buffer, and the state is donated.
        return jax.device_put(array, sharding, may_alias=False)
    return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)


def _restore(path: Path, template: PyTree, partial: bool) -> Restored:
    with _checkpointer() as checkpointer:
        stored = checkpointer.restore(
            path,
            args=ocp.args.Composite(state=ocp.args.StandardRestore(), extra=ocp.args.JsonRestore()),
        )
    expected = _named_leaves(template)
    arrays = {k: np.zeros(v.shape, v.dtype) for k, v in expected.items() if not np.size(v)}
    arrays |= stored.state
    for before, name in _RENAMED.items():
        if name in expected and name not in arrays and before in arrays:
            arrays[name] = arrays.pop(before)
    _check_fits(path, arrays, expected, partial)
    leaves = [
        _placed(arrays[name], getattr(leaf, "sharding", None)) for name, leaf in expected.items()
    ]
    state = jax.tree.unflatten(jax.tree.structure(template), leaves)
    return Restored(int(path.name), state, stored.extra)


def _check_fits(
    path: Path, stored: Mapping[str, Any], expected: Mapping[str, Any], partial: bool
) -> None:
    """Compares a checkpoint with the template."""
    wrong = [f"it lacks {name}" for name in expected if name not in stored]
    if not partial:
        wrong += [f"it holds {name}, which is not expected" for name in stored.keys() - expected]
    for name in expected.keys() & stored.keys():
        there, here = _form(stored[name]), _form(expected[name])
        if there != here:
            wrong.append(f"its {name} is {there}, not {here}")
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(
            f"checkpoint {path} belongs to another model, optimizer or method: "
            f"{'; '.join(sorted(wrong)[:3])}{more}"
        )


def _named_leaves(tree: PyTree) -> dict[str, Any]:
    """Leaves by dotted name, the same for a key of a dict and a field of a NamedTuple."""
    leaves: dict[str, Any] = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if name in leaves:
            raise ValueError(f"two leaves of the state are called {name!r}")
        leaves[name] = leaf
    return leaves


def _form(leaf: Any) -> str:
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return f"{dtype}{list(np.shape(leaf))}"


def _checkpointer() -> ocp.Checkpointer:
    """Returns Orbax's, which waits for no other process: process 0 alone reads and writes."""
    options = ocp.options.MultiprocessingOptions(0, {0}, "rbjax")
    if jax.process_count() == 1:
        options = ocp.options.MultiprocessingOptions()
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=options),
        state=ocp.StandardCheckpointHandler(multiprocessing_options=options),
        extra=ocp.JsonCheckpointHandler(multiprocessing_options=options),
    )
    return ocp.Checkpointer(handler, multiprocessing_options=options)


@contextlib.contextmanager
def _quiet_writes() -> Iterator[None]:
    """Drops what writes raise that Orbax has given up: Python would print it. Awaits them."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda what: None if _is_of_a_write(what.exc_value) else hook(what)
    try:
        yield
    except BaseException:
        time.sleep(_SECONDS_TO_END)
        raise
    finally:
        sys.unraisablehook = hook


def _is_of_a_write(error: BaseException | None) -> bool:
    return isinstance(error, RuntimeError) and str(error) == "Event loop is closed"


def _quiet_orbax() -> None:
    """Keeps Orbax's progress out of the log: some forty lines a checkpoint.

    Its threads log the traceback of what they raise, too, which `save` raises again.
    """
    python_logging.getLogger("absl").addFilter(_is_not_orbax_chatter)


def _is_not_orbax_chatter(record: python_logging.LogRecord) -> bool:
    is_told = record.levelno >= python_logging.WARNING and not record.exc_info
    return is_told or "orbax" not in Path(record.pathname).parts
