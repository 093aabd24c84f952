"""What a long call has done so far, in a folder of its own: finished blocks, and what they are of.

Each finished block is a file, written under a temporary name and renamed; a block that takes long
is written every few seconds as far as it is. A damaged file counts as missing: its block is done
again. A header says what the folder belongs to; another call is refused.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import hashlib
import json
import os
import re
import time
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from rbjax import atomic, captures
from rbjax.errors import spelled
from rbjax.paths import expanded

HEADER = "journal.json"
BLOCKS = "*-block-*"
"""What the files of finished blocks are called."""
_UNDER_WAY = "under_way-"
_SECONDS_BETWEEN_SAVES = 5.0
_SAMPLED_IMAGES = 64


class Journal:
    """A folder that belongs to one call."""

    def __init__(
        self,
        folder: str | Path,
        about: Mapping[str, Any],
        *,
        own: Iterable[str] = (BLOCKS, f"{_UNDER_WAY}*"),
    ) -> None:
        """Opens a folder that is empty or belongs to the same call, and writes its header.

        Args:
            folder: made where it is missing. Processes may share it or have one of their own each.
            about: what the call is about, as JSON has it.
            own: patterns of the names that a call's own files have, for a folder whose header is
                still missing.

        Raises:
            ValueError: if the folder belongs to another call, naming what differs, or is none.
        """
        if not isinstance(folder, str | os.PathLike):
            raise ValueError(f"journal is {spelled(folder)}; it must be a folder")
        self.folder, asked = expanded(folder, field="journal"), atomic.plain(about)
        self._last_save = time.monotonic()
        self._under_way = self.folder / f"{_UNDER_WAY}{jax.process_index()}.npz"
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"journal = {str(folder)!r}: is a file; give a folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / HEADER).exists():
            for file in self.folder.iterdir():
                # Where processes share the folder, another one may have begun; where one was
                # killed, a file that it had not finished may be left.
                unfinished = file.name.endswith(atomic.TEMPORARY)
                begun = any(fnmatch.fnmatchcase(file.name, pattern) for pattern in (HEADER, *own))
                if not (unfinished or begun):
                    raise ValueError(
                        f"journal = {str(folder)!r}: holds other files ({file.name}); give an "
                        "empty folder"
                    )
            atomic.write_json(self.folder / HEADER, asked)
        _check_header(self.folder, asked)

    def read_block(self, name: str) -> dict[str, np.ndarray] | None:
        """Returns the arrays of a finished block, or None."""
        return atomic.read_npz(self.folder / f"{name}.npz")

    def write_block(self, name: str, **arrays: Any) -> None:
        """Writes a finished block; where it stood while under way is forgotten."""
        atomic.write_npz(self.folder / f"{name}.npz", **arrays)
        self._under_way.unlink(missing_ok=True)

    def read_unfinished(self, name: str) -> dict[str, np.ndarray] | None:
        """Returns the arrays that say where a block stood, or None."""
        stored = atomic.read_npz(self._under_way)
        return None if stored is None or str(stored.pop("block")) != name else stored

    def write_unfinished(self, name: str, **arrays: Any) -> None:
        """Writes where a block stands, if that was not done in the last few seconds."""
        if time.monotonic() - self._last_save >= _SECONDS_BETWEEN_SAVES:
            atomic.write_npz(self._under_way, block=name, **arrays)
            self._last_save = time.monotonic()


def _check_header(folder: Path, asked: Mapping[str, Any]) -> None:
    where = f"journal = {str(folder)!r}"
    try:
        header = json.loads((folder / HEADER).read_text())
    except ValueError:
        raise ValueError(f"{where}: {HEADER} is damaged; remove the folder") from None
    # Folders of earlier versions do not say of what kind of call they are.
    header = {**{name: asked[name] for name in asked if name == "call"}, **header}
    for name in asked:
        if header.get(name) != asked[name]:
            raise ValueError(
                f"{where}: belongs to a run with {name} = {header.get(name)}, this one has "
                f"{asked[name]}; give another folder"
            )


def digest(*arrays: Any) -> str:
    """Returns 16 hexadecimal digits that change with any value, type or shape."""
    state = hashlib.sha256()
    for array in map(np.asarray, arrays):
        state.update(f"{array.dtype}{array.shape}".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()[:16]


def sample(images: Any) -> np.ndarray:
    """Returns a few images from all over a dataset, to know it by."""
    rows = np.unique(np.linspace(0, len(images) - 1, _SAMPLED_IMAGES).astype(np.int64))
    return np.stack([np.asarray(images[int(row)]) for row in rows])


def describe(
    key: Any, images: Any, labels: np.ndarray, example_ids: np.ndarray, **about: Any
) -> dict[str, Any]:
    """Returns what a header says of a call on a dataset.

    Args:
        key: one key.
        images: (N, H, W, C), whatever is indexed by row numbers.
        labels: (N,) integers.
        example_ids: (N,) integers.
        **about: what else the results depend on, the model last: what is known of it follows from
            the images, and what differs first is named.

    Returns:
        JSON.
    """
    return {
        "key": np.asarray(jax.random.key_data(key)),
        "num_images": len(labels),
        "images": digest(sample(images)),
        "labels": digest(labels.astype(np.int32)),
        "example_ids": digest(example_ids.astype(np.int32)),
        **about,
    }


def identity(value: Any, asked: Any = None) -> str:
    """Returns what is known of a function or an object of options, the same in another process.

    Args:
        value: a `Partial` is known by its function's name and its arrays, a dataclass by its
            fields, another function by its name.
        asked: (B, H, W, C) float32, a few images; a model is known by what it computes of them:
            its operations, weights and answers. None for what is no model.

    Returns:
        One line of text.
    """
    if asked is not None and _is_record(value) and hasattr(value, "identity"):
        return value.identity(asked)
    if asked is not None and callable(value) and not _is_record(value):
        # Two models may give the same answers to a few images, and two functions have one name.
        model: Any = value
        traced, _ = captures.trace(lambda images: model(images), asked)
        answers = jnp.argmax(model(asked), axis=-1)
        bound = jax.tree.leaves((value.args, value.keywords)) if isinstance(value, Partial) else []
        return f"{_name(value)} {_digest_of(traced, *bound, answers=answers)}"
    if isinstance(value, Partial):
        arrays = jax.tree.leaves((value.args, value.keywords))
        return f"{identity(value.func)} {digest(*arrays)}"
    if not callable(value) or _is_record(value):
        return _spelled(value)
    return _name(value)


def _name(value: Any) -> str:
    value = value.func if isinstance(value, Partial) else value
    return getattr(value, "__qualname__", type(value).__qualname__)


def function_identity(value: Any, call: Callable[..., Any], *args: Any) -> str:
    """Returns what is known of a perturbation, a corruption or an attack; see `identity`.

    One that is a person's, in whole or in part, is known by the program that it makes, or by its
    code and what that reads where it makes none.

    Args:
        value: the function, or an object of options.
        call: what calls it, a function of arrays.
        *args: arrays, or their shapes and dtypes.
    """
    if _is_ours(value):
        return identity(value)
    try:
        jaxpr, _ = captures.trace(call, *args)
    except Exception:  # whatever a person's code raises: it says so when it is run
        return f"{identity(value)} {captures.digest(value)}"
    code = captures.digest(value) if "callback" in str(jaxpr) else ""
    return f"{identity(value)} {_digest_of(jaxpr)}{code}"


def _is_ours(value: Any) -> bool:
    """Returns whether nothing of a person's is in a function or an object of options."""
    if _is_record(value):
        fields = (getattr(value, field.name) for field in dataclasses.fields(value))
        return captures.is_of_library(type(value).__module__) and all(map(_is_ours, fields))
    if isinstance(value, tuple | list):
        return all(map(_is_ours, value))
    if isinstance(value, Partial):
        return _is_ours(value.func)
    if isinstance(value, str):
        return ":" not in value  # package.module:maker
    if isinstance(value, types.MethodType):
        return _is_ours(value.__self__) and _is_ours(value.__func__)
    if isinstance(value, types.FunctionType) or hasattr(value, "__wrapped__"):
        is_closed = bool(getattr(value, "__closure__", None))
        return captures.is_of_library(value.__module__) and not is_closed
    if isinstance(value, functools.partial):
        return False
    return not callable(value) or captures.is_of_library(type(value).__module__)


def _digest_of(traced: Any, *bound: Any, answers: Any = None) -> str:
    """Returns a digest of a program and its arrays, without the addresses in its text."""
    text = re.sub(r"0x[0-9a-f]+", "", str(traced.jaxpr))
    arrays = [*captures.constants(traced), *bound]
    return digest(text, *map(_numbers, arrays), *([] if answers is None else [answers]))


def _spelled(value: Any) -> str:
    """Returns what `repr` does of plain values, without the addresses it has for functions."""
    if _is_record(value):
        shown = [field.name for field in dataclasses.fields(value) if field.repr]
        fields = (f"{name}={_spelled(getattr(value, name))}" for name in shown)
        return f"{type(value).__qualname__}({', '.join(fields)})"
    if isinstance(value, tuple):
        names = getattr(value, "_fields", None)
        if names is not None:
            fields = (f"{name}={_spelled(entry)}" for name, entry in zip(names, value, strict=True))
            return f"{type(value).__name__}({', '.join(fields)})"
        return f"({', '.join(map(_spelled, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, np.ndarray | jax.Array):
        return f"array {digest(_numbers(value))}"
    return identity(value) if callable(value) else repr(value)


def _is_record(value: Any) -> bool:
    """Returns whether a value is a dataclass's instance."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _numbers(array: np.ndarray | jax.Array) -> Any:
    is_key = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(array) if is_key else array
