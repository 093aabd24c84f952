"""What a long call has done so far, in a folder of its own: finished blocks, and what they are of.

Each finished block is a file, written under a temporary name and renamed; a block that takes long
is written every few seconds as far as it is. A damaged file counts as missing: its block is done
again. A header says what the folder belongs to, and each block what call and images it is of:
another call is refused, and a damaged header is written anew.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import hashlib
import json
import os
import sys
import time
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.tree_util import Partial

from rbjax import atomic, captures, programs, stops
from rbjax.errors import spelled
from rbjax.inputs import parts
from rbjax.paths import expanded

HEADER = "journal.json"
BLOCKS = "*-block-*"
"""What the files of finished blocks are called."""
_UNDER_WAY = "under_way-"
_SECONDS_BETWEEN_SAVES = 5.0
_CHECKSUM = "sha256"
"""Of all else in a header, which says so itself."""
FORMAT = 2
"""Of the folder. Blocks of format 1, of which headers do not speak, do not say what they are of."""


class Contents:
    """What the rows of a dataset hold: a digest of each image, taken when it is first read."""

    def __init__(self, images: Any, labels: np.ndarray, example_ids: np.ndarray) -> None:
        """Takes images (N, H, W, C), read where they have not been yet, labels and ids (N,)."""
        self._images = images
        self._numbers = np.stack([labels, example_ids], axis=1).astype(np.int32)
        self._digests = np.zeros((len(labels), 16), np.uint8)
        self._is_read = np.zeros(len(labels), bool)

    def note(self, rows: np.ndarray, images: np.ndarray) -> None:
        """Takes the digests of rows (M,) that were read, (M, H, W, C)."""
        for row, image in zip(rows, np.ascontiguousarray(images), strict=True):
            if not self._is_read[row]:
                state = hashlib.sha256(image.data).digest()[:16]
                self._digests[row] = np.frombuffer(state, np.uint8)
                self._is_read[row] = True

    def of(self, rows: np.ndarray) -> str:
        """Returns a digest of the images, labels and ids of rows (M,)."""
        missing = rows[~self._is_read[rows]]
        for some in parts(missing, self._images.shape[1:]):
            self.note(some, np.asarray(self._images[some]))
        return digest(self._numbers[rows], self._digests[rows])


class Journal:
    """A folder that belongs to one call."""

    def __init__(
        self,
        folder: str | Path,
        about: Mapping[str, Any],
        contents: Contents | None = None,
        *,
        own: Iterable[str] = (BLOCKS, f"{_UNDER_WAY}*"),
    ) -> None:
        """Opens a folder that is empty or belongs to the same call, and writes its header.

        Args:
            folder: made where it is missing. Processes may share it or have one of their own each.
            about: what the call is about, as JSON has it.
            contents: of the images that blocks are of; None: of none.
            own: patterns of the names that a call's own files have, for a folder whose header is
                still missing.

        Raises:
            ValueError: if the folder belongs to another call, naming what differs, or is none.
        """
        if not isinstance(folder, str | os.PathLike):
            raise ValueError(f"journal is {spelled(folder)}; it must be a folder")
        asked = atomic.plain({"format": FORMAT, **about})
        self.folder, self._contents = expanded(folder, field="journal"), contents
        self._call = _checksum(asked)[:16]
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
            self._write_header(asked)
        if not _is_of(self.folder, asked):
            logging.warning("%s is damaged and written anew", self.folder / HEADER)
            for block in (*self.folder.glob(f"{BLOCKS}.npz"), *self.folder.glob(f"{_UNDER_WAY}*")):
                # What it is of only the header said, in folders of earlier versions.
                if str((atomic.read_npz(block) or {}).get("call")) != self._call:
                    block.unlink(missing_ok=True)
            self._write_header(asked)

    def _write_header(self, asked: Mapping[str, Any]) -> None:
        atomic.write_json(self.folder / HEADER, {**asked, _CHECKSUM: _checksum(asked)})

    def read_block(self, name: str, rows: np.ndarray | None = None) -> dict[str, Any] | None:
        """Returns the arrays of a finished block, or None.

        Args:
            name: of the block.
            rows: (M,) numbers of the images that it is of; None: it is of none.

        Raises:
            ValueError: if it is of other images.
        """
        stored = atomic.read_npz(self.folder / f"{name}.npz")
        if stored is None:
            return None
        stored.pop("call", None)
        if str(stored.pop("of", "")) != self._of(rows):
            raise ValueError(
                f"journal = {str(self.folder)!r}: {name} is of other images than this call's"
                f"{'' if rows is None else f' from {rows[0]} to {rows[-1]}'}; give another folder"
            )
        return stored

    def write_block(self, name: str, rows: np.ndarray | None = None, **arrays: Any) -> None:
        """Writes a finished block; where it stood while under way is forgotten."""
        about = {"call": self._call, "of": self._of(rows)}
        atomic.write_npz(self.folder / f"{name}.npz", **about, **arrays)
        self._under_way.unlink(missing_ok=True)

    def read_unfinished(
        self, name: str, rows: np.ndarray | None = None
    ) -> dict[str, np.ndarray] | None:
        """Returns the arrays that say where a block of these images stood, or None."""
        stored = atomic.read_npz(self._under_way)
        if stored is None or str(stored.pop("block", "")) != name:
            return None
        stored.pop("call", None)
        return stored if str(stored.pop("of", "")) == self._of(rows) else None

    def write_unfinished(self, name: str, rows: np.ndarray | None = None, **arrays: Any) -> None:
        """Writes where a block stands, if that was not done in the last few seconds.

        Or at once where the job was asked to stop.
        """
        is_due = time.monotonic() - self._last_save >= _SECONDS_BETWEEN_SAVES
        if is_due or stops.requested():
            about = {"call": self._call, "of": self._of(rows), "block": name}
            atomic.write_npz(self._under_way, **about, **arrays)
            self._last_save = time.monotonic()

    def _of(self, rows: np.ndarray | None) -> str:
        return "" if rows is None or self._contents is None else self._contents.of(rows)


def header(folder: str | Path) -> dict[str, Any]:
    """Returns what a folder's header says; nothing where there is none, or it is damaged."""
    try:
        said = atomic.read_json(expanded(folder, field="journal") / HEADER)
    except (ValueError, OSError):
        return {}
    said = said if isinstance(said, dict) else {}
    checksum = said.pop(_CHECKSUM, None)
    return said if checksum in (None, _checksum(said)) else {}


def _is_of(folder: Path, asked: Mapping[str, Any]) -> bool:
    """Returns whether a folder's header is that of a call; False where it is damaged.

    Raises:
        ValueError: if it is another call's.
    """
    try:
        header = atomic.read_json(folder / HEADER)
    except (ValueError, OSError):
        return False
    if not isinstance(header, dict):
        return False
    where, checksum = f"journal = {str(folder)!r}", header.pop(_CHECKSUM, None)
    if all(header.get(name) == value for name, value in asked.items()):
        return checksum in (None, _checksum(header))
    if checksum is not None and checksum != _checksum(header):
        return False
    if header.get("format") != FORMAT:
        raise ValueError(
            f"{where}: is of another version of rbjax, whose blocks do not say what images they "
            "are of; give another folder"
        )
    name = next(name for name, value in asked.items() if header.get(name) != value)
    raise ValueError(
        f"{where}: belongs to a run with {name} = {header.get(name)}, this one has "
        f"{asked[name]}; give another folder"
    )


def _checksum(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def digest(*arrays: Any) -> str:
    """Returns 16 hexadecimal digits that change with any value, type or shape."""
    state = hashlib.sha256()
    for array in map(np.asarray, arrays):
        state.update(f"{array.dtype}{array.shape}".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()[:16]


def open_for(
    folder: str | Path, examples: Any, key: Any, *, call: str, model: Any, **about: Any
) -> tuple[Any, Journal]:
    """Returns examples that take note of what they read, and the journal of a call on them.

    Args:
        folder: of the journal.
        examples: `rbjax.blocks.Examples`.
        key: of the call.
        call: what it does, such as "attacks".
        model: as a person gave it.
        **about: what else the results depend on.

    Raises:
        ValueError: for another call's journal, or a model that cannot be known.
    """
    data = examples[:3]
    asked = jax.ShapeDtypeStruct((2, *examples.images.shape[1:]), np.float32)
    header = describe(key, *data, call=call, **about, model=identity(model, asked))
    contents = Contents(*data)
    return examples._replace(contents=contents), Journal(folder, header, contents)


def describe(
    key: Any, images: Any, labels: np.ndarray, example_ids: np.ndarray, **about: Any
) -> dict[str, Any]:
    """Returns what a header says of a call on a dataset; what images are, each block says.

    Args:
        key: one key.
        images: (N, H, W, C), whatever is indexed by row numbers.
        labels: (N,) integers.
        example_ids: (N,) integers.
        **about: what else the results depend on.

    Returns:
        JSON.
    """
    return {
        "rbjax": sys.modules["rbjax"].__version__,
        "key": np.asarray(jax.random.key_data(key)),
        "num_images": len(labels),
        "images": f"{images.dtype} {list(images.shape[1:])}",
        "labels": digest(labels.astype(np.int32)),
        "example_ids": digest(example_ids.astype(np.int32)),
        **about,
    }


def identity(value: Any, asked: Any = None) -> str:
    """Returns what is known of a function or an object of options, the same in another process.

    Args:
        value: a `Partial` is known by its function's name and its arrays, a dataclass by its
            fields, another function by its name.
        asked: (B, H, W, C) float32 images, or their shape and dtype; a model is known by the
            program that it is for them, and its weights. None for what is no model.

    Returns:
        One line of text.

    Raises:
        ValueError: if a model cannot be known.
    """
    if asked is not None and _is_record(value) and hasattr(value, "identity"):
        return value.identity(asked)
    if asked is not None and callable(value) and not _is_record(value):
        bound = jax.tree.leaves((value.args, value.keywords)) if isinstance(value, Partial) else []
        program = _known(value, lambda images: value(images), asked)
        return f"{_name(value)} {program} {digest(*map(_numbers, bound))}"
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

    Raises:
        ValueError: if nothing of that can be known.
    """
    return identity(value) if _is_ours(value) else f"{_name(value)} {_known(value, call, *args)}"


def _known(value: Any, call: Callable[..., Any], *args: Any) -> str:
    """Returns a text that changes with what a person's function does, and never by itself."""
    if isinstance(getattr(value, "fingerprint", None), str):
        return f"fingerprint {value.fingerprint}"
    try:
        return programs.digest(captures.trace(call, *args)[0])
    except Exception:  # noqa: S110 whatever a person's code raises: it says so when run
        pass
    try:
        return captures.digest(value)
    except captures.UnknownError as unknown:
        raise ValueError(
            f"journal: what {_name(value)} does cannot be known, since it is not traced and "
            f"{unknown}; give it an attribute `fingerprint`, a text that changes with it"
        ) from None


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


def _numbers(array: Any) -> Any:
    array = array if hasattr(array, "dtype") else np.asarray(array)
    is_key = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(array) if is_key else array
