"""A run whose weights others trained: they are in a file, `model.weights`."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import rbjax
from rbjax import config as schema
from rbjax import models, processes
from rbjax.config import Config
from rbjax.errors import nearest
from rbjax.models import Model, Variables
from rbjax.paths import expanded
from rbjax.training import run_directory


def are_given(config: Config) -> bool:
    """Returns whether a run's weights are in a file; an earlier version's run has none."""
    return config.model.get("weights") is not None


def need_no_run(config: Config, workdir: str) -> bool:
    """Returns whether weights are given, and a directory that no run has begun in."""
    return are_given(config) and not run_directory.is_run(workdir)


def digest(path: str) -> str:
    """Returns the first 16 digits of the SHA-256 of a file of weights.

    Args:
        path: of the file; the names of torchvision's files end in the first 8 of them.

    Raises:
        ValueError: if there is no such file.
    """
    file, where = expanded(path, field="model.weights"), f"model.weights = {path!r}"
    if not file.is_file():
        beside = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
        what = "is a folder" if file.is_dir() else f"no such file{nearest(file.name, beside)}"
        raise ValueError(f"{where}: {what}; allowed: a .pt, .pth or .safetensors file")
    stat = file.stat()
    return _digest(file, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))


@functools.lru_cache(maxsize=4)
def _digest(file: Path, state: tuple[int, ...]) -> str:
    """`digest`, once for each state of the file."""
    del state
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]


def tie(config: Config) -> None:
    """Fills in the digest of a config's file, where it has one: a run directory belongs to it."""
    if are_given(config) and config.model.weights_digest is None:
        with config.unlocked():
            config.model.weights_digest = digest(config.model.weights)


def read(config: Config, model: Model, checkpoint: str | int | None = None) -> Variables:
    """Reads the weights of a config's file.

    Args:
        config: with `model.weights`, and `model.weights_digest` where the file is known.
        model: what they are for.
        checkpoint: what is asked for; there is one, which is "last".

    Raises:
        ValueError: if the file is another than it was, or a line for each tensor that does not fit.
    """
    if checkpoint not in (None, "last"):
        raise ValueError(
            f"checkpoint = {checkpoint!r}: given weights are of one file; leave it out"
        )
    path, expected = config.model.weights, config.model.get("weights_digest")
    if expected not in (None, digest(path)):
        raise ValueError(
            f"model.weights = {path!r}: is another file than it was, digest {digest(path)}, not "
            f"model.weights_digest = {expected}; restore it, or give another workdir"
        )
    return models.from_torch(model, path)


def prepare(config: Config, workdir: str) -> None:
    """Makes the run directory of given weights, or checks that it belongs to them.

    Args:
        config: a resolved config; without given weights nothing is done.
        workdir: the run directory.

    Raises:
        ValueError: as `run_directory.prepare`.
    """
    if are_given(config):
        processes.of_first(
            lambda: run_directory.prepare(
                workdir,
                schema.stamped(config.to_dict(), rbjax.__version__),
                ignored=schema.unaffecting_weights(),
                usual=schema.usual(config.to_dict()),
            )
        )
