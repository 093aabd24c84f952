"""How far a scoring is: what it tells, and a bar that shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tqdm import tqdm


class Progress(NamedTuple):
    """What `score` tells while it runs, of the images of this process."""

    num_images: int
    num_scored: int
    """Images that are finished."""
    num_robust: int
    """Those of them that withstood every draw."""
    forward_passes_run: int

    @property
    def num_survivors(self) -> int:
        """Images that no draw has fooled yet."""
        return self.num_images - self.num_scored + self.num_robust


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Callable[[Progress], None]]:
    """Shows images scored, survivors left, forward passes and time to go; in a terminal only.

    `with progress_bar("RPR") as progress: score(..., progress=progress)`

    Args:
        title: what stands before the bar.

    Yields:
        What to give as `progress`.
    """
    with tqdm(desc=title, unit="image", leave=False, disable=None) as bar:

        def show(state: Progress) -> None:
            bar.total = state.num_images
            bar.set_postfix(
                survivors=f"{state.num_survivors:,}", passes=f"{state.forward_passes_run:,}"
            )
            bar.update(state.num_scored - bar.n)

        yield show
