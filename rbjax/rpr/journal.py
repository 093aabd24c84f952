"""The journal of a scoring run: its finished blocks, and where the block under way stands.

A block that is under way is written down every few seconds, beside what `rbjax.journal` keeps.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from rbjax import atomic, journal
from rbjax.rpr.lanes import Lanes

_UNDER_WAY = "under_way-"
_SECONDS_BETWEEN_SAVES = 5.0


@dataclasses.dataclass
class Journal(journal.Journal):
    """A folder that belongs to one scoring run; `None` for a folder keeps nothing."""

    process: int
    _last_save: float = dataclasses.field(default_factory=time.monotonic)

    def write_block(self, name: str, **arrays: Any) -> None:
        """Writes a finished block; where it stood while under way is forgotten."""
        super().write_block(name, **arrays)
        if self.folder is not None:
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
    claimed = journal.claim(folder, about, own=(f"{_UNDER_WAY}*", journal.BLOCKS))
    return Journal(claimed, 0 if claimed is None else jax.process_index())
