"""What is looked at once while a job runs: one's own data, which are as they were when it began.

A folder may change between two calls, so that each looks anew; within a job a folder is listed
once, and where there is room its files are read once, for digests and headers and then for pixels.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

from rbjax.data.pictures import content_of

_ROOM = 2**28
"""Bytes of files that a job keeps from when they are listed until they are decoded."""


class _Looks:
    """What a job has seen."""

    def __init__(self) -> None:
        self.found: dict[Hashable, Any] = {}
        self._contents: dict[Path, bytes] = {}
        self._room, self._lock = _ROOM, threading.Lock()

    def keep(self, file: Path, content: bytes) -> None:
        """Keeps the content of a file, if there is room."""
        with self._lock:
            if len(content) <= self._room:
                self._room -= len(content)
                self._contents[file] = content

    def take(self, file: Path) -> bytes | None:
        """Returns a content that was kept, and lets it go."""
        with self._lock:
            content = self._contents.pop(file, None)
            self._room += len(content or b"")
        return content

    def end(self) -> None:
        """Lets everything go; nothing is kept from now on."""
        with self._lock:
            self.found, self._contents, self._room = {}, {}, -1


_LOOKS: contextvars.ContextVar[_Looks | None] = contextvars.ContextVar("looks", default=None)


@contextlib.contextmanager
def once() -> Iterator[None]:
    """Makes what `seen` marks look once for the same arguments; ends with the outermost of them."""
    if _LOOKS.get() is not None:
        yield
        return
    looks = _Looks()
    token = _LOOKS.set(looks)
    try:
        yield
    finally:
        _LOOKS.reset(token)
        looks.end()


def seen[**Options, Result](function: Callable[Options, Result]) -> Callable[Options, Result]:
    """Makes a function remember, within `once`, what it returned."""

    @functools.wraps(function)
    def remembering(*args: Options.args, **options: Options.kwargs) -> Result:
        looks = _LOOKS.get()
        if looks is None:
            return function(*args, **options)
        about = (function, args, tuple(sorted(options.items())))
        if about not in looks.found:
            looks.found[about] = function(*args, **options)
        return looks.found[about]

    return remembering


def first() -> Callable[[Path], bytes]:
    """Returns what reads all bytes of a file, as `content_of`, and keeps them for `then`."""
    looks = _LOOKS.get()

    def read(file: Path) -> bytes:
        content = content_of(file)
        if looks is not None:
            looks.keep(file, content)
        return content

    return read


def then() -> Callable[[Path], bytes]:
    """Returns what reads all bytes of a file, once more only where `first` has not kept them."""
    looks = _LOOKS.get()

    def read(file: Path) -> bytes:
        content = None if looks is None else looks.take(file)
        return content_of(file) if content is None else content

    return read
