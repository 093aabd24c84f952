"""What a scoring run has done so far, in a folder: finished blocks, and where the last one stands.

Each finished block is a file, written under a temporary name and renamed. A block that is under way
is written down every few seconds. A damaged file counts as not there: its block is scored again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rbjax import atomic
from rbjax.rpr.lanes import Lanes

_HEADER = "journal.json"
_UNDER_WAY = "under_way-"
_SECONDS_BETWEEN_SAVES = 5.0
_SAMPLED_IMAGES = 64


@dataclasses.dataclass
class Journal:
    """A folder that belongs to one scoring run; `None` for a folder keeps nothing."""

    folder: Path | None
    process: int
    _last_save: float = dataclasses.field(default_factory=time.monotonic)

    def read_block(self, name: str) -> dict[str, np.ndarray] | None:
        """Returns the arrays of a finished block, or None."""
        return None if self.folder is None else atomic.read_npz(self.folder / f"{name}.npz")

    def write_block(self, name: str, **arrays: Any) -> None:
        """Writes a finished block; where it stood while under way is forgotten."""
        if self.folder is not None:
            atomic.write_npz(self.folder / f"{name}.npz", **arrays)
            self._lanes_file(self.folder).unlink(missing_ok=True)

    def read_lanes(self, name: str) -> tuple[Lanes, int] | None:
        """Returns where a block stood and the forward passes run for it, or None."""
        if self.folder is None:
            return None
        found = atomic.read_npz(self._lanes_file(self.folder))
        if found is None or str(found["block"]) != name:
            return None
        return Lanes(*(found[field] for field in Lanes._fields)), int(found["passes"])

    def write_lanes(self, name: str, lanes: Lanes, num_passes: int) -> None:
        """Writes where a block stands, if that was not done in the last few seconds."""
        if self.folder is None or time.monotonic() - self._last_save < _SECONDS_BETWEEN_SAVES:
            return
        fields = {"block": name, "passes": num_passes, **lanes._asdict()}
        atomic.write_npz(self._lanes_file(self.folder), **fields)
        self._last_save = time.monotonic()

    def _lanes_file(self, folder: Path) -> Path:
        return folder / f"{_UNDER_WAY}{self.process}.npz"


def open_journal(folder: str | Path | None, about: Callable[[], Mapping[str, Any]]) -> Journal:
    """Returns the journal of a folder, which must be empty or belong to the same run.

    Args:
        folder: made where it is missing; None keeps nothing. Processes may share it or have one of
            their own each.
        about: what the run is about, as JSON has it.

    Returns:
        The journal.

    Raises:
        ValueError: if the folder belongs to another run, naming what differs, or is none.
    """
    if folder is None:
        return Journal(None, 0)
    folder, asked = Path(folder), atomic.plain(about())
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"journal = {str(folder)!r}: is a file; give a folder")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / _HEADER).exists():
        _check_free(folder)
        atomic.write_json(folder / _HEADER, asked)
    _check_header(folder, asked)
    return Journal(folder, jax.process_index())


def _check_free(folder: Path) -> None:
    """Raises a ValueError for a folder that holds what is not a journal's."""
    for file in folder.iterdir():
        # Where processes share the folder, another one may have begun; where one was killed, a
        # file that it had not finished may be left.
        unfinished = file.name.endswith(atomic.TEMPORARY)
        begun = file.name == _HEADER or file.name.startswith(_UNDER_WAY) or "-block-" in file.name
        if not (unfinished or begun):
            raise ValueError(
                f"journal = {str(folder)!r}: holds other files ({file.name}); give an empty folder"
            )


def _check_header(folder: Path, asked: Mapping[str, Any]) -> None:
    where = f"journal = {str(folder)!r}"
    try:
        found = json.loads((folder / _HEADER).read_text())
    except ValueError:
        raise ValueError(f"{where}: {_HEADER} is damaged; remove the folder") from None
    for name in asked:
        if found.get(name) != asked[name]:
            raise ValueError(
                f"{where}: belongs to a run with {name} = {found.get(name)}, this one has "
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
