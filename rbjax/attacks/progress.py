"""How far a suite of attacks is: what it tells, and a bar that shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tqdm import tqdm


class Progress(NamedTuple):
    """What `run_attacks` tells while it runs."""

    attack: str
    """Its label; of a driver, with what that is doing."""
    done: int
    """Images attacked, or steps of a driver done."""
    of: int
    num_robust: int
    """Images that are still classified right."""


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[Progress], None]]:
    """Shows a bar for each attack: images done, how many are still right, time to go.

    In a terminal only. `with progress_bar() as progress: run_attacks(..., progress=progress)`

    Yields:
        What to give as `progress`.
    """
    with tqdm(leave=False, disable=None) as bar:
        shown = None

        def show(state: Progress) -> None:
            nonlocal shown
            bar.set_description(state.attack, refresh=False)
            bar.set_postfix(robust=f"{state.num_robust:,}", refresh=False)
            # A driver's parts are one bar.
            if state.attack.split(":")[0] != shown or state.done < bar.n:
                shown = state.attack.split(":")[0]
                bar.reset(state.of)
            bar.update(state.done - bar.n)

        yield show
