"""The directory of one run: what it was asked to do, and that nothing else writes into it.

A run directory belongs to one config for good.  The same config continues the run in it; another
one is refused.  One job at a time works in it, and holds its lock.

The lock is flock(2) on a file in it.  The kernel releases it when the process ends, killed or not.
Linux asks an NFS server for it as a lock of the whole file (flock(2), "NFS details") and an SMB
server likewise ("CIFS details"), so that it holds between machines; a server forgets a machine that
crashed when its lease expires.  Lustre and Ceph keep it across machines too (Lustre where it is
mounted with `flock`, not `localflock`, which is one machine's own).
"""

from __future__ import annotations

import contextlib
import contextvars
import datetime
import errno
import fcntl
import functools
import itertools
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate

from absl import logging

from rbjax import atomic, console, processes, stops
from rbjax.data import looks
from rbjax.errors import InUseError
from rbjax.paths import expanded
from rbjax.training import intact

CONFIG_FILE = "config.json"
LOCK_FILE = "lock.json"
"""Says which process works in the directory; it is there while one does."""
_SHOWN = 5
_TRIES = 100
"""How often a folder that another job may have removed just now is made again."""
_ABSENT = "absent"


def prepare(
    workdir: str | os.PathLike[str],
    config: Mapping[str, Any],
    *,
    ignored: Sequence[str] = ("workdir", "data_dir"),
    usual: Mapping[str, Any] | None = None,
) -> bool:
    """Makes a run directory, or checks that an existing one belongs to the same config.

    Args:
        workdir: the directory; its parents are made too.
        config: a nested mapping of plain values, all that decides what the run does.
        ignored: dotted names of fields that may differ, such as paths.
        usual: what each field is when left out, which stands for what the config of an earlier
            version's run does not have.

    Returns:
        Whether the directory already held this config, so that the run in it continues.

    Raises:
        ValueError: if it holds another config, or files and no config; nothing is written then.
    """
    workdir = expanded(workdir, field="workdir")
    if check(workdir, config, ignored=ignored, usual=usual):
        return True
    workdir.mkdir(parents=True, exist_ok=True)
    atomic.write_json(workdir / CONFIG_FILE, config)
    return False


def check(
    workdir: str | os.PathLike[str],
    config: Mapping[str, Any],
    *,
    ignored: Sequence[str] = ("workdir", "data_dir"),
    usual: Mapping[str, Any] | None = None,
) -> bool:
    """Checks that a directory belongs to a config, or could; writes nothing.

    Args:
        workdir: as for `prepare`, as are all others.
        config: of the run.
        ignored: fields that may differ.
        usual: what each field is when left out.

    Returns:
        Whether the directory already holds this config.

    Raises:
        ValueError: as `prepare`.
    """
    workdir = expanded(workdir, field="workdir")
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"workdir = {str(workdir)!r}: is a file; give a folder")
    if (workdir / CONFIG_FILE).exists():
        _refuse_other_config(workdir, config, ignored, usual or {})
        return True
    # What a killed `prepare` leaves behind does not count as somebody's file.
    files = sorted(p.name for p in workdir.iterdir()) if workdir.exists() else []
    files = [n for n in files if n != LOCK_FILE and not n.endswith(atomic.TEMPORARY)]
    if files:
        raise ValueError(
            f"workdir = {str(workdir)!r}: holds {', '.join(files[:_SHOWN])} and no {CONFIG_FILE}, "
            "so it is not a run directory; give an empty or a new folder"
        )
    return False


def replace_config(workdir: str | os.PathLike[str], config: Mapping[str, Any]) -> None:
    """Writes what a run is asked for from now on, once `prepare` has let it."""
    atomic.write_json(expanded(workdir, field="workdir") / CONFIG_FILE, config)


def clear(workdir: str | os.PathLike[str], *names: str) -> None:
    """Removes the config of a run that could not begin, and files that were written with it.

    Args:
        workdir: the directory; `hold` removes one that is empty then, if it made it.
        *names: of the files.
    """
    for name in (CONFIG_FILE, *names):
        (expanded(workdir, field="workdir") / name).unlink(missing_ok=True)


def job[Settings, **Options, Result](
    function: Callable[Concatenate[Settings, str, Options], Result],
) -> Callable[Concatenate[Settings, str, Options], Result]:
    """Makes a function of a config and a run directory hold the directory while it runs.

    `~` in the directory's path is the home folder, what the function prints cannot fail, and
    Ctrl-C and SIGTERM stop it (`StoppedError`).
    """

    @functools.wraps(function)
    def alone(
        config: Settings, workdir: str, *args: Options.args, **options: Options.kwargs
    ) -> Result:
        workdir = str(expanded(workdir, field="workdir"))
        with console.steady(), stops.heeded(), looks.once(), atomic.room(workdir), hold(workdir):
            return function(config, workdir, *args, **options)

    return alone


_HELD: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar("held", default=frozenset())
"""The directories that are held by what runs here; what it calls in turn works in them too."""


@contextlib.contextmanager
def hold(workdir: str | os.PathLike[str]) -> Iterator[None]:
    """Holds a run directory, which nothing else may work in meanwhile.

    Of the processes of a `jax.distributed` run, which all must call it, process 0 holds the
    directory for all. A directory in which nothing was written is not left behind.

    Args:
        workdir: the directory; made if need be.

    Raises:
        ValueError: if somebody else holds it, saying which process on which machine, since when;
            or it is a file.
        OSError: if it cannot be made.
    """
    workdir = expanded(workdir, field="workdir")
    place = os.path.realpath(workdir)
    if place in _HELD.get():
        yield
        return
    lock: _Lock | None = None

    def take() -> None:
        nonlocal lock
        lock = _Lock(workdir)
        _delete_leftovers(workdir)

    processes.of_first(take)
    token = _HELD.set(_HELD.get() | {place})
    try:
        yield
    finally:
        _HELD.reset(token)
        if lock is not None:
            lock.release()


def _delete_leftovers(workdir: Path) -> None:
    """Deletes what a killed job had not finished; nobody else writes there now."""
    if is_run(workdir):
        for file in workdir.rglob(f".*{atomic.TEMPORARY}"):
            file.unlink(missing_ok=True)
        for folder in workdir.rglob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(folder, ignore_errors=True)
        intact.recover(workdir / "checkpoints")


def is_run(workdir: str | os.PathLike[str]) -> bool:
    """Returns whether a directory holds the config of a run."""
    return (expanded(workdir, field="workdir") / CONFIG_FILE).is_file()


def read_config(workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the config of a run.

    Args:
        workdir: a run directory.

    Returns:
        The nested dict `prepare` was given, tuples as lists.

    Raises:
        ValueError: if it is not a run directory, or its config cannot be read.
    """
    path = expanded(workdir, field="workdir") / CONFIG_FILE
    if not path.is_file():
        workdir = path.parent
        what = "is a file" if workdir.exists() else "does not exist"
        what = f"has no {CONFIG_FILE}" if workdir.is_dir() else what
        raise ValueError(
            f"workdir = {str(workdir)!r}: {what}, so it is not a run directory; train into it "
            "first, or give weights that others trained (--config.model.weights=)"
        )
    config = atomic.read_json(path)
    if not isinstance(config, dict):
        raise ValueError(f"workdir = {str(workdir)!r}: {CONFIG_FILE} is not the config of a run")
    return config


class _Lock:
    """A lock that this process has; it goes with the process."""

    def __init__(self, workdir: Path) -> None:
        """Takes the lock of a directory.

        Raises:
            ValueError: if another has it.
        """
        if workdir.exists() and not workdir.is_dir():
            raise ValueError(f"workdir = {str(workdir)!r}: is a file; give a folder")
        self._path = workdir / LOCK_FILE
        above = [workdir, *workdir.parents]
        self._made = [folder for folder in above if not folder.exists()]
        for tries_left in itertools.count(_TRIES, -1):
            try:
                workdir.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            except FileNotFoundError:
                if tries_left > 0:
                    continue  # another job ended just now, and removed the empty folder
                raise  # no folder can be made there, as in /proc
            _OPEN.add(self._descriptor)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    logging.warning(
                        "%s: its file system has no locks (%s); start one job in it at a time",
                        workdir,
                        error.strerror,
                    )
                    break
                who = _holder(self._path)
                self._close()
                raise InUseError(
                    f"workdir = {str(workdir)!r}: {who}; wait until it has ended, or give another "
                    "workdir"
                ) from None
            if _is_at(self._descriptor, self._path):
                break
            self._close()  # its holder removed it while it was opened here
        about = {"host": socket.gethostname(), "pid": os.getpid()}
        now = datetime.datetime.now(datetime.UTC)
        about["since"] = now.isoformat(" ", timespec="seconds")
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{json.dumps(about)}\n".encode(), 0)

    def release(self) -> None:
        """Removes the lock, and the folders that were made for it and are empty."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._close()
        with contextlib.suppress(OSError):
            for folder in self._made:
                folder.rmdir()

    def _close(self) -> None:
        _OPEN.discard(self._descriptor)
        os.close(self._descriptor)


_OPEN: set[int] = set()
"""Descriptors of locks. A forked process has them too, and would keep a lock beyond its owner."""


def _let_go() -> None:
    while _OPEN:
        os.close(_OPEN.pop())


os.register_at_fork(after_in_child=_let_go)


def _holder(path: Path) -> str:
    """Returns who works in a directory, as its lock says."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        who = f"process {about['pid']} on {about['host']} has worked in it since {about['since']}"
    except (OSError, ValueError, TypeError, KeyError):  # it is being written just now
        who = "another process works in it"
    return who


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _refuse_other_config(
    workdir: Path,
    config: Mapping[str, Any],
    ignored: Sequence[str],
    usual: Mapping[str, Any],
) -> None:
    there = dict(_flat(read_config(workdir)))
    here = dict(_flat(atomic.plain(config)))
    is_unstamped = "schema" not in there
    for name, value in _flat(atomic.plain(usual)):
        # A config of before there were versions wrote null for what was left out.
        if name in here and (name not in there or (is_unstamped and there[name] is None)):
            there[name] = value
    names = sorted(there.keys() | here.keys())
    differing = [
        name
        for name in names
        if there.get(name, _ABSENT) != here.get(name, _ABSENT)
        and not any(name == field or name.startswith(f"{field}.") for field in ignored)
    ]
    if not differing:
        return
    shown = [
        f"{name} = {_shown(there, name)} there, {_shown(here, name)} here"
        for name in differing[:_SHOWN]
    ]
    more = f"; and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    raise ValueError(
        f"workdir = {str(workdir)!r}: belongs to another config ({'; '.join(shown)}{more}); "
        "give another workdir, or delete that one to begin anew"
    )


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values; an empty group is a value of its own."""
    if not isinstance(value, dict) or (not value and prefix):
        yield prefix, value
        return
    for key, item in value.items():
        yield from _flat(item, f"{prefix}.{key}" if prefix else key)


def _shown(values: Mapping[str, Any], name: str) -> str:
    return json.dumps(values[name]) if name in values else _ABSENT
