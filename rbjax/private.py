"""JAX's cache of compiled programs, which nobody else may write: what lies in it is run."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import jax
from absl import logging


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
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
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
