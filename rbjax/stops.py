"""Stops: what Ctrl-C and SIGTERM do to a job.

The first one is said at once and unwinds the job where it is, as an exception of the main thread; a
part that has something to save first asks for it to wait. A second Ctrl-C ends the process.

Python runs a signal's handler between two of its instructions, and a compilation is one of them.
Therefore the system's own part of a signal, which writes to a pipe, is read by a thread.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from rbjax.errors import StoppedError, exit_code

_NAMES: dict[int, str] = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
AGAIN, AGAIN_CODE = "the same command goes on from there", 75
is_told = True
"""Whether a stop is said; of several processes of a run one says it."""
_AT_ONCE = 128 + signal.SIGINT
"""The exit code after a second Ctrl-C, as shells have it for a process that Ctrl-C ended."""


class Stop(KeyboardInterrupt):
    """Unwinds what was asked to stop, as far as `heeded`; no `except Exception` holds it up."""


class _Watch:
    """Over the signals of this process, while a job runs."""

    def __init__(self) -> None:
        self.requests: list[int] = []
        self.deferrals = 0
        self._is_raised = False

    def handle(self, number: int, frame: Any) -> None:
        """Notes a signal; the main thread runs this as soon as it can."""
        self.requests.append(number)
        if not self.deferrals and not self._is_raised:
            self.unwind()

    def unwind(self) -> None:
        self._is_raised = True
        raise Stop

    def dropped(self, what: Any) -> None:
        """Raises once more what came up where Python ignores exceptions, as in a finaliser."""
        if not isinstance(what.exc_value, Stop):
            self._hook(what)
            return
        self._is_raised = False
        threading.Timer(0.01, signal.pthread_kill, (threading.get_ident(), signal.SIGTERM)).start()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Handles the signals that are not ignored, as `nohup` and shells may have them."""
        before = {number: signal.getsignal(number) for number in _NAMES}
        heeded = [n for n in _NAMES if before[n] not in (signal.SIG_IGN, None)]
        self._hook, sys.unraisablehook = sys.unraisablehook, self.dropped
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        thread = threading.Thread(target=_listen, args=(reader,), name="stops", daemon=True)
        thread.start()
        descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in heeded:
            signal.signal(number, self.handle)
        self._before = [(number, before[number]) for number in heeded]
        try:
            yield
        finally:
            self.restore(descriptor)
            os.close(writer)
            thread.join()  # with what it has to say
            sys.unraisablehook = self._hook

    def restore(self, descriptor: int = -1) -> None:
        """Gives the signals back, in a forked process too."""
        for number, handler in self._before:
            signal.signal(number, handler)
        signal.set_wakeup_fd(descriptor)


_watch: _Watch | None = None


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Makes Ctrl-C and SIGTERM stop what its body runs, in the main thread; elsewhere nothing.

    Raises:
        StoppedError: if one of them came.
    """
    global _watch
    if _watch is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = _watch = _Watch()
    try:
        with watch.installed():
            yield
            check()  # where a library took the exception for its own
    except Stop:
        raise StoppedError(f"stopped; what was finished is kept, and {AGAIN}") from None
    finally:
        _watch = None


def command(run: Callable[[], int | None]) -> int:
    """Runs a command, and returns its exit code (docs/stops.md).

    Args:
        run: what it does; it returns the code where that is not 0.  A mistake that it raises is
            said in lines of one's own, any other error has its traceback.
    """
    try:
        with heeded():
            return run() or 0
    except Exception as error:
        if (status := exit_code(error)) is None:
            raise
        for line in str(error).splitlines():
            print(f"rbjax: {line}", file=sys.stderr)
        return status


def leave(code: int) -> NoReturn:
    """Ends the process; Ctrl-C cuts that short without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)


def requested() -> bool:
    """Returns whether what runs here was asked to stop."""
    return _watch is not None and bool(_watch.requests) and _is_main()


def asked() -> bool:
    """Returns whether the job of this process was asked to stop, in any thread."""
    return _watch is not None and bool(_watch.requests)


def relay() -> None:
    """Asks the job of this process to stop, from another thread, unless it was asked."""
    if _watch is not None and not _watch.requests:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def check() -> None:
    """Unwinds the job if it was asked to stop."""
    if _watch is not None and requested():
        _watch.unwind()


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Lets its body come to its end first, which asks `requested` or calls `check`.

    A stop that came meanwhile is heeded there.
    """
    with _waiting(lambda deferrals: deferrals + 1):
        yield
    if _watch is not None and not _watch.deferrals:
        check()


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Lets a stop unwind its body, inside one of `deferred`, where `Stop` is to be caught."""
    with _waiting(lambda _: 0):
        check()
        yield


@contextlib.contextmanager
def _waiting(change: Any) -> Iterator[None]:
    watch = _watch if _is_main() else None
    if watch is None:
        yield
        return
    before, watch.deferrals = watch.deferrals, change(watch.deferrals)
    try:
        yield
    finally:
        watch.deferrals = before


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def _listen(reader: int) -> None:
    """Says that a stop was asked for, while the main thread may be deep in a compilation."""
    is_asked = False
    with open(reader, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] in _NAMES and not is_asked:
                is_asked = True
                name = _NAMES[number[0]]
                if is_told:
                    say(f"{name}: stopping; {AGAIN}; a second Ctrl-C ends at once, unsaved")
            elif number[0] == signal.SIGINT:
                os._exit(_AT_ONCE)


def say(text: str) -> None:
    """Writes a line of a thread's own."""
    with contextlib.suppress(OSError, ValueError):  # nobody reads any more
        on_its_own = "\n" if sys.stderr.isatty() else ""  # the terminal shows ^C, and bars
        print(f"{on_its_own}rbjax: {text}", file=sys.stderr, flush=True)


def _before_fork() -> None:
    if _watch is not None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _NAMES)


def _in_parent() -> None:
    if _watch is not None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _NAMES)


def _in_child() -> None:
    """A forked process is none of the job's: whoever forked it ends it by the same signals."""
    global _watch
    if _watch is not None:
        _watch.restore()
        _in_parent()
        _watch = None


# Between a fork and what follows it a signal would be the job's, and lost.
os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
