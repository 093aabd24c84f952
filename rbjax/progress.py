"""How far a long call is: what it tells whoever asks, and what shows it.

A bar in a terminal and in a notebook; in a log a line now and then.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0
"""In a log; what takes less says nothing there."""
_SECONDS_BETWEEN_DRAWINGS = 0.25
"""In a notebook: each goes through the browser."""
_WIDTH = 100
"""Of a bar in a notebook, in characters."""


class Progress(NamedTuple):
    """How far a long call is."""

    task: str
    """What is under way: an attack, a corruption and its severity; empty where there is one."""
    done: int
    """Images, or steps of what has steps; of several processes those of this one."""
    of: int
    """Of how many; 0: not known."""
    figures: Mapping[str, int | float] = MappingProxyType({})
    """What else is known so far, by name, such as the images that are still correctly classified
    ("robust")."""


Tell = Callable[[Progress], object]
"""What is called with a `Progress`."""
ShowProgress = bool | Tell | None
"""The option `progress` of long calls: True: a bar, or lines in a log; a function: it is called
with a `Progress`; False or None: nothing."""


def teller(progress: ShowProgress, title: str = "") -> Tell | None:
    """Returns what a call tells how far it is.

    Args:
        progress: as it was given to the call.
        title: what stands before a bar.

    Raises:
        ValueError: if it is neither true, false nor a function.
    """
    if progress is None or progress is False:
        return None
    if progress is True:
        return _display(title)
    if not callable(progress):
        raise ValueError(
            f"progress is {progress!r}; it must be True, False, or a function of a Progress"
        )
    return progress


@contextlib.contextmanager
def progress_bar(title: str = "", *, unit: str = "") -> Iterator[Tell]:
    """Shows how much of each task is done, its figures and the time to go.

    A bar in a terminal and in a notebook, gone when the task is done; elsewhere a line with rate
    and time left, one every 10 seconds at most. `with progress_bar("of A") as progress:
    run_attacks(..., progress=progress)`; a call's `progress=True` is the same without a title.

    Args:
        title: what stands before the bar.
        unit: what is counted, where it is not images or steps: "B" for bytes.

    Yields:
        What to give as `progress`.
    """
    display = _display(title, unit)
    try:
        yield display
    finally:
        display.close()


class _Display:
    """Shows one task after another on a surface; what is shown of a task goes when it is done."""

    def __init__(self, title: str, unit: str, surface: _Surface) -> None:
        self._title, self._unit, self._surface = title, unit, surface
        self._task, self._done = None, 0
        self._begun, self._first = 0.0, 0

    def __call__(self, state: Progress) -> None:
        # The parts of an attack that has parts, "label: part", are one task.
        task = state.task.split(":")[0]
        if task != self._task or state.done < self._done:
            self._surface.clear()
            self._task, self._begun, self._first = task, time.monotonic(), state.done
        self._done = state.done
        names = [name for name in (self._title, state.task) if name]
        figures = {
            name: f"{value:,}" if isinstance(value, int) else tqdm.format_num(value)
            for name, value in state.figures.items()
        }
        self._surface.show(
            n=state.done,
            total=state.of or None,
            elapsed=time.monotonic() - self._begun,
            initial=self._first,
            prefix=": ".join(names),
            postfix=", ".join(f"{name}={figures[name]}" for name in figures),
            unit=self._unit,
            unit_scale=self._unit == "B",
        )
        if 0 < state.of == state.done:
            self.close()

    def close(self) -> None:
        self._surface.clear()
        self._task = None


class _Surface(Protocol):
    """Where progress is seen."""

    def show(self, **meter: Any) -> None:
        """Shows it, given what `tqdm.format_meter` takes."""

    def clear(self) -> None:
        """Takes away what is shown."""


class _Terminal:
    """One line of standard error, written over."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def show(self, **meter: Any) -> None:
        if self._bar is None:
            names = ("total", "initial", "unit", "unit_scale")
            options = {name: meter[name] for name in names}
            self._bar = tqdm(leave=False, desc=meter["prefix"], **options)
        bar = self._bar
        bar.set_description(meter["prefix"], refresh=False)
        bar.set_postfix_str(meter["postfix"], refresh=False)
        bar.update(meter["n"] - bar.n)
        if bar.n == bar.total:
            bar.refresh()

    def clear(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Notebook:
    """One output of a cell, drawn over; no extension of the browser's is needed."""

    def __init__(self) -> None:
        self._output: Any = None
        self._drawn: float | None = None

    def show(self, **meter: Any) -> None:
        now = time.monotonic()
        if self._drawn is not None and now - self._drawn < _SECONDS_BETWEEN_DRAWINGS:
            return
        self._drawn = now
        self._draw(tqdm.format_meter(**meter, ncols=_WIDTH))

    def clear(self) -> None:
        if self._drawn is not None:
            self._draw("")
            self._drawn = None

    def _draw(self, text: str) -> None:
        from IPython.display import display

        content = {"text/plain": text}
        if self._output is None:
            self._output = display(content, raw=True, display_id=True)
        else:
            self._output.update(content, raw=True)


class _Log:
    """Lines of standard error."""

    def __init__(self) -> None:
        self._written = time.monotonic()

    def show(self, **meter: Any) -> None:
        now = time.monotonic()
        if now - self._written < SECONDS_BETWEEN_LINES:
            return
        self._written = now
        print(_line(**meter), file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leaves what was written."""


class _Nowhere:
    """What other processes than the first of a run show."""

    def show(self, **meter: Any) -> None:
        """Shows nothing."""

    def clear(self) -> None:
        """Nothing is shown."""


def _line(
    *,
    n: int,
    total: int | None,
    elapsed: float,
    initial: int,
    prefix: str,
    postfix: str,
    unit: str,
    unit_scale: bool,
) -> str:
    """Returns one line of a log: how much, the share, the rate, and the time left."""

    def many(value: float) -> str:
        if unit_scale:
            return tqdm.format_sizeof(value) + unit
        return f"{value:,.1f}" if value < 10 and value % 1 else f"{value:,.0f}"

    parts, rate = [many(n)], (n - initial) / elapsed if elapsed > 0 else 0.0
    if total:
        parts = [f"{many(n)} of {many(total)} ({n / total:.0%})"]
    if rate > 0:
        parts.append(f"{many(rate)} a second" if rate >= 1 else f"{1 / rate:.1f} s each")
        if total:
            parts.append(f"{tqdm.format_interval((total - n) / rate)} left")
    parts += [postfix] if postfix else []
    return (f"{prefix}: " if prefix else "") + ", ".join(parts)


def _display(title: str, unit: str = "") -> _Display:
    """Returns what shows progress where this process is seen."""
    surface: type[_Surface]
    if not _is_first():
        surface = _Nowhere
    elif sys.stderr.isatty():
        surface = _Terminal
    else:
        surface = _Notebook if _in_a_notebook() else _Log
    return _Display(title, unit or "it", surface())


def _is_first() -> bool:
    """Returns whether this process is alone, or the first of a run."""
    jax = sys.modules.get("jax")
    return jax is None or not jax.distributed.is_initialized() or jax.process_index() == 0


def _in_a_notebook() -> bool:
    """Returns whether a kernel runs this; it has imported IPython then."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
