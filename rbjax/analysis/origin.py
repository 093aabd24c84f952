"""What a report says of the process that made its numbers: the command, and what it ran on."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import sys
from pathlib import Path

import rbjax
from rbjax.console import printable

_LIBRARIES = ("jax", "jaxlib", "flax", "numpy")
_LONGEST = 2000
"""Letters of a command that are kept."""


def command() -> str:
    """Returns the command that runs this process, without the interpreter's folder."""
    program, *rest = sys.orig_argv or [""]
    return printable(shlex.join([Path(program).name, *rest]))[:_LONGEST]


def versions() -> dict[str, str]:
    """Returns the versions of rbjax, Python and the libraries that compute."""
    others = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"rbjax": rbjax.__version__, **others, "Python": platform.python_version()}
