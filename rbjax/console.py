"""Standard output and error that neither a name nor a closed pipe breaks.

A job prints the names of classes wherever its output goes: a terminal that shows ASCII alone, a
pipe whose reader has ended (`| head`), no terminal at all. None of these may cost the job.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any, TextIO


@contextlib.contextmanager
def steady() -> Iterator[None]:
    r"""Prints, while its body runs, what can be printed, and never fails.

    What the encoding lacks is written as `\u4e2d`, what a terminal would obey as `\x1b`; what
    nobody reads any more is dropped.
    """
    with contextlib.ExitStack() as stack:
        nothing = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        # None where the process was started without.
        out, error = (_steady(stream or nothing) for stream in (sys.stdout, sys.stderr))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(error))
        try:
            yield
        finally:
            out.flush()
            error.flush()


def printable(text: str) -> str:
    r"""Returns text that stands in one line and can be encoded: `\n` and the like for controls."""
    kinds = ("Cc", "Cs", "Zl", "Zp")  # controls, lone surrogates, ends of lines
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in kinds else c for c in text)


# What a terminal obeys, but the ends of lines, tabs, and the step upwards that bars make: a name of
# a class or a file must not recolour, retitle or overwrite what is shown.
_OBEYED = re.compile(r"(?!\x1b\[A)[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class _Steady:
    """A stream whose `write` and `flush` do not fail; otherwise as it is."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(_OBEYED.sub(lambda found: ascii(found[0])[1:-1], text))
        except UnicodeEncodeError:
            encoding = self._stream.encoding or "ascii"
            self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError) as error:  # ValueError: it is closed
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Drops what waits to be written to a reader that is gone: Python's own end would fail."""
        if getattr(error, "errno", None) in (errno.EPIPE, errno.EIO):
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), self._stream.fileno())
                self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _steady(stream: Any) -> Any:
    return stream if isinstance(stream, _Steady) else _Steady(stream)
