"""JAX's cache of compiled programs, which nobody else may write: what lies in it is run."""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import warnings
from pathlib import Path

import jax
from absl import logging

from rbjax.errors import nearest
from rbjax.paths import expanded

MOST_BYTES = 2**30
"""Of programs in the user's cache folder; the least recently used go first."""


def keep_programs(where: str = "auto") -> None:
    """Has JAX keep what it compiles, so that the next job need not compile it again.

    Args:
        where: "auto", `JAX_COMPILATION_CACHE_DIR` or else `default_folder()`; "off"; or a folder.

    Raises:
        ValueError: for another word.
    """
    if where == "off":
        jax.config.update("jax_compilation_cache_dir", None)
        return
    if where != "auto":
        if Path(where).name == where:  # a misspelt word would be a folder here
            raise ValueError(
                f"program_cache = {where!r}: allowed are auto, off, or the path of a folder, such "
                f"as ./{where}{nearest(where, ('auto', 'off'))}"
            )
        folder = expanded(where, field="program_cache")
        jax.config.update("jax_compilation_cache_dir", str(folder))
    elif not jax.config.jax_compilation_cache_dir:
        folder = default_folder()
        if folder is None or not _make(folder):
            return  # nobody asked for one
        _make_room(folder)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # Another job is writing it, or was killed while it did: the program is compiled instead.
    warnings.filterwarnings("ignore", "Error reading persistent compilation cache entry")
    keep_cache_private()


def default_folder() -> Path | None:
    """Returns where programs are kept, one folder a kind of processor; None: there is no home.

    A program is made for the processor that compiled it, and a home may be that of many machines.
    """
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(home) / "rbjax" / "programs" / _processor()


def _make(folder: Path) -> bool:
    """Makes a folder for its user alone, if need be; returns whether it can be written."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _processor() -> str:
    """Returns a digest of what tells processors of one instruction set apart."""
    told = [platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # there is none but on Linux
        lines = []
    names = ("model name", "flags", "Features", "CPU part")
    told += sorted({line for line in lines if line.partition("\t")[0].strip() in names})
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _make_room(folder: Path) -> None:
    """Deletes the programs used longest ago, of all processors, until at most half is taken."""
    found = []
    for path in folder.parent.glob("*/*"):
        try:
            state = path.stat()
        except OSError:  # another job deletes as well
            continue
        found.append((max(state.st_atime, state.st_mtime), state.st_size, path))
    taken = sum(size for _, size, _ in found)
    if taken <= MOST_BYTES:
        return
    for _, size, path in sorted(found):
        path.unlink(missing_ok=True)
        taken -= size
        if taken <= MOST_BYTES // 2:
            return


def keep_cache_private() -> None:
    """Makes the cache that is asked for with mode 0700, or does without one that others can write.

    There is none unless `JAX_COMPILATION_CACHE_DIR` or `jax_compilation_cache_dir` names a folder.
    """
    name = jax.config.jax_compilation_cache_dir
    if not name or "://" in name:
        return
    folder = Path(name)
    try:
        if not folder.exists():
            _make(folder)
        state = folder.stat()
    except OSError:
        return  # JAX says it
    if state.st_uid != os.geteuid() or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        logging.warning(
            "the cache of compiled programs %s is left aside: another user can write it, and what "
            "lies in it is run; give a folder of your own (chmod 700)",
            folder,
        )
        jax.config.update("jax_compilation_cache_dir", None)
