"""How far a long call is: what it tells whoever asks, and a bar that shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from tqdm import tqdm


class Progress(NamedTuple):
    """How far a long call is."""

    task: str
    """What is under way: an attack, a corruption and its severity; empty where there is one."""
    done: int
    """Images, or steps of what has steps; of several processes those of this one."""
    of: int
    figures: Mapping[str, int | float] = MappingProxyType({})
    """What else is known so far, by name, such as the images that are still correctly classified
    ("robust")."""


Tell = Callable[[Progress], object]
"""What is called with a `Progress`."""


@contextlib.contextmanager
def progress_bar(title: str = "") -> Iterator[Tell]:
    """Shows a bar for each task: how much is done, its figures and the time to go.

    In a terminal only. `with progress_bar() as progress: run_attacks(..., progress=progress)`

    Args:
        title: what stands before the bar.

    Yields:
        What to give as `progress`.
    """
    with tqdm(leave=False, disable=None) as bar:
        shown = None

        def show(state: Progress) -> None:
            nonlocal shown
            names = [name for name in (title, state.task) if name]
            bar.set_description(": ".join(names), refresh=False)
            figures = {k: f"{v:,}" if isinstance(v, int) else v for k, v in state.figures.items()}
            bar.set_postfix(figures, refresh=False)
            # The parts of an attack that has parts, "label: part", are one bar.
            if state.task.split(":")[0] != shown or state.done < bar.n:
                shown = state.task.split(":")[0]
                bar.reset(state.of)
            bar.update(state.done - bar.n)
            if state.done == state.of:
                bar.refresh()

        yield show
