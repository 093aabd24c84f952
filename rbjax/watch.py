"""Looks after the other processes of a run: a stop is everyone's, and so is an end.

A thread of each process says every second, by way of the coordinator of `jax.distributed`, that its
process is there, and reads what the others have said. Who waits for another that is gone waits for
ever in what the devices compute; the thread ends the process then.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from rbjax import stops

LOST = 69
"""The exit code where another process is lost."""
_SECONDS_BETWEEN = 1.0
_SILENCE, _SILENCE_AFTER_FAILURE = 40.0, 10.0
"""Seconds without a word after which a process is lost; fewer where a computation has failed."""
_GRACE = 10.0
"""Seconds in which a process may end by itself when another has."""
_TO_END, _FOR_VERDICT, _FAILURES = 15.0, 60.0, 3


class _Watch:
    """Over the processes of a run, from one of them."""

    def __init__(self, client: Any, index: int, count: int, number: int) -> None:
        """Takes the key-value store of `jax.distributed`, and which of how many processes it is.

        Args:
            client: the store.
            index: of this process.
            count: of processes.
            number: of the run, among those of this process.
        """
        self.client, self.index, self.count = client, index, count
        self._prefix = f"rbjax/{number}"
        self._over = threading.Event()
        self._changed = threading.Condition()
        self._position, self._until, self._is_held = 0, None, False
        self._words: dict[str, str] = {}
        self._seen: dict[int, tuple[str | None, float]] = {
            other: (None, time.monotonic()) for other in range(self.count)
        }
        self._ended_since: float | None = None
        self._is_waiting = False
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    # ------------------------------------------------------------------ what others are told
    def say(self, word: str, value: str = "") -> bool:
        """Leaves a word for all; returns whether nobody had left it before."""
        try:
            self.client.key_value_set(f"{self._prefix}/word/{word}", value)
        except Exception:
            return False
        return True

    def _read(self, folder: str) -> dict[str, str]:
        prefix = f"{self._prefix}/{folder}/"
        pairs = self.client.key_value_dir_get(prefix)
        return {key.split(prefix)[-1]: value for key, value in pairs}

    # ------------------------------------------------------------------ the thread
    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5 * _SECONDS_BETWEEN)

    def _run(self) -> None:
        failures = beats = 0
        while not self._over.wait(_SECONDS_BETWEEN):
            beats += 1
            try:
                alive = f"{self._prefix}/alive/{self.index}"
                self.client.key_value_set(alive, str(beats), allow_overwrite=True)
                self._words = self._read("word")
                failures = 0
            except Exception:
                failures += 1
                if failures == _FAILURES:
                    self._end(LOST, _lost(0))
                continue
            self._heed_stop()
            self._heed_ends()
            if self.index == 0:
                self._heed_silence()

    def _heed_stop(self) -> None:
        if stops.asked() and "stop" not in self._words:
            self.say("stop")
        elif "stop" in self._words:
            stops.relay()
            self._agree()

    def _heed_ends(self) -> None:
        """Ends this process where another has ended, and it does not by itself."""
        for word in self._words:
            if word.startswith("lost/") and int(word.split("/")[1]) != self.index:
                self._end(LOST, _lost(int(word.split("/")[1])))
        for other, (code, text) in self._ends().items():
            if code and other != self.index and self.index not in self._ends():
                self._ended_since = self._ended_since or time.monotonic()
                late = time.monotonic() - self._ended_since > _GRACE
                if late or self._is_waiting:
                    line = None if code == stops.AGAIN_CODE else f"process {other} ended: {text}"
                    self._end(code, line)

    def _ends(self) -> dict[int, tuple[int, str]]:
        said = {k: v for k, v in self._words.items() if k.startswith("ended/")}
        return {int(word.split("/")[1]): tuple(json.loads(v)) for word, v in said.items()}

    def _heed_silence(self) -> None:
        """Says, in process 0, which process is lost."""
        now, alive, ends = time.monotonic(), self._read("alive"), self._ends()
        has_failed = any(word.startswith("failed/") for word in self._words)
        for other in range(1, self.count):
            before, since = self._seen[other]
            if alive.get(str(other)) != before or other in ends:
                self._seen[other] = alive.get(str(other)), now
            elif now - since > (_SILENCE_AFTER_FAILURE if has_failed else _SILENCE):
                self.say(f"lost/{other}")
                self._end(LOST, _lost(other))

    def _end(self, code: int, line: str | None) -> NoReturn:
        if line is not None:
            stops.say(line)
        self.end(code, line or "")
        os._exit(code)

    # ------------------------------------------------------------------ ends
    def end(self, code: int, text: str = "") -> None:
        """Tells the others that this process ends; process 0, whom all ask, ends last."""
        self.say(f"ended/{self.index}", json.dumps([code, text]))
        if self.index == 0 and code:
            until = time.monotonic() + _TO_END
            while time.monotonic() < until:
                with contextlib.suppress(Exception):
                    said = self._read("word")
                    gone = {word.split("/")[1] for word in said if word.startswith(("ended", "lo"))}
                    if len(gone) == self.count:
                        time.sleep(_SECONDS_BETWEEN)
                        return
                time.sleep(_SECONDS_BETWEEN / 4)

    def await_first(self) -> None:
        """Waits until process 0 has ended."""
        while self.index and 0 not in self._ends() and not stops.asked():
            time.sleep(_SECONDS_BETWEEN / 10)

    def await_verdict(self) -> None:
        """Waits while the thread finds out which process is lost."""
        self._is_waiting = True
        self.say(f"failed/{self.index}")
        time.sleep(_FOR_VERDICT)

    # ------------------------------------------------------------------ a stop at one place
    def _agree(self) -> None:
        """Settles the place at which all stop: the one after the furthest that any has come to."""
        with self._changed:
            if self._is_held:
                return
            self._is_held, own = True, self._position
        places = [own]
        with contextlib.suppress(Exception):
            self.client.key_value_set(f"{self._prefix}/at/{self.index}", str(own))
            for other in range(self.count):
                key = f"{self._prefix}/at/{other}"
                places.append(
                    int(self.client.blocking_key_value_get(key, int(1000 * _FOR_VERDICT)))
                )
        with self._changed:
            self._until = max(places) + 1
            self._changed.notify_all()

    def passes(self) -> bool:
        """Returns whether all stop here; called by every process at the same places."""
        with self._changed:
            while self._is_held and self._until is None:
                self._changed.wait(_SECONDS_BETWEEN)
            self._position += 1
            return self._until is not None and self._position >= self._until


_watch: _Watch | None = None
_number = 0


@contextlib.contextmanager
def over() -> Iterator[None]:
    """Looks after the processes of a run while its body runs, which every one of them does."""
    global _watch, _number
    if _watch is not None:
        yield
        return
    import jax
    from jax._src import distributed  # the key-value store has no public name

    state, _number = distributed.global_state, _number + 1
    watch = _watch = _Watch(state.client, jax.process_index(), jax.process_count(), _number)
    stops.is_told = watch.index == 0
    watch.start()
    try:
        with _aborts(str(state.coordinator_address), is_first=watch.index == 0):
            yield
    finally:
        if _watch is watch:
            watch.stop()
            _watch = None


def ended(code: int, text: str = "") -> None:
    """Tells the other processes that this one's part is over, and how."""
    if _watch is not None:
        _watch.end(code, text)
        if not code:
            _watch.await_first()


def failed() -> None:
    """Waits for what the others say of a computation that failed; which may end the process."""
    if _watch is not None:
        _watch.await_verdict()


def stopping() -> bool:
    """Returns whether the run was asked to stop: the same in each process at the same call."""
    return stops.requested() if _watch is None else _watch.passes()


def is_to_say(text: str) -> bool:
    """Returns whether this process is to say how it ended: not where process 0 says the same."""
    if not _number:
        return True
    import jax
    from jax._src import distributed

    client: Any = distributed.global_state.client
    key = f"rbjax/{_number}/said/{hashlib.sha256(text.encode(errors='replace')).hexdigest()}"
    with contextlib.suppress(Exception):
        if jax.process_index() == 0:
            client.key_value_set(key, "")
        else:
            client.blocking_key_value_get(key, 2000)
            return False
    return True


def leave(code: int) -> NoReturn:
    """Ends the process; one of several, that has failed, without the others."""
    if code and _number:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    stops.leave(code)


def _lost(other: int) -> str:
    return f"process {other} of this run is lost; {stops.AGAIN}, in all processes"


@contextlib.contextmanager
def _aborts(address: str, *, is_first: bool) -> Iterator[None]:
    """Gives the end that JAX puts to a process whose coordinator is gone a line and a code.

    JAX aborts then, from a thread of its own, and has no other way of telling.
    """

    def aborted(number: int) -> None:
        host, _, port = address.rpartition(":")
        try:
            if not is_first:
                socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
            system.signal(signal.SIGABRT, None)  # it is something else
        except OSError:
            os.write(2, f"rbjax: {_lost(0)}\n".encode())
            os._exit(LOST)

    system = ctypes.CDLL(None)
    system.signal.restype = ctypes.c_void_p
    system.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)
    system.signal(signal.SIGABRT, ctypes.cast(handler, ctypes.c_void_p))
    try:
        yield
    finally:
        system.signal(signal.SIGABRT, None)
